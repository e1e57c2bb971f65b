/** Calls of the HTTP API. Every failure becomes an `ApiError`, whose message can be shown as it is. */

/**
 * @import { Point } from "/static/js/geometry.js"
 * @import { Conditions } from "/static/js/conditions.js"
 * @import { Box } from "/static/js/frame.js"
 * @import { Gallery } from "/static/js/order.js"
 *
 * @typedef {{id: string, score: number, chance: number | null, sure: boolean | null, class_name: string | null,
 *   file_name: string, width: number, height: number,
 *   thumbnail: string, image: string, gallery: string, taken: string | null, gone: boolean, copies: Hit[],
 *   box: Box | null}} Hit
 *
 * A query.
 * @typedef {{kind: "strokes", strokes: Point[][]} | {kind: "sketch" | "photo", file: Blob}
 *   | {kind: "similar", hit: Hit, box: Box | null} | {kind: "words"}} Query
 *
 * @typedef {{hits: Hit[], pictures: number, next_offset: number | null, milliseconds: {total: number}}} Answer
 *
 * @typedef {{path: string, gone: boolean, taken: string | null, camera: string, has_place: boolean, tags: string[],
 *   caption: string, rating: number | null}} Place
 *
 * @typedef {{path: string | null, running: boolean, done: number, total: number, summary: string | null,
 *   error: string | null}} Indexing
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
 * @param {{k: number, offset: number, ranking: string, conditions: Conditions}} order
 * @param {AbortSignal} signal
 * @returns {Promise<Answer>}
 */
export async function search(gallery, query, { k, offset, ranking, conditions }, signal) {
  const path = `/galleries/${encodeURIComponent(gallery)}`;
  if (query.kind === "similar") {
    const { gallery: own, id } = query.hit;
    const address = `/galleries/${encodeURIComponent(own)}/items/${encodeURIComponent(id)}/similar`;
    const part = query.box ? { box: query.box.map((share) => share.toFixed(4)).join(",") } : {};
    return (await call(`${address}?${parameters({ k, offset, ...part, ...conditions, also: [] })}`, { signal })).json();
  }
  if (query.kind === "words") {
    return (await call(`${path}/search/words?${parameters({ k, offset, ...conditions })}`, { signal })).json();
  }
  if (query.kind === "strokes") {
    const body = { strokes: query.strokes, k, offset, ranking, ...conditions };
    return (await call(`${path}/search/strokes`, { ...json(body), signal })).json();
  }
  // A drawing guides where the network looks; a photo cannot.
  const order = query.kind === "photo" && ranking === "guided" ? "float" : ranking;
  const address = `${path}/search/${query.kind}?${parameters({ k, offset, ranking: order, ...conditions })}`;
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
 * Where a hit's file lies, and what is known of it.
 * @param {Hit} hit
 * @returns {Promise<Place>}
 */
export async function place(hit) {
  return (await call(`${item(hit)}/place`, {})).json();
}

/**
 * Show a hit's file in the file manager of this machine.
 * @param {Hit} hit
 */
export async function reveal(hit) {
  await call(`${item(hit)}/reveal`, { method: "POST" });
}

/**
 * The files of several pictures as a ZIP file.
 * @param {{gallery: string, id: string}[]} items
 * @returns {Promise<Blob>}
 */
export async function archive(items) {
  return (await call("/selection/archive", json({ items }))).blob();
}

/**
 * The paths of several pictures' files.
 * @param {{gallery: string, id: string}[]} items
 * @returns {Promise<string[]>}
 */
export async function paths(items) {
  return (await (await call("/selection/paths", json({ items }))).json()).paths;
}

/**
 * The folders of a gallery's pictures.
 * @param {string} gallery
 * @returns {Promise<{folder: string, pictures: number}[]>}
 */
export async function folders(gallery) {
  return (await (await call(`/galleries/${encodeURIComponent(gallery)}/folders`, {})).json()).folders;
}

/**
 * Folders of the server's machine that may be added; with null those to begin with.
 * @param {string | null} below
 * @returns {Promise<{path: string | null, parent: string | null, folders: string[]}>}
 */
export async function places(below) {
  return (await call(`/places${below === null ? "" : `?${parameters({ below })}`}`, {})).json();
}

/**
 * Begin to add a folder.
 * @param {string} gallery
 * @param {string} path
 * @returns {Promise<Indexing>}
 */
export async function addFolder(gallery, path) {
  return (await call(`/galleries/${encodeURIComponent(gallery)}/indexing`, json({ path }))).json();
}

/**
 * @param {string} gallery
 * @returns {Promise<Indexing>}
 */
export async function indexing(gallery) {
  return (await call(`/galleries/${encodeURIComponent(gallery)}/indexing`, {})).json();
}

/**
 * @param {string} gallery
 * @returns {Promise<Indexing>}
 */
export async function stopIndexing(gallery) {
  return (await call(`/galleries/${encodeURIComponent(gallery)}/indexing`, { method: "DELETE" })).json();
}

/** @param {Hit} hit */
function item({ gallery, id }) {
  return `/galleries/${encodeURIComponent(gallery)}/items/${encodeURIComponent(id)}`;
}

/**
 * Values as an address has them; of a list each.
 * @param {Record<string, any>} values
 */
function parameters(values) {
  return new URLSearchParams(
    Object.entries(values).flatMap(([name, value]) => [value].flat().map((each) => [name, String(each)])),
  );
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
