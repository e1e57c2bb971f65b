/** Where the hits are: what they answer, how many there are, and what stands there without any. */

import { readable } from "/static/js/results.js";

/**
 * @import { Hit } from "/static/js/api.js"
 * @import { Results } from "/static/js/results.js"
 * @import { Shown } from "/static/js/state.js"
 */

const PATIENCE = 150; // milliseconds before waiting is shown

export class Found {
  #parts;
  #results;
  #waiting = 0; // the timer of PATIENCE

  /**
   * @param {Record<"found" | "facts" | "empty" | "nothing" | "more" | "origin" | "originName", any>} parts
   * @param {Results} results
   */
  constructor(parts, results) {
    this.#parts = parts;
    this.#results = results;
  }

  /**
   * A search is under way for so many hits: grey tiles stand in for them if it is long and none are there.
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
   * A search is over; `busy` tells whether another is to come.
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
   * Show hits; the first of those that were added below others gets the focus.
   * @param {Shown} shown
   * @param {number} added
   */
  show(shown, added) {
    const { empty, nothing, more, facts } = this.#parts;
    empty.hidden = shown.query !== null;
    nothing.hidden = shown.query === null || shown.pictures > 0;
    more.hidden = shown.next === null;
    facts.textContent = shown.query ? `${counted(shown)}, ${Math.max(1, Math.round(shown.milliseconds))} ms` : "";
    if (!shown.query) this.#results.clear();
    else this.#results.show(shown.hits);
    if (added) this.#results.focus(added);
  }

  /** Take the hits away: others are on their way. */
  clear() {
    this.#results.clear();
    this.#parts.more.hidden = true;
  }

  /**
   * Say whose like are searched for, or with null that it is the drawing.
   * @param {Hit | null} hit
   */
  origin(hit) {
    this.#parts.origin.hidden = !hit;
    if (hit) this.#parts.originName.textContent = readable(hit.class_name ?? hit.file_name);
  }
}

/**
 * What was found as a sentence to be read out; empty if there are no hits.
 * @param {Shown} shown
 */
export function summary(shown) {
  const [best] = shown.hits;
  if (!best) return "";
  const name = readable(best.class_name ?? best.file_name);
  return `${shown.hits.length} of ${counted(shown)} shown. Best: ${name}, score ${best.score.toFixed(2)}.`;
}

/** @param {Shown} shown */
function counted({ pictures }) {
  return `${pictures.toLocaleString("en")} ${pictures === 1 ? "picture" : "pictures"}`;
}
