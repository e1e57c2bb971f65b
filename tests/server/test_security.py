"""Access: no route without the token, no other host or site, and nothing secret in logs, pages or cookies."""

import json
import logging
import re
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.routing import BaseRoute
from starlette.websockets import WebSocketDisconnect

from crossatnet.server.security import CONTENT_POLICY, COOKIE, COOKIE_SECONDS, OPEN_PATHS, Token, check_token
from crossatnet.system.errors import UserError
from server.serving import ADDRESS, BASE, HOUSE, PNG, ask, assert_refused, picture

TOKEN = "correct-horse-battery-staple"
BEARER = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def guarded(serve: object) -> TestClient:
    """A client without the token, of a server that requires one."""
    client: TestClient = serve(token=TOKEN)  # type: ignore[operator]
    return client


def addresses(routes: list[BaseRoute], prefix: str = "") -> Iterator[tuple[str, str]]:
    """(method, path) of every route of an app, also of mounted ones."""
    for route in routes:
        path = prefix + getattr(route, "path", "")
        inner = getattr(route, "routes", None) or getattr(getattr(route, "original_router", None), "routes", None)
        if inner:
            yield from addresses(inner, path)
        methods = getattr(route, "methods", None) or ({"GET"} if not inner else ())
        for method in methods:
            yield method, path.format_map(Parameters())


class Parameters(dict[str, str]):
    """An existing value for each parameter of a path."""

    def __missing__(self, name: str) -> str:
        return {"gallery": "my-pets", "item_id": "1", "path": "index.html"}.get(name.partition(":")[0], "x")


def test_no_route_can_be_had_without_the_token(guarded: TestClient) -> None:
    app: FastAPI = guarded.app  # type: ignore[assignment]
    routes = {(method, path) for method, path in addresses(app.routes) if path not in OPEN_PATHS}
    documented = {
        (method.upper(), path.format_map(Parameters()))
        for path, operations in app.openapi()["paths"].items()
        for method in operations
    }
    assert documented - routes == {("GET", "/api/v1/health")}  # all routes were found
    assert len(routes) >= 17
    extra = {
        ("GET", path) for path in ("/static", "/static/", "/static/index.html", "/nowhere", "/api/v1/health/", "//")
    }
    extra |= {("GET", "/api/v1/../v1/galleries"), ("GET", "/login/../metrics"), ("GET", "/%6detrics")}
    wrong = (
        {},
        {"authorization": TOKEN},
        {"authorization": "Bearer"},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": f"Bearer {TOKEN[:-1]}"},
        {"authorization": f"Basic {TOKEN}"},
        {"cookie": f"{COOKIE}={TOKEN}"},
        {"cookie": f"{COOKIE}=99999999999.{'0' * 64}"},
        {"cookie": f"{COOKIE}=.; {COOKIE}"},
        {"cookie": "\x01=;;==,"},
    )
    for method, path in routes | extra:
        for headers in wrong:
            answer = ask(app, method, path, headers)
            if path in ("/", "/docs") and method == "GET":
                assert (answer.status, answer.headers["location"]) == (303, "/login")
            else:
                assert answer.status == 401, (method, path, headers)
                assert json.loads(answer.body)["error"]["code"] == "unauthorized"
        assert ask(app, method, path, BEARER).status not in (401, 303) or path == "/logout", (method, path)


def test_only_health_and_the_login_page_need_no_token(guarded: TestClient) -> None:
    assert guarded.get("/api/v1/health").json()["status"] == "ok"
    assert "password" in guarded.get("/login").text
    assert guarded.get("/plain.css").headers["content-type"].startswith("text/css")


def test_the_login_page_gives_a_cookie_that_is_not_the_token(guarded: TestClient) -> None:
    assert guarded.post("/login", data={"token": "wrong"}).status_code == 401
    assert guarded.post("/login", content=b"\xff&token").status_code == 401
    answer = guarded.post("/login", data={"token": TOKEN})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Secure" not in cookie  # over http no browser would send a secure cookie back
    assert TOKEN not in cookie
    guarded.cookies.set(COOKIE, cookie.partition(";")[0].partition("=")[2])
    assert guarded.get("/").status_code == 200
    assert guarded.post(f"{BASE}/search/strokes", json={"strokes": HOUSE}).status_code == 200
    gone = guarded.post("/logout")
    assert (gone.headers["location"], "Max-Age=0" in gone.headers["set-cookie"]) == ("/login", True)


def test_the_cookie_is_for_https_only_where_the_login_was(guarded: TestClient) -> None:
    guarded.base_url = "https://localhost"  # type: ignore[assignment]
    assert "Secure" in guarded.post("/login", data={"token": TOKEN}).headers["set-cookie"]


def test_cookies_end_and_cannot_be_forged() -> None:
    now = 1_000_000.0
    token = Token(TOKEN, lambda: now)
    cookie = token.cookie()
    assert token.is_good_cookie(cookie)
    assert not Token("another-token-than-it", lambda: now).is_good_cookie(cookie)
    until, _, signature = cookie.partition(".")
    assert not token.is_good_cookie(f"{int(until) + 1}.{signature}")
    for bad in ("", ".", "x.y", until, f".{signature}", "é.ü", f"{until}.{signature.upper()}"):
        assert not token.is_good_cookie(bad)
    now += COOKIE_SECONDS
    assert not token.is_good_cookie(cookie)


def test_tokens_are_compared_whole() -> None:
    token = Token(TOKEN)
    assert token.is_right(TOKEN)
    for wrong in ("", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "\ud800", "é"):
        assert not token.is_right(wrong)


@pytest.mark.parametrize("weak", ["short", "with a space in it anywhere", "ünïcödé-is-no-header", "a" * 15])
def test_weak_tokens_are_refused_and_not_repeated(weak: str) -> None:
    with pytest.raises(UserError, match="16 letters") as caught:
        check_token(weak, "CROSSATNET_TOKEN")
    assert weak not in str(caught.value)


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8000", "", "[::1"])
def test_other_host_names_are_refused_on_loopback(client: TestClient, host: str) -> None:
    for path in ("/", BASE, "/api/v1/health", "/static/index.html"):
        answer = ask(client.app, "GET", path, {"host": host})
        assert (answer.status, json.loads(answer.body)["error"]["code"]) == (400, "bad_host")


@pytest.mark.parametrize("host", ["localhost", "localhost:1234", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST"])
def test_names_of_this_machine_are_taken(client: TestClient, host: str) -> None:
    assert ask(client.app, "GET", "/api/v1/health", {"host": host}).status == 200


def test_with_a_token_any_host_name_will_do(serve: object) -> None:
    client: TestClient = serve(token=TOKEN, host="0.0.0.0")  # type: ignore[operator]
    assert ask(client.app, "GET", BASE, {"host": "pictures.example", **BEARER}).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "http://localhost:9999"},
        {"origin": "null"},
        {"origin": "http://["},
        {"origin": "http://localhost:8000.evil.example"},
        {"origin": ADDRESS, "sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_pages_of_other_sites_can_change_nothing(client: TestClient, headers: dict[str, str]) -> None:
    assert_refused(client.delete(f"{BASE}/items/1", headers=headers), 403, "forbidden", "another site")
    sent = client.post(f"{BASE}/items", content=picture(900), headers={**PNG, **headers})
    assert_refused(sent, 403, "forbidden")
    assert client.get(f"{BASE}/items/1").status_code == 200


def test_its_own_page_and_programs_can(client: TestClient) -> None:
    for headers in ({"origin": ADDRESS, "sec-fetch-site": "same-origin"}, {}):
        answer = client.post(f"{BASE}/search/strokes", json={"strokes": HOUSE}, headers=headers)
        assert answer.status_code == 200


def test_no_other_site_may_read(client: TestClient) -> None:
    origin = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    for method in ("GET", "OPTIONS"):
        answer = client.request(method, BASE, headers=origin)
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_every_answer_has_the_security_headers(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr("crossatnet.server.galleries.Served.statistics", fail)
    failed = client.get(BASE)
    assert_refused(failed, 500, "internal")
    assert "secret" not in failed.text
    paths = (
        "/",
        "/docs",
        "/static/index.html",
        "/nowhere",
        "/api/v1/galleries",
        "/metrics",
        "/login",
        f"{BASE}/items/1/image",
    )
    for answer in (failed, client.put("/"), client.get("/", headers={"host": "evil"}), *map(client.get, paths)):
        assert answer.headers["content-security-policy"] == CONTENT_POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "cache-control" in answer.headers


def test_pages_of_ours_load_nothing_from_elsewhere(client: TestClient) -> None:
    for path in ("/docs", "/login", "/plain.css"):
        text = client.get(path).text
        assert not re.search(r"<script|<style|style=|https?://|url\(|\son\w+=", text), path


def test_the_access_log_has_neither_queries_nor_tokens(guarded: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        guarded.post("/login", data={"token": TOKEN})
        guarded.post("/login", data={"token": "my-mistyped-token"})
        guarded.post(f"{BASE}/search/strokes", json={"strokes": [[[12345, 54321]]]}, headers=BEARER)
        guarded.get(f"{BASE}/items/1/similar?k=3&class=private", headers=BEARER)
    ours = [record.getMessage() for record in caplog.records if record.name.startswith(("crossatnet", "uvicorn"))]
    lines = [json.loads(line) for line in ours]
    assert [(line["method"], line["path"], line["status"]) for line in lines] == [
        ("POST", "/login", 303),
        ("POST", "/login", 401),
        ("POST", f"{BASE}/search/strokes", 200),
        ("GET", f"{BASE}/items/1/similar", 200),
    ]
    assert all(line["milliseconds"] > 0 and line["bytes"] >= 0 and line["worker"] for line in lines)
    for secret in (TOKEN, "mistyped", "12345", "54321", "private"):
        assert secret not in "".join(ours)


@pytest.mark.parametrize("path", ["/", "/static/js/page.js", f"{BASE}/search/strokes"])
def test_web_sockets_are_refused_before_a_route_is_looked_for(client: TestClient, path: str) -> None:
    with pytest.raises(WebSocketDisconnect), client.websocket_connect(path):
        pass


def test_methods_that_are_none_are_not_counted_one_by_one(guarded: TestClient) -> None:
    for number in range(3):
        assert guarded.request(f"MADEUP{number}", "/").status_code == 401
    counted = guarded.get("/metrics", headers=BEARER).text
    assert 'crossatnet_requests_total{method="unknown",route="unknown",status="401"} 3.0' in counted
    assert "MADEUP" not in counted


def test_parts_of_the_page_are_asked_for_again_so_that_those_of_two_versions_never_mix(client: TestClient) -> None:
    first = client.get("/static/js/page.js")
    again = client.get("/static/js/page.js", headers={"if-none-match": first.headers["etag"]})
    assert [answer.status_code for answer in (first, again)] == [200, 304]
    assert [answer.headers["cache-control"] for answer in (first, again)] == ["no-cache"] * 2


def test_settings_do_not_show_the_token() -> None:
    from crossatnet.server.settings import Place, Settings

    assert TOKEN not in repr(Settings((Place("x"),), token=TOKEN))
