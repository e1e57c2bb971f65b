/**
 * A drawing as a few hundred letters, for the fragment of a link.
 *
 * Bytes, then base64url: the version; for each stroke the number of its points, its width, and the steps from point to
 * point on a grid of SIDE x SIDE (from the last point of the stroke before it); two bytes of Fletcher's checksum.
 * Numbers are written in groups of seven bits, lowest first; steps with the sign in the lowest bit.
 */

import { SIDE } from "/static/js/drawing.js";
import { simplify } from "/static/js/geometry.js";

/**
 * @import { Stroke } from "/static/js/drawing.js"
 * @import { Point } from "/static/js/geometry.js"
 */

const VERSION = 1;
const TOLERANCES = [1, 2, 4, 8]; // in units; the first that makes the link short enough is used
const SHORT = 4000; // letters; mail and chat programs cut links much longer than this
const MOST_LETTERS = 200_000;
const MOST_WIDTH = 255;

/** A link without a drawing; the message can be shown. */
export class LinkError extends Error {}

/** @param {Stroke[]} strokes */
export function encode(strokes) {
  let text = "";
  for (const tolerance of TOLERANCES) {
    text = toText(strokes, tolerance);
    if (text.length <= SHORT) break;
  }
  return text;
}

/**
 * The strokes of a link's text. Throws a `LinkError` unless the text is complete.
 * @param {string} text
 * @returns {Stroke[]}
 */
export function decode(text) {
  if (text.length > MOST_LETTERS) throw new LinkError("This link is too long to be a drawing.");
  const bytes = fromBase64(text);
  if (!bytes || bytes.length < 3) throw damaged();
  if (bytes[0] !== VERSION) throw new LinkError("This link was made by another version of this page.");
  const content = bytes.subarray(0, -2);
  if (checksum(content).some((byte, index) => byte !== bytes[content.length + index])) throw damaged();
  const reader = new Reader(content.subarray(1));
  const strokes = [];
  let here = [0, 0];
  while (!reader.done) {
    const [count, width] = [reader.number(), reader.number()];
    if (!count || !width || width > MOST_WIDTH) throw damaged();
    const points = [];
    while (points.length < count) {
      here = [here[0] + reader.step(), here[1] + reader.step()];
      if (here.some((value) => value < 0 || value > SIDE)) throw damaged();
      points.push(here);
    }
    strokes.push({ points, width });
  }
  return strokes;
}

/**
 * @param {Stroke[]} strokes
 * @param {number} tolerance
 */
function toText(strokes, tolerance) {
  const bytes = [VERSION];
  let here = [0, 0];
  for (const stroke of strokes) {
    const points = onGrid(simplify(stroke.points, tolerance));
    bytes.push(...number(points.length), ...number(Math.min(MOST_WIDTH, Math.max(1, Math.round(stroke.width)))));
    for (const point of points) {
      bytes.push(...step(point[0] - here[0]), ...step(point[1] - here[1]));
      here = point;
    }
  }
  bytes.push(...checksum(bytes));
  const letters = btoa(bytes.map((byte) => String.fromCharCode(byte)).join(""));
  return letters.replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

/**
 * Points rounded to the grid, without points that equal the one before them.
 * @param {Point[]} points
 */
function onGrid(points) {
  const round = (/** @type {number} */ value) => Math.min(SIDE, Math.max(0, Math.round(value)));
  const rounded = points.map(([x, y]) => [round(x), round(y)]);
  return rounded.filter((point, index) => !index || point.some((value, axis) => value !== rounded[index - 1][axis]));
}

/** @param {number} value */
function number(value) {
  const bytes = [];
  for (; value > 127; value >>>= 7) bytes.push((value & 127) | 128);
  return [...bytes, value];
}

/** @param {number} value */
function step(value) {
  return number(value < 0 ? -2 * value - 1 : 2 * value);
}

class Reader {
  #bytes;
  #position = 0;

  /** @param {Uint8Array} bytes */
  constructor(bytes) {
    this.#bytes = bytes;
  }

  get done() {
    return this.#position === this.#bytes.length;
  }

  number() {
    let value = 0;
    for (let shift = 0; shift < 28; shift += 7) {
      if (this.done) throw damaged();
      const byte = this.#bytes[this.#position++];
      value |= (byte & 127) << shift;
      if (byte < 128) return value;
    }
    throw damaged();
  }

  step() {
    const value = this.number();
    return value & 1 ? -(value + 1) / 2 : value / 2;
  }
}

/** @param {Uint8Array | number[]} bytes */
function checksum(bytes) {
  let [first, second] = [0, 0];
  for (const byte of bytes) {
    first = (first + byte) % 255;
    second = (second + first) % 255;
  }
  return [first, second];
}

/** @param {string} text */
function fromBase64(text) {
  if (!/^[\w-]+$/.test(text)) return null;
  try {
    return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
  } catch {
    return null;
  }
}

function damaged() {
  return new LinkError("This link is damaged or was cut short. Ask for it again, or draw something new.");
}
