/** A part of the picture in the viewer, chosen by dragging over it or with the keyboard, to search by. */

import { frame } from "/static/js/frame.js";

/**
 * @import { Hit } from "/static/js/api.js"
 * @import { Box } from "/static/js/frame.js"
 */

const SMALLEST = 0.05; // of a side of the picture
const STEP = 0.02; // of a side, for each press of an arrow key
/** @type {Box} */
const MIDDLE = [0.25, 0.25, 0.75, 0.75];
const ARROWS = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };

/** Emits "search" when Enter is pressed. */
export class Part extends EventTarget {
  #parts;
  /** @type {Hit | null} */
  #hit = null;
  /** @type {Box | null} */
  #box = null;

  /** @param {Record<"chooser" | "chosen" | "choosePart" | "similarName", any>} parts of the viewer */
  constructor(parts) {
    super();
    this.#parts = parts;
    parts.choosePart.addEventListener("click", () => (this.#box ? this.stop() : this.#start()));
    parts.chooser.addEventListener("pointerdown", (event) => this.#drag(event));
    parts.chooser.addEventListener("keydown", (event) => this.#key(event));
  }

  /** The chosen part, or null for the whole picture. */
  get box() {
    return this.#box;
  }

  /**
   * Another picture is shown: no part of it is chosen.
   * @param {Hit} hit
   */
  of(hit) {
    this.stop();
    this.#hit = hit;
    this.#parts.choosePart.hidden = !hit.width || !hit.height || hit.gone;
  }

  stop() {
    const { chooser, choosePart } = this.#parts;
    if (chooser.contains(document.activeElement)) choosePart.focus();
    this.#show(null);
  }

  #start() {
    this.#show(this.#hit.box ?? MIDDLE);
    this.#parts.chooser.focus();
  }

  /** @param {Box | null} box */
  #show(box) {
    const { chooser, chosen, choosePart, similarName } = this.#parts;
    this.#box = box;
    chooser.hidden = !box;
    choosePart.setAttribute("aria-pressed", String(Boolean(box)));
    similarName.textContent = box ? "More like this part" : "More like this";
    if (!box) return;
    frame(chosen, this.#hit, box);
    const [left, top, right, bottom] = box.map((share) => Math.round(100 * share));
    chooser.ariaLabel = `Part of the picture: ${left} to ${right} percent across, ${top} to ${bottom} percent down`;
  }

  /** @param {PointerEvent} event */
  #drag(event) {
    const { chooser } = this.#parts;
    const before = this.#box;
    const [x, y] = this.#place(event);
    event.preventDefault(); // no selection of text, no dragging of the picture
    chooser.focus();
    chooser.setPointerCapture(event.pointerId);
    const move = (/** @type {PointerEvent} */ moved) => {
      const [toX, toY] = this.#place(moved);
      this.#show([Math.min(x, toX), Math.min(y, toY), Math.max(x, toX), Math.max(y, toY)]);
    };
    const end = () => {
      chooser.removeEventListener("pointermove", move);
      chooser.removeEventListener("pointerup", end);
      chooser.removeEventListener("pointercancel", end);
      const [left, top, right, bottom] = this.#box;
      if (Math.min(right - left, bottom - top) < SMALLEST) this.#show(before); // a click, or a slip
    };
    chooser.addEventListener("pointermove", move);
    chooser.addEventListener("pointerup", end);
    chooser.addEventListener("pointercancel", end);
  }

  /**
   * Where a pointer is, as fractions of the picture, which is shown whole in the middle of the chooser.
   * @param {PointerEvent} event
   */
  #place({ clientX, clientY }) {
    const { left, top, width, height } = this.#parts.chooser.getBoundingClientRect();
    const scale = Math.min(width / this.#hit.width, height / this.#hit.height);
    const [across, down] = [this.#hit.width * scale, this.#hit.height * scale];
    const [x, y] = [(clientX - left - (width - across) / 2) / across, (clientY - top - (height - down) / 2) / down];
    return [clamped(x), clamped(y)];
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Enter") this.dispatchEvent(new Event("search"));
    else if (event.key === "Escape") this.stop();
    else if (event.key in ARROWS) this.#show((event.shiftKey ? resized : moved)(this.#box, ARROWS[event.key]));
    else return;
    event.preventDefault();
    event.stopPropagation(); // the viewer's arrow keys turn to other pictures
  }
}

/**
 * @param {Box} box
 * @param {number[]} step
 * @returns {Box}
 */
function moved([left, top, right, bottom], [across, down]) {
  const [x, y] = [clamped(left + across, 1 - (right - left)), clamped(top + down, 1 - (bottom - top))];
  return [x, y, x + right - left, y + bottom - top];
}

/**
 * @param {Box} box
 * @param {number[]} step
 * @returns {Box}
 */
function resized([left, top, right, bottom], [across, down]) {
  const [x, y] = [Math.max(left + SMALLEST, right + across), Math.max(top + SMALLEST, bottom + down)];
  return [left, top, clamped(x), clamped(y)];
}

/** @param {number} value */
function clamped(value, most = 1) {
  return Math.min(most, Math.max(0, value));
}
