/** The place of the eraser over the paper, or of the keyboard's pen. */

import { SIDE } from "/static/js/drawing.js";

/** @import { Point } from "/static/js/geometry.js" */

const LINE = 2; // pixels
const CROSS = [22, 40]; // units from the middle where the arms of the keyboard's cross start and end

export class Cursor {
  /** @type {Point | null} */
  #place = null;
  #byKeyboard = false;

  /** Whether the arrow keys move the cursor. */
  get byKeyboard() {
    return this.#byKeyboard;
  }

  hide() {
    this.#place = null;
    this.#byKeyboard = false;
  }

  /**
   * A pointer moves the cursor.
   * @param {Point} place
   */
  hover(place) {
    this.#place = place;
    this.#byKeyboard = false;
  }

  /** The keyboard takes the cursor, in the middle of the paper if it had no place; returns its place. */
  take() {
    this.#byKeyboard = true;
    this.#place ??= [SIDE / 2, SIDE / 2];
    return this.#place;
  }

  /**
   * The keyboard moves the cursor within the paper; returns its new place.
   * @param {Point} direction
   * @param {number} length in units
   */
  step(direction, length) {
    const inside = (value) => Math.min(SIDE, Math.max(0, value));
    this.#place = this.take().map((value, axis) => inside(value + direction[axis] * length));
    return this.#place;
  }

  /**
   * Draw the cursor as a ring of radius `reach` units; `pixel` is the size of a pixel in units.
   * @param {CanvasRenderingContext2D} context
   * @param {number} reach
   * @param {number} pixel
   * @param {string} colour
   */
  draw(context, reach, pixel, colour) {
    if (!this.#place) return;
    const [x, y] = this.#place;
    context.strokeStyle = colour;
    context.lineWidth = LINE * pixel;
    context.beginPath();
    context.arc(x, y, reach + context.lineWidth, 0, 2 * Math.PI);
    if (this.#byKeyboard) {
      for (const [dx, dy] of [[-1, 0], [1, 0], [0, -1], [0, 1]]) {
        context.moveTo(x + CROSS[0] * dx, y + CROSS[0] * dy);
        context.lineTo(x + CROSS[1] * dx, y + CROSS[1] * dy);
      }
    }
    context.stroke();
  }
}
