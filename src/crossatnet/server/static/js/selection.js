/** The pictures that are selected, and what can be done with them: save them as a list or as a ZIP file. */

import { archive, paths } from "/static/js/api.js";

/** @import { Hit } from "/static/js/api.js" */

const MOST = 500; // as many as the server packs

/** Emits "trouble" with detail {error}. */
export class Selection extends EventTarget {
  #parts;
  /** @type {Map<string, Hit>} */
  #chosen = new Map();

  /** @param {Record<"selected" | "selectedCount" | "saveZip" | "saveList" | "deselect" | "results", any>} parts */
  constructor(parts) {
    super();
    this.#parts = parts;
    parts.saveZip.addEventListener("click", () => this.#save(archive, "pictures.zip"));
    parts.saveList.addEventListener("click", () => this.#save(list, "pictures.txt"));
    parts.deselect.addEventListener("click", () => this.clear());
  }

  /** @param {Hit} hit */
  has(hit) {
    return this.#chosen.has(keyOf(hit));
  }

  /**
   * @param {Hit} hit
   * @param {boolean} chosen
   */
  choose(hit, chosen) {
    if (chosen && this.#chosen.size < MOST) this.#chosen.set(keyOf(hit), hit);
    else this.#chosen.delete(keyOf(hit));
    this.#show();
  }

  clear() {
    this.#chosen.clear();
    for (const box of this.#parts.results.querySelectorAll(".choose:checked")) box.checked = false;
    this.#show();
  }

  #show() {
    const { selected, selectedCount } = this.#parts;
    selected.hidden = !this.#chosen.size;
    document.body.classList.toggle("selecting", this.#chosen.size > 0);
    selectedCount.textContent = `${this.#chosen.size} selected`;
  }

  /**
   * @param {(items: {gallery: string, id: string}[]) => Promise<Blob>} make
   * @param {string} name
   */
  async #save(make, name) {
    const { saveZip, saveList } = this.#parts;
    saveZip.disabled = saveList.disabled = true;
    try {
      const items = [...this.#chosen.values()].map(({ gallery, id }) => ({ gallery, id }));
      download(await make(items), name);
    } catch (error) {
      this.dispatchEvent(new CustomEvent("trouble", { detail: { error } }));
    }
    saveZip.disabled = saveList.disabled = false;
  }
}

/**
 * A name for a hit that no hit of another gallery has.
 * @param {Hit} hit
 */
export function keyOf({ gallery, id }) {
  return `${gallery}/${id}`;
}

/** @param {{gallery: string, id: string}[]} items */
async function list(items) {
  return new Blob([(await paths(items)).map((path) => `${path}\n`).join("")], { type: "text/plain" });
}

/**
 * Let the browser save a file.
 * @param {Blob} content
 * @param {string} name
 */
function download(content, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // the browser may still be reading
}
