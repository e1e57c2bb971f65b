"""The page for everybody: by keyboard, by touch on a phone, in dark colours, and checked by axe-core."""

from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Request, expect

from server.page.hand import (
    PHONE,
    Stroke,
    choose_gallery,
    dense,
    draw,
    expect_focus,
    is_search,
    on_screen,
    settled,
    strokes_of,
)

Visit = Callable[..., Page]
Examples = dict[str, list[Stroke]]


def test_all_can_be_done_with_the_keyboard(visit: Visit) -> None:
    page = visit()
    page.keyboard.press("Tab")
    assert page.get_by_role("link", name="Skip to the pictures").evaluate("(link) => link === document.activeElement")
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "canvas":
            break
    sent: list[Request] = []
    page.on("request", lambda request: sent.append(request) if is_search(request) else None)
    for key in ("Space", "Shift+ArrowRight", "Shift+ArrowRight", "Shift+ArrowDown", "ArrowLeft", "Space"):
        page.keyboard.press(key)
    settled(page)
    assert strokes_of(sent[-1]) == [[[512, 512], [640, 512], [640, 576], [624, 576]]]  # not smoothed
    page.keyboard.press("r")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    columns = page.locator("#results").evaluate(
        "(list) => getComputedStyle(list).gridTemplateColumns.split(' ').length"
    )
    expect_focus(page, columns + 2)
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog").get_by_text(f"{columns + 2} of 24")).to_be_visible()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Escape")
    expect_focus(page, columns + 1)
    page.keyboard.press("?")
    expect(page.get_by_role("heading", name="Keyboard")).to_be_visible()
    page.get_by_label("Single keys are shortcuts").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("e")
    expect(page.get_by_role("button", name="Pen", exact=True)).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Control+z")
    expect(page.locator("#results li")).to_have_count(0)


def test_screen_readers_read_what_was_found(visit: Visit) -> None:
    page = visit()
    draw(page, [(200, 200), (800, 800)])
    best = settled(page)[0]
    expect(page.locator("#spoken")).to_contain_text(f"24 of 200 pictures shown. Best: {best}, score 0.")
    assert page.get_by_role("list", name="Pictures found, best first").locator("li").count() == 24


def test_a_finger_draws_on_a_phone_and_the_page_stays_where_it_is(visit: Visit, examples: Examples) -> None:
    page = visit(**PHONE)
    finger = page.context.new_cdp_session(page)
    for stroke in examples["Bike"][:5]:
        places = on_screen(page, dense(stroke))
        for place in places:
            kind = "touchStart" if place is places[0] else "touchMove"
            points = [{"x": place[0], "y": place[1]}]
            finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert "bike" in settled(page)[:3]  # the first row
    assert page.evaluate("[scrollX, scrollY, document.documentElement.scrollWidth - innerWidth]") == [0, 0, 0]
    page.locator("#results button").first.click()
    box = page.get_by_role("dialog").bounding_box()
    assert box is not None
    assert (box["width"], box["height"]) == (390, 844)
    page.get_by_role("button", name="Close").click()
    expect(page.locator("#help")).to_be_hidden()  # a phone has no keys


def test_colours_follow_the_system_until_they_are_chosen(visit: Visit) -> None:
    page = visit(color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.get_by_role("button", name="Dark colours").click()
    light = page.evaluate(ground)
    assert dark != light
    page.reload()
    assert page.evaluate(ground) == light  # remembered
    page.get_by_role("button", name="Dark colours").click()
    assert page.evaluate(ground) == dark
    page.emulate_media(color_scheme="light")
    assert page.evaluate(ground) == light  # the system's setting is used again
    ink = """new Promise(requestAnimationFrame).then(() => {
      const copy = new OffscreenCanvas(1, 1).getContext("2d");
      copy.drawImage(canvas, -canvas.width / 2, -canvas.height / 2);
      return [...copy.getImageData(0, 0, 1, 1).data];
    })"""
    draw(page, [(200, 512), (800, 512)])
    assert page.evaluate(ink)[0] < 60
    page.get_by_role("button", name="Dark colours").click()
    assert page.evaluate(ink)[0] > 200  # the ink turns light


@pytest.mark.parametrize("device", ["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(visit: Visit, examples: Examples, scheme: str, device: str) -> None:
    page = visit(color_scheme=scheme, bypass_csp=True, **(PHONE if device == "phone" else {}))
    assert serious(page) == []
    choose_gallery(page, "A few things")
    page.get_by_role("button", name="Umbrella").click()
    settled(page)
    page.locator("summary").click()
    assert serious(page) == []
    page.locator("summary").click()
    page.locator("#results button").first.click()
    page.get_by_role("switch").click()
    page.locator(".overlay.shown").wait_for()
    assert serious(page) == []
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert serious(page) == []


def serious(page: Page) -> list[str]:
    """The accessibility errors that axe-core finds."""
    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {node['html']} {node.get('failureSummary')}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]
