"""Twelve things drawn stroke by stroke with the mouse, in a folder of photos of 125 things."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from crossatnet.data.layouts import sketchy
from crossatnet.data.names import canonical
from crossatnet.server.settings import Place
from server.page.conftest import fill, serving
from server.page.hand import draw, settled
from server.page.twelve import DRAWINGS, strokes_of

PHOTOS_EACH = 5
ROWS = 2
FOUND = 10  # of the twelve


@pytest.fixture(scope="module")
def photos(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with photos of every class of the Sketchy sample."""
    if "CROSSATNET_DATA" not in os.environ:
        pytest.skip("CROSSATNET_DATA does not name the folder of sample data")
    folder = tmp_path_factory.mktemp("drawn")
    by_class: dict[str, list[Path]] = {}
    for item in sketchy(Path(os.environ["CROSSATNET_DATA"]) / "sketchy-mini"):
        if item.modality == "photo":
            by_class.setdefault(canonical(item.class_name), []).append(item.path)
    for name, paths in by_class.items():
        for number, path in enumerate(sorted(paths)[:PHOTOS_EACH]):
            (folder / "photos" / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / "photos" / name / f"{number}.jpg")
    fill(folder / "photos.gallery", "crossatnet-open", folder / "photos")
    with serving((Place(str(folder / "photos.gallery"), "Photos"),)) as address:
        yield address


def first_rows(page: Page) -> list[str]:
    """The names of the hits in the first `ROWS` rows."""
    tops = page.locator("#results > *").evaluate_all("nodes => nodes.map((node) => node.offsetTop)")
    names = page.locator("#results .name").all_text_contents()
    last = sorted(set(tops))[:ROWS][-1]
    return [name for name, top in zip(names, tops, strict=True) if top <= last]


@pytest.mark.scale
@pytest.mark.parametrize("shaky", [False, True], ids=["smooth", "shaky"])
def test_what_is_drawn_by_mouse_is_in_the_first_rows(browser: Browser, photos: str, shaky: bool) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 860}, reduced_motion="reduce")
    page.goto(photos)
    page.locator("#gallery option").first.wait_for(state="attached")
    places = {}
    for name in DRAWINGS:
        for stroke in strokes_of(name, shaky):
            draw(page, stroke)
        settled(page)
        places[name] = name.replace("_", " ") in first_rows(page)
        page.get_by_role("button", name="Clear").click()
    page.close()
    assert sum(places.values()) >= FOUND, f"not found: {[name for name, found in places.items() if not found]}"
