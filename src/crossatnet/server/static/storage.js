/** Small things remembered in the browser. Where storage is blocked or full, they last as long as the page. */

const session = {};

export function recall(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return session[key] ?? null;
  }
}

export function store(key, value) {
  session[key] = value;
  try {
    localStorage.setItem(key, value);
  } catch {
    // as above
  }
}
