/** Example drawings: shown as small pictures; one that is chosen is drawn stroke by stroke. */

import { inkLength } from "/static/js/drawing.js";
import { svgPath } from "/static/js/ink.js";

/**
 * @import { Drawing, Stroke } from "/static/js/drawing.js"
 * @import { Point } from "/static/js/geometry.js"
 *
 * @typedef {{name: string, strokes: Stroke[]}} Example
 */

const SECONDS = 1.6; // to draw an example
const WIDTH = 14; // of the pen, in units
const SVG = "http://www.w3.org/2000/svg";
const calm = matchMedia("(prefers-reduced-motion: reduce)");

/**
 * Fetch the examples.
 * @returns {Promise<Example[]>}
 */
export async function loadExamples() {
  const response = await fetch("/static/examples.json");
  const { examples } = await response.json();
  return examples.map(({ name, strokes }) => ({
    name,
    strokes: strokes.map((points) => ({ points, width: WIDTH })),
  }));
}

/**
 * A button that shows an example.
 * @param {Example} example
 */
export function exampleButton({ name, strokes }) {
  const picture = document.createElementNS(SVG, "svg");
  picture.setAttribute("viewBox", "0 0 1024 1024");
  picture.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", svgPath(strokes));
  picture.append(path);
  const button = document.createElement("button");
  button.type = "button";
  button.append(picture, name);
  return button;
}

/** Draws an example like a hand, stroke by stroke. */
export class Hand {
  #drawing;
  #frame = 0;
  /** @type {Stroke[] | null} */
  #strokes = null; // of the example being drawn

  /** @param {Drawing} drawing */
  constructor(drawing) {
    this.#drawing = drawing;
  }

  get busy() {
    return this.#strokes !== null;
  }

  /** @param {Stroke[]} strokes */
  draw(strokes) {
    this.finish();
    this.#drawing.begin();
    this.#strokes = strokes;
    if (calm.matches) {
      this.finish();
      return;
    }
    const [length, start] = [inkLength(strokes), performance.now()];
    const next = (time) => {
      const share = Math.max(0, time - start) / 1000 / SECONDS;
      if (share >= 1) {
        this.finish();
        return;
      }
      this.#drawing.update({ strokes: beginning(strokes, share * length), picture: null });
      this.#frame = requestAnimationFrame(next);
    };
    this.#frame = requestAnimationFrame(next);
  }

  /** Draw the rest of the example at once. */
  finish() {
    if (!this.#strokes) return;
    cancelAnimationFrame(this.#frame);
    const strokes = this.#strokes;
    this.#strokes = null;
    this.#drawing.update({ strokes, picture: null });
    this.#drawing.commit();
  }
}

/**
 * The first `length` units of ink.
 * @param {Stroke[]} strokes
 * @param {number} length
 */
function beginning(strokes, length) {
  const drawn = [];
  let left = length;
  for (const stroke of strokes) {
    if (left <= 0) break;
    const whole = inkLength([stroke]);
    drawn.push(left >= whole ? stroke : { ...stroke, points: shortened(stroke.points, left) });
    left -= whole;
  }
  return drawn;
}

/**
 * @param {Point[]} points
 * @param {number} length
 */
function shortened(points, length) {
  const kept = [points[0]];
  let left = length;
  for (const point of points.slice(1)) {
    const from = kept.at(-1);
    const piece = Math.hypot(point[0] - from[0], point[1] - from[1]);
    if (piece >= left) {
      const share = piece ? left / piece : 0;
      return [...kept, from.map((value, axis) => value + (point[axis] - value) * share)];
    }
    kept.push(point);
    left -= piece;
  }
  return kept;
}
