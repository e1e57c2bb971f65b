/** Keeps one search running while its query changes, and never shows the answer to an older query. */

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
  #job = null; // the latest
  #waiting = false; // whether the latest job is not sent yet
  #timer = 0;
  /** @type {AbortController | null} */
  #running = null; // the AbortController of the request in flight
  #started = -Infinity;

  /**
   * `send(job, signal)` asks the server. The listener's `answered(job, answer)` and `failed(job, error)` are called for
   * the latest job only, `started(job)` for every job that is sent.
   * @param {(job: Job, signal: AbortSignal) => Promise<Answered>} send
   * @param {Listener} listener
   */
  constructor(send, listener) {
    this.#send = send;
    this.#listener = listener;
  }

  /** Whether an answer is awaited. */
  get busy() {
    return this.#running !== null || this.#waiting;
  }

  /** Search once no request is running, and not too often: for use during a stroke. */
  soon(/** @type {Job} */ job) {
    this.#job = job;
    this.#waiting = true;
    this.#schedule();
  }

  /** Search at once, and cancel a running request. */
  now(/** @type {Job} */ job) {
    this.stop();
    this.#job = job;
    this.#run();
  }

  /** Repeat the latest search. */
  again() {
    if (this.#job) this.now(this.#job);
  }

  /** Cancel the running request and a waiting job. */
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
    let report;
    try {
      const answer = await this.#send(job, controller.signal);
      report = () => this.#listener.answered(job, answer);
    } catch (error) {
      if (error.name === "AbortError") return;
      report = () => this.#listener.failed(job, error);
    }
    if (this.#running !== controller) return; // a newer request was sent meanwhile
    this.#running = null;
    report();
    if (this.#waiting) this.#schedule();
  }
}
