/** Strokes as ink: on the page's canvas, on a picture to send, and as small SVG drawings. */

/**
 * @import { Stroke } from "/static/js/drawing.js"
 * @import { Point } from "/static/js/geometry.js"
 *
 * @typedef {CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D} Context
 */

const THINNEST = 0.35; // of a stroke's width, under the lightest pressure
/** @type {WeakMap<Stroke, Path2D>} */
const paths = new WeakMap(); // strokes never change, so their paths can be kept

/**
 * Draw strokes in the context's own units.
 * @param {Context} context
 * @param {Stroke[]} strokes
 * @param {string} colour
 */
export function drawStrokes(context, strokes, colour) {
  context.lineCap = context.lineJoin = "round";
  context.strokeStyle = context.fillStyle = colour;
  for (const stroke of strokes) {
    if (stroke.points.length === 1) drawDot(context, stroke);
    else if (stroke.points[0].length === 3) drawPressed(context, stroke);
    else {
      context.lineWidth = stroke.width;
      context.stroke(pathOf(stroke));
    }
  }
}

/**
 * The strokes' outline for the `d` of an SVG path.
 * @param {Stroke[]} strokes
 */
export function svgPath(strokes) {
  const point = (/** @type {Point} */ [x, y]) => `${Math.round(x)} ${Math.round(y)}`;
  const line = ({ points }) => (points.length === 1 ? [points[0], points[0]] : points).map(point).join("L");
  return strokes.map((stroke) => `M${line(stroke)}`).join("");
}

/** @param {Stroke} stroke */
function pathOf(stroke) {
  let path = paths.get(stroke);
  if (!path) {
    path = new Path2D();
    stroke.points.forEach(([x, y], index) => (index ? path.lineTo(x, y) : path.moveTo(x, y)));
    paths.set(stroke, path);
  }
  return path;
}

/**
 * @param {Context} context
 * @param {Stroke} stroke
 */
function drawDot(context, { points: [point], width }) {
  context.beginPath();
  context.arc(point[0], point[1], thickness(width, point) / 2, 0, 2 * Math.PI);
  context.fill();
}

/**
 * @param {Context} context
 * @param {Stroke} stroke
 */
function drawPressed(context, { points, width }) {
  for (let index = 1; index < points.length; index += 1) {
    context.lineWidth = thickness(width, points[index]);
    context.beginPath();
    context.moveTo(points[index - 1][0], points[index - 1][1]);
    context.lineTo(points[index][0], points[index][1]);
    context.stroke();
  }
}

/**
 * @param {number} width
 * @param {Point} point
 */
function thickness(width, [, , pressure = 1]) {
  return width * (THINNEST + (1 - THINNEST) * Math.min(1, pressure));
}
