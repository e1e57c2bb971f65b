"""Shared by the tests of the server: drawings, picture files, the form of errors, and requests that no client sends."""

import asyncio
import io
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

import numpy as np
from httpx2 import Response
from PIL import Image

ADDRESS = "http://localhost:8000"
BASE = "/api/v1/galleries/my-pets"
HOUSE = [[[20, 50], [20, 90], [80, 90], [80, 50], [20, 50]], [[12, 56], [50, 15], [88, 56]]]
PNG = {"content-type": "image/png"}
PICTURES = 60


def picture(seed: int, form: str = "PNG") -> bytes:
    """A file of coarse coloured noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    made = io.BytesIO()
    Image.fromarray(pixels).resize((80, 60)).save(made, form)
    return made.getvalue()


def assert_refused(response: Response, status: int, code: str, *parts: str) -> None:
    """The one form of all errors."""
    assert response.status_code == status, response.text
    body = response.json()
    assert [*body] == ["error"]
    assert body["error"].keys() == {"code", "message"}
    assert body["error"]["code"] == code
    for part in parts:
        assert part in body["error"]["message"]


class Answer(NamedTuple):
    """The answer of an app."""

    status: int
    headers: dict[str, str]
    body: bytes


def ask(app: Any, method: str, path: str, headers: Mapping[str, str] = {}, body: Iterable[bytes] = (b"",)) -> Answer:
    """Send a request with its path unchanged and its body in these pieces, which the app reads one by one."""
    pieces, given = iter(body), {"host": "localhost", **headers}
    sent: list[dict[str, Any]] = []
    is_over, is_answered = False, asyncio.Event()
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path.partition("?")[0]),
        "raw_path": path.encode(),
        "query_string": path.partition("?")[2].encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }

    async def receive() -> dict[str, Any]:
        nonlocal is_over
        if is_over:
            await is_answered.wait()
            return {"type": "http.disconnect"}
        piece = next(pieces, None)
        is_over = piece is None
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            is_answered.set()

    asyncio.run(app(scope, receive, send))
    start = sent[0]
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    return Answer(start["status"], headers, b"".join(message.get("body", b"") for message in sent[1:]))
