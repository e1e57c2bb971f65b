/** What pictures may be found: words, a folder, when they were taken, and whether copies count as one. */

import { folders } from "/static/js/api.js";
import { recall, store } from "/static/js/storage.js";

/**
 * As the API takes them; those that are not chosen are left out.
 * @typedef {{words?: string, folder?: string, taken_since?: string, taken_before?: string, grouped?: boolean,
 *   also?: string[], class_names?: string[]}} Conditions
 */

const PAUSE = 250; // milliseconds after the last letter
const STORED = "grouped";

/** Emits "change" when the conditions have changed, and "trouble" with detail {error} if folders cannot be listed. */
export class Filters extends EventTarget {
  #parts;
  #timer = 0;
  #told = ""; // the conditions when they were reported last
  #listed = ""; // the gallery whose folders are offered

  /**
   * @param {Record<"words" | "filter" | "filters" | "folder" | "year" | "since" | "until" | "grouped" | "reset", any>}
   *   parts
   */
  constructor(parts) {
    super();
    this.#parts = parts;
    const { words, filter, filters, grouped, year, reset } = parts;
    grouped.checked = recall(STORED) !== "off";
    this.#told = JSON.stringify(this.value);
    words.addEventListener("input", () => this.#soon());
    words.addEventListener("change", () => this.#now()); // at once after the Enter key
    words.form.addEventListener("submit", (event) => event.preventDefault());
    filter.addEventListener("click", () => {
      filters.hidden = !filters.hidden;
      filter.ariaExpanded = String(!filters.hidden);
      if (!filters.hidden) this.dispatchEvent(new Event("open"));
    });
    filters.addEventListener("change", ({ target }) => {
      if (target === grouped) store(STORED, grouped.checked ? "on" : "off");
      if (target === year) this.#takeYear();
      this.#now();
    });
    reset.addEventListener("click", () => {
      this.clear();
      this.#now();
    });
  }

  /** Whether no picture is excluded. */
  get isEmpty() {
    return Object.keys(this.value).every((name) => name === "grouped");
  }

  /** @returns {Conditions} */
  get value() {
    const { words, folder, since, until, grouped } = this.#parts;
    /** @type {Conditions} */
    const chosen = { grouped: grouped.checked };
    if (words.value.trim()) chosen.words = words.value.trim();
    if (folder.value) chosen.folder = folder.value;
    if (since.value && since.validity.valid) chosen.taken_since = since.value;
    if (until.value && until.validity.valid) chosen.taken_before = dayAfter(until.value);
    return chosen;
  }

  /** Forget all conditions; copies stay as they are. */
  clear() {
    const { words, folder, year, since, until } = this.#parts;
    for (const field of [words, folder, year, since, until]) field.value = "";
    this.#told = "";
    this.#mark();
  }

  /** Whether folders are to be offered. */
  get isOpen() {
    return !this.#parts.filters.hidden;
  }

  /**
   * Offer the folders of a gallery.
   * @param {string} gallery
   * @param {boolean} again whether they may have changed
   */
  async offer(gallery, again = false) {
    if (this.#listed === gallery && !again) return;
    this.#listed = gallery;
    const { folder } = this.#parts;
    try {
      const found = await folders(gallery);
      if (this.#listed !== gallery) return;
      const chosen = folder.value;
      const options = found.map((each) => new Option(`${each.folder} (${each.pictures})`, each.folder));
      folder.replaceChildren(new Option("Any", ""), ...options);
      folder.value = found.some((each) => each.folder === chosen) ? chosen : "";
    } catch (error) {
      this.#listed = "";
      this.dispatchEvent(new CustomEvent("trouble", { detail: { error } }));
    }
  }

  #takeYear() {
    const { year, since, until } = this.#parts;
    if (!year.value || !year.validity.valid) return;
    since.value = `${year.value}-01-01`;
    until.value = `${year.value}-12-31`;
  }

  #soon() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#now(), PAUSE);
  }

  #now() {
    clearTimeout(this.#timer);
    this.#mark();
    const value = JSON.stringify(this.value);
    if (value === this.#told) return;
    this.#told = value;
    this.dispatchEvent(new Event("change"));
  }

  /** Show on the button how many filters hold, as they may be hidden. */
  #mark() {
    const { filter, folder, since, until, reset } = this.#parts;
    const count = Number(Boolean(folder.value)) + Number(Boolean(since.value || until.value));
    filter.querySelector("b").textContent = count ? ` ${count}` : "";
    reset.hidden = this.isEmpty;
  }
}

/** @param {string} day as 2019-12-31 */
function dayAfter(day) {
  const next = new Date(`${day}T00:00:00Z`);
  next.setUTCDate(next.getUTCDate() + 1);
  return next.toISOString().slice(0, 10);
}
