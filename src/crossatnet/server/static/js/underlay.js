/** What is on the paper besides the ink: a picture with its bar, or a hint while the paper is empty. */

/** @import { Drawing, Picture } from "/static/js/drawing.js" */

/** Emits "kind" with detail {kind} when the user changes the picture's kind, and "remove" to remove it. */
export class Underlay extends EventTarget {
  #parts;

  /**
   * @param {Record<"paper" | "under" | "undecoded" | "hint" | "pictureBar" | "removePicture", any>} parts
   */
  constructor(parts) {
    super();
    this.#parts = parts;
    parts.removePicture.addEventListener("click", () => this.dispatchEvent(new Event("remove")));
    parts.pictureBar.addEventListener("change", ({ target }) => {
      if (target.name === "kind") this.dispatchEvent(new CustomEvent("kind", { detail: { kind: target.value } }));
    });
  }

  /** @param {Drawing} drawing */
  show({ picture, isEmpty }) {
    const { paper, under, undecoded, hint, pictureBar } = this.#parts;
    hint.classList.toggle("gone", !isEmpty);
    under.hidden = !picture?.url;
    if (picture?.url && under.getAttribute("src") !== picture.url) under.src = picture.url;
    undecoded.hidden = !picture || Boolean(picture.url);
    undecoded.textContent = picture && !picture.url ? `${picture.name} (your browser cannot show it)` : "";
    pictureBar.hidden = !picture;
    paper.dataset.kind = picture?.kind ?? "";
    paper.toggleAttribute("data-dark", Boolean(picture?.dark));
    if (picture) pictureBar.querySelector(`[name=kind][value=${picture.kind}]`).checked = true;
  }
}
