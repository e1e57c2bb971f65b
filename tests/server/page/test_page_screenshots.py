"""Screenshots of the page, to look at.

    CROSSATNET_SCREENSHOTS=FOLDER python -m pytest tests/server/page/test_page_screenshots.py

The server shows the gallery of `crossatnet serve` without arguments, and a gallery of a network with attention.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from crossatnet.server.demo_gallery import quickstart_place
from crossatnet.server.settings import Place
from server.page.conftest import serving
from server.page.hand import PHONE, choose_gallery, draw, settled

FOLDER = os.environ.get("CROSSATNET_SCREENSHOTS")
DESKTOP = {"viewport": {"width": 1440, "height": 900}}

pytestmark = pytest.mark.skipif(not FOLDER, reason="CROSSATNET_SCREENSHOTS names no folder for them")
Open = Callable[..., Page]


@pytest.fixture(scope="module")
def where(browser: Browser, galleries: tuple[Place, ...]) -> Iterator[str]:
    with serving((quickstart_place(quiet=True), galleries[1])) as address:
        yield address


@pytest.fixture(params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["desktop", "phone"])
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def page(browser: Browser, where: str, device: str, scheme: str) -> Iterator[Page]:
    options: dict[str, Any] = PHONE if device == "phone" else DESKTOP
    context = browser.new_context(**options, color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(where)
    page.locator("#examples button").last.wait_for()
    page.locator("#gallery option").first.wait_for(state="attached")
    yield page
    context.close()


def test_screenshots(page: Page, device: str, scheme: str) -> None:
    def shoot(name: str) -> None:
        page.wait_for_load_state("networkidle")
        assert FOLDER is not None
        Path(FOLDER).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(FOLDER) / f"{device}-{scheme}-{name}.png")

    shoot("empty")
    page.get_by_role("button", name="Umbrella").click()
    settled(page)
    page.mouse.move(2, 2)
    shoot("results")
    page.locator("summary").click()
    shoot("ranking")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    shoot("keys")
    page.keyboard.press("Escape")
    choose_gallery(page, "A few things")
    settled(page)
    page.locator("#results button").first.click()
    page.get_by_role("switch").click()
    page.locator(".overlay.shown").wait_for()
    shoot("dialog")
    page.keyboard.press("Escape")
    page.context.set_offline(True)
    draw(page, [(300, 300), (700, 300)])
    page.locator("#trouble").wait_for()
    shoot("trouble")
