/** The page: what its parts tell each other. */

import * as api from "/static/js/api.js";
import { Drawing, outline } from "/static/js/drawing.js";
import { Hand, exampleButton, loadExamples } from "/static/js/examples.js";
import { LinkError, decode, encode } from "/static/js/link.js";
import { Notices } from "/static/js/notices.js";
import { Order } from "/static/js/order.js";
import { Paper } from "/static/js/paper.js";
import { composed, readPicture } from "/static/js/picture.js";
import { Results, readable } from "/static/js/results.js";
import { Searcher } from "/static/js/searcher.js";
import { listen } from "/static/js/shortcuts.js";
import { recall, store } from "/static/js/storage.js";
import { Viewer } from "/static/js/viewer.js";

const PATIENCE = 150; // milliseconds before waiting is shown
const RETRIES = [2, 5, 10, 20, 30]; // seconds until the next try, when the server does not say
const KEPT = "drawing"; // survives a reload and logging in

const $ = (id) => document.getElementById(id);
const drawing = new Drawing();
const paper = new Paper($("canvas"), drawing);
const hand = new Hand(drawing);
const results = new Results($("results"), $("hit"));
const viewer = new Viewer($("viewer"));
const notices = new Notices({
  toast: $("toast"),
  trouble: $("trouble"),
  troubleText: $("trouble-text"),
  retry: $("retry"),
  spoken: $("spoken"),
});
const order = new Order({
  gallery: $("gallery"),
  galleryChoice: $("gallery-choice"),
  menu: $("order-menu"),
  rankingName: $("order-name"),
  guidedChoice: $("guided-choice"),
  count: $("count"),
  credits: $("credits"),
});
const searcher = new Searcher(send, { started, answered, failed });

let similar = null; // the hit whose like are shown, instead of those of the drawing
let page = null; // {query, next}: what the pictures shown answer, and where more of them start
let waiting = 0; // the timer of PATIENCE
let failures = 0; // in a row
let linked = null; // the strokes that the link in the address bar holds

// Searching

/** What is asked now: a query as `api.search` takes it, or null if there is nothing to search by. */
async function question() {
  if (similar) return { kind: "similar", hit: similar };
  const { picture, strokes } = drawing;
  if (picture?.kind === "photo") return { kind: "photo", file: picture.file };
  if (picture && strokes.length && picture.image) return { kind: "sketch", file: await composed(picture, strokes) };
  if (picture) return { kind: "sketch", file: picture.file };
  return strokes.length ? { kind: "strokes", strokes: outline(strokes) } : null;
}

async function send({ gallery, query, offset, k, ranking }, signal) {
  const asked = query ?? (await question());
  return { query: asked, ...(await api.search(gallery.name, asked, { k, offset, ranking }, signal)) };
}

/** A job for the searcher. Without a query it is the drawing as it is when the job is sent. */
function job(more = {}) {
  return { gallery: order.gallery, query: null, offset: 0, k: order.count, ranking: order.ranking, ...more };
}

function refresh({ live = false } = {}) {
  if (!order.gallery) return; // refreshed when the galleries are there
  failures = 0;
  if (drawing.isEmpty && !similar) {
    searcher.stop();
    clearTimeout(waiting);
    notices.untroubled();
    showNothing();
    return;
  }
  if (live) searcher.soon(job());
  else searcher.now(job());
}

function started() {
  $("found").ariaBusy = "true";
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    $("found").classList.add("late");
    if (!results.hits.length) {
      $("empty").hidden = true;
      results.wait(order.count);
    }
  }, PATIENCE);
}

function answered({ offset }, { query, hits, pictures, next_offset: next, milliseconds }) {
  arrived();
  failures = 0;
  notices.untroubled();
  $("empty").hidden = true;
  $("nothing").hidden = pictures > 0;
  page = { query, next };
  if (offset) {
    const shown = results.hits.length;
    results.append(hits);
    results.focus(shown);
  } else results.show(hits);
  $("more").hidden = next === null || !hits.length;
  $("more").disabled = false;
  const found = `${pictures.toLocaleString("en")} ${pictures === 1 ? "picture" : "pictures"}`;
  $("facts").textContent = `${found}, ${Math.max(1, Math.round(milliseconds.total))} ms`;
  const best = results.hits[0];
  if (best) {
    const name = readable(best.class_name ?? best.file_name);
    notices.say(`${results.hits.length} of ${found} shown. Best: ${name}, score ${best.score.toFixed(2)}.`);
  }
}

function failed(_, error) {
  arrived();
  $("more").disabled = false;
  if (error.status === 401) {
    location.assign("/login");
    return;
  }
  if (!results.hits.length) results.clear(); // the grey tiles
  if (!(error instanceof api.ApiError)) throw error;
  if (!error.passing) {
    notices.trouble(error.message);
    return;
  }
  notices.trouble(error.message, () => searcher.again(), patience(error));
}

function arrived() {
  clearTimeout(waiting);
  $("found").classList.remove("late");
  $("found").ariaBusy = String(searcher.busy);
}

function showNothing() {
  page = null;
  arrived();
  results.clear();
  $("empty").hidden = false;
  $("nothing").hidden = $("more").hidden = true;
  $("facts").textContent = "";
}

// The drawing

function drawn({ live }) {
  if (similar) leaveSimilar();
  const { picture, strokes } = drawing;
  $("hint").classList.toggle("gone", !drawing.isEmpty);
  $("undo").disabled = !drawing.canUndo;
  $("redo").disabled = !drawing.canRedo;
  $("clear").disabled = drawing.isEmpty;
  showPicture(picture);
  if (!live) {
    if (location.hash && strokes !== linked) history.replaceState(null, "", location.pathname + location.search);
    store(KEPT, strokes.length ? encode(strokes) : "", "sessionStorage");
  }
  refresh({ live });
}

function showPicture(picture) {
  $("under").hidden = !picture?.url;
  if (picture?.url && $("under").getAttribute("src") !== picture.url) $("under").src = picture.url;
  $("undecoded").hidden = !picture || Boolean(picture.url);
  $("undecoded").textContent = picture && !picture.url ? `${picture.name} (your browser cannot show it)` : "";
  $("picture-bar").hidden = !picture;
  $("paper").dataset.kind = picture?.kind ?? "";
  $("paper").toggleAttribute("data-dark", Boolean(picture?.dark));
  if (picture) document.querySelector(`[name=kind][value=${picture.kind}]`).checked = true;
}

async function takePicture(file) {
  hand.finish();
  const picture = await readPicture(file);
  drawing.replace({ strokes: [], picture });
}

function restore() {
  const code = new URLSearchParams(location.hash.slice(1)).get("d");
  try {
    const strokes = decode(code ?? recall(KEPT, "sessionStorage") ?? "");
    hand.finish();
    linked = strokes;
    drawing.replace({ strokes, picture: null });
  } catch (error) {
    if (!(error instanceof LinkError)) throw error;
    if (code !== null) notices.trouble(error.message);
  }
}

async function copyLink() {
  if (!drawing.strokes.length || drawing.picture) {
    notices.toast(drawing.picture ? "A link can hold strokes, but no picture." : "Draw something first.");
    return;
  }
  const link = new URL(location.href);
  link.hash = `d=${encode(drawing.strokes)}`;
  linked = drawing.strokes;
  history.replaceState(null, "", link);
  try {
    await navigator.clipboard.writeText(link.href);
    notices.toast("Link copied.");
  } catch {
    notices.toast("The link is in the address bar: copy it from there."); // not allowed, or not over https
  }
}

/** Undo, redo and clear: nothing is changed under a hand that is drawing. */
function change(action) {
  hand.finish();
  if (!paper.busy) action();
}

function setTool(tool) {
  paper.tool = tool;
  $("canvas").dataset.tool = tool;
  for (const name of ["pen", "eraser"]) $(name).ariaPressed = String(name === tool);
}

function setWidth(width) {
  $("width").value = width;
  paper.width = Number($("width").value);
}

async function loadGalleries() {
  try {
    order.offer(await api.galleries());
  } catch (error) {
    if (error.status === 401) location.assign("/login");
    else if (!(error instanceof api.ApiError)) throw error;
    else notices.trouble(error.message, loadGalleries, patience(error));
    return;
  }
  failures = 0;
  notices.untroubled();
  if (drawing.isEmpty) restore();
  else refresh();
}

/** Seconds until the next try: longer with every failure, if the server does not say. */
function patience(error) {
  const seconds = error.retryAfter ?? RETRIES[Math.min(failures, RETRIES.length - 1)];
  failures += 1;
  return seconds;
}

function leaveSimilar() {
  similar = null;
  $("origin").hidden = true;
}

// What is clicked, typed, dropped and pasted

function listenToDrawing() {
  drawing.addEventListener("change", (event) => drawn(event.detail));
  paper.addEventListener("pen", ({ detail: { down } }) => ($("spoken").textContent = down ? "Pen down" : "Pen up"));
  $("canvas").addEventListener("pointerdown", () => hand.finish(), { capture: true });
  document.addEventListener("themechange", () => paper.refresh());
  $("pen").addEventListener("click", () => setTool("pen"));
  $("eraser").addEventListener("click", () => setTool("eraser"));
  $("width").addEventListener("input", () => setWidth($("width").value));
  $("undo").addEventListener("click", () => change(() => drawing.undo()));
  $("redo").addEventListener("click", () => change(() => drawing.redo()));
  $("clear").addEventListener("click", () => change(() => drawing.clear()));
  $("copy").addEventListener("click", copyLink);
  addEventListener("hashchange", () => location.hash && restore());
}

function listenToPictures() {
  $("choose").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => {
    if ($("file").files[0]) takePicture($("file").files[0]);
    $("file").value = ""; // so that the same file can be chosen again
  });
  $("remove-picture").addEventListener("click", () => change(() => drawing.replace({ picture: null })));
  for (const radio of document.querySelectorAll("[name=kind]")) {
    radio.addEventListener("change", () => {
      drawing.replace({ picture: { ...drawing.picture, kind: radio.value } });
    });
  }
  addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find(({ type }) => type.startsWith("image/"));
    if (file) takePicture(file);
  });
  addEventListener("dragover", (event) => {
    event.preventDefault(); // else the browser leaves the page to show the file
    document.body.classList.toggle("dropping", event.dataTransfer.types.includes("Files"));
  });
  addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("dropping"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    if (event.dataTransfer.files[0]) takePicture(event.dataTransfer.files[0]);
  });
}

function listenToResults() {
  results.addEventListener("open", ({ detail: { index } }) => {
    const { name, guided } = order.gallery;
    const seeing = guided && ["strokes", "sketch"].includes(page.query.kind);
    viewer.open(results.hits, index, seeing ? { gallery: name, query: page.query } : null);
  });
  viewer.addEventListener("left", ({ detail: { index } }) => results.focus(index));
  viewer.addEventListener("similar", ({ detail: { hit } }) => {
    similar = hit;
    $("origin").hidden = false;
    $("origin-name").textContent = readable(hit.class_name ?? hit.file_name);
    refresh();
    $("back").focus();
  });
  $("back").addEventListener("click", () => {
    leaveSimilar();
    refresh();
    $("found").focus();
  });
  $("more").addEventListener("click", () => {
    $("more").disabled = true;
    searcher.now(job({ query: page.query, offset: page.next }));
  });
  order.addEventListener("change", ({ detail: { gallery } }) => {
    if (gallery) {
      leaveSimilar(); // its hit, like those shown, is of the gallery before
      results.clear();
      $("more").hidden = true;
    }
    refresh();
  });
  addEventListener("online", () => searcher.again());
}

function listenToKeys() {
  const undo = () => change(() => drawing.undo());
  const redo = () => change(() => drawing.redo());
  const help = () => $("keys").showModal();
  const clear = () => change(() => drawing.clear());
  $("help").addEventListener("click", help);
  $("keys").addEventListener("click", (event) => event.target === $("keys") && $("keys").close());
  listen(
    {
      "Mod+z": undo,
      "Mod+Shift+z": redo,
      "Mod+y": redo,
      Delete: clear,
      Backspace: clear,
      p: () => setTool("pen"),
      e: () => setTool("eraser"),
      "[": () => setWidth(paper.width - 4),
      "]": () => setWidth(paper.width + 4),
      o: () => $("file").click(),
      l: copyLink,
      d: () => $("canvas").focus({ focusVisible: true }),
      r: () => results.focus(0),
      "?": help,
    },
    $("letters"),
  );
}

async function showExamples() {
  const examples = await loadExamples();
  for (const example of examples) {
    const button = exampleButton(example);
    button.addEventListener("click", () => {
      scrollTo({ top: 0 }); // on a phone the paper may be out of sight
      change(() => hand.draw(example.strokes));
    });
    $("examples").append(button);
  }
  $("try").hidden = false;
}

listenToDrawing();
listenToPictures();
listenToResults();
listenToKeys();
drawn({ live: true });
loadGalleries();
showExamples();
