"""Access: host, origin and token are checked before the route is chosen, so that no route can lack the check.

docs/security.md says what each check protects from.
"""

import hashlib
import hmac
import time
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from fastapi.responses import RedirectResponse, Response
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crossatnet.server.errors import ApiError
from crossatnet.server.limits import Bodies, bounded_receive, largest_body, too_large
from crossatnet.server.settings import LOOPBACK
from crossatnet.system.errors import UserError

SHORTEST_TOKEN = 16
COOKIE = "crossatnet"
COOKIE_SECONDS = 30 * 24 * 3600
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
OPEN_PATHS = frozenset({"/api/v1/health", "/login", "/plain.css"})  # all that needs no token
PAGES = frozenset({"/", "/docs"})  # without the token, these send a browser to the login page instead of refusing it

CONTENT_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "font-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "manifest-src 'self'",
    )
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",  # with "no-referrer" the login form's Origin would be "null"
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Token:
    """A shared secret, and cookies that are signed with it and so prove it without holding it."""

    def __init__(self, secret: str, now: Callable[[], float] = time.time) -> None:
        self._secret = secret.encode()
        self._now = now

    def is_right(self, given: str) -> bool:
        """Whether this is the token; the time of the check does not depend on `given`."""
        return hmac.compare_digest(_hashed(given.encode("utf-8", "surrogatepass")), _hashed(self._secret))

    def cookie(self) -> str:
        """The value of a cookie that is valid for `COOKIE_SECONDS`."""
        until = str(int(self._now()) + COOKIE_SECONDS)
        return f"{until}.{self._signature(until)}"

    def is_good_cookie(self, value: str) -> bool:
        """Whether a cookie's value was made with this token and has not expired."""
        until, _, signature = value.partition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(until).encode()):
            return False
        return int(until) > self._now()  # every signed value is a number

    def _signature(self, until: str) -> str:
        return hmac.new(self._secret, f"crossatnet cookie {until}".encode(), hashlib.sha256).hexdigest()


def check_token(token: str, where: str) -> str:
    """The token, if it is long enough and fits into a header. Raises `UserError`, which does not repeat the token."""
    if len(token) < SHORTEST_TOKEN or not all("!" <= character <= "~" for character in token):
        raise UserError(
            f"{where}: the token must have {SHORTEST_TOKEN} letters, digits or signs or more, without spaces; make one"
            " with `openssl rand -hex 32`"
        )
    return token


class Guard:
    """ASGI middleware: refuses other hosts and sites, requests without the token, too large bodies, and web sockets."""

    def __init__(self, app: ASGIApp, token: Token | None, is_loopback: bool) -> None:
        self._app = app
        self._token = token
        self._bodies = Bodies()
        # # With a token, other host names are safe: a browser sends the cookie only to the host that set it.
        self._checks_host = is_loopback and token is None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with a refusal."""
        if scope["type"] == "websocket":  # no route uses them, and none may be reached unchecked
            await send({"type": "websocket.close"})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        with bounded_receive(scope, receive, self._bodies) as bounded:
            await self._as_get(scope, bounded, send)

    async def _as_get(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, HEAD as GET without the body, and without `Range`: all that is sent is small."""
        headers = [(name, value) for name, value in scope["headers"] if name.lower() != b"range"]
        if scope["method"] != "HEAD":
            scope["headers"] = headers
            await self._app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {"type": "http.response.body", "body": b"", "more_body": message.get("more_body", False)}
            await send(message)

        asked = {**scope, "method": "GET", "headers": headers}
        try:
            await self._app(asked, receive, without_body)
        finally:
            if "route" in asked:
                scope["route"] = asked["route"]  # for the counters

    def _refusal(self, scope: Scope) -> Response | None:
        headers, method, path = Headers(scope=scope), scope["method"], scope["path"]
        if self._checks_host and _host_name(headers.get("host", "")) not in LOOPBACK:
            return ApiError(400, "this server answers to localhost only: open it by that name", "bad_host").response()
        if method not in SAFE_METHODS and not _is_of_this_origin(headers):
            return ApiError(403, "a page of another site may not ask this: open the server's own page").response()
        if self._token is not None and path not in OPEN_PATHS and not self._has_token(self._token, headers):
            if path in PAGES and method == "GET":
                return RedirectResponse("/login", 303, {"Cache-Control": "no-store"})
            message = "the token is missing or wrong: send it as Authorization: Bearer TOKEN"
            return ApiError(401, message, headers={"WWW-Authenticate": "Bearer"}).response()
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > (most := largest_body(path)):
            return too_large(most).response()
        return None

    def _has_token(self, token: Token, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and token.is_right(given.strip()):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and token.is_good_cookie(cookie.value)


def _host_name(host: str) -> str:
    """The name in a Host header, without its port and brackets; empty if it cannot be read."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_of_this_origin(headers: Headers) -> bool:
    """Whether the request comes from a page of this server, or from a program, which sends no Origin."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    try:
        return origin is None or urlsplit(origin).netloc.lower() == headers.get("host", "").lower()
    except ValueError:  # not an address
        return False


def _hashed(value: bytes) -> bytes:
    return hashlib.sha256(value).digest()  # equally long for every input
