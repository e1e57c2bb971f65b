/** The part of the page with the hits: their origin, their number, and what is shown if there are none. */

import { readable } from "/static/js/results.js";

/**
 * @import { Hit } from "/static/js/api.js"
 * @import { Results } from "/static/js/results.js"
 * @import { Shown } from "/static/js/state.js"
 */

const UNLIKELY = 0.25; // chance of the best hit below which nothing looks much like the drawing
const PATIENCE = 150; // milliseconds before waiting is shown

export class Found {
  #parts;
  #results;
  #waiting = 0; // the timer of PATIENCE

  /**
   * @param {Record<"found" | "facts" | "empty" | "nothing" | "none" | "doubt" | "more" | "origin" | "originKind" |
   *   "originName", any>} parts
   * @param {Results} results
   */
  constructor(parts, results) {
    this.#parts = parts;
    this.#results = results;
  }

  /**
   * A search for so many hits has begun. If it takes long and no hits are shown, show grey tiles in their place.
   * @param {number} count
   */
  wait(count) {
    const { found, empty } = this.#parts;
    found.ariaBusy = "true";
    clearTimeout(this.#waiting);
    this.#waiting = setTimeout(() => {
      found.classList.add("late");
      if (!this.#results.isEmpty) return;
      empty.hidden = true;
      this.#results.wait(count);
    }, PATIENCE);
  }

  /**
   * A search is over; `busy` says whether another one follows.
   * @param {boolean} busy
   */
  arrive(busy) {
    const { found, more } = this.#parts;
    clearTimeout(this.#waiting);
    found.classList.remove("late");
    found.ariaBusy = String(busy);
    more.disabled = false;
    if (this.#results.isEmpty) this.#results.clear(); // the grey tiles
  }

  /**
   * Show hits. If some were added below others, the first of them gets the focus.
   * @param {Shown} shown
   * @param {number} added
   */
  show(shown, added) {
    const { empty, nothing, none, doubt, more, facts } = this.#parts;
    empty.hidden = shown.query !== null;
    nothing.hidden = shown.query === null || shown.pictures > 0;
    none.hidden = shown.query === null || !shown.pictures || shown.hits.length > 0;
    more.hidden = shown.next === null;
    doubt.hidden = (shown.hits[0]?.chance ?? 1) >= UNLIKELY;
    facts.textContent = shown.query ? `${counted(shown)}, ${Math.max(1, Math.round(shown.milliseconds))} ms` : "";
    if (!shown.query) this.#results.clear();
    else this.#results.show(shown.hits, shown.query.kind !== "words");
    if (added) this.#results.focus(added);
  }

  /** Remove the hits, as others will follow, or as a search failed. */
  clear() {
    this.#results.clear();
    this.#parts.more.hidden = this.#parts.none.hidden = this.#parts.doubt.hidden = true;
    this.#parts.facts.textContent = "";
  }

  /**
   * Say that pictures like this hit or a part of it are searched for, or the drawing in one class; nothing where neither.
   * @param {Hit | null} hit
   * @param {boolean} isPart
   * @param {string | null} within
   */
  origin(hit, isPart, within) {
    const { origin, originKind, originName } = this.#parts;
    origin.hidden = !hit && within === null;
    originKind.textContent = hit ? "More like" : "Like your drawing, only";
    const name = readable(hit ? (hit.class_name ?? hit.file_name) : (within ?? ""));
    originName.textContent = hit && isPart ? `a part of ${name}` : name;
  }
}

/**
 * The result as a sentence for screen readers; empty if there are no hits.
 * @param {Shown} shown
 */
export function summary(shown) {
  const [best] = shown.hits;
  if (!best) return "";
  const name = readable(best.class_name ?? best.file_name);
  const score = shown.query.kind === "words" ? "" : `, score ${best.score.toFixed(2)}`;
  return `${shown.hits.length} of ${counted(shown)} shown. Best: ${name}${score}.`;
}

/** @param {Shown} shown */
function counted({ pictures }) {
  return `${pictures.toLocaleString("en")} ${pictures === 1 ? "picture" : "pictures"}`;
}
