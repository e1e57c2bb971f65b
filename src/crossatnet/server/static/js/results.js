/** The list of hits. Hits keep their nodes and glide to their new places, to show which pictures rise. */

import { frameThumbnail } from "/static/js/frame.js";
import { dragOut } from "/static/js/original.js";
import { keyOf } from "/static/js/selection.js";

/**
 * @import { Hit } from "/static/js/api.js"
 * @import { Selection } from "/static/js/selection.js"
 */

const GLIDE = { duration: 340, easing: "cubic-bezier(.2, .7, .2, 1)" };
const APPEAR = { duration: 220, easing: "ease-out" };
const KEPT = 300; // nodes of hits that are no longer shown; they keep their decoded pictures in case the hits come back
const THUMBNAIL = 256; // pixels of the longer side of a thumbnail, at most
const calm = matchMedia("(prefers-reduced-motion: reduce)");

/** Emits "open" with detail {index} when a hit is chosen. */
export class Results extends EventTarget {
  /** @type {Hit[]} */
  #hits = [];
  #likeness = true;
  #list;
  #template;
  #selection;
  /** @type {Map<string, HTMLElement>} */
  #nodes = new Map(); // key of a hit -> its <li>, in the order of their last use

  /**
   * @param {HTMLElement} list
   * @param {HTMLTemplateElement} template of a hit
   * @param {Selection} selection
   */
  constructor(list, template, selection) {
    super();
    this.#list = list;
    this.#template = template;
    this.#selection = selection;
    list.addEventListener("change", ({ target }) => selection.choose(this.#hitOf(target), target.checked));
    list.addEventListener("dragstart", (event) => dragOut(event.dataTransfer, this.#hitOf(event.target)));
    list.addEventListener("click", (event) => this.#open(event.target.closest("button")));
    list.addEventListener("keydown", (event) => this.#walk(event));
    list.addEventListener("focusin", (event) => this.#makeTabStop(event.target.closest("button")));
  }

  get isEmpty() {
    return !this.#hits.length;
  }

  /**
   * Show these hits and no others; `likeness`: whether their scores say how like a query they are.
   * @param {Hit[]} hits
   * @param {boolean} likeness
   */
  show(hits, likeness) {
    this.#likeness = likeness;
    const places = this.#places();
    const focused = this.#list.contains(document.activeElement) ? document.activeElement : null;
    this.#hits = hits;
    this.#arrange();
    if (focused?.isConnected) focused.focus({ preventScroll: true }); // a node that is moved loses the focus
    this.#animate(places);
  }

  clear() {
    this.#hits = [];
    this.#list.replaceChildren();
  }

  /**
   * Grey tiles in place of hits that are late.
   * @param {number} count
   */
  wait(count) {
    this.#list.replaceChildren(
      ...Array.from({ length: count }, () => {
        const item = document.createElement("li");
        item.className = "skeleton";
        item.ariaHidden = "true";
        return item;
      }),
    );
  }

  /** @param {number} index */
  focus(index) {
    this.#buttons()[index]?.focus();
  }

  #arrange() {
    for (const child of [...this.#list.children]) if (child.className === "skeleton") child.remove();
    const wanted = this.#hits.map((hit, index) => this.#node(hit, index));
    const staying = new Set(wanted);
    for (const child of [...this.#list.children]) if (!staying.has(child)) child.remove();
    wanted.forEach((node, index) => {
      const there = this.#list.children[index];
      if (there !== node) this.#list.insertBefore(node, there ?? null);
    });
    const buttons = this.#buttons();
    if (!buttons.some((button) => button.tabIndex === 0)) this.#makeTabStop(buttons[0]);
  }

  /**
   * @param {Hit} hit
   * @param {number} index
   */
  #node(hit, index) {
    const node = this.#nodes.get(keyOf(hit)) ?? this.#made(hit);
    this.#nodes.delete(keyOf(hit)); // and set it again: the map is in the order of the last use
    this.#nodes.set(keyOf(hit), node);
    if (this.#nodes.size > KEPT + this.#hits.length) this.#nodes.delete(this.#nodes.keys().next().value);
    const name = hit.class_name ?? hit.file_name;
    node.querySelector(".name").textContent = readable(name);
    const score = this.#likeness ? hit.score.toFixed(2) : (hit.taken?.slice(0, 10) ?? "");
    node.querySelector(".score").textContent = score;
    node.classList.toggle("gone", hit.gone);
    const doubtful = hit.sure === false && index > 0 && Boolean(this.#hits[index - 1].sure);
    node.classList.toggle("doubtful", doubtful);
    const copies = node.querySelector(".copies");
    copies.hidden = !hit.copies.length;
    copies.textContent = `+${hit.copies.length}`;
    copies.title = `and ${hit.copies.length} more like it`;
    frameThumbnail(node.querySelector(".region"), hit, hit.box, THUMBNAIL);
    const choose = node.querySelector(".choose");
    choose.checked = this.#selection.has(hit);
    choose.ariaLabel = `Select ${readable(name)}`;
    const more = hit.copies.length ? `, and ${hit.copies.length} more like it` : "";
    const gone = hit.gone ? ", its file is gone" : "";
    const facts = this.#likeness ? `, score ${score}` : score && `, taken ${score}`;
    node.querySelector("button").ariaLabel = `${index + 1}: ${readable(name)}${facts}${hit.box ? ", a part of it" : ""}${more}${gone}${doubtful ? ", less sure from here" : ""}`;
    return node;
  }

  /** @param {Hit} hit */
  #made(hit) {
    const node = this.#template.content.firstElementChild.cloneNode(true);
    node.dataset.id = hit.id;
    node.dataset.key = keyOf(hit);
    node.querySelector("button").tabIndex = -1;
    const image = node.querySelector("img");
    image.addEventListener("load", () => image.classList.add("loaded"), { once: true });
    image.addEventListener("error", () => node.classList.add("broken"), { once: true });
    image.src = hit.thumbnail;
    return node;
  }

  /** The present place of every hit, also while it glides. */
  #places() {
    if (calm.matches) return new Map();
    return new Map([...this.#list.children].map((node) => [node, node.getBoundingClientRect()]));
  }

  #animate(places) {
    if (calm.matches) return;
    const nodes = [...this.#list.children];
    for (const node of nodes) for (const animation of node.getAnimations()) animation.cancel();
    const boxes = nodes.map((node) => node.getBoundingClientRect()); // read all places before any node is changed
    nodes.forEach((node, index) => {
      const [before, after] = [places.get(node), boxes[index]];
      if (!before) node.animate([{ opacity: 0, transform: "scale(.94)" }, {}], APPEAR);
      else if (Math.hypot(before.x - after.x, before.y - after.y) > 1) {
        node.animate([{ transform: `translate(${before.x - after.x}px, ${before.y - after.y}px)` }, {}], GLIDE);
      }
    });
  }

  /** @param {HTMLElement} node within a hit */
  #hitOf(node) {
    const { key } = node.closest("li").dataset;
    return this.#hits.find((hit) => keyOf(hit) === key);
  }

  #buttons() {
    return [...this.#list.querySelectorAll("button")];
  }

  #open(button) {
    if (button) this.dispatchEvent(new CustomEvent("open", { detail: { index: this.#buttons().indexOf(button) } }));
  }

  /** The Tab key reaches one hit; the arrow keys lead to the others. */
  #makeTabStop(chosen) {
    if (!chosen) return;
    for (const button of this.#buttons()) button.tabIndex = button === chosen ? 0 : -1;
  }

  #walk(event) {
    const buttons = this.#buttons();
    if (event.key === "s" && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.target.closest("li").querySelector(".choose").click();
      return;
    }
    const here = buttons.indexOf(event.target.closest("button"));
    const columns = getComputedStyle(this.#list).gridTemplateColumns.split(" ").length;
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
    const ends = { Home: 0, End: buttons.length - 1 };
    const next = event.key in ends ? ends[event.key] : here + steps[event.key];
    if (here < 0 || !buttons[next] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    buttons[next].focus();
  }
}

/**
 * A class or file name as people write it.
 * @param {string} name
 */
export function readable(name) {
  return name.replaceAll("_", " ");
}
