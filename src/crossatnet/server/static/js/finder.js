/** Searches for the state's query and puts the answers into the state. */

import { search } from "/static/js/api.js";
import { Searcher } from "/static/js/searcher.js";

/**
 * @import { Answer, Query } from "/static/js/api.js"
 * @import { Conditions, Filters } from "/static/js/conditions.js"
 * @import { Gallery, Order } from "/static/js/order.js"
 * @import { State } from "/static/js/state.js"
 * @import { Troubles } from "/static/js/troubles.js"
 *
 * A search to make. Without a query it is for the drawing at the time when the search is sent.
 * @typedef {{gallery: Gallery, query: Query | null, offset: number, k: number, ranking: string,
 *   conditions: Conditions}} Job
 */

/** Emits "start" whenever a search is sent, "end" when its answer has come or will not come, and "fail" if it will not. */
export class Finder extends EventTarget {
  #state;
  #order;
  #filters;
  #troubles;
  #searcher;

  /**
   * @param {State} state
   * @param {Order} order
   * @param {Filters} filters
   * @param {Troubles} troubles
   */
  constructor(state, order, filters, troubles) {
    super();
    this.#state = state;
    this.#order = order;
    this.#filters = filters;
    this.#troubles = troubles;
    this.#searcher = new Searcher((job, signal) => this.#send(job, signal), {
      started: () => this.dispatchEvent(new Event("start")),
      answered: (job, answer) => this.#answered(job, answer),
      failed: (_, error) => this.#failed(error),
    });
  }

  /** Whether an answer is awaited. */
  get busy() {
    return this.#searcher.busy;
  }

  /** Search for the state's present query; during a stroke (`live`) not too often. */
  refresh({ live = false } = {}) {
    if (!this.#order.gallery) return; // the search is made once the galleries are there
    this.#troubles.forgive();
    if (this.#state.isEmpty && this.#filters.isEmpty) {
      this.#searcher.stop();
      this.#troubles.over();
      this.#state.showNothing();
      this.dispatchEvent(new Event("end"));
    } else if (live) this.#searcher.soon(this.#job());
    else this.#searcher.now(this.#job());
  }

  /** Search for more hits below those shown. */
  more() {
    const { query, next } = this.#state.shown;
    this.#searcher.now(this.#job({ query, offset: next }));
  }

  /** Repeat the latest search. */
  again() {
    this.#searcher.again();
  }

  /**
   * @param {Partial<Job>} more
   * @returns {Job}
   */
  #job(more = {}) {
    const { gallery, count: k, ranking } = this.#order;
    const { within } = this.#state;
    const conditions = { ...this.#filters.value, also: gallery.also, class_names: within === null ? [] : [within] };
    return { gallery, query: null, offset: 0, k, ranking, conditions, ...more };
  }

  /**
   * @param {Job} job
   * @param {AbortSignal} signal
   * @returns {Promise<Answer & {query: Query}>}
   */
  async #send({ gallery, query, offset, k, ranking, conditions }, signal) {
    const asked = query ?? (await this.#state.question());
    return { query: asked, ...(await search(gallery.name, asked, { k, offset, ranking, conditions }, signal)) };
  }

  /**
   * @param {Job} job
   * @param {Answer & {query: Query}} answer
   */
  #answered({ offset }, { query, ...answer }) {
    this.dispatchEvent(new Event("end"));
    this.#troubles.over();
    this.#state.show(query, answer, offset);
  }

  /** @param {Error & {passing?: boolean}} error */
  #failed(error) {
    this.dispatchEvent(new Event("end"));
    this.dispatchEvent(new Event("fail"));
    this.#troubles.tell(error, error.passing ? () => this.again() : null);
  }
}
