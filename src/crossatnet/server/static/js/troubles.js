/** Handles errors of the server: log in, show what is wrong, or wait and try again. */

import { ApiError } from "/static/js/api.js";

/** @import { Notices } from "/static/js/notices.js" */

const RETRIES = [2, 5, 10, 20, 30]; // seconds until the next try, when the server does not say

export class Troubles {
  #notices;
  #failures = 0; // in a row
  #leaves = false; // whether the page to log in is on its way; asking for it again would start it anew

  /** @param {Notices} notices */
  constructor(notices) {
    this.#notices = notices;
    addEventListener("pageshow", () => (this.#leaves = false)); // "back" may bring this page as it was left
  }

  /**
   * Show an error of the API, and with `retry` try again after some time. Other errors are thrown again.
   * @param {Error} error
   * @param {(() => void) | null} retry
   */
  tell(error, retry) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 401) this.#logIn();
    else this.#notices.trouble(error.message, retry, retry && this.#patience(error));
  }

  #logIn() {
    if (!this.#leaves) location.assign("/login");
    this.#leaves = true;
  }

  /** The next failure counts as the first. */
  forgive() {
    this.#failures = 0;
  }

  /** The server answers again: remove the message. */
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
