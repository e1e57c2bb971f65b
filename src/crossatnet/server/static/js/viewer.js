/**
 * Shows one hit large, with the drawing's attention, its neighbours in the list, "more like this", and a search of its
 * class alone by the drawing.
 */

import { explanation } from "/static/js/api.js";
import { frame } from "/static/js/frame.js";
import { Original } from "/static/js/original.js";
import { Part } from "/static/js/part.js";
import { readable } from "/static/js/results.js";

/** @import { Hit, Query } from "/static/js/api.js" */

/**
 * Emits "similar" with detail {hit, box}, where `box` is a part of it or null, "within" with detail {hit}, "left" with
 * detail {index} when it is closed, and "copied" when a path was copied.
 */
export class Viewer extends EventTarget {
  #dialog;
  /** @type {Record<string, HTMLElement>} */
  #parts = {};
  /** @type {Hit[]} */
  #hits = [];
  #index = 0;
  #index0 = 0; // of the hit in the list of results whose copies are shown
  #copies = false; // whether the hits are the copies of one
  /** @type {Query | null} */
  #drawing = null; // the drawing whose attention can be shown
  #drawn = false; // whether a drawing is searched for, in all classes
  #likeness = true;
  #reveals = false;
  #original;
  #part;
  /** @type {AbortController | null} */
  #loading = null; // the AbortController of the explanation being fetched
  #overlay = ""; // the blob URL shown

  /** @param {HTMLDialogElement} dialog */
  constructor(dialog) {
    super();
    this.#dialog = dialog;
    for (const node of dialog.querySelectorAll("[data-part]")) this.#parts[node.dataset.part] = node;
    const { close, previous, next, similar, within, attention, copies } = this.#parts;
    this.#original = new Original(this.#parts);
    this.#original.addEventListener("copied", () => this.dispatchEvent(new Event("copied")));
    this.#original.addEventListener("trouble", ({ detail: { error } }) => this.#showError(error.message));
    copies.addEventListener("click", () => this.#showCopies());
    close.addEventListener("click", () => dialog.close());
    previous.addEventListener("click", () => this.#go(-1));
    next.addEventListener("click", () => this.#go(1));
    attention.addEventListener("click", () => this.#toggle());
    similar.addEventListener("click", () => this.#seek("similar"));
    within.addEventListener("click", () => this.#seek("within"));
    this.#part = new Part(this.#parts);
    this.#part.addEventListener("search", () => this.#seek("similar"));
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    dialog.addEventListener("keydown", (event) => this.#key(event));
    dialog.addEventListener("close", () => {
      this.#hideOverlay();
      this.dispatchEvent(new CustomEvent("left", { detail: { index: this.#copies ? this.#index0 : this.#index } }));
    });
  }

  /**
   * Open the viewer at one hit of a list. The toggle shows the attention of `drawing`, if given; `drawn`: whether a
   * drawing is searched for, in all classes; `likeness`: whether scores say how like a query hits are; `reveals`: whether
   * files can be shown in the file manager.
   * @param {Hit[]} hits
   * @param {number} index
   * @param {{drawing: Query | null, drawn: boolean, likeness: boolean, reveals: boolean}} options
   */
  open(hits, index, { drawing, drawn, likeness, reveals }) {
    this.#hits = hits;
    this.#copies = false;
    this.#drawing = drawing;
    this.#drawn = drawn;
    this.#likeness = likeness;
    this.#reveals = reveals;
    this.#parts.explain.hidden = !drawing;
    this.#dialog.showModal();
    this.#show(index);
  }

  /** @param {"similar" | "within"} what */
  #seek(what) {
    const [hit, box] = [this.#hits[this.#index], this.#part.box];
    this.#dialog.close();
    this.dispatchEvent(new CustomEvent(what, { detail: { hit, box } }));
  }

  get #attending() {
    return this.#parts.attention.getAttribute("aria-checked") === "true";
  }

  /** Show a hit and its copies instead of all hits. */
  #showCopies() {
    const hit = this.#hits[this.#index];
    [this.#index0, this.#copies] = [this.#index, true];
    this.#hits = [{ ...hit, copies: [] }, ...hit.copies];
    this.#show(1);
    this.#parts.next.focus();
  }

  #go(steps) {
    const index = this.#index + steps;
    if (this.#hits[index]) this.#show(index);
  }

  #show(index) {
    this.#index = index;
    const [hit, parts] = [this.#hits[index], this.#parts];
    const name = readable(hit.class_name ?? hit.file_name);
    parts.title.textContent = name;
    parts.within.hidden = !this.#drawn || hit.class_name === null;
    parts.withinName.textContent = name;
    parts.rank.textContent = `${index + 1} of ${this.#hits.length}`;
    parts.likeness.hidden = !this.#likeness;
    parts.score.textContent = hit.score.toFixed(3);
    parts.bar.value = Math.max(0, hit.score);
    parts.copies.hidden = !hit.copies.length;
    parts.copies.textContent = `And ${hit.copies.length} more like it`;
    this.#original.show(hit, this.#reveals);
    parts.size.textContent = hit.width && hit.height ? `${hit.width} × ${hit.height} pixels` : "unknown";
    parts.previous.disabled = index === 0;
    parts.next.disabled = index === this.#hits.length - 1;
    parts.problem.hidden = true;
    parts.image.alt = `Picture: ${name}`;
    frame(parts.region, hit, hit.box);
    this.#part.of(hit);
    this.#load(hit);
    this.#hideOverlay();
    if (this.#attending) this.#explain();
  }

  /** Show the thumbnail at once; the large picture replaces it. */
  async #load(/** @type {Hit} */ hit) {
    this.#parts.image.src = hit.thumbnail;
    const large = new Image();
    large.src = hit.image;
    const problem = await large.decode().catch(() => "This picture cannot be shown: its file may have been moved.");
    if (hit !== this.#hits[this.#index]) return; // another hit is shown meanwhile
    if (problem) this.#showError(problem);
    else this.#parts.image.src = hit.image;
  }

  #toggle() {
    this.#parts.attention.setAttribute("aria-checked", String(!this.#attending));
    if (this.#attending) this.#explain();
    else this.#hideOverlay();
  }

  async #explain() {
    if (!this.#drawing) return;
    const hit = this.#hits[this.#index];
    const loading = (this.#loading = new AbortController());
    this.#parts.attention.ariaBusy = "true";
    try {
      const picture = await explanation(hit.gallery, hit, this.#drawing, loading.signal);
      if (loading.signal.aborted) return;
      this.#overlay = URL.createObjectURL(picture);
      this.#parts.overlay.src = this.#overlay;
      await this.#parts.overlay.decode();
      if (!loading.signal.aborted) this.#parts.overlay.classList.add("shown");
    } catch (error) {
      if (!loading.signal.aborted) this.#showError(error.message);
    }
    if (this.#loading === loading) this.#parts.attention.ariaBusy = "false";
  }

  #hideOverlay() {
    this.#loading?.abort();
    this.#loading = null;
    this.#parts.attention.ariaBusy = "false";
    this.#parts.overlay.classList.remove("shown");
    this.#parts.overlay.removeAttribute("src");
    URL.revokeObjectURL(this.#overlay);
  }

  #showError(message) {
    this.#parts.problem.textContent = message;
    this.#parts.problem.hidden = false;
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "ArrowLeft") this.#go(-1);
    else if (event.key === "ArrowRight") this.#go(1);
    else return;
    event.preventDefault();
  }
}
