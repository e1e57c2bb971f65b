/** Calls of the HTTP API. Every failure becomes an `ApiError`, whose message can be shown as it is. */

/**
 * @import { Point } from "/static/js/geometry.js"
 * @import { Gallery } from "/static/js/order.js"
 *
 * @typedef {{id: string, score: number, class_name: string | null, file_name: string, width: number, height: number,
 *   thumbnail: string, image: string}} Hit
 *
 * A query.
 * @typedef {{kind: "strokes", strokes: Point[][]} | {kind: "sketch" | "photo", file: Blob}
 *   | {kind: "similar", hit: Hit}} Query
 *
 * @typedef {{hits: Hit[], pictures: number, next_offset: number | null, milliseconds: {total: number}}} Answer
 */

const BASE = "/api/v1";

/** `status` is 0 if no answer came; `retryAfter` is in seconds, or null if the server did not say. */
export class ApiError extends Error {
  /**
   * @param {string} message
   * @param {number} status
   * @param {number | null} retryAfter
   */
  constructor(message, status = 0, retryAfter = null) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }

  /** Whether the same call may succeed a little later. */
  get passing() {
    return [0, 429, 502, 503, 504].includes(this.status);
  }
}

/**
 * All galleries; the first is the default.
 * @param {AbortSignal} [signal]
 * @returns {Promise<Gallery[]>}
 */
export async function galleries(signal) {
  return (await (await call("/galleries", { signal })).json()).galleries;
}

/**
 * One page of hits.
 * @param {string} gallery
 * @param {Query} query
 * @param {{k: number, offset: number, ranking: string}} order
 * @param {AbortSignal} signal
 * @returns {Promise<Answer>}
 */
export async function search(gallery, query, { k, offset, ranking }, signal) {
  const path = `/galleries/${encodeURIComponent(gallery)}`;
  if (query.kind === "similar") {
    const address = `${path}/items/${encodeURIComponent(query.hit.id)}/similar?${new URLSearchParams({ k, offset })}`;
    return (await call(address, { signal })).json();
  }
  if (query.kind === "strokes") {
    const body = { strokes: query.strokes, k, offset, ranking };
    return (await call(`${path}/search/strokes`, { ...json(body), signal })).json();
  }
  // A drawing guides where the network looks; a photo cannot.
  const order = query.kind === "photo" && ranking === "guided" ? "float" : ranking;
  const address = `${path}/search/${query.kind}?${new URLSearchParams({ k, offset, ranking: order })}`;
  return (await call(address, { ...picture(query.file), signal })).json();
}

/**
 * A hit's picture under the attention of a drawing, as a PNG.
 * @param {string} gallery
 * @param {Hit} hit
 * @param {Query} query
 * @param {AbortSignal} signal
 * @returns {Promise<Blob>}
 */
export async function explanation(gallery, hit, query, signal) {
  const path = `/galleries/${encodeURIComponent(gallery)}/items/${encodeURIComponent(hit.id)}/explanation`;
  const request =
    query.kind === "strokes"
      ? call(`${path}/strokes`, { ...json({ strokes: query.strokes }), signal })
      : call(`${path}/sketch`, { ...picture(query.file), signal });
  return (await request).blob();
}

/**
 * A drawing's picture as it is searched for, as a PNG.
 * @param {string} gallery
 * @param {Blob} file
 * @param {AbortSignal} [signal]
 * @returns {Promise<Blob>}
 */
export async function reading(gallery, file, signal) {
  const path = `/galleries/${encodeURIComponent(gallery)}/search/sketch/reading`;
  return (await call(path, { ...picture(file), signal })).blob();
}

/**
 * @param {object} body
 * @returns {RequestInit}
 */
function json(body) {
  return { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
}

/**
 * @param {Blob} file
 * @returns {RequestInit}
 */
function picture(file) {
  const type = file.type.startsWith("image/") ? file.type : "image/png"; // the server finds the format from the bytes
  return { method: "POST", headers: { "Content-Type": type }, body: file };
}

/**
 * @param {string} path
 * @param {RequestInit} options
 */
async function call(path, options) {
  let response;
  try {
    response = await fetch(BASE + path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server does not answer. Your drawing is kept.");
  }
  if (response.ok) return response;
  const seconds = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  throw new ApiError(await reason(response), response.status, Number.isFinite(seconds) ? seconds : null);
}

/**
 * @param {Response} response
 * @returns {Promise<string>}
 */
async function reason(response) {
  if (response.status === 429 || response.status === 503) return "The server is busy. Your drawing is kept.";
  try {
    return (await response.json()).error.message;
  } catch {
    return `The server answered with status ${response.status}.`; // no JSON: from a proxy between us and the server
  }
}
