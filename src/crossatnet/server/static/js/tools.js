/** The tools beside the paper: pen, eraser and their width; undo, redo and clear. */

/**
 * @import { Drawing } from "/static/js/drawing.js"
 * @import { Paper, Tool } from "/static/js/paper.js"
 */

export class Tools {
  #parts;
  #paper;

  /**
   * @param {Record<"canvas" | "pen" | "eraser" | "width" | "undo" | "redo" | "clear", any>} parts
   * @param {Paper} paper
   */
  constructor(parts, paper) {
    this.#parts = parts;
    this.#paper = paper;
    parts.pen.addEventListener("click", () => this.take("pen"));
    parts.eraser.addEventListener("click", () => this.take("eraser"));
    parts.width.addEventListener("input", () => this.#setWidth(parts.width.value));
  }

  /** @param {Tool} tool */
  take(tool) {
    const { canvas, pen, eraser } = this.#parts;
    this.#paper.tool = tool;
    canvas.dataset.tool = tool;
    for (const [name, button] of Object.entries({ pen, eraser })) button.ariaPressed = String(name === tool);
  }

  /**
   * Make the brush wider by so many units.
   * @param {number} units
   */
  widen(units) {
    this.#setWidth(this.#paper.width + units);
  }

  /**
   * Enable undo, redo and clear where they have an effect.
   * @param {Drawing} drawing
   */
  offer(drawing) {
    const { undo, redo, clear } = this.#parts;
    undo.disabled = !drawing.canUndo;
    redo.disabled = !drawing.canRedo;
    clear.disabled = drawing.isEmpty;
  }

  /** @param {number | string} width */
  #setWidth(width) {
    this.#parts.width.value = String(width);
    this.#paper.width = Number(this.#parts.width.value);
  }
}
