/** The page: its parts, and the events that connect them. `state.js` holds the state. */

import * as api from "/static/js/api.js";
import { Hand, exampleButton, loadExamples } from "/static/js/examples.js";
import { Adder } from "/static/js/adder.js";
import { Filters } from "/static/js/conditions.js";
import { Finder } from "/static/js/finder.js";
import { Found, summary } from "/static/js/found.js";
import { Intake } from "/static/js/intake.js";
import { Keeper } from "/static/js/keeper.js";
import { LinkError } from "/static/js/link.js";
import { Notices } from "/static/js/notices.js";
import { Order } from "/static/js/order.js";
import { Paper } from "/static/js/paper.js";
import { readPicture } from "/static/js/picture.js";
import { Reading } from "/static/js/reading.js";
import { Results } from "/static/js/results.js";
import { listen } from "/static/js/shortcuts.js";
import { Selection } from "/static/js/selection.js";
import { State } from "/static/js/state.js";
import { Tools } from "/static/js/tools.js";
import { Troubles } from "/static/js/troubles.js";
import { Underlay } from "/static/js/underlay.js";
import { Viewer } from "/static/js/viewer.js";

/**
 * @param {string} id
 * @returns {any} a node of any kind
 */
const $ = (id) => document.getElementById(id);

/**
 * Nodes by their id, written as JavaScript writes names: `origin-name` is `originName`.
 * @param {...string} ids
 * @returns {any}
 */
function nodes(...ids) {
  return Object.fromEntries(ids.map((id) => [id.replace(/-./g, ([, letter]) => letter.toUpperCase()), $(id)]));
}

const state = new State();
const { drawing } = state;
const paper = new Paper($("canvas"), drawing);
const hand = new Hand(drawing);
const keeper = new Keeper(drawing);
const intake = new Intake($("file"));
const tools = new Tools(nodes("canvas", "pen", "eraser", "width", "undo", "redo", "clear"), paper);
const underlay = new Underlay(nodes("paper", "under", "undecoded", "hint", "picture-bar", "remove-picture"));
const reading = new Reading($("reading"));
const selection = new Selection(
  nodes("selected", "selected-count", "save-zip", "save-list", "deselect", "results"),
);
const results = new Results($("results"), $("hit"), selection);
const found = new Found(
  nodes("found", "facts", "empty", "nothing", "none", "doubt", "more", "origin", "origin-kind", "origin-name"),
  results,
);
const viewer = new Viewer($("viewer"));
const notices = new Notices(nodes("toast", "trouble", "trouble-text", "retry", "spoken"));
const troubles = new Troubles(notices);
const order = new Order({
  gallery: $("gallery"),
  galleryChoice: $("gallery-choice"),
  menu: $("order-menu"),
  rankingName: $("order-name"),
  guidedChoice: $("guided-choice"),
  count: $("count"),
  credits: $("credits"),
});
const filters = new Filters(
  nodes("words", "filter", "filters", "folder", "year", "since", "until", "grouped", "reset"),
);
const adder = new Adder(
  nodes(
    ...["adder", "adder-up", "adder-path", "adder-folders", "adder-start", "adder-stop", "adder-bar", "adder-text"],
    "adder-choice",
  ),
);
const finder = new Finder(state, order, filters, troubles);

/**
 * Undo, redo and clear do nothing while somebody is drawing.
 * @param {() => void} action
 */
function change(action) {
  hand.finish();
  if (!paper.busy) action();
}

const undo = () => change(() => drawing.undo());
const redo = () => change(() => drawing.redo());
const clear = () => change(() => drawing.clear());
const copyLink = async () => notices.toast(await keeper.copy());

function showDrawing() {
  underlay.show(drawing);
  tools.offer(drawing);
}

function restore() {
  try {
    const strokes = keeper.read();
    if (!strokes) return;
    hand.finish();
    drawing.replace({ strokes, picture: null });
  } catch (error) {
    if (!(error instanceof LinkError)) throw error;
    notices.trouble(error.message);
  }
}

async function loadGalleries() {
  try {
    order.offer(await api.galleries());
  } catch (error) {
    troubles.tell(error, loadGalleries);
    return;
  }
  troubles.over();
  $("add").hidden = !order.gallery.indexes;
  if (drawing.isEmpty) restore();
  else finder.refresh();
}

/** @param {Event & {detail?: any}} event */
const tell = ({ detail: { error } }) => troubles.tell(error, null);

async function showExamples() {
  for (const example of await loadExamples()) {
    const button = exampleButton(example);
    button.addEventListener("click", () => {
      scrollTo({ top: 0 }); // on a phone the paper may be scrolled out of view
      change(() => hand.draw(example.strokes));
    });
    $("examples").append(button);
  }
  $("try").hidden = false;
}

function wireState() {
  state.addEventListener("drawing", ({ detail: { live } }) => {
    showDrawing();
    if (!live) keeper.keep();
  });
  state.addEventListener("question", ({ detail: { live } }) => {
    if (!drawing.picture) reading.hide();
    found.origin(state.similar, state.part !== null, state.within);
    finder.refresh({ live });
  });
  state.addEventListener("shown", ({ detail: { added } }) => {
    found.show(state.shown, added);
    if (!added) reading.show(order.gallery?.name, state.shown.query);
    if (state.shown.hits.length) notices.say(summary(state.shown));
  });
  finder.addEventListener("start", () => found.wait(order.count));
  finder.addEventListener("end", () => found.arrive(finder.busy));
  finder.addEventListener("fail", () => {
    state.forget();
    found.clear();
  });
}

function wireDrawing() {
  paper.addEventListener("pen", ({ detail: { down } }) => ($("spoken").textContent = down ? "Pen down" : "Pen up"));
  $("canvas").addEventListener("pointerdown", () => hand.finish(), { capture: true });
  document.addEventListener("themechange", () => paper.refresh());
  for (const [id, action] of Object.entries({ undo, redo, clear, copy: copyLink })) {
    $(id).addEventListener("click", action);
  }
  addEventListener("hashchange", () => location.hash && restore());
  $("choose").addEventListener("click", () => intake.choose());
  intake.addEventListener("file", async ({ detail: { file } }) => {
    hand.finish();
    drawing.replace({ strokes: [], picture: await readPicture(file) });
  });
  underlay.addEventListener("remove", () => change(() => drawing.replace({ picture: null })));
  underlay.addEventListener("kind", ({ detail: { kind } }) => {
    drawing.replace({ picture: { ...drawing.picture, kind } });
  });
}

function wireResults() {
  results.addEventListener("open", ({ detail: { index } }) => {
    const { guided, reveals } = order.gallery;
    const { query, hits } = state.shown;
    const isDrawing = ["strokes", "sketch"].includes(query.kind);
    viewer.open(hits, index, {
      drawing: guided && isDrawing ? query : null,
      drawn: isDrawing && state.within === null,
      likeness: query.kind !== "words",
      reveals,
    });
  });
  viewer.addEventListener("copied", () => notices.toast("Path copied."));
  viewer.addEventListener("left", ({ detail: { index } }) => results.focus(index));
  viewer.addEventListener("similar", ({ detail: { hit, box } }) => {
    state.seek(hit, box);
    $("back").focus();
  });
  viewer.addEventListener("within", ({ detail: { hit } }) => {
    state.keepTo(hit.class_name);
    $("back").focus();
  });
  $("back").addEventListener("click", () => {
    state.seek(null);
    $("found").focus();
  });
  $("more").addEventListener("click", () => {
    $("more").disabled = true;
    finder.more();
  });
  order.addEventListener("change", ({ detail: { gallery } }) => {
    if (!gallery) return finder.refresh();
    found.clear();
    filters.clear();
    if (filters.isOpen) filters.offer(order.gallery.name);
    state.leaveGallery();
  });
  addEventListener("online", () => finder.again());
}

function wireConditions() {
  filters.addEventListener("change", () => finder.refresh());
  filters.addEventListener("open", () => filters.offer(order.gallery.name));
  filters.addEventListener("trouble", tell);
  selection.addEventListener("trouble", tell);
  $("add").addEventListener("click", () => adder.open(order.gallery.name));
  adder.addEventListener("added", () => {
    filters.offer(order.gallery.name, true);
    finder.refresh();
  });
}

function wireKeys() {
  const help = () => $("keys").showModal();
  $("help").addEventListener("click", help);
  $("keys").addEventListener("click", (event) => event.target === $("keys") && $("keys").close());
  const actions = {
    ...{ "Mod+z": undo, "Mod+Shift+z": redo, "Mod+y": redo, Delete: clear, Backspace: clear, l: copyLink, "?": help },
    ...{ p: () => tools.take("pen"), e: () => tools.take("eraser") },
    ...{ "[": () => tools.widen(-4), "]": () => tools.widen(4) },
    ...{ o: () => intake.choose(), d: () => $("canvas").focus({ focusVisible: true }), r: () => results.focus(0) },
    "/": () => $("words").focus(),
  };
  listen(actions, $("letters"));
}

wireState();
wireDrawing();
wireResults();
wireConditions();
wireKeys();
showDrawing();
loadGalleries();
showExamples();
