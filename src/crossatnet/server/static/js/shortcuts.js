/** Keyboard shortcuts of the whole page. Single letters can be switched off, for people whose tools type letters. */

import { recall, store } from "/static/js/storage.js";

const STORED = "shortcuts";

/**
 * `actions` maps keys, as in `KeyboardEvent.key` ("Mod+" for Ctrl or Command, "Shift+" after it), to functions;
 * `letters` is the checkbox that switches single keys on and off.
 * @param {Record<string, () => void>} actions
 * @param {HTMLInputElement} letters
 */
export function listen(actions, letters) {
  letters.checked = recall(STORED) !== "off";
  letters.addEventListener("change", () => store(STORED, letters.checked ? "on" : "off"));
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.altKey || isTyping(event.target)) return;
    if (document.querySelector("dialog[open]")) return;
    const modifier = event.ctrlKey || event.metaKey;
    if (!modifier && !letters.checked) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const name = `${modifier ? "Mod+" : ""}${event.shiftKey && modifier ? "Shift+" : ""}${key}`;
    if (!actions[name]) return;
    event.preventDefault();
    actions[name]();
  });
}

/** @param {HTMLElement} target */
function isTyping(target) {
  return target.matches("input:not([type=range], [type=radio], [type=checkbox]), textarea, select");
}
