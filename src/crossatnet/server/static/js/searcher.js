/** Keeps one search going while its question changes, and never shows an answer to an older one. */

/**
 * @import { Answer, Query } from "/static/js/api.js"
 * @import { Job } from "/static/js/finder.js"
 *
 * @typedef {Answer & {query: Query}} Answered
 * @typedef {{started: (job: Job) => void, answered: (job: Job, answer: Answered) => void,
 *   failed: (job: Job, error: Error) => void}} Listener
 */

const PAUSE = 100; // milliseconds between two searches of one stroke

export class Searcher {
  #send;
  #listener;
  /** @type {Job | null} */
  #job = null; // the latest asked
  #waiting = false; // the latest was not sent yet
  #timer = 0;
  /** @type {AbortController | null} */
  #running = null; // the AbortController of the request in flight
  #started = -Infinity;

  /**
   * `send(job, signal)` asks the server. The listener's `answered(job, answer)` and `failed(job, error)` are told of
   * the latest job only, `started(job)` whenever one is sent.
   * @param {(job: Job, signal: AbortSignal) => Promise<Answered>} send
   * @param {Listener} listener
   */
  constructor(send, listener) {
    this.#send = send;
    this.#listener = listener;
  }

  /** Whether an answer is still to come. */
  get busy() {
    return this.#running !== null || this.#waiting;
  }

  /** Search as soon as nothing is in flight, and not too often: for the midst of a stroke. */
  soon(/** @type {Job} */ job) {
    this.#job = job;
    this.#waiting = true;
    this.#schedule();
  }

  /** Search at once; what is in flight is given up. */
  now(/** @type {Job} */ job) {
    this.stop();
    this.#job = job;
    this.#run();
  }

  /** The latest question once more. */
  again() {
    if (this.#job) this.now(this.#job);
  }

  /** Give up what is in flight or waiting. */
  stop() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#running?.abort();
    this.#running = null;
    this.#waiting = false;
    this.#job = null;
  }

  #schedule() {
    if (this.#running || this.#timer) return;
    const pause = Math.max(0, this.#started + PAUSE - performance.now());
    this.#timer = setTimeout(() => {
      this.#timer = 0;
      this.#run();
    }, pause);
  }

  async #run() {
    const job = this.#job;
    const controller = new AbortController();
    this.#running = controller;
    this.#waiting = false;
    this.#started = performance.now();
    this.#listener.started(job);
    let told;
    try {
      const answer = await this.#send(job, controller.signal);
      told = () => this.#listener.answered(job, answer);
    } catch (error) {
      if (error.name === "AbortError") return;
      told = () => this.#listener.failed(job, error);
    }
    if (this.#running !== controller) return; // something else was asked meanwhile
    this.#running = null;
    told();
    if (this.#waiting) this.#schedule();
  }
}
