/** What the page knows: what is drawn, what is searched for, and what is shown. */

import { Drawing, outline } from "/static/js/drawing.js";
import { composed } from "/static/js/picture.js";

/**
 * @import { Answer, Hit, Query } from "/static/js/api.js"
 *
 * The hits shown, best first, and what they answer. `pictures` counts those of the gallery; `next` is where more hits
 * start, or null.
 * @typedef {{query: Query | null, hits: Hit[], pictures: number, next: number | null, milliseconds: number}} Shown
 */

/** @type {Shown} */
const NOTHING = { query: null, hits: [], pictures: 0, next: null, milliseconds: 0 };

/**
 * Emits "drawing" with detail {live} when the drawing has changed, by a gesture that still goes on if it is live;
 * "question" with detail {live} when what is searched for has changed; and "shown" with detail {added} when the hits
 * have: from which place on they are new, or 0.
 */
export class State extends EventTarget {
  /** What is drawn. */
  drawing = new Drawing();
  /** @type {Hit | null} */
  #similar = null;
  #shown = NOTHING;

  constructor() {
    super();
    this.drawing.addEventListener("change", ({ detail: { live } }) => {
      this.#similar = null;
      this.#changed("drawing", { live });
      this.#changed("question", { live });
    });
  }

  /** The hit whose like are searched for, instead of those of the drawing, or null. */
  get similar() {
    return this.#similar;
  }

  get shown() {
    return this.#shown;
  }

  /** Whether there is nothing to search by. */
  get isEmpty() {
    return this.drawing.isEmpty && !this.#similar;
  }

  /**
   * What is searched for now.
   * @returns {Promise<Query | null>}
   */
  async question() {
    if (this.#similar) return { kind: "similar", hit: this.#similar };
    const { picture, strokes } = this.drawing;
    if (picture?.kind === "photo") return { kind: "photo", file: picture.file };
    if (picture && strokes.length && picture.image) return { kind: "sketch", file: await composed(picture, strokes) };
    if (picture) return { kind: "sketch", file: picture.file };
    return strokes.length ? { kind: "strokes", strokes: outline(strokes) } : null;
  }

  /**
   * Search for what is like a hit, or with null for the drawing again.
   * @param {Hit | null} hit
   */
  seek(hit) {
    this.#similar = hit;
    this.#changed("question", { live: false });
  }

  /** Another gallery is searched: the hits, and the one whose like are searched for, were of the gallery before. */
  leaveGallery() {
    this.#similar = null;
    this.#shown = NOTHING;
    this.#changed("question", { live: false });
  }

  /**
   * Show the hits of an answer; with an offset below those that are there, each only once.
   * @param {Query} query
   * @param {Answer} answer
   * @param {number} offset
   */
  show(query, answer, offset) {
    const before = offset ? this.#shown.hits : [];
    const known = new Set(before.map(({ id }) => id));
    const hits = [...before, ...answer.hits.filter(({ id }) => !known.has(id))];
    const next = answer.hits.length ? answer.next_offset : null;
    this.#shown = { query, hits, pictures: answer.pictures, next, milliseconds: answer.milliseconds.total };
    this.#changed("shown", { added: before.length });
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
