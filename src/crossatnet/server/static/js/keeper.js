/** Keeps the drawing in the tab, so that it survives a reload and the login, and in links. */

import { LinkError, decode, encode } from "/static/js/link.js";
import { recall, store } from "/static/js/storage.js";

/** @import { Drawing, Stroke } from "/static/js/drawing.js" */

const STORED = "drawing";

export class Keeper {
  #drawing;
  /** @type {Stroke[] | null} */
  #linked = null; // the strokes that the link in the address bar holds

  /** @param {Drawing} drawing */
  constructor(drawing) {
    this.#drawing = drawing;
  }

  /** Keep the drawing as it is now, and remove a link to another drawing from the address bar. */
  keep() {
    const { strokes } = this.#drawing;
    if (location.hash && strokes !== this.#linked) {
      history.replaceState(null, "", location.pathname + location.search);
    }
    store(STORED, strokes.length ? encode(strokes) : "", "sessionStorage");
  }

  /**
   * The strokes of the link in the address bar, or else those kept in the tab; null if there are none. Throws a
   * `LinkError` if the link is damaged.
   * @returns {Stroke[] | null}
   */
  read() {
    const code = new URLSearchParams(location.hash.slice(1)).get("d");
    try {
      this.#linked = decode(code ?? recall(STORED, "sessionStorage") ?? "");
      return this.#linked;
    } catch (error) {
      if (!(error instanceof LinkError) || code !== null) throw error;
      return null;
    }
  }

  /**
   * Put a link to the drawing into the address bar and the clipboard.
   * @returns {Promise<string>} a message that says whether it worked
   */
  async copy() {
    const { strokes, picture } = this.#drawing;
    if (picture) return "A link can hold strokes, but no picture.";
    if (!strokes.length) return "Draw something first.";
    const link = new URL(location.href);
    link.hash = `d=${encode(strokes)}`;
    this.#linked = strokes;
    history.replaceState(null, "", link);
    try {
      await navigator.clipboard.writeText(link.href);
      return "Link copied.";
    } catch {
      return "The link is in the address bar: copy it from there."; // no access to the clipboard
    }
  }
}
