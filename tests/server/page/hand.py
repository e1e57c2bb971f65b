"""The actions of a person on the page, for its tests."""

import json
import re
from collections.abc import Sequence

import numpy as np
from playwright.sync_api import Page, Request, expect

from crossatnet.data.strokes import Drawing

Point = Sequence[float]
Stroke = Sequence[Point]

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
SIDE = 1024  # units of the paper
EASY = 60  # units between two places the mouse reports


def draw(page: Page, stroke: Stroke, lift: bool = True) -> None:
    """Draw one stroke, in units of the paper, with the mouse; without `lift` its button stays down."""
    places = on_screen(page, dense(stroke))
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place)
    if lift:
        page.mouse.up()


def dense(stroke: Stroke) -> list[Point]:
    """A stroke with a point every `EASY` units or so."""
    points = [stroke[0]]
    for x1, y1 in stroke[1:]:
        x0, y0 = points[-1]
        pieces = round(((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5 / EASY)
        points += [(x0 + (x1 - x0) * piece / pieces, y0 + (y1 - y0) * piece / pieces) for piece in range(1, pieces + 1)]
    return [*points, stroke[-1]]


def on_screen(page: Page, points: Sequence[Point]) -> list[tuple[float, float]]:
    """Points of the paper as pixels of the window."""
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    return [(box["x"] + x * box["width"] / SIDE, box["y"] + y * box["height"] / SIDE) for x, y in points]


def choose_gallery(page: Page, title: str) -> None:
    """Choose a gallery by its title."""
    page.get_by_label("Gallery").select_option(label=title)


def settled(page: Page) -> list[str]:
    """Names of the hits, best first, once all answers have come."""
    page.locator("#found[aria-busy=false]").wait_for()
    return shown(page)


def shown(page: Page) -> list[str]:
    """Names of the hits at this moment, best first."""
    return page.locator("#results .name").all_text_contents()


def expect_focus(page: Page, place: int) -> None:
    """Wait until the hit at this place, counted from 1, has the focus, which a closing dialog returns with a delay."""
    expect(page.locator("#results button:focus")).to_have_attribute("aria-label", re.compile(rf"{place}: "))


def is_search(request: Request) -> bool:
    """Whether a request is a search of any kind."""
    return "/search/" in request.url or "/similar" in request.url


def strokes_of(request: Request) -> list[list[list[float]]]:
    """The strokes that a search sent."""
    strokes: list[list[list[float]]] = json.loads(request.post_data or "")["strokes"]
    return strokes


def as_drawing(strokes: Sequence[Stroke]) -> Drawing:
    """Strokes as the package draws them."""
    return tuple(np.array(stroke, np.float32) for stroke in strokes)
