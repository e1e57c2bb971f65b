/** The part of the viewer about a picture's file: where it lies, what is known of it, and what can be done with it. */

import { place, reveal } from "/static/js/api.js";

/** @import { Hit } from "/static/js/api.js" */

/** Emits "copied", and "trouble" with detail {error}. */
export class Original extends EventTarget {
  #parts;
  /** @type {Hit | null} */
  #hit = null;

  /** @param {Record<string, any>} parts of the viewer */
  constructor(parts) {
    super();
    this.#parts = parts;
    parts.copyPath.addEventListener("click", async () => {
      await navigator.clipboard.writeText(parts.path.textContent);
      this.dispatchEvent(new Event("copied"));
    });
    parts.reveal.addEventListener("click", () => this.#reveal());
  }

  /**
   * @param {Hit} hit
   * @param {boolean} reveals whether the server can show a file in this machine's file manager
   */
  async show(hit, reveals) {
    this.#hit = hit;
    const { path, known, openFile, saveFile, reveal: button, copyPath, gone } = this.#parts;
    const address = originalOf(hit);
    [openFile.href, saveFile.href] = [address, `${address}?download=true`];
    saveFile.download = hit.file_name;
    path.textContent = hit.file_name;
    known.replaceChildren();
    copyPath.disabled = true;
    this.#mark(hit.gone);
    gone.hidden = !hit.gone;
    button.hidden = !reveals || hit.gone;
    try {
      const facts = await place(hit);
      if (this.#hit !== hit) return;
      path.textContent = facts.path;
      copyPath.disabled = false;
      this.#mark(facts.gone);
      known.replaceChildren(...rows(facts));
    } catch (error) {
      if (this.#hit === hit) this.dispatchEvent(new CustomEvent("trouble", { detail: { error } }));
    }
  }

  /** @param {boolean} gone */
  #mark(gone) {
    const { openFile, saveFile, gone: mark } = this.#parts;
    mark.hidden = !gone;
    openFile.hidden = saveFile.hidden = gone;
  }

  async #reveal() {
    try {
      await reveal(this.#hit);
    } catch (error) {
      this.dispatchEvent(new CustomEvent("trouble", { detail: { error } }));
    }
  }
}

/**
 * The address of a hit's file as it is.
 * @param {Hit} hit
 */
export function originalOf({ gallery, id }) {
  return `/api/v1/galleries/${encodeURIComponent(gallery)}/items/${encodeURIComponent(id)}/original`;
}

/**
 * What a picture is when it is dragged out of the page: its file for the file manager, its address for others.
 * @param {DataTransfer} data
 * @param {Hit} hit
 */
export function dragOut(data, hit) {
  const address = new URL(originalOf(hit), location.href).href;
  data.effectAllowed = "copy";
  data.setData("DownloadURL", `application/octet-stream:${hit.file_name.replaceAll(":", "_")}:${address}?download=true`);
  data.setData("text/uri-list", address);
  data.setData("text/plain", address);
}

/** @param {import("/static/js/api.js").Place} facts */
function* rows({ taken, camera, tags, caption, rating, has_place: hasPlace }) {
  const facts = {
    Taken: taken?.replace("T", " ").replace(" 00:00:00", ""),
    Camera: camera,
    Tags: tags.join(", "),
    Caption: caption,
    Rating: rating === null ? "" : rating < 0 ? "rejected" : "★".repeat(rating),
    Place: hasPlace ? "in the file" : "",
  };
  for (const [name, value] of Object.entries(facts)) if (value) yield row(name, value);
}

/**
 * @param {string} name
 * @param {string} value
 */
function row(name, value) {
  const made = document.createElement("div");
  const [term, text] = [document.createElement("dt"), document.createElement("dd")];
  [term.textContent, text.textContent] = [name, value];
  made.append(term, text);
  return made;
}
