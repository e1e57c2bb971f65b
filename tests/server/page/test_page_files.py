"""The page as somebody uses it who looks for own photos: find, filter, open, drag, save, and add a folder.

    CROSSATNET_SCREENSHOTS=FOLDER python -m pytest tests/server/page/test_page_files.py

With a folder named so, screenshots of each step are written there, to look at.
"""

import io
import os
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from crossatnet.gallery import Gallery
from crossatnet.server.settings import Place
from gallery import known
from gallery.fake_model import FakeModel
from server.page.conftest import serving
from server.page.hand import PHONE, draw, settled
from server.page.test_page_access import serious

FOLDER = os.environ.get("CROSSATNET_SCREENSHOTS")
Visit = Callable[..., Page]
DIAGONAL = [(200, 200), (800, 800)]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, chromium: str) -> Path:
    """Photos of two years in folders; one of them lies there four times."""
    root = tmp_path_factory.mktemp("pictures") / "Photos"
    for number in range(24):
        year = 2018 + number % 2
        folder = root / str(year) / ("Summer holiday" if number % 3 else "Work")
        tags = ("red", "sea") if number % 4 == 1 else ("blue",)
        taken = f"{year}:07:{number + 1:02} 10:00:00"
        known.write(folder / f"IMG_{number:04}.jpg", number, taken, tags, "By the sea")
    for name in ("copy of 1", "backup of 1", "1 again"):
        shutil.copy(root / "2019" / "Summer holiday" / "IMG_0001.jpg", root / f"{name}.jpg")
    known.write(root.parent / "New pictures" / "new.jpg", 1000, tags=("fresh",))
    return root


@pytest.fixture
def address(photos: Path, tmp_path: Path) -> Iterator[str]:
    model = FakeModel()
    for name, folder in (("photos", photos), ("more", photos / "2018")):
        with Gallery.create(tmp_path / f"{name}.gallery", model) as gallery:
            gallery.add_folder(folder)
    places = (Place(str(tmp_path / "photos.gallery"), "Photos"), Place(str(tmp_path / "more.gallery"), "More"))
    with serving(places, model=model, folders=(photos.parent.resolve(),)) as where:
        yield where


@pytest.fixture
def shoot(browser: Browser) -> Callable[[Page, str], None]:
    def shoot(page: Page, name: str) -> None:
        if FOLDER:
            Path(FOLDER).mkdir(parents=True, exist_ok=True)
            page.wait_for_timeout(300)
            page.screenshot(path=Path(FOLDER) / f"{page.viewport_size['width']}-{name}.png")  # type: ignore[index]

    return shoot


def words(page: Page, text: str) -> list[str]:
    page.get_by_role("searchbox").fill(text)
    page.keyboard.press("Enter")
    return settled(page)


@pytest.mark.parametrize("device", [{"viewport": {"width": 1280, "height": 860}}, PHONE], ids=["desktop", "phone"])
def test_a_photo_is_found_opened_and_saved_with_others(
    visit: Visit, photos: Path, shoot: Callable[[Page, str], None], device: dict[str, Any]
) -> None:
    page = visit(accept_downloads=True, bypass_csp=True, **device)
    shoot(page, "empty")
    words(page, "red sea")
    expect(page.locator("#results li")).to_have_count(6)
    shoot(page, "words")
    page.get_by_role("button", name="Filter").click()
    page.locator("#folder").select_option("2019/Summer holiday")
    page.get_by_label("Year taken").fill("2019")
    page.get_by_label("Year taken").press("Enter")
    settled(page)
    found = page.locator("#results li")
    expect(found).to_have_count(4)
    expect(page.locator("#since")).to_have_value("2019-01-01")
    shoot(page, "filtered")
    assert serious(page) == []
    boxes = page.locator(".choose")
    for number in range(3):
        boxes.nth(number).check()
    expect(page.get_by_text("3 selected")).to_be_visible()
    shoot(page, "selected")
    assert serious(page) == []
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save as ZIP").click()
    packed = zipfile.ZipFile(io.BytesIO(Path(saved.value.path()).read_bytes()))
    assert len(packed.namelist()) == 3
    sources = {path.read_bytes() for path in photos.rglob("*.jpg")}
    assert all(packed.read(name) in sources for name in packed.namelist())
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save list").click()
    listed = Path(saved.value.path()).read_text().splitlines()
    assert len(listed) == 3
    assert all(Path(path).is_file() for path in listed)
    page.get_by_role("button", name="Deselect").click()
    expect(page.locator("#selected")).to_be_hidden()
    page.locator("#results button").first.click()
    expect(page.locator("[data-part=path]")).to_contain_text(str(photos / "2019"))
    expect(page.get_by_role("dialog").get_by_text("red, sea")).to_be_visible()
    shoot(page, "viewer")
    assert serious(page) == []
    with page.expect_download() as saved:
        page.get_by_role("link", name="Download").click()
    assert Path(saved.value.path()).read_bytes() in sources
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Open").click()
    opened.value.wait_for_load_state()
    assert opened.value.evaluate("document.images[0].naturalWidth") == 64
    opened.value.close()
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def test_a_path_is_copied_and_shown_in_the_file_manager(
    visit: Visit, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched: list[str] = []
    monkeypatch.setattr("typer.launch", lambda path, locate=False: launched.append(path) or 0)
    page = visit(permissions=["clipboard-read", "clipboard-write"])
    words(page, "IMG_0005")
    page.locator("#results button").first.click()
    page.get_by_role("button", name="Copy the path").click()
    expect(page.get_by_text("Path copied.")).to_be_visible()
    path = page.evaluate("navigator.clipboard.readText()")
    assert path == str(photos / "2019" / "Summer holiday" / "IMG_0005.jpg")
    with page.expect_response("**/reveal") as answered:
        page.get_by_role("button", name="Show in folder").click()
    assert answered.value.status == 204
    assert launched == [path]


def test_copies_count_once_and_can_be_looked_at(visit: Visit, photos: Path) -> None:
    page = visit()
    draw(page, DIAGONAL)
    settled(page)
    expect(page.locator("#results li")).to_have_count(24)
    group = page.locator("#results li", has=page.locator(".copies:not([hidden])"))
    expect(group).to_have_count(1)
    expect(group.locator(".copies")).to_have_text("+3")
    group.get_by_role("button").click()
    page.get_by_role("button", name="And 3 more like it", exact=True).click()
    expect(page.get_by_role("dialog").get_by_text("2 of 4")).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Filter").click()
    page.get_by_label("Show copies of a picture once").uncheck()
    settled(page)
    expect(page.locator(".copies:not([hidden])")).to_have_count(0)
    page.get_by_role("button", name="Show more").click()
    settled(page)
    expect(page.locator("#results li")).to_have_count(27)


def test_words_and_a_drawing_hold_together(visit: Visit) -> None:
    page = visit()
    draw(page, DIAGONAL)
    drawn = settled(page)
    both = words(page, "red")
    assert both != drawn
    expect(page.locator("#results li")).to_have_count(6)
    assert "0." in (page.locator("#results .score").first.text_content() or "")  # a likeness
    page.get_by_role("button", name="Clear").click()
    settled(page)
    expect(page.locator("#results li")).to_have_count(6)  # the words alone
    expect(page.locator("#results .score").first).to_have_text("2019-07-22")
    words(page, "nothing like it")
    expect(page.get_by_text("No picture meets these conditions.")).to_be_visible()
    words(page, "")
    expect(page.get_by_text("Your pictures appear here")).to_be_visible()


def test_several_are_searched_as_one(visit: Visit) -> None:
    page = visit()
    page.locator("#gallery").select_option(label="All of them")
    draw(page, DIAGONAL)
    settled(page)
    expect(page.locator("#facts")).to_contain_text("39 pictures")
    page.locator("#results button").nth(1).click()
    expect(page.locator("[data-part=path]")).to_contain_text("Photos")
    page.get_by_role("switch").click()
    page.locator(".overlay.shown").wait_for()


def test_what_failed_shows_no_pictures_of_another_search(visit: Visit) -> None:
    page = visit(troubled=True)
    draw(page, DIAGONAL)
    settled(page)
    error = {"error": {"code": "invalid", "message": "strokes: too many"}}
    page.route("**/search/strokes", lambda route: route.fulfill(status=422, json=error))
    draw(page, [(200, 800), (800, 200)])
    expect(page.get_by_role("alert")).to_contain_text("too many")
    expect(page.locator("#results li")).to_have_count(0)
    expect(page.locator("#more")).to_be_hidden()
    page.unroute("**/search/strokes")
    draw(page, [(100, 500), (900, 500)])
    settled(page)
    expect(page.locator("#results li")).to_have_count(24)


def test_a_file_that_is_gone_is_marked(visit: Visit, photos: Path) -> None:
    path = photos / "2018" / "Work" / "IMG_0000.jpg"
    away = photos.parent / "away.jpg"
    path.rename(away)
    try:
        page = visit(troubled=True)
        words(page, "IMG_0000")
        expect(page.locator("#results .gone .lost")).to_be_visible()
        page.locator("#results button").first.click()
        expect(page.get_by_text("This file is gone.")).to_be_visible()
        expect(page.get_by_role("link", name="Download")).to_be_hidden()
    finally:
        away.rename(path)


def test_a_picture_is_dragged_out_as_its_file(visit: Visit) -> None:
    page = visit()
    words(page, "IMG_0005")
    data = page.evaluate(
        """() => {
          const dataTransfer = new DataTransfer();
          results.children[0].dispatchEvent(new DragEvent("dragstart", { dataTransfer, bubbles: true }));
          return [dataTransfer.getData("DownloadURL"), dataTransfer.getData("text/uri-list")];
        }"""
    )
    assert data[0].startswith("application/octet-stream:IMG_0005.jpg:http://127.0.0.1:")
    assert data[1].endswith("/original")
    assert page.request.get(data[1]).ok


def test_a_picture_is_selected_by_the_keyboard(visit: Visit) -> None:
    page = visit()
    words(page, "red")
    page.locator("#results button").first.focus()
    page.keyboard.press("s")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("s")
    expect(page.get_by_text("2 selected")).to_be_visible()
    page.keyboard.press("s")
    expect(page.get_by_text("1 selected")).to_be_visible()


@pytest.mark.parametrize("device", [{"viewport": {"width": 1280, "height": 860}}, PHONE], ids=["desktop", "phone"])
def test_a_folder_is_added_and_found(
    visit: Visit, photos: Path, shoot: Callable[[Page, str], None], device: dict[str, Any]
) -> None:
    page = visit(bypass_csp=True, **device)
    words(page, "fresh")
    expect(page.get_by_text("No picture meets these conditions.")).to_be_visible()
    page.get_by_role("button", name="Add folder").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name=str(photos.parent)).click()
    dialog.get_by_role("button", name="New pictures").click()
    expect(page.locator("#adder-path")).to_have_text(str(photos.parent / "New pictures"))
    shoot(page, "adder")
    assert serious(page) == []
    dialog.get_by_role("button", name="Add this folder").click()
    expect(dialog.get_by_text("Done: 1 added.")).to_be_visible()
    shoot(page, "added")
    dialog.get_by_role("button", name="Close").click()
    expect(page.locator("#results li")).to_have_count(1)


def test_adding_is_stopped(visit: Visit, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = photos.parent / "Many"
    for number in range(150):
        known.write(many / f"{number}.jpg", 2000 + number)
    embed = FakeModel.embed
    monkeypatch.setattr(FakeModel, "embed", lambda *arguments: time.sleep(0.2) or embed(*arguments))
    page = visit()
    page.get_by_role("button", name="Add folder").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name=str(photos.parent)).click()
    dialog.get_by_role("button", name="Many").click()
    dialog.get_by_role("button", name="Add this folder").click()
    expect(dialog.get_by_text("Adding ")).to_be_visible()
    dialog.get_by_role("button", name="Stop").click()
    expect(dialog.get_by_text("stopped: ")).to_be_visible()
    shutil.rmtree(many)
