/** The canvas one draws on, with mouse, finger, pen or the arrow keys. */

import { SIDE, erase } from "/static/js/drawing.js";
import { Smoother } from "/static/js/geometry.js";
import { drawStrokes } from "/static/js/ink.js";

const ERASER = 3; // its width, in widths of the brush
const STEP = 16; // units that an arrow key goes; four times as many with Shift
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const ERASER_BUTTON = 32; // in `buttons`: the other end of a pen

/**
 * Turns gestures into changes of a `Drawing` and shows it. Emits "pen" with detail {down} when the keyboard lifts or
 * lowers the pen.
 */
export class Paper extends EventTarget {
  tool = "pen"; // or "eraser"
  width = 12; // of the brush, in units
  #canvas;
  #context;
  #drawing;
  #pointer = null; // the id of the pointer that draws; others are ignored until it is lifted
  #gesture = null; // {erasing, smoother, strokes before it, last point}
  #cursor = null; // where the eraser hovers or the keyboard's pen is
  #keyboard = false;
  #frame = 0;

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

  /** Whether somebody is drawing at this moment. */
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
    const style = getComputedStyle(this.#canvas);
    drawStrokes(this.#context, this.#drawing.strokes, style.color);
    if (this.#cursor) this.#drawCursor(style.getPropertyValue("accent-color"));
  }

  #drawCursor(colour) {
    const [context, [x, y]] = [this.#context, this.#cursor];
    context.strokeStyle = colour;
    context.lineWidth = (2 * SIDE) / this.#canvas.clientWidth;
    context.beginPath();
    context.arc(x, y, (this.tool === "eraser" ? ERASER * this.width : this.width) / 2 + context.lineWidth, 0, 2 * Math.PI);
    if (this.#keyboard) {
      for (const [dx, dy] of Object.values(ARROWS)) {
        context.moveTo(x + 22 * dx, y + 22 * dy);
        context.lineTo(x + 40 * dx, y + 40 * dy);
      }
    }
    context.stroke();
  }

  // Gestures, whatever they are made with

  #begin(point, erasing) {
    this.#drawing.begin();
    // A photo is not drawn upon: it makes room for the new drawing, and `undo` brings it back.
    if (this.#drawing.picture?.kind === "photo" && !erasing) this.#drawing.update({ picture: null });
    const [strokes, width] = [this.#drawing.strokes, erasing ? ERASER * this.width : this.width];
    this.#gesture = { erasing, strokes, width, smoother: new Smoother(point), last: point };
    if (erasing) this.#erase(point);
    else this.#show([point]);
  }

  #move(points) {
    const { erasing, smoother } = this.#gesture;
    for (const point of points) {
      if (erasing) this.#erase(point);
      else smoother.add(point);
    }
    if (!erasing) this.#show(smoother.points);
  }

  #end(point) {
    const { erasing, smoother } = this.#gesture;
    if (!erasing && point) this.#show(smoother.finish(point));
    this.#gesture = null;
    this.#drawing.commit();
  }

  #show(points) {
    const { strokes, width } = this.#gesture;
    this.#drawing.update({ strokes: [...strokes, { points, width }] });
  }

  #erase(point) {
    const strokes = erase(this.#drawing.strokes, this.#gesture.last, point, this.#gesture.width);
    this.#gesture.last = point;
    if (strokes !== this.#drawing.strokes) this.#drawing.update({ strokes });
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
    this.#move((events.length ? events : [event]).map((each) => this.#point(each)));
    this.#hover(event);
  }

  #pointerUp(event) {
    if (event.pointerId !== this.#pointer) return;
    this.#pointer = null;
    this.#end(event.type === "pointerup" ? this.#point(event, this.#gesture.smoother.points.at(-1)[2]) : null);
    if (event.pointerType === "touch") this.#hover(null);
  }

  /** Where an event is on the paper; with the pressure where it comes from a pen. A lifted pen presses no more. */
  #point(event, pressure = event.pressure) {
    const box = this.#canvas.getBoundingClientRect();
    const place = [event.clientX - box.left, event.clientY - box.top].map((value) => (value * SIDE) / box.width);
    const inside = place.map((value) => Math.min(SIDE, Math.max(0, value)));
    return event.pointerType === "pen" ? [...inside, pressure] : inside;
  }

  #hover(event) {
    if (this.#keyboard && !event) return;
    this.#keyboard = false;
    this.#cursor = event && this.tool === "eraser" ? this.#point(event).slice(0, 2) : null;
    this.refresh();
  }

  // The arrow keys

  #focus() {
    if (!this.#canvas.matches(":focus-visible") || this.#pointer !== null) return;
    this.#keyboard = true;
    this.#cursor ??= [SIDE / 2, SIDE / 2];
    this.refresh();
  }

  #blur() {
    if (this.#keyboard && this.#gesture) this.#end(null);
    this.#keyboard = false;
    this.#cursor = null;
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
    this.#keyboard = true;
    this.#cursor ??= [SIDE / 2, SIDE / 2];
    if (this.#gesture) this.#end(null);
    else this.#begin(this.#cursor, this.tool === "eraser");
    this.dispatchEvent(new CustomEvent("pen", { detail: { down: this.#gesture !== null } }));
    this.refresh();
  }

  #stepCursor(direction, length) {
    this.#keyboard = true;
    const from = this.#cursor ?? [SIDE / 2, SIDE / 2];
    this.#cursor = from.map((value, axis) => Math.min(SIDE, Math.max(0, value + direction[axis] * length)));
    if (this.#gesture?.erasing) this.#erase(this.#cursor);
    else if (this.#gesture) this.#show([...this.#drawing.strokes.at(-1).points, this.#cursor]); // exact, not smoothed
    this.refresh();
  }
}
