/** Strokes as ink: on the page's canvas, on a picture to send, and as small SVG drawings. */

const THINNEST = 0.35; // of a stroke's width, under the lightest pressure
const paths = new WeakMap(); // strokes never change, so that their paths can be kept

/** Draw strokes in the context's own units and colour. */
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

/** The strokes' outline for the `d` of an SVG path. */
export function svgPath(strokes) {
  const point = ([x, y]) => `${Math.round(x)} ${Math.round(y)}`;
  return strokes.map(({ points }) => `M${[...points, ...(points.length === 1 ? points : [])].map(point).join("L")}`).join("");
}

function pathOf(stroke) {
  let path = paths.get(stroke);
  if (!path) {
    path = new Path2D();
    stroke.points.forEach(([x, y], index) => (index ? path.lineTo(x, y) : path.moveTo(x, y)));
    paths.set(stroke, path);
  }
  return path;
}

function drawDot(context, { points: [point], width }) {
  context.beginPath();
  context.arc(point[0], point[1], thickness(width, point) / 2, 0, 2 * Math.PI);
  context.fill();
}

function drawPressed(context, { points, width }) {
  for (let index = 1; index < points.length; index += 1) {
    context.lineWidth = thickness(width, points[index]);
    context.beginPath();
    context.moveTo(points[index - 1][0], points[index - 1][1]);
    context.lineTo(points[index][0], points[index][1]);
    context.stroke();
  }
}

function thickness(width, [, , pressure = 1]) {
  return width * (THINNEST + (1 - THINNEST) * Math.min(1, pressure));
}
