"""How long after a stroke are its pictures there? The page in Chromium, before `crossatnet serve`.

    python benchmarks/page.py

Draws every example of the page with the mouse, stroke by stroke. From the moment a stroke ends to the moment when all
pictures in sight are those of the drawing, decoded and handed to the screen, is one time; the server's own is told
beside it. Without `--gallery` the pictures are those of the quickstart. The first drawing warms up and is not counted.

Needs the extra `dev` and Chromium on the path, or named by CROSSATNET_CHROMIUM. Prints a table and writes
`benchmarks/results/page.json`.
"""

import argparse
import json
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from playwright.sync_api import Page, sync_playwright

from record import machine, write
from serve_process import Server

EXAMPLES = Path(__file__).parents[1] / "src/crossatnet/server/static/examples.json"
SIDE = 1024  # units of the paper

# In the page: the time from the next end of a stroke to all pictures in sight, and the server's own.
MEASURE = """() => {
  window.measured = new Promise((done) => canvas.addEventListener("pointerup", () => {
    const start = performance.now();
    const settle = async () => {
      if (found.ariaBusy !== "false") return void requestAnimationFrame(settle);
      const pictures = [...results.querySelectorAll("img")];
      const inSight = pictures.filter((picture) => picture.getBoundingClientRect().y < innerHeight);
      await Promise.all(inSight.map((picture) => picture.decode()));
      requestAnimationFrame(() => requestAnimationFrame(() => done({
        ms: performance.now() - start, server_ms: Number.parseFloat(facts.textContent.split(", ")[1]),
      })));
    };
    requestAnimationFrame(settle);
  }, { once: true }));
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gallery", help="another gallery than the quickstart")
    parser.add_argument("--repeats", type=int, default=3, help="how often every example is drawn")
    options = parser.parse_args()
    galleries = [options.gallery] if options.gallery else []
    with (
        TemporaryDirectory(prefix="crossatnet-") as scratch,
        Server(galleries, 1, Path(scratch, "log")) as server,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(server.address)
        page.locator("#gallery option").first.wait_for(state="attached")
        examples = json.loads(EXAMPLES.read_text(encoding="utf-8"))["examples"]
        drawn(page, examples[0]["strokes"])
        times = [time for _ in range(options.repeats) for each in examples for time in drawn(page, each["strokes"])]
        pictures = page.locator("#facts").text_content()
        version = browser.version
        browser.close()
    record = {
        "command": " ".join(["python benchmarks/page.py", *(["--gallery", "GALLERY"] if options.gallery else [])]),
        "machine": machine(),
        "torch": torch.__version__,
        "chromium": version,
        "pictures": int((pictures or "").split()[0].replace(",", "")),
        "strokes": len(times),
        "page_ms": quantiles([time["ms"] for time in times]),
        "server_ms": quantiles([time["server_ms"] for time in times]),
    }
    print(f"{record['strokes']} strokes, {record['pictures']} pictures      p50    p95    max")
    for name in ("page_ms", "server_ms"):
        print(f"{name:<32}" + " ".join(f"{record[name][key]:6.0f}" for key in ("p50", "p95", "max")))
    write("page", record)


def chromium() -> str:
    """The browser's path."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    path = os.environ.get("CROSSATNET_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        raise SystemExit("no Chromium on the path: install it, or name it in CROSSATNET_CHROMIUM")
    return path


def drawn(page: Page, strokes: list[list[list[float]]]) -> list[dict[str, Any]]:
    """Draw on clean paper; the time of each stroke."""
    page.evaluate("document.activeElement.blur()")
    if page.locator("#clear").is_enabled():
        page.locator("#clear").click()
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    times = []
    for stroke in strokes:
        places = [(box["x"] + x * box["width"] / SIDE, box["y"] + y * box["height"] / SIDE) for x, y in stroke]
        page.evaluate(MEASURE)
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place)
        page.mouse.up()
        times.append(page.evaluate("measured"))
    return times


def quantiles(values: list[float]) -> dict[str, float]:
    """Median, 95th percentile and largest."""
    return {"p50": float(np.median(values)), "p95": float(np.quantile(values, 0.95)), "max": max(values)}


if __name__ == "__main__":
    main()
