/** The page's messages: short ones, errors that stay until they are solved, and sentences for screen readers. */

const TOAST = 4000; // milliseconds
const SETTLED = 600; // milliseconds without news before a screen reader reads it

export class Notices {
  #parts;
  #toastTimer = 0;
  #spokenTimer = 0;
  #countdown = 0;

  /** @param {Record<"toast" | "trouble" | "troubleText" | "retry" | "spoken", any>} parts */
  constructor(parts) {
    this.#parts = parts;
  }

  /**
   * A message that goes away by itself.
   * @param {string} message
   */
  toast(message) {
    const { toast } = this.#parts;
    clearTimeout(this.#toastTimer);
    toast.textContent = message;
    toast.classList.add("shown");
    this.#toastTimer = setTimeout(() => {
      toast.classList.remove("shown");
      toast.textContent = "";
    }, TOAST);
  }

  /**
   * Read out by a screen reader once no newer message comes, as pictures change many times during a stroke.
   * @param {string} message
   */
  say(message) {
    clearTimeout(this.#spokenTimer);
    this.#spokenTimer = setTimeout(() => (this.#parts.spoken.textContent = message), SETTLED);
  }

  /**
   * An error, with a button to try again; after `seconds`, if given, it is tried again by itself.
   * @param {string} message
   * @param {(() => void) | null} retry
   * @param {number | null} seconds
   */
  trouble(message, retry = null, seconds = null) {
    clearInterval(this.#countdown);
    const { trouble, troubleText, retry: button } = this.#parts;
    trouble.hidden = false;
    troubleText.textContent = message;
    button.hidden = !retry;
    button.textContent = "Try again";
    const again = () => {
      clearInterval(this.#countdown);
      button.textContent = "Trying …";
      retry();
    };
    button.onclick = again;
    if (!retry || seconds === null) return;
    let left = seconds;
    const tick = () => {
      button.textContent = `Try now (${left} s)`;
      if (left === 0) again();
      left -= 1;
    };
    this.#countdown = setInterval(tick, 1000);
    tick();
  }

  untroubled() {
    clearInterval(this.#countdown);
    this.#parts.trouble.hidden = true;
  }
}
