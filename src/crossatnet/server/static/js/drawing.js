/** The drawing: its strokes, perhaps a picture below them, and its earlier states for undo and redo. */

import { cut, distance, simplify } from "/static/js/geometry.js";

/**
 * @import { Point } from "/static/js/geometry.js"
 *
 * @typedef {{points: Point[], width: number}} Stroke
 *
 * A picture as read by `picture.js`. `dark` means light ink on dark paper; `url` and `image` are null if the browser
 * cannot show the file.
 * @typedef {{file: Blob, url: string | null, image: ImageBitmap | null, name: string, kind: "sketch" | "photo",
 *   dark: boolean}} Picture
 *
 * @typedef {{strokes: Stroke[], picture: Picture | null}} DrawingState
 */

export const SIDE = 1024; // the paper's width and height, in the units of all points
const SEARCH_TOLERANCE = 0.5; // of the points sent to the server: less than its pen is wide

/**
 * States are never changed, only replaced, so `undo` only takes an older one. Emits "change" with detail {live}: true
 * during a gesture.
 */
export class Drawing extends EventTarget {
  /** @type {DrawingState} */
  #state = { strokes: [], picture: null };
  /** @type {DrawingState[]} */
  #past = [];
  /** @type {DrawingState[]} */
  #future = [];
  /** @type {DrawingState | null} */
  #before = null; // the state that the gesture in progress started from

  get strokes() {
    return this.#state.strokes;
  }

  get picture() {
    return this.#state.picture;
  }

  get isEmpty() {
    return !this.#state.strokes.length && !this.#state.picture;
  }

  get canUndo() {
    return this.#past.length > 0;
  }

  get canRedo() {
    return this.#future.length > 0;
  }

  /** Start a gesture: all calls of `update` until `commit` are one step for `undo`. */
  begin() {
    this.commit();
    this.#before = this.#state;
  }

  /** @param {Partial<DrawingState>} changes */
  update(changes) {
    this.#state = { ...this.#state, ...changes };
    this.#changed(true);
  }

  commit() {
    const before = this.#before;
    this.#before = null;
    if (!before || before === this.#state) return;
    this.#past.push(before);
    this.#future = [];
    this.#changed(false);
  }

  /**
   * Replace strokes, picture or both as one step.
   * @param {Partial<DrawingState>} changes
   */
  replace(changes) {
    this.begin();
    this.#state = { ...this.#state, ...changes };
    this.commit();
  }

  clear() {
    if (!this.isEmpty) this.replace({ strokes: [], picture: null });
  }

  undo() {
    this.commit();
    this.#step(this.#past, this.#future);
  }

  redo() {
    this.commit();
    this.#step(this.#future, this.#past);
  }

  /**
   * @param {DrawingState[]} from
   * @param {DrawingState[]} to
   */
  #step(from, to) {
    if (!from.length) return;
    to.push(this.#state);
    this.#state = from.pop();
    this.#changed(false);
  }

  /** @param {boolean} live */
  #changed(live) {
    this.dispatchEvent(new CustomEvent("change", { detail: { live } }));
  }
}

/**
 * Strokes after an eraser of that width went from point to point; strokes that it did not touch stay the same objects.
 * @param {Stroke[]} strokes
 * @param {Point} from
 * @param {Point} to
 * @param {number} width
 * @returns {Stroke[]}
 */
export function erase(strokes, from, to, width) {
  const left = strokes.flatMap((stroke) => {
    const pieces = cut(stroke.points, from, to, (width + stroke.width) / 2);
    if (pieces.length === 1 && pieces[0] === stroke.points) return [stroke];
    return pieces.map((points) => ({ points, width: stroke.width }));
  });
  const untouched = left.length === strokes.length && left.every((stroke, index) => stroke === strokes[index]);
  return untouched ? strokes : left;
}

/**
 * Strokes for the server, without points that they do not need.
 * @param {Stroke[]} strokes
 * @returns {Point[][]}
 */
export function outline(strokes) {
  const round = (/** @type {number} */ value) => Math.round(value * 10) / 10;
  return strokes.map(({ points }) => simplify(points, SEARCH_TOLERANCE).map(([x, y]) => [round(x), round(y)]));
}

/**
 * Length of all strokes together, to draw them at an even speed.
 * @param {Stroke[]} strokes
 */
export function inkLength(strokes) {
  return strokes.reduce((sum, { points }) => sum + lineLength(points), 0);
}

/** @param {Point[]} points */
function lineLength(points) {
  return points.slice(1).reduce((sum, point, index) => sum + distance(points[index], point), 0);
}
