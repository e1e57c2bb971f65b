/** One stroke of the pen or the eraser while it is drawn, by any device. */

import { erase } from "/static/js/drawing.js";
import { Smoother } from "/static/js/smoother.js";

/**
 * @import { Drawing } from "/static/js/drawing.js"
 * @import { Point } from "/static/js/geometry.js"
 */

/** Changes the drawing until `end` is called; all its changes are one step for `undo`. */
export class Gesture {
  #drawing;
  #width;
  #erasing;
  #strokes; // before the gesture
  #smoother;
  #last; // where the eraser is

  /**
   * @param {Drawing} drawing
   * @param {Point} point
   * @param {number} width in units
   * @param {boolean} erasing
   */
  constructor(drawing, point, width, erasing) {
    this.#drawing = drawing;
    drawing.begin();
    // Nobody draws on a photo: the new drawing replaces it, and `undo` brings it back.
    if (drawing.picture?.kind === "photo" && !erasing) drawing.update({ picture: null });
    this.#width = width;
    this.#erasing = erasing;
    this.#strokes = drawing.strokes;
    this.#smoother = new Smoother(point);
    this.#last = point;
    if (erasing) this.#erase(point);
    else this.#show([point]);
  }

  /** The latest pressure of the pen, if it reports any. */
  get pressure() {
    return this.#smoother.points.at(-1)[2];
  }

  /**
   * Continue through points that a pointer reports.
   * @param {Point[]} points
   */
  move(points) {
    for (const point of points) {
      if (this.#erasing) this.#erase(point);
      else this.#smoother.add(point);
    }
    if (!this.#erasing) this.#show(this.#smoother.points);
  }

  /**
   * Continue exactly to a point, without smoothing.
   * @param {Point} point
   */
  step(point) {
    if (this.#erasing) this.#erase(point);
    else this.#show([...this.#drawing.strokes.at(-1).points, point]);
  }

  /**
   * End where a pointer was lifted, or with null at the gesture's last point.
   * @param {Point | null} point
   */
  end(point) {
    if (!this.#erasing && point) this.#show(this.#smoother.finish(point));
    this.#drawing.commit();
  }

  /** @param {Point[]} points */
  #show(points) {
    this.#drawing.update({ strokes: [...this.#strokes, { points, width: this.#width }] });
  }

  /** @param {Point} point */
  #erase(point) {
    const strokes = erase(this.#drawing.strokes, this.#last, point, this.#width);
    this.#last = point;
    if (strokes !== this.#drawing.strokes) this.#drawing.update({ strokes });
  }
}
