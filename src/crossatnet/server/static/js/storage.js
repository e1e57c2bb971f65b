/**
 * Small things remembered in the browser: in `localStorage`, or in `sessionStorage` for as long as the tab is open.
 * Where storage is blocked or full, they last as long as the page.
 */

const here = {};

export function recall(key, area = "localStorage") {
  try {
    return window[area].getItem(key);
  } catch {
    return here[key] ?? null;
  }
}

export function store(key, value, area = "localStorage") {
  here[key] = value;
  try {
    window[area].setItem(key, value);
  } catch {
    // as above
  }
}
