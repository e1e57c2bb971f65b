/** Smooths strokes that are drawn by hand. */

import { between, distance } from "/static/js/geometry.js";

/** @import { Point } from "/static/js/geometry.js" */

const JITTER = 20; // trembling moves are shorter than this; longer moves are not smoothed
const CALM = 0.45; // share of a tiny move that is followed
const STEP = 6; // length of the pieces of a curve

/** Follows a pointer and makes a smooth curve through the points that it reports. */
export class Smoother {
  /** @type {Point[]} */
  #curve;
  #corner; // the latest point of the pointer's calmed path: the control point of the next piece of curve
  #joint; // the end of the curve so far: halfway between the last two corners

  /** @param {Point} start */
  constructor(start) {
    this.#curve = [start];
    this.#corner = this.#joint = start;
  }

  /** The curve so far, up to the pointer. */
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
   * The whole stroke, once the pointer is lifted at `point`; smoothing must not make it end before that point.
   * @param {Point} point
   */
  finish(point) {
    return distance(this.points.at(-1), point) > 0.5 ? [...this.points, point] : this.points;
  }
}
