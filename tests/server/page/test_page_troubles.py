"""The page while the server is away, is busy or asks for a token: the page says so, and loses nothing."""

from collections.abc import Callable

from playwright.sync_api import Browser, Page, Route, expect

from crossatnet.server.settings import Place
from server.page.conftest import serving
from server.page.hand import draw, settled

Visit = Callable[..., Page]

DIAGONAL = [(200, 200), (800, 800)]
SEARCHES = "**/search/strokes"


def test_a_server_that_is_away_is_reported_and_asked_again(visit: Visit) -> None:
    page = visit(troubled=True)
    draw(page, DIAGONAL)
    before = settled(page)
    page.context.set_offline(True)
    draw(page, [(200, 800), (800, 200)])
    expect(page.get_by_role("alert")).to_contain_text("The server does not answer. Your drawing is kept.")
    expect(page.locator("#results li")).to_have_count(0)  # those shown were found by another drawing
    page.context.set_offline(False)
    expect(page.locator("#trouble")).to_be_hidden()  # the browser reported that it is online again
    assert settled(page) != before


def test_a_busy_server_is_asked_again_when_it_said(visit: Visit) -> None:
    page = visit(troubled=True)
    refused: list[Route] = []

    def busy(route: Route) -> None:
        if len(refused) >= 2:
            route.continue_()
            return
        refused.append(route)
        error = {"error": {"code": "overloaded", "message": "too many searches at once"}}
        route.fulfill(status=503, headers={"Retry-After": "1"}, json=error)

    page.route(SEARCHES, busy)
    draw(page, [(500, 500)])
    expect(page.get_by_role("alert")).to_contain_text("The server is busy. Your drawing is kept.")
    expect(page.locator("#trouble")).to_be_hidden()  # without a click
    assert len(settled(page)) == 24
    assert len(refused) == 2


def test_who_does_not_wait_asks_once(visit: Visit) -> None:
    page = visit(troubled=True)
    error = {"error": {"code": "overloaded", "message": "too many searches at once"}}
    page.route(SEARCHES, lambda route: route.fulfill(status=503, headers={"Retry-After": "3"}, json=error))
    draw(page, [(500, 500)])
    expect(page.locator("#retry")).to_contain_text("Try now")
    held: list[Route] = []
    page.unroute(SEARCHES)
    page.route(SEARCHES, lambda route: held.append(route))
    page.locator("#retry").evaluate("(button) => button.click()")
    expect(page.locator("#retry")).to_have_text("Trying …")
    page.wait_for_timeout(3500)  # no request is sent when the time is over
    assert len(held) == 1
    held[0].continue_()
    expect(page.locator("#trouble")).to_be_hidden()


def test_a_request_that_is_wrong_is_reported_in_the_servers_words_and_not_repeated(visit: Visit) -> None:
    page = visit(troubled=True)
    error = {"error": {"code": "invalid", "message": "strokes: more than 2,000; draw with fewer"}}
    page.route(SEARCHES, lambda route: route.fulfill(status=422, json=error))
    draw(page, DIAGONAL)
    expect(page.get_by_role("alert")).to_contain_text("strokes: more than 2,000; draw with fewer")
    expect(page.locator("#retry")).to_be_hidden()
    page.unroute(SEARCHES)
    draw(page, [(200, 800), (800, 200)])
    expect(page.locator("#trouble")).to_be_hidden()


def test_waiting_is_shown_only_when_it_is_long(visit: Visit) -> None:
    page = visit()
    held: list[Route] = []
    page.route(SEARCHES, lambda route: held.append(route))
    draw(page, [(500, 500)])
    expect(page.locator("#results .skeleton")).to_have_count(24)
    held[-1].continue_()  # the request at the end of the stroke; earlier ones were cancelled
    assert len(settled(page)) == 24
    expect(page.locator("#results .skeleton")).to_have_count(0)


def test_galleries_that_cannot_be_listed_are_asked_for_again(visit: Visit) -> None:
    page = visit(troubled=True)
    page.route("**/api/v1/galleries", lambda route: route.abort())
    page.reload()
    expect(page.get_by_role("alert")).to_contain_text("The server does not answer")
    draw(page, DIAGONAL)
    page.unroute("**/api/v1/galleries")
    page.locator("#retry").evaluate("(button) => button.click()")  # it may press itself, and is gone then
    page.locator("#results li").first.wait_for()  # the page searches for what was drawn meanwhile


def test_who_has_no_token_any_more_logs_in_and_finds_the_drawing_again(
    browser: Browser, galleries: tuple[Place, ...]
) -> None:
    with serving(galleries[:1], token="a secret of many letters") as address:
        page = browser.new_page()
        page.set_default_timeout(15_000)
        page.goto(address)
        assert page.url == f"{address}/login"
        page.get_by_label("Token").fill("a guess")
        page.keyboard.press("Enter")
        page.get_by_role("alert").wait_for()
        page.get_by_label("Token").fill("a secret of many letters")
        page.keyboard.press("Enter")
        page.locator("#gallery option").first.wait_for(state="attached")
        draw(page, DIAGONAL)
        before = settled(page)
        page.context.clear_cookies()
        draw(page, [(500, 500)])
        page.wait_for_url("**/login")
        page.get_by_label("Token").fill("a secret of many letters")
        page.keyboard.press("Enter")
        page.locator("#results li").first.wait_for()
        settled(page)
        page.get_by_role("button", name="Clear").click()
        page.get_by_role("button", name="Undo").click()
        assert len(settled(page)) == len(before)
        page.close()
