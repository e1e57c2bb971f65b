/**
 * Strokes as polylines: their distances, simplifying them, and cutting them with an eraser.
 *
 * Lengths are in the drawing's units. Nothing here changes its arguments.
 */

/**
 * [x, y] or [x, y, pressure]
 * @typedef {number[]} Point
 *
 * A part [t0, t1] of a segment, in shares of its length.
 * @typedef {[number, number]} Interval
 */

/**
 * The point a share `t` of the way from `a` to `b`.
 * @param {Point} a
 * @param {Point} b
 * @param {number} t
 * @returns {Point}
 */
export function between(a, b, t) {
  return a.map((value, axis) => value + (b[axis] - value) * t);
}

/**
 * @param {Point} a
 * @param {Point} b
 */
export function distance(a, b) {
  return Math.hypot(a[0] - b[0], a[1] - b[1]);
}

/**
 * The fewest of the points whose polyline stays within `tolerance` of all of them (Ramer-Douglas-Peucker).
 * @param {Point[]} points
 * @param {number} tolerance
 */
export function simplify(points, tolerance) {
  if (points.length < 3) return [...points];
  const kept = new Set([0, points.length - 1]);
  const open = [[0, points.length - 1]];
  while (open.length) {
    const [first, last] = open.pop();
    let [farthest, most] = [-1, tolerance];
    for (let index = first + 1; index < last; index += 1) {
      const away = distanceToSegment(points[index], points[first], points[last]);
      if (away > most) [farthest, most] = [index, away];
    }
    if (farthest < 0) continue;
    kept.add(farthest);
    open.push([first, farthest], [farthest, last]);
  }
  return points.filter((_, index) => kept.has(index));
}

/**
 * @param {Point} point
 * @param {Point} start
 * @param {Point} end
 */
export function distanceToSegment(point, start, end) {
  const [dx, dy] = [end[0] - start[0], end[1] - start[1]];
  const length2 = dx * dx + dy * dy;
  const along = length2 ? ((point[0] - start[0]) * dx + (point[1] - start[1]) * dy) / length2 : 0;
  const t = Math.min(1, Math.max(0, along));
  return Math.hypot(point[0] - start[0] - t * dx, point[1] - start[1] - t * dy);
}

/**
 * The rest of a stroke after an eraser went straight from `from` to `to` and removed everything within `reach`.
 *
 * Returns the pieces, each a list of points; only the stroke itself if it was not touched. New end points lie exactly
 * on the border of the erased area.
 * @param {Point[]} points
 * @param {Point} from
 * @param {Point} to
 * @param {number} reach
 * @returns {Point[][]}
 */
export function cut(points, from, to, reach) {
  if (points.length === 1) return distanceToSegment(points[0], from, to) < reach ? [] : [points];
  const wiped = points.slice(1).map((end, index) => insideCapsule(points[index], end, from, to, reach));
  if (wiped.every((interval) => interval === null)) return [points];
  const pieces = [];
  let piece = [points[0]];
  wiped.forEach((interval, index) => {
    const [start, end] = [points[index], points[index + 1]];
    if (interval) {
      if (interval[0] > 0) piece.push(between(start, end, interval[0]));
      pieces.push(piece);
      piece = interval[1] < 1 ? [between(start, end, interval[1])] : [];
    }
    piece.push(end);
  });
  pieces.push(piece);
  return pieces.filter((each) => each.length > 1 && each.some((point) => distance(point, each[0]) > 1e-9));
}

/**
 * The part [t0, t1] of the segment from `a` to `b` that lies nearer than `reach` to the segment from `from` to `to`,
 * or null. It is one interval, as the points near a segment form a convex shape.
 * @param {Point} a
 * @param {Point} b
 * @param {Point} from
 * @param {Point} to
 * @param {number} reach
 * @returns {Interval | null}
 */
function insideCapsule(a, b, from, to, reach) {
  const intervals = [insideDisc(a, b, from, reach), insideDisc(a, b, to, reach), insideBand(a, b, from, to, reach)];
  const found = intervals.filter((interval) => interval && interval[0] < interval[1]);
  if (!found.length) return null;
  return [Math.min(...found.map(([t0]) => t0)), Math.max(...found.map(([, t1]) => t1))];
}

/**
 * @param {Point} a
 * @param {Point} b
 * @param {Point} centre
 * @param {number} radius
 * @returns {Interval | null}
 */
function insideDisc(a, b, centre, radius) {
  const [dx, dy, ox, oy] = [b[0] - a[0], b[1] - a[1], a[0] - centre[0], a[1] - centre[1]];
  const [square, half, rest] = [dx * dx + dy * dy, dx * ox + dy * oy, ox * ox + oy * oy - radius * radius];
  if (!square) return rest < 0 ? [0, 1] : null;
  const root = half * half - square * rest;
  if (root <= 0) return null;
  return [Math.max(0, (-half - Math.sqrt(root)) / square), Math.min(1, (-half + Math.sqrt(root)) / square)];
}

/**
 * As `insideDisc`, for the rectangle along `from` - `to` that extends `reach` to both sides.
 * @param {Point} a
 * @param {Point} b
 * @param {Point} from
 * @param {Point} to
 * @param {number} reach
 * @returns {Interval | null}
 */
function insideBand(a, b, from, to, reach) {
  const length = distance(from, to);
  if (!length) return null;
  const [ux, uy] = [(to[0] - from[0]) / length, (to[1] - from[1]) / length];
  const along = (point) => (point[0] - from[0]) * ux + (point[1] - from[1]) * uy;
  const across = (point) => (point[1] - from[1]) * ux - (point[0] - from[0]) * uy;
  const first = slab(along(a), along(b), 0, length);
  const second = slab(across(a), across(b), -reach, reach);
  return first && second && [Math.max(first[0], second[0]), Math.min(first[1], second[1])];
}

/**
 * A value goes evenly from `a` to `b`: the part of 0..1 in which it lies between `low` and `high`, or null.
 * @param {number} a
 * @param {number} b
 * @param {number} low
 * @param {number} high
 * @returns {Interval | null}
 */
function slab(a, b, low, high) {
  if (a === b) return a > low && a < high ? [0, 1] : null;
  const [t0, t1] = [(low - a) / (b - a), (high - a) / (b - a)];
  const interval = [Math.max(0, Math.min(t0, t1)), Math.min(1, Math.max(t0, t1))];
  return interval[0] < interval[1] ? interval : null;
}
