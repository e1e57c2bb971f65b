/** The choices of a search: the gallery, the ranking, and how many pictures at a time. */

import { recall, store } from "/static/js/storage.js";

/**
 * A gallery's facts from the server.
 * @typedef {{name: string, title: string, checkpoint: string, guided: boolean, reveals: boolean, indexes: boolean,
 *   credits: string | null, also: string[]}} Gallery
 *
 * `also` names further galleries that are searched with it, as if all were one.
 */

const STORED = "gallery";
const ALL = "*"; // no gallery has this name

/** Emits "change" with detail {gallery}: whether the gallery changed. `parts` are the nodes of the choices. */
export class Order extends EventTarget {
  #parts;
  /** @type {Gallery[]} */
  #galleries = [];

  /** @param {Record<string, any>} parts */
  constructor(parts) {
    super();
    this.#parts = parts;
    const { gallery, count, menu } = parts;
    gallery.addEventListener("change", () => {
      store(STORED, gallery.value);
      this.#showGallery();
      this.#changed(true);
    });
    count.addEventListener("change", () => this.#changed(false));
    menu.addEventListener("change", (event) => {
      if (event.target.name !== "ranking") return;
      this.#nameRanking();
      this.#changed(false);
    });
    addEventListener("pointerdown", (event) => menu.contains(event.target) || (menu.open = false));
    addEventListener("focusin", ({ target }) => {
      // Not for an element around the menu: it gets the focus when a text in the menu is clicked.
      if (!menu.contains(target) && !target.contains(menu)) menu.open = false;
    });
    menu.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      menu.open = false;
      menu.querySelector("summary").focus();
    });
  }

  /** The gallery that is searched, or undefined before the galleries are known. */
  get gallery() {
    const chosen = this.#galleries.find(({ name }) => name === this.#parts.gallery.value);
    return chosen?.name === ALL ? { ...chosen, name: this.#galleries[0].name } : chosen;
  }

  get ranking() {
    return this.#parts.menu.querySelector("[name=ranking]:checked").value;
  }

  get count() {
    return Number(this.#parts.count.value);
  }

  /**
   * Offer these galleries, and choose the one of last time, or else the first.
   * @param {Gallery[]} galleries
   */
  offer(galleries) {
    const { gallery, galleryChoice } = this.#parts;
    this.#galleries = [...galleries.map((each) => ({ ...each, also: [] })), ...together(galleries)];
    gallery.replaceChildren(...this.#galleries.map(({ name, title }) => new Option(title, name)));
    if (this.#galleries.some(({ name }) => name === recall(STORED))) gallery.value = recall(STORED);
    galleryChoice.hidden = galleries.length < 2;
    this.#showGallery();
  }

  #showGallery() {
    const { menu, guidedChoice, credits } = this.#parts;
    const { guided, credits: owed } = this.gallery;
    guidedChoice.hidden = !guided;
    if (!guided && this.ranking === "guided") menu.querySelector("[name=ranking][value=float]").checked = true;
    this.#nameRanking();
    credits.hidden = !owed;
    credits.textContent = owed ?? "";
  }

  #nameRanking() {
    this.#parts.rankingName.textContent = this.#parts.menu.querySelector("[name=ranking]:checked ~ span b").textContent;
  }

  /** @param {boolean} gallery */
  #changed(gallery) {
    this.dispatchEvent(new CustomEvent("change", { detail: { gallery } }));
  }
}

/**
 * All galleries as one, if there are several and their scores can be compared.
 * @param {Gallery[]} galleries
 * @returns {Gallery[]}
 */
function together(galleries) {
  const [first, ...others] = galleries;
  if (!others.length || others.some(({ checkpoint }) => checkpoint !== first.checkpoint)) return [];
  const credits = [...new Set(galleries.map((each) => each.credits).filter(Boolean))].join(" ") || null;
  return [{ ...first, name: ALL, title: "All of them", credits, also: others.map(({ name }) => name) }];
}
