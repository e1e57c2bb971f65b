/** Reads pictures that are dropped, pasted or chosen, and guesses which are drawings and which are photos. */

import { SIDE } from "/static/js/drawing.js";
import { drawStrokes } from "/static/js/ink.js";

/** @import { Picture, Stroke } from "/static/js/drawing.js" */

const LARGE = 2_000_000; // bytes above which a picture is made smaller before it is sent
const ENOUGH = 1024; // pixels of the longer side of a smaller picture: more than any network here needs
const SAMPLE = 48; // pixels of the side of the small copy that the guess looks at
const SENT = 512; // pixels of the side of a drawing sent as a picture
const COLOURFUL = 0.15; // a picture is a photo if all that is not paper has more colour on average
const PAPER_SHARE = 0.4; // a drawing has more pixels than this near its most frequent brightness

/**
 * Read a file. The user may change the guess of its kind. A file that the browser cannot show may still be read by the
 * server.
 * @param {File} file
 * @returns {Promise<Picture>}
 */
export async function readPicture(file) {
  const name = file.name || "pasted picture";
  const image = await createImageBitmap(file).catch(() => null);
  if (!image) return { file, url: null, image, name, kind: "sketch", dark: false };
  const small = file.size > LARGE ? await shrunk(image) : file;
  return { file: small, url: URL.createObjectURL(small), image, name, ...guess(image) };
}

/**
 * A drawing on top of a picture, both as one PNG, to send.
 * @param {Picture} picture
 * @param {Stroke[]} strokes
 */
export async function composed(picture, strokes) {
  const [paper, ink] = picture.dark ? ["#000", "#fff"] : ["#fff", "#000"];
  const [canvas, context] = blank(SENT, SENT, paper);
  const { width, height } = picture.image;
  const scale = Math.min(SENT / width, SENT / height);
  context.drawImage(
    picture.image,
    (SENT - width * scale) / 2,
    (SENT - height * scale) / 2,
    width * scale,
    height * scale,
  );
  context.scale(SENT / SIDE, SENT / SIDE);
  drawStrokes(context, strokes, ink);
  return canvas.convertToBlob({ type: "image/png" });
}

/** @param {ImageBitmap} image */
async function shrunk(image) {
  const scale = Math.min(1, ENOUGH / Math.max(image.width, image.height));
  const [width, height] = [image.width, image.height].map((side) => Math.max(1, Math.round(side * scale)));
  const [canvas, context] = blank(width, height);
  context.drawImage(image, 0, 0, width, height);
  return canvas.convertToBlob({ type: "image/png" });
}

/**
 * Guess the kind: much of a drawing is paper of one brightness, and the rest has hardly any colour.
 * @param {ImageBitmap} image
 */
function guess(image) {
  const [, context] = blank(SAMPLE, SAMPLE);
  context.drawImage(image, 0, 0, SAMPLE, SAMPLE);
  const { data } = context.getImageData(0, 0, SAMPLE, SAMPLE);
  const brightness = new Array(16).fill(0);
  const colour = new Array(16).fill(0); // of the pixels of each brightness
  for (let start = 0; start < data.length; start += 4) {
    const [red, green, blue] = data.subarray(start, start + 3);
    const level = Math.floor((red + green + blue) / 48);
    brightness[level] += 1;
    colour[level] += (Math.max(red, green, blue) - Math.min(red, green, blue)) / 255;
  }
  const sum = (/** @type {number[]} */ values) => values.reduce((total, value) => total + value, 0);
  const paper = brightness.indexOf(Math.max(...brightness));
  const [bare, inked] = [brightness[paper] / sum(brightness), sum(brightness) - brightness[paper]];
  const isColourful = sum(colour) - colour[paper] > COLOURFUL * inked;
  return { kind: bare > PAPER_SHARE && !isColourful ? "sketch" : "photo", dark: paper < brightness.length / 2 };
}

/**
 * A canvas and its context, filled with a colour, as transparent pictures need a background.
 * @param {number} width
 * @param {number} height
 * @returns {[OffscreenCanvas, OffscreenCanvasRenderingContext2D]}
 */
function blank(width, height, colour = "#fff") {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = colour;
  context.fillRect(0, 0, width, height);
  return [canvas, context];
}
