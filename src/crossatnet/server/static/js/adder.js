/** Adds a folder of the server's machine: a dialog to choose one, its progress, and a button to stop. */

import { addFolder, indexing, places, stopIndexing } from "/static/js/api.js";

const PAUSE = 500; // milliseconds between two looks at the progress

/** Emits "added" when a folder is done or was stopped, so that searches find it. */
export class Adder extends EventTarget {
  #parts;
  #gallery = "";
  #timer = 0;
  /** @type {string | null} */
  #path = null;

  /**
   * @param {Record<"adder" | "adderTitle" | "adderUp" | "adderPath" | "adderFolders" | "adderStart" | "adderStop"
   *   | "adderBar" | "adderText" | "adderChoice", any>} parts
   */
  constructor(parts) {
    super();
    this.#parts = parts;
    const { adder, adderUp, adderFolders, adderStart, adderStop } = parts;
    adderUp.addEventListener("click", () => this.#look(adderUp.value || null));
    adderFolders.addEventListener("click", ({ target }) => {
      if (target.closest("button")) this.#look(target.closest("button").value);
    });
    adderStart.addEventListener("click", () => this.#start());
    adderStop.addEventListener("click", () => this.#stop());
    adder.addEventListener("close", () => clearTimeout(this.#timer));
  }

  /** @param {string} gallery */
  async open(gallery) {
    this.#gallery = gallery;
    this.#parts.adder.showModal();
    this.#say("");
    await this.#look(null);
    await this.#follow(false);
  }

  /** @param {string | null} path */
  async #look(path) {
    const { adderUp, adderPath, adderFolders, adderStart } = this.#parts;
    await this.#tried(async () => {
      const found = await places(path);
      this.#path = found.path;
      adderPath.textContent = found.path ?? "Choose where to look";
      adderUp.hidden = found.path === null;
      adderUp.value = found.parent ?? "";
      adderStart.disabled = found.path === null;
      adderFolders.replaceChildren(...found.folders.map((folder) => choice(folder, found.path)));
    });
  }

  #start() {
    return this.#tried(async () => {
      this.#show(await addFolder(this.#gallery, this.#path));
      await this.#follow(true);
    });
  }

  #stop() {
    return this.#tried(async () => {
      this.#parts.adderStop.disabled = true;
      this.#show(await stopIndexing(this.#gallery));
    });
  }

  /** @param {boolean} told whether to say how it ended */
  async #follow(told) {
    clearTimeout(this.#timer);
    await this.#tried(async () => {
      const state = await indexing(this.#gallery);
      if (state.running || told) this.#show(state);
      if (state.running) this.#timer = setTimeout(() => this.#follow(true), PAUSE);
      else if (told) this.dispatchEvent(new Event("added"));
    });
  }

  /** @param {import("/static/js/api.js").Indexing} state */
  #show({ path, running, done, total, summary, error }) {
    const { adderBar, adderStop, adderStart, adderChoice } = this.#parts;
    adderStop.hidden = adderBar.hidden = !running;
    adderStop.disabled = false;
    adderChoice.hidden = running;
    adderStart.hidden = running;
    if (total) [adderBar.max, adderBar.value] = [total, done];
    else adderBar.removeAttribute("value");
    if (running) this.#say(`Adding ${path}: ${done.toLocaleString("en")} of ${total.toLocaleString("en")}`);
    else this.#say(error ?? `Done: ${summary}.`);
  }

  /** @param {string} text */
  #say(text) {
    this.#parts.adderText.textContent = text;
  }

  /** @param {() => Promise<void>} action */
  async #tried(action) {
    try {
      await action();
    } catch (error) {
      this.#say(error.message);
    }
  }
}

/**
 * @param {string} folder
 * @param {string | null} below the folder whose folders are shown
 */
function choice(folder, below) {
  const [item, button] = [document.createElement("li"), document.createElement("button")];
  button.type = "button";
  button.value = folder;
  button.textContent = below === null ? folder : folder.slice(below.replace(/[/\\]$/, "").length + 1);
  item.append(button);
  return item;
}
