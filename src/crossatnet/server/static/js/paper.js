/** The canvas to draw on, with mouse, finger, pen or the arrow keys. */

import { Cursor } from "/static/js/cursor.js";
import { SIDE } from "/static/js/drawing.js";
import { Gesture } from "/static/js/gesture.js";
import { drawStrokes } from "/static/js/ink.js";

/**
 * @import { Drawing } from "/static/js/drawing.js"
 * @import { Point } from "/static/js/geometry.js"
 *
 * @typedef {"pen" | "eraser"} Tool
 */

const ERASER = 3; // the eraser's width, in widths of the brush
const STEP = 16; // units that an arrow key moves; four times as many with Shift
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const ERASER_BUTTON = 32; // in `buttons`: the other end of a pen

/**
 * Turns gestures into changes of a `Drawing` and shows it. Emits "pen" with detail {down} when the keyboard lifts or
 * lowers the pen.
 */
export class Paper extends EventTarget {
  /** @type {Tool} */
  tool = "pen";
  width = 12; // of the brush, in units
  #canvas;
  #context;
  #drawing;
  #pointer = null; // the id of the pointer that draws; others are ignored until it is lifted
  /** @type {Gesture | null} */
  #gesture = null;
  #cursor = new Cursor();
  #frame = 0;

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {Drawing} drawing
   */
  constructor(canvas, drawing) {
    super();
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d");
    this.#drawing = drawing;
    drawing.addEventListener("change", () => this.refresh());
    new ResizeObserver(() => this.#resize()).observe(canvas);
    for (const [type, listener] of Object.entries({
      pointerdown: (event) => this.#pointerDown(event),
      pointermove: (event) => this.#pointerMove(event),
      pointerup: (event) => this.#pointerUp(event),
      pointercancel: (event) => this.#pointerUp(event),
      pointerleave: () => this.#hover(null),
      keydown: (event) => this.#keyDown(event),
      focus: () => this.#focus(),
      blur: () => this.#blur(),
    })) {
      canvas.addEventListener(type, listener);
    }
  }

  /** Whether somebody is drawing now. */
  get busy() {
    return this.#gesture !== null;
  }

  /** Show the drawing again with the next frame. */
  refresh() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#draw();
    });
  }

  #resize() {
    const side = Math.round(this.#canvas.clientWidth * devicePixelRatio);
    if (this.#canvas.width !== side) this.#canvas.width = this.#canvas.height = side;
    this.#draw();
  }

  #draw() {
    const scale = this.#canvas.width / SIDE;
    this.#context.setTransform(scale, 0, 0, scale, 0, 0);
    this.#context.clearRect(0, 0, SIDE, SIDE);
    const { color: ink, accentColor } = getComputedStyle(this.#canvas);
    drawStrokes(this.#context, this.#drawing.strokes, ink);
    const reach = (this.tool === "eraser" ? ERASER * this.width : this.width) / 2;
    this.#cursor.draw(this.#context, reach, SIDE / this.#canvas.clientWidth, accentColor);
  }

  #begin(point, erasing) {
    this.#gesture = new Gesture(this.#drawing, point, erasing ? ERASER * this.width : this.width, erasing);
  }

  #end(point) {
    this.#gesture.end(point);
    this.#gesture = null;
  }

  // Mouse, finger and pen

  #pointerDown(event) {
    const erasing = this.tool === "eraser" || (event.buttons & ERASER_BUTTON) !== 0;
    if (this.#pointer !== null || (event.button !== 0 && !(event.buttons & ERASER_BUTTON))) return;
    this.#blur(); // the keyboard's pen is lifted
    this.#pointer = event.pointerId;
    this.#canvas.setPointerCapture(event.pointerId);
    this.#begin(this.#point(event), erasing);
    this.#hover(event);
  }

  #pointerMove(event) {
    if (event.pointerId !== this.#pointer) {
      if (this.#pointer === null && event.pointerType !== "touch") this.#hover(event);
      return;
    }
    const events = event.getCoalescedEvents?.() ?? [];
    this.#gesture.move((events.length ? events : [event]).map((each) => this.#point(each)));
    this.#hover(event);
  }

  #pointerUp(event) {
    if (event.pointerId !== this.#pointer) return;
    this.#pointer = null;
    this.#end(event.type === "pointerup" ? this.#point(event, this.#gesture.pressure) : null);
    if (event.pointerType === "touch") this.#hover(null);
  }

  /** The place of an event on the paper, for a pen with its pressure; a lifted pen has none. */
  #point(event, pressure = event.pressure) {
    const box = this.#canvas.getBoundingClientRect();
    const place = [event.clientX - box.left, event.clientY - box.top].map((value) => (value * SIDE) / box.width);
    const inside = place.map((value) => Math.min(SIDE, Math.max(0, value)));
    return event.pointerType === "pen" ? [...inside, pressure] : inside;
  }

  #hover(event) {
    if (this.#cursor.byKeyboard && !event) return;
    if (event && this.tool === "eraser") this.#cursor.hover(this.#point(event).slice(0, 2));
    else this.#cursor.hide();
    this.refresh();
  }

  // The arrow keys

  #focus() {
    if (!this.#canvas.matches(":focus-visible") || this.#pointer !== null) return;
    this.#cursor.take();
    this.refresh();
  }

  #blur() {
    if (this.#cursor.byKeyboard && this.#gesture) this.#end(null);
    this.#cursor.hide();
    this.refresh();
  }

  #keyDown(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || this.#pointer !== null) return;
    if (event.key === " ") this.#togglePen();
    else if (event.key in ARROWS) this.#stepCursor(ARROWS[event.key], event.shiftKey ? 4 * STEP : STEP);
    else if (event.key === "Escape" && this.#gesture) this.#togglePen();
    else return;
    event.preventDefault();
  }

  #togglePen() {
    const place = this.#cursor.take();
    if (this.#gesture) this.#end(null);
    else this.#begin(place, this.tool === "eraser");
    this.dispatchEvent(new CustomEvent("pen", { detail: { down: this.#gesture !== null } }));
    this.refresh();
  }

  #stepCursor(direction, length) {
    const place = this.#cursor.step(direction, length);
    this.#gesture?.step(place);
    this.refresh();
  }
}
