"""The page in a browser: it shows the right pictures for a drawing."""

import base64
import io
import json
from collections.abc import Callable
from typing import Any

from PIL import Image
from playwright.sync_api import Page, Request, Route, expect

from crossatnet.data.strokes import render
from server.page.hand import (
    Stroke,
    as_drawing,
    choose_gallery,
    draw,
    expect_focus,
    is_search,
    on_screen,
    settled,
    shown,
    strokes_of,
)

Visit = Callable[..., Page]
Examples = dict[str, list[Stroke]]

DIAGONAL = [(200, 200), (800, 800)]
CROSSING = [(200, 800), (800, 200)]
PASTE = """([base64, type, name]) => {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const clipboardData = new DataTransfer();
  clipboardData.items.add(new File([bytes], name, { type }));
  dispatchEvent(new ClipboardEvent("paste", { clipboardData }));
}"""


COUNT_GLIDES = """() => {
  const animate = Element.prototype.animate;
  window.glides = 0;
  Element.prototype.animate = function (frames, ...rest) {
    glides += frames[0].transform.startsWith("translate") ? 1 : 0;
    return animate.call(this, frames, ...rest);
  };
}"""
KEEP_FILES = """() => {  // browsers do not tell their drivers of files
  const ask = fetch;
  window.files = [];
  window.fetch = (address, options) => {
    if (options?.body instanceof Blob) files.push(options.body);
    return ask(address, options);
  };
}"""


def test_the_right_picture_rises_while_an_unseen_thing_is_drawn(visit: Visit, examples: Examples) -> None:
    page = visit()
    searches = watch(page)
    ranks, live = [], 0
    for number, stroke in enumerate(examples["Bike"][:6]):
        draw(page, stroke, lift=False)
        live += len(searches)
        page.mouse.up()
        names = settled(page)
        ranks.append(names.index("bike") if "bike" in names else len(names))
        assert len(strokes_of(searches[-1])) == number + 1  # the last search is of all that was drawn
        searches.clear()
    columns = page.locator("#results").evaluate(
        "(list) => getComputedStyle(list).gridTemplateColumns.split(' ').length"
    )
    assert ranks[0] == 24  # after one wheel: not among the first hits
    assert ranks[-1] < columns
    assert live > len(ranks)  # pictures were updated during strokes too
    facts = page.locator("#facts").text_content()
    assert facts is not None
    assert facts.startswith("200 pictures, ")
    assert facts.endswith(" ms")


def test_a_hit_keeps_its_node_glides_to_its_place_and_tells_its_score(visit: Visit, examples: Examples) -> None:
    page = visit(reduced_motion="no-preference")
    page.evaluate(COUNT_GLIDES)
    draw_all(page, examples["Bike"][:3])
    before = shown(page)
    page.evaluate("for (const node of results.children) node.mark = node.dataset.id")
    draw_all(page, examples["Bike"][3:5])
    after = shown(page)
    marks = page.evaluate("[...results.children].map((node) => node.mark === node.dataset.id)")
    assert before != after
    assert page.evaluate("glides") > 0
    assert [name for name, marked in zip(after, marks, strict=True) if marked] == [
        name for name in after if name in before
    ]
    tile = page.locator("#results li", has=page.get_by_text("bike", exact=True)).get_by_role("button")
    tile.hover()
    expect(tile.locator(".caption")).to_have_css("opacity", "1")
    label = tile.get_attribute("aria-label")
    assert label is not None
    assert label.startswith(f"{after.index('bike') + 1}: bike, score 0.")


def test_an_answer_that_comes_late_is_dropped(visit: Visit) -> None:
    page = visit()
    held: list[Any] = []

    def hold_first(route: Any) -> None:
        if held:
            route.continue_()
        else:
            held.append(route)

    page.route("**/search/strokes", hold_first)
    draw(page, [(500, 500)])  # a dot: its search is held back
    page.locator("#found[aria-busy=true]").wait_for()
    draw(page, DIAGONAL)
    latest = settled(page)
    held[0].fulfill(
        json={"hits": [], "offset": 0, "k": 24, "pictures": 0, "next_offset": None, "milliseconds": {"total": 1}}
    )

    assert settled(page) == latest
    expect(page.locator("#nothing")).to_be_hidden()


def test_undo_redo_and_clear_lead_through_all_that_was_drawn(visit: Visit) -> None:
    page = visit()
    draw(page, DIAGONAL)
    one = settled(page)
    draw(page, CROSSING)
    two = settled(page)
    assert one != two
    page.get_by_role("button", name="Undo").click()
    assert settled(page) == one
    page.keyboard.press("Control+Shift+Z")
    assert settled(page) == two
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#results li")).to_have_count(0)
    expect(page.get_by_text("Your pictures appear here")).to_be_visible()
    page.keyboard.press("Control+z")
    assert settled(page) == two
    draw(page, [(100, 500), (900, 500)])
    expect(page.get_by_role("button", name="Redo")).to_be_disabled()


def test_the_eraser_cuts_strokes_where_it_passes(visit: Visit) -> None:
    page = visit()
    searches = watch(page)
    draw(page, [(100, 500), (900, 500)])
    settled(page)
    page.keyboard.press("e")
    draw(page, [(500, 300), (500, 700)])
    settled(page)
    left, right = strokes_of(searches[-1])
    reach = (3 * 12 + 12) / 2  # half the widths of eraser and pen
    assert [round(x) for x in (left[0][0], left[-1][0], right[0][0], right[-1][0])] == [
        100,
        500 - reach,
        500 + reach,
        900,
    ]
    page.keyboard.press("Control+z")
    settled(page)
    assert len(strokes_of(searches[-1])) == 1
    draw(page, [(100, 100), (200, 100)])  # erases nothing, so there is nothing to undo
    page.keyboard.press("Control+Shift+z")
    settled(page)
    assert len(strokes_of(searches[-1])) == 2


def test_a_pasted_drawing_is_searched_and_drawn_upon(visit: Visit, examples: Examples) -> None:
    page = visit()
    page.evaluate(KEEP_FILES)
    searches = watch(page)
    picture = png(render(as_drawing(examples["Owl"])))
    with page.expect_request("**/search/sketch?*"):
        page.evaluate(PASTE, [base64.b64encode(picture).decode(), "image/png", "owl.png"])
    assert last_file(page) == picture  # small pictures are sent unchanged
    assert "owl" in settled(page)[:4]
    assert page.get_by_role("radio", name="Drawing").is_checked()
    read = page.get_by_role("img", name="Your drawing as it was read")
    expect(read).to_be_visible()
    assert read.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
    with page.expect_request("**/search/sketch?*"):
        draw(page, [(300, 950), (700, 950)])
    settled(page)
    composed = Image.open(io.BytesIO(last_file(page))).convert("L")
    assert composed.getpixel((composed.width // 2, round(950 / 1024 * composed.height))) < 64  # the new stroke
    assert composed.getpixel((round(0.5 * composed.width), round(0.96 * composed.height))) > 200  # paper below it
    with page.expect_request("**/search/photo?*"):
        page.get_by_text("Photo", exact=True).click()
    settled(page)
    expect(read).to_be_hidden()
    page.get_by_role("button", name="Remove the picture").click()
    settled(page)
    assert searches[-1].url.endswith("/search/strokes")


def test_a_photo_that_is_dropped_finds_itself_and_makes_room_for_a_drawing(visit: Visit, galleries: Any) -> None:
    page = visit()
    picture = png(Image.open(galleries[0].place.replace("quickstart.gallery", "data/photos/umbrella/twemoji.png")))
    with page.expect_request("**/search/photo?*"):
        page.evaluate(
            PASTE.replace("new ClipboardEvent", "new DragEvent").replace(
                '"paste", { clipboardData }', '"drop", { dataTransfer: clipboardData }'
            ),
            [base64.b64encode(picture).decode(), "image/png", "umbrella.png"],
        )
    assert settled(page)[0] == "umbrella"
    assert page.get_by_role("radio", name="Photo").is_checked()
    draw(page, DIAGONAL)
    settled(page)
    expect(page.locator("#picture-bar")).to_be_hidden()
    page.keyboard.press("Control+z")
    assert settled(page)[0] == "umbrella"


def test_a_picture_that_is_none_is_refused_in_words_and_nothing_is_lost(visit: Visit) -> None:
    page = visit(troubled=True)
    draw(page, DIAGONAL)
    before = settled(page)
    page.evaluate(PASTE, [base64.b64encode(b"not a picture").decode(), "image/png", "broken.png"])
    page.locator("#trouble").wait_for()
    expect(page.locator("#retry")).to_be_hidden()  # trying again would give the same error
    expect(page.get_by_text("broken.png (your browser cannot show it)")).to_be_visible()
    page.keyboard.press("Control+z")
    assert settled(page) == before
    expect(page.locator("#trouble")).to_be_hidden()


def test_a_hit_opens_large_with_what_the_drawing_sees_and_leads_to_others_like_it(
    visit: Visit, examples: Examples
) -> None:
    page = visit()
    choose_gallery(page, "A few things")
    draw_all(page, examples["Umbrella"])
    before = shown(page)
    page.locator("#results button").first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text(f"1 of {len(before)}")).to_be_visible()
    dialog.get_by_role("switch").click()
    overlay = page.locator(".overlay.shown")
    overlay.wait_for()
    first = overlay.get_attribute("src")
    assert overlay.evaluate("(image) => image.naturalWidth") == 256
    page.keyboard.press("ArrowRight")
    assert first is not None
    expect(overlay).not_to_have_attribute("src", first)
    title = dialog.get_by_role("heading").text_content()
    assert title == before[1]
    dialog.get_by_role("button", name="More like this").click()
    similar = settled(page)
    expect(page.get_by_text(f"More like {title}")).to_be_visible()
    assert title not in similar  # every class has one picture here
    page.get_by_role("button", name="Back to your search").click()
    assert settled(page) == before


def test_from_a_hit_the_drawing_searches_the_class_of_the_hit_alone(visit: Visit, examples: Examples) -> None:
    page = visit()
    searches = watch(page)
    draw_all(page, examples["Umbrella"])
    before = settled(page)
    page.locator("#results button").nth(2).click()
    dialog = page.get_by_role("dialog")
    title = dialog.get_by_role("heading").text_content()
    dialog.get_by_role("button", name=f"Like my drawing, only {title}").click()
    assert settled(page) == [title] == [before[2]]  # every class has one picture here
    expect(page.get_by_text(f"Like your drawing, only {title}")).to_be_visible()
    asked = json.loads(searches[-1].post_data or "")
    assert (asked["class_names"], len(asked["strokes"])) == ([asked_class(title)], len(examples["Umbrella"]))
    draw(page, DIAGONAL)  # to say more exactly which one of them
    assert settled(page) == [title]
    page.locator("#results button").click()
    expect(dialog.get_by_role("button", name="Like my drawing")).to_be_hidden()  # there already
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Undo").click()
    page.get_by_role("button", name="Back to your search").click()
    assert settled(page) == before
    page.locator("#results button").nth(2).click()
    dialog.get_by_role("button", name=f"Like my drawing, only {title}").click()
    settled(page)
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#origin")).to_be_hidden()  # without a drawing nothing is left of the question


def asked_class(title: str | None) -> str:
    """The class whose name the page shows like this."""
    return (title or "").replace(" ", "_")


def test_rankings_are_offered_where_the_network_has_them(visit: Visit) -> None:
    page = visit()
    searches = watch(page)
    draw(page, DIAGONAL)
    fine = settled(page)
    page.locator("summary").click()
    expect(page.get_by_text("Attentive")).to_be_hidden()  # the quickstart network has no attention
    page.get_by_text("Quick", exact=True).click()
    assert settled(page) != fine
    assert json.loads(searches[-1].post_data or "")["ranking"] == "code"
    page.keyboard.press("Escape")
    choose_gallery(page, "A few things")
    settled(page)
    page.locator("summary").click()
    page.get_by_text("Attentive").click()
    settled(page)
    assert json.loads(searches[-1].post_data or "")["ranking"] == "guided"
    choose_gallery(page, "Quickstart")
    settled(page)
    assert json.loads(searches[-1].post_data or "")["ranking"] == "float"
    expect(page.get_by_text("Twitter, Inc")).to_be_visible()


def test_pictures_of_the_gallery_before_are_not_shown_in_the_next(visit: Visit) -> None:
    page = visit()
    draw(page, DIAGONAL)
    assert settled(page)
    held: list[Route] = []
    page.route("**/galleries/few/search/*", lambda route: held.append(route))
    choose_gallery(page, "A few things")
    expect(page.locator("#results .skeleton")).to_have_count(24)
    expect(page.locator("#results button")).to_have_count(0)
    expect(page.locator("#more")).to_be_hidden()
    held[-1].continue_()
    page.locator("#results button").first.wait_for()


def test_more_pictures_are_added_below_and_none_comes_twice(visit: Visit) -> None:
    page = visit()
    draw(page, DIAGONAL)
    first = settled(page)
    page.locator("summary").click()
    page.get_by_label("Pictures at a time").select_option("96")
    assert settled(page)[:24] == first
    page.get_by_role("button", name="Show more").click()
    settled(page)
    page.get_by_role("button", name="Show more").click()
    names = settled(page)
    assert len(names) == len(set(names)) == 200
    assert names[:24] == first
    expect(page.get_by_role("button", name="Show more")).to_be_hidden()
    expect_focus(page, 193)  # the first new hit has the focus


def test_an_example_draws_itself_and_is_found(visit: Visit) -> None:
    page = visit(reduced_motion="no-preference")
    searches = watch(page)
    page.get_by_role("button", name="Palm tree").click()
    expect(page.locator("#results .name").first).to_have_text("palm tree")
    settled(page)
    assert len(searches) > 2  # pictures appeared while it was drawn
    page.get_by_role("button", name="Undo").click()  # the whole example is one step
    expect(page.locator("#results li")).to_have_count(0)


def test_a_link_holds_the_drawing(visit: Visit, examples: Examples) -> None:
    page = visit(permissions=["clipboard-read", "clipboard-write"])
    page.keyboard.press("l")
    expect(page.get_by_text("Draw something first.")).to_be_visible()
    draw_all(page, examples["Umbrella"])
    before = shown(page)
    page.get_by_role("button", name="Copy link").click()
    page.get_by_text("Link copied.").wait_for()
    link = page.evaluate("navigator.clipboard.readText()")
    assert link == page.url
    fragment = link[link.index("/#") :]
    again = visit(fragment)
    names = settled(again)
    assert names[0] == before[0]
    assert len(set(names) & set(before)) > 20  # rounded to the grid, it is the same drawing
    draw(again, DIAGONAL)
    settled(again)
    assert "#" not in again.url  # the link does not hold the new stroke
    damaged = visit(fragment[:-3])
    expect(damaged.get_by_text("This link is damaged or was cut short")).to_be_visible()
    expect(damaged.get_by_text("Draw anything")).to_be_visible()


def test_a_reload_keeps_the_drawing(visit: Visit) -> None:
    page = visit()
    draw(page, DIAGONAL)
    draw(page, CROSSING)
    before = settled(page)
    page.reload()
    page.locator("#results li").first.wait_for()
    assert settled(page)[0] == before[0]
    expect(page.get_by_role("button", name="Clear")).to_be_enabled()


def test_a_pen_draws_thicker_where_it_presses(visit: Visit) -> None:
    page = visit()
    (x0, y0), (x1, y1) = on_screen(page, [(200, 300), (800, 300)])
    page.evaluate(
        """([x0, y, x1]) => {
          const send = (type, clientX, pressure, buttons) => canvas.dispatchEvent(new PointerEvent(type, {
            pointerId: 7, pointerType: "pen", button: 0, buttons, clientX, clientY: y, pressure, bubbles: true,
          }));
          canvas.setPointerCapture = () => {};
          send("pointerdown", x0, 0.05, 1);
          for (let step = 1; step <= 40; step += 1) {
            send("pointermove", x0 + (x1 - x0) * step / 40, 0.05 + 0.95 * step / 40, 1);
          }
          send("pointerup", x1, 0, 0);
        }""",
        [x0, y0, x1],
    )
    settled(page)
    thickness = page.evaluate(
        """async () => {
          await new Promise(requestAnimationFrame);
          const context = canvas.getContext("2d");
          const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
          const inked = (share) => {
            const column = Math.round(canvas.width * share);
            return data.filter((value, index) => index % (4 * canvas.width) === 4 * column + 3 && value > 127).length;
          };
          return [inked(0.22), inked(0.5), inked(0.78)];
        }"""
    )
    assert thickness[0] < thickness[1] < thickness[2]
    assert y0 == y1


def watch(page: Page) -> list[Request]:
    """All searches that the page will ask for."""
    searches: list[Request] = []
    page.on("request", lambda request: searches.append(request) if is_search(request) else None)
    return searches


def draw_all(page: Page, strokes: list[Stroke]) -> None:
    for stroke in strokes:
        draw(page, stroke)
    settled(page)


def last_file(page: Page) -> bytes:
    """The file that the page sent last, where `KEEP_FILES` ran before."""
    return base64.b64decode(page.evaluate("new Response(files.at(-1)).bytes().then((bytes) => bytes.toBase64())"))


def png(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()
