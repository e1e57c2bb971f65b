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
  svg.replaceChildren(...(isFramed ? [outline(width, height, box)] : []));
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
 * The frame lies within the part, so that none of it is cut off at the picture's edge: an inner SVG shows only the inner
 * half of a line along its own edge.
 * @param {number} width
 * @param {number} height
 * @param {Box} box
 */
function outline(width, height, [left, top, right, bottom]) {
  const [x, y] = [left * width, top * height];
  const part = made("svg", { x, y, width: right * width - x, height: bottom * height - y });
  part.append(...["line", "edge"].map((name) => made("rect", { class: name, width: "100%", height: "100%" })));
  return part;
}

/**
 * @param {string} name
 * @param {Record<string, string | number>} facts
 */
function made(name, facts) {
  const node = document.createElementNS(NAMESPACE, name);
  for (const [key, value] of Object.entries(facts)) node.setAttribute(key, String(value));
  return node;
}
