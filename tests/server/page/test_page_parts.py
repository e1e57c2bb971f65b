"""The part of a picture that a drawing found is framed on the page, and a part that somebody chooses is searched by.

    CROSSATNET_SCREENSHOTS=FOLDER python -m pytest tests/server/page/test_page_parts.py

With a folder named so, screenshots are written there, to look at.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, Response, expect

from crossatnet.gallery import Gallery
from crossatnet.server.settings import Place
from gallery.fake_model import FakeModel
from gallery.known import noise
from server.page.conftest import serving
from server.page.hand import PHONE, draw, is_search, settled
from server.page.test_page_access import serious
from server.page.test_page_files import Visit

FOLDER = os.environ.get("CROSSATNET_SCREENSHOTS")
DEVICES = pytest.mark.parametrize(
    "device", [{"viewport": {"width": 1280, "height": 860}}, PHONE], ids=["desktop", "phone"]
)
SIZES = ((640, 480), (300, 900), (64, 40), (900, 300))
NEAR = 4.5  # pixels: the half of the frame's line that lies outside, and rounding


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, chromium: str) -> Iterator[str]:
    """A server of pictures of all shapes, some smaller than their tiles, with regions."""
    folder, model = tmp_path_factory.mktemp("parts"), FakeModel(dimension=64, regions=True, region_penalty=0)
    (folder / "photos").mkdir()
    for number in range(24):
        picture = noise(number).resize(SIZES[number % len(SIZES)], Image.Resampling.NEAREST)
        picture.save(folder / "photos" / f"{number:02}.png")
    with Gallery.create(folder / "parts.gallery", model, regions=True) as gallery:
        gallery.add_folder(folder / "photos")
    with serving((Place(str(folder / "parts.gallery"), "Parts"),), model=model) as where:
        yield where


def found(page: Page) -> list[dict[str, Any]]:
    """Draw something; the hits of the answer that is shown."""
    answers: list[Response] = []

    def note(answer: Response) -> None:
        answers.append(answer)

    page.on("response", note)
    draw(page, [(200, 200), (800, 800)])
    settled(page)
    page.remove_listener("response", note)
    last = [answer for answer in answers if is_search(answer.request)][-1]  # it searches while it is drawn, too
    hits: list[dict[str, Any]] = last.json()["hits"]
    assert 0 < sum(hit["box"] is not None for hit in hits) < len(hits)
    return hits


def assert_frames(frame: Locator, picture: Locator, hit: dict[str, Any], is_filling: bool) -> None:
    """The frame lies over its part of the picture as it is shown: whole, in the middle of its box.

    A picture that is just being loaded moves both: they are compared once two looks at them are the same.
    """
    seen = None
    for _ in range(100):
        line, box = frame.locator("rect.line").bounding_box(), picture.bounding_box()
        if line and box and (line, box) == seen:
            break
        seen = line, box
        frame.page.wait_for_timeout(50)
    assert box is not None
    assert line is not None
    scale = min(box["width"] / hit["width"], box["height"] / hit["height"])
    across, down = hit["width"] * scale, hit["height"] * scale
    assert is_filling or max(box["width"] - across, box["height"] - down) < 1
    left, top = box["x"] + (box["width"] - across) / 2, box["y"] + (box["height"] - down) / 2
    edges = line["x"], line["y"], line["x"] + line["width"], line["y"] + line["height"]
    shares = hit["box"]
    expected = (left + shares[0] * across, top + shares[1] * down, left + shares[2] * across, top + shares[3] * down)
    assert edges == pytest.approx(expected, abs=NEAR)


def shoot(page: Page, name: str) -> None:
    if FOLDER:
        Path(FOLDER).mkdir(parents=True, exist_ok=True)
        page.wait_for_timeout(300)
        page.screenshot(path=Path(FOLDER) / f"{page.viewport_size['width']}-{name}.png")  # type: ignore[index]


@DEVICES
def test_the_part_that_was_found_is_framed_in_the_list_and_large(visit: Visit, device: dict[str, Any]) -> None:
    page = visit(bypass_csp=True, **device)
    hits = found(page)
    page.locator("#results img.loaded").nth(len(hits) - 1).wait_for()
    tiles = page.locator("#results li")
    framed = [number for number, hit in enumerate(hits) if hit["box"]]
    for number in range(len(hits)):
        expect(tiles.nth(number).locator(".region rect")).to_have_count(2 if number in framed else 0)
    assert {hits[number]["width"] for number in framed} == {width for width, _ in SIZES}
    for number in framed:
        assert_frames(tiles.nth(number).locator(".region"), tiles.nth(number).locator("img"), hits[number], False)
    expect(tiles.nth(framed[0]).locator("button")).to_have_attribute("aria-label", re.compile("a part of it"))
    shoot(page, "frames")
    assert serious(page) == []
    for number in framed[:4]:
        tiles.nth(number).locator("button").click()
        assert_frames(page.locator(".frame > .region"), page.locator(".whole"), hits[number], True)
        shoot(page, f"frame-{number}")
        page.keyboard.press("Escape")
    whole = next(number for number in range(len(hits)) if number not in framed)
    tiles.nth(whole).locator("button").click()
    expect(page.locator(".frame > .region")).to_be_hidden()


@DEVICES
def test_a_part_is_drawn_on_a_picture_and_searched_by(visit: Visit, device: dict[str, Any]) -> None:
    page = visit(bypass_csp=True, **device)
    hits = found(page)
    number = next(place for place, hit in enumerate(hits) if hit["width"] == 640)
    page.locator("#results button").nth(number).click()
    main, chooser = page.locator("[data-part=similar]"), page.locator("[data-part=chooser]")
    expect(main).to_have_text("More like this")
    expect(chooser).to_be_hidden()
    page.get_by_role("button", name="Choose a part").click()
    expect(chooser).to_be_focused()
    first = hits[number]["box"] or [0.25, 0.25, 0.75, 0.75]
    assert_frames(chooser, page.locator(".whole"), hits[number] | {"box": first}, True)
    shape = page.locator(".whole").bounding_box()
    assert shape is not None
    scale = min(shape["width"] / 640, shape["height"] / 480)
    left, top = shape["x"] + (shape["width"] - 640 * scale) / 2, shape["y"] + (shape["height"] - 480 * scale) / 2
    page.mouse.move(left + 0.9 * 640 * scale, top + 0.6 * 480 * scale)
    page.mouse.down()
    page.mouse.move(left + 0.7 * 640 * scale, top + 0.5 * 480 * scale)
    page.mouse.move(left + 0.5 * 640 * scale, top + 0.1 * 480 * scale)
    page.mouse.up()
    assert_frames(chooser, page.locator(".whole"), hits[number] | {"box": [0.5, 0.1, 0.9, 0.6]}, True)
    expect(main).to_have_text("More like this part")
    shoot(page, "part")
    assert serious(page) == []
    with page.expect_request(is_search) as asked:
        main.click()
    given = re.search(r"similar\?.*box=([\d.%C]+)", asked.value.url)
    assert given
    assert [float(value) for value in given[1].split("%2C")] == pytest.approx([0.5, 0.1, 0.9, 0.6], abs=0.01)
    settled(page)
    expect(page.locator("#origin-name")).to_have_text(re.compile("^a part of "))
    page.get_by_role("button", name="Back to your search").click()
    expect(page.locator("#origin")).to_be_hidden()


def test_a_part_is_chosen_by_keys_alone(visit: Visit) -> None:
    page = visit()
    hits = found(page)
    number = next(place for place, hit in enumerate(hits) if not hit["box"])
    page.keyboard.press("r")
    for _ in range(number):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    button, chooser = page.get_by_role("button", name="Choose a part"), page.locator("[data-part=chooser]")
    button.press("Enter")
    expect(chooser).to_have_attribute(
        "aria-label", "Part of the picture: 25 to 75 percent across, 25 to 75 percent down"
    )
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    for _ in range(30):
        page.keyboard.press("Shift+ArrowUp")
    expect(chooser).to_have_attribute(
        "aria-label", "Part of the picture: 35 to 85 percent across, 25 to 30 percent down"
    )
    page.keyboard.press("Escape")
    expect(chooser).to_be_hidden()
    expect(page.locator("#viewer")).to_be_visible()
    expect(button).to_be_focused()
    button.press("Enter")
    with page.expect_request(is_search) as asked:
        page.keyboard.press("Enter")
    assert "box=0.2500%2C0.2500%2C0.7500%2C0.7500" in asked.value.url
    expect(page.locator("#viewer")).to_be_hidden()
