/** The state of the page: the drawing, the query, and the hits shown. */

import { Drawing, outline } from "/static/js/drawing.js";
import { composed } from "/static/js/picture.js";
import { keyOf } from "/static/js/selection.js";

/**
 * @import { Answer, Hit, Query } from "/static/js/api.js"
 * @import { Box } from "/static/js/frame.js"
 *
 * The hits shown, best first, and the query that they answer. `pictures` is the number of pictures in the gallery;
 * `next` is the offset of more hits, or null.
 * @typedef {{query: Query | null, hits: Hit[], pictures: number, next: number | null, milliseconds: number}} Shown
 */

/** @type {Shown} */
const NOTHING = { query: null, hits: [], pictures: 0, next: null, milliseconds: 0 };

/**
 * Emits "drawing" with detail {live} when the drawing has changed; it is live during a gesture. Emits "question" with
 * detail {live} when the query has changed, and "shown" with detail {added} when the hits have: the place of the first
 * hit that was added below others, or 0.
 */
export class State extends EventTarget {
  /** The drawing. */
  drawing = new Drawing();
  /** @type {Hit | null} */
  #similar = null;
  /** @type {Box | null} */
  #part = null;
  /** @type {string | null} */
  #within = null;
  #shown = NOTHING;

  constructor() {
    super();
    this.drawing.addEventListener("change", ({ detail: { live } }) => {
      this.#similar = null;
      if (this.drawing.isEmpty) this.#within = null;
      this.#changed("drawing", { live });
      this.#changed("question", { live });
    });
  }

  /** The hit that is searched for instead of the drawing, or null. */
  get similar() {
    return this.#similar;
  }

  /** The part of that hit which is searched for, or null for all of it. */
  get part() {
    return this.#part;
  }

  /** The one class that the drawing searches, or null for all. */
  get within() {
    return this.#within;
  }

  get shown() {
    return this.#shown;
  }

  /** Whether nothing is drawn or searched for; there may be conditions. */
  get isEmpty() {
    return this.drawing.isEmpty && !this.#similar;
  }

  /**
   * The present query: without a drawing the conditions alone say what is found.
   * @returns {Promise<Query>}
   */
  async question() {
    if (this.#similar) return { kind: "similar", hit: this.#similar, box: this.#part };
    const { picture, strokes } = this.drawing;
    if (picture?.kind === "photo") return { kind: "photo", file: picture.file };
    if (picture && strokes.length && picture.image) return { kind: "sketch", file: await composed(picture, strokes) };
    if (picture) return { kind: "sketch", file: picture.file };
    return strokes.length ? { kind: "strokes", strokes: outline(strokes) } : { kind: "words" };
  }

  /**
   * Search for pictures like a hit or a part of it, or with null for the drawing again, among all classes.
   * @param {Hit | null} hit
   * @param {Box | null} part
   */
  seek(hit, part = null) {
    [this.#similar, this.#part] = [hit, part];
    this.#within = null;
    this.#changed("question", { live: false });
  }

  /**
   * Search for the drawing among the pictures of one class, also while it is drawn on.
   * @param {string} className
   */
  keepTo(className) {
    this.#within = className;
    this.#changed("question", { live: false });
  }

  /** Another gallery is searched: forget the hits and the hit that is searched for, which belong to the old one. */
  leaveGallery() {
    this.#similar = this.#within = null;
    this.#shown = NOTHING;
    this.#changed("question", { live: false });
  }

  /**
   * Show the hits of an answer, with an offset below those shown; each hit only once.
   * @param {Query} query
   * @param {Answer} answer
   * @param {number} offset
   */
  show(query, answer, offset) {
    const before = offset ? this.#shown.hits : [];
    const known = new Set(before.map(keyOf));
    const hits = [...before, ...answer.hits.filter((hit) => !known.has(keyOf(hit)))];
    const next = answer.hits.length ? answer.next_offset : null;
    this.#shown = { query, hits, pictures: answer.pictures, next, milliseconds: answer.milliseconds.total };
    this.#changed("shown", { added: before.length });
  }

  /** A search failed: the hits are not what was asked for. */
  forget() {
    this.#shown = NOTHING;
  }

  showNothing() {
    this.#shown = NOTHING;
    this.#changed("shown", { added: 0 });
  }

  /**
   * @param {string} what
   * @param {object} detail
   */
  #changed(what, detail) {
    this.dispatchEvent(new CustomEvent(what, { detail }));
  }
}
