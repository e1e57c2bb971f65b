/**
 * Small things remembered in the browser: in `localStorage`, or in `sessionStorage` for as long as the tab is open.
 * Where storage is blocked or full, they last as long as the page.
 */

/** @typedef {"localStorage" | "sessionStorage"} Area */

/** @type {Record<string, string>} */
const here = {};

/**
 * @param {string} key
 * @param {Area} area
 * @returns {string | null}
 */
export function recall(key, area = "localStorage") {
  try {
    return window[area].getItem(key);
  } catch {
    return here[key] ?? null;
  }
}

/**
 * @param {string} key
 * @param {string} value
 * @param {Area} area
 */
export function store(key, value, area = "localStorage") {
  here[key] = value;
  try {
    window[area].setItem(key, value);
  } catch {
    // as above
  }
}
