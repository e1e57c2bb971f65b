/** A frame around a part of a picture: an SVG of the picture's size that lies over it and is laid out as it is. */

/**
 * left, top, right, bottom as fractions of a picture
 * @typedef {[number, number, number, number]} Box
 */

const NAMESPACE = "http://www.w3.org/2000/svg";

/**
 * Frame a part in an SVG that lies over a picture of this size; no frame if `box` is null or the size is not known.
 * @param {SVGElement} svg
 * @param {{width: number, height: number}} size
 * @param {Box | null} box
 */
export function frame(svg, { width, height }, box) {
  const isFramed = Boolean(box && width && height);
  svg.toggleAttribute("hidden", !isFramed);
  svg.replaceChildren(...(isFramed ? ["shade", "line"].map((name) => outline(name, width, height, box)) : []));
  if (isFramed) svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
}

/**
 * The same over a picture that is shown at its own size where there is room: a thumbnail, whose longer side is `side`
 * at most.
 * @param {SVGElement} svg
 * @param {{width: number, height: number}} size
 * @param {Box | null} box
 * @param {number} side
 */
export function frameThumbnail(svg, { width, height }, box, side) {
  const scale = Math.min(1, side / Math.max(width, height));
  frame(svg, { width, height }, box);
  svg.setAttribute("width", String(Math.round(width * scale)));
  svg.setAttribute("height", String(Math.round(height * scale)));
}

/**
 * @param {string} name a class of CSS
 * @param {number} width
 * @param {number} height
 * @param {Box} box
 */
function outline(name, width, height, [left, top, right, bottom]) {
  const rect = document.createElementNS(NAMESPACE, "rect");
  const facts = { x: left * width, y: top * height, width: (right - left) * width, height: (bottom - top) * height };
  for (const [key, value] of Object.entries(facts)) rect.setAttribute(key, String(value));
  rect.setAttribute("class", name);
  return rect;
}
