/** Smooths what a hand draws. */

import { between, distance } from "/static/js/geometry.js";

/** @import { Point } from "/static/js/geometry.js" */

const JITTER = 20; // a hand's tremble is shorter than this; longer moves are taken as they come
const CALM = 0.45; // share of a tiny move that is followed, the rest is smoothed away
const STEP = 6; // length of the pieces that a curve is laid down in

/** Follows a pointer and lays down a smooth curve through what it reports. */
export class Smoother {
  /** @type {Point[]} */
  #curve;
  #corner; // the latest point of the pointer's calmed path: the control point of the next piece of curve
  #joint; // where the curve has got to: halfway between the last two corners

  /** @param {Point} start */
  constructor(start) {
    this.#curve = [start];
    this.#corner = this.#joint = start;
  }

  /** The curve so far, up to where the pointer is. */
  get points() {
    const last = this.#curve.at(-1);
    return distance(last, this.#corner) > 0 ? [...this.#curve, this.#corner] : [...this.#curve];
  }

  /** @param {Point} point */
  add(point) {
    const response = Math.min(1, Math.max(CALM, distance(point, this.#corner) / JITTER));
    const corner = between(this.#corner, point, response);
    if (distance(corner, this.#corner) < 0.5) return;
    const joint = between(this.#corner, corner, 0.5);
    const pieces = Math.max(1, Math.ceil(distance(this.#joint, joint) / STEP));
    for (let piece = 1; piece <= pieces; piece += 1) {
      const t = piece / pieces;
      const [out, back] = [between(this.#joint, this.#corner, t), between(this.#corner, joint, t)];
      this.#curve.push(between(out, back, t)); // a quadratic Bézier curve, by de Casteljau
    }
    this.#corner = corner;
    this.#joint = joint;
  }

  /**
   * The whole stroke once the pointer is lifted at `point`: smoothing must not leave it short of there.
   * @param {Point} point
   */
  finish(point) {
    return distance(this.points.at(-1), point) > 0.5 ? [...this.points, point] : this.points;
  }
}
