/** What to do when the server does not answer as it should: log in, say what is wrong, or wait and try again. */

import { ApiError } from "/static/js/api.js";

/** @import { Notices } from "/static/js/notices.js" */

const RETRIES = [2, 5, 10, 20, 30]; // seconds until the next try, when the server does not say

export class Troubles {
  #notices;
  #failures = 0; // in a row

  /** @param {Notices} notices */
  constructor(notices) {
    this.#notices = notices;
  }

  /**
   * Say what went wrong, and with `retry` try it again when it is time. What is no error of the API is thrown on.
   * @param {Error} error
   * @param {(() => void) | null} retry
   */
  tell(error, retry) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 401) location.assign("/login");
    else this.#notices.trouble(error.message, retry, retry && this.#patience(error));
  }

  /** The next failure counts as the first. */
  forgive() {
    this.#failures = 0;
  }

  /** All is well again. */
  over() {
    this.forgive();
    this.#notices.untroubled();
  }

  /**
   * Seconds until the next try: longer with every failure, if the server does not say.
   * @param {ApiError} error
   */
  #patience(error) {
    const seconds = error.retryAfter ?? RETRIES[Math.min(this.#failures, RETRIES.length - 1)];
    this.#failures += 1;
    return seconds;
  }
}
