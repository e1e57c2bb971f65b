"""A real server with real galleries, and a real browser, for the tests of the page.

`CROSSATNET_CHROMIUM` names the browser where it is not on the path; without one the tests are skipped.
"""

import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from crossatnet import CrossATNet, Gallery
from crossatnet.data.quickstart import build_quickstart
from crossatnet.data.splits import load_split
from crossatnet.gallery.embedder import Embedder
from crossatnet.server.app import create_app
from crossatnet.server.galleries import open_galleries
from crossatnet.server.settings import Place, Settings

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--no-sandbox",
]
UNSEEN = sorted(load_split("quickstart-200").unseen)
FEW = UNSEEN[::14]  # for the gallery whose network has attention and is slower
CREDITS = "Pictures: Twemoji, copyright Twitter, Inc and other contributors, CC BY 4.0."

Visit = Callable[..., Page]
Stroke = list[list[float]]


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's path."""
    path = os.environ.get("CROSSATNET_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("no Chromium on the path, and CROSSATNET_CHROMIUM names none")
    return path


@pytest.fixture(scope="module")  # while it is open, asyncio's loop occupies this thread, which other tests need
def browser(chromium: str) -> Iterator[Browser]:
    """Chromium without a window."""
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def galleries(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, ...]:
    """The pictures of all unseen quickstart things, and a few of them seen by a network that has attention.

    It requires the browser, so that nothing is built without one.
    """
    folder = tmp_path_factory.mktemp("page")
    data = build_quickstart(folder / "data", progress=False, concepts=UNSEEN)
    fill(folder / "quickstart.gallery", "crossatnet-quickstart", data / "photos")
    for name in FEW:
        shutil.copytree(data / "photos" / name, folder / "few" / name)
    fill(folder / "few.gallery", "crossatnet-open", folder / "few")
    return (
        Place(str(folder / "quickstart.gallery"), "Quickstart", CREDITS),
        Place(str(folder / "few.gallery"), "A few things"),
    )


@pytest.fixture(scope="session")
def address(galleries: tuple[Place, ...]) -> Iterator[str]:
    """The address of the server."""
    with serving(galleries) as where:
        yield where


class serving:  # noqa: N801  # reads as the verb it is
    """A server in a thread of this process, at a free port of loopback."""

    def __init__(
        self, places: tuple[Place, ...], token: str | None = None, model: Embedder | None = None, **settings: Any
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        chosen = Settings(places, port=port, token=token, **settings)
        app = create_app(open_galleries(places, None, model), chosen)
        self._server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning", timeout_graceful_shutdown=5))
        self._thread = threading.Thread(target=self._server.run)
        self._address = f"http://127.0.0.1:{port}"

    def __enter__(self) -> str:
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the server did not start"
            time.sleep(0.02)
        return self._address

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()


@pytest.fixture
def visit(browser: Browser, address: str) -> Iterator[Visit]:
    """Opens the page as `visit(path="/", troubled=False, context=None, **options of a new context)`.

    At the end of the test, no page may have sent a request to another host, or written errors to its console.
    `troubled` pages may report answers that the test itself damaged.
    """
    contexts: list[BrowserContext] = []
    errors: list[str] = []

    def visited(path: str = "/", troubled: bool = False, context: BrowserContext | None = None, **options: Any) -> Page:
        if context is None:
            usual = {"viewport": {"width": 1280, "height": 860}, "reduced_motion": "reduce"}
            context = browser.new_context(**{**usual, **options})
            context.set_default_timeout(15_000)
            contexts.append(context)
        page = context.new_page()

        def heard(kind: str, text: str) -> None:
            if kind in ("error", "warning") and not (troubled and text.startswith("Failed to load resource")):
                errors.append(f"{kind}: {text}")

        page.on("console", lambda message: heard(message.type, message.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: asked(request.url))
        page.goto(address + path)
        page.locator("#gallery option, #trouble:not([hidden])").first.wait_for(state="attached")
        return page

    def asked(url: str) -> None:
        if not url.startswith((address, "blob:", "data:")):
            errors.append(f"asked {url}")

    yield visited
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture(scope="session")
def examples() -> dict[str, list[Stroke]]:
    """The strokes of the page's own examples, by name; the paper is 1024 units wide."""
    file = Path(__file__).parents[3] / "src/crossatnet/server/static/examples.json"
    return {each["name"]: each["strokes"] for each in json.loads(file.read_text())["examples"]}


def fill(place: Path, checkpoint: str, folder: Path) -> None:
    """Index a folder into a new gallery."""
    with Gallery.create(place, CrossATNet.from_pretrained(checkpoint), 256) as gallery:
        gallery.add_folder(folder)
