/** Shows how a picture of a drawing was read, so that its owner sees what is searched for. */

import { ApiError, reading } from "/static/js/api.js";

/** @import { Query } from "/static/js/api.js" */

export class Reading {
  #figure;
  #image;
  #asked = new AbortController();

  /** @param {any} figure */
  constructor(figure) {
    this.#figure = figure;
    this.#image = figure.querySelector("img");
  }

  /**
   * Show what is searched for, if the query is a picture of a drawing.
   * @param {string} gallery
   * @param {Query | null} query
   */
  async show(gallery, query) {
    this.#asked.abort();
    if (query?.kind !== "sketch") return this.hide();
    this.#asked = new AbortController();
    const { signal } = this.#asked;
    try {
      const read = await reading(gallery, query.file, signal);
      if (!signal.aborted) this.#put(URL.createObjectURL(read));
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof ApiError)) throw error;
      this.hide(); // the hits are shown all the same
    }
  }

  hide() {
    this.#asked.abort();
    this.#put("");
  }

  /** @param {string} address */
  #put(address) {
    if (this.#image.src) URL.revokeObjectURL(this.#image.src);
    if (address) this.#image.src = address;
    else this.#image.removeAttribute("src");
    this.#figure.hidden = !address;
  }
}
