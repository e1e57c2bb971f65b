"""Idle connections, logs and odd requests: nothing fills the disk, and nobody is kept out."""

import asyncio
import contextlib
import json
import logging
import resource
import shutil
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from fastapi.testclient import TestClient

from attack.servers import Server
from crossatnet.server import loop, run
from crossatnet.server.logs import Bounded, OneLine, Repeats
from server.serving import ADDRESS, BASE, HOUSE, assert_refused

SEARCH = {"strokes": HOUSE, "k": 3}


@pytest.mark.attack
@pytest.mark.parametrize("workers", [1, 2])
def test_idle_connections_fill_no_log_and_keep_nobody_out(indexed: Path, tmp_path: Path, workers: int) -> None:
    limit = [shutil.which("prlimit") or pytest.skip("no prlimit here"), "--nofile=256"]
    with (
        Server(indexed, tmp_path / "log", "--workers", workers, before=limit) as server,
        contextlib.ExitStack() as held,
    ):
        host, port = urlsplit(server.address).netloc.split(":")
        refused, slowest = 0, 0.0
        for number in range(2000):
            try:
                connection = held.enter_context(socket.create_connection((host, int(port)), timeout=2))
                if number % 2:
                    connection.sendall(b"GET / HTTP/1.1\r\nHo")  # headers that do not end
            except OSError:  # the socket's queue is full for a moment
                refused += 1
            if number % 200 == 199:
                began = time.monotonic()
                answer = httpx2.post(f"{server.base}/search/strokes", json=SEARCH, timeout=30)
                assert answer.status_code == 200, answer.text
                slowest = max(slowest, time.monotonic() - began)
        time.sleep(5)
        assert httpx2.post(f"{server.base}/search/strokes", json=SEARCH, timeout=30).status_code == 200
        size = server.log.stat().st_size
        print(f"{workers} workers: log {size:,} bytes, slowest search {slowest:.2f} s, {refused} had to wait")
        assert size < 100_000
        assert "Traceback" not in server.text()
        assert server.stop() < 10


def test_a_connection_without_a_request_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "IDLE_S", 0.3)

    async def read_to_the_end() -> None:
        here = asyncio.get_running_loop()
        with run.bind("127.0.0.1", 0) as listening:
            server = await here.create_server(asyncio.Protocol, sock=listening, backlog=8)
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            async with asyncio.timeout(60):
                with contextlib.suppress(ConnectionResetError):
                    assert await reader.read() == b""
            writer.close()
            server.close()

    with asyncio.Runner(loop_factory=loop.SteadyLoop) as runner:
        runner.run(read_to_the_end())


def test_a_server_may_open_as_many_files_as_the_system_allows() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, limits[1]))
    try:
        loop.allow_descriptors()
        allowed = limits[1] if limits[1] != resource.RLIM_INFINITY else loop.DESCRIPTORS
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(loop.DESCRIPTORS, allowed)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.attack
@pytest.mark.parametrize(("how", "code"), [(signal.SIGTERM, {143, -15}), (signal.SIGINT, {130})])
def test_a_stopped_server_says_so_by_its_exit_code(indexed: Path, tmp_path: Path, how: int, code: set[int]) -> None:
    with Server(indexed, tmp_path / "log") as server:
        assert server.stop(how) < 10
        assert server.process.returncode in code
        assert "Traceback" not in server.text()


def test_equal_lines_are_written_a_few_times_a_minute() -> None:
    now, lines = [0.0], []
    log = logging.getLogger("test.repeats")
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    handler.addFilter(Repeats(lambda: now[0]))
    log.addHandler(handler)
    for number in range(1001):
        now[0] = 61.0 if number == 1000 else 0.0
        log.warning("number %d", number)
        if number == 999:
            log.warning("another")
    log.removeHandler(handler)
    assert lines == [*(f"number {n}" for n in range(5)), "another", "number 1000 (and 995 more like it before)"]


def test_the_access_log_is_bounded_and_says_what_it_left_out() -> None:
    now = [0.0]
    bounded = Bounded(100, 10, lambda: now[0])

    def record() -> logging.LogRecord:
        return logging.LogRecord("x", logging.INFO, "", 0, "%s", ("line",), None)

    assert sum(bounded.filter(record()) for _ in range(1000)) == 100
    now[0] = 1.0
    first = record()
    assert bounded.filter(first)
    assert [json.loads(line) if line[0] == "{" else line for line in first.getMessage().split("\n")] == [
        {"left_out": 900},
        "line",
    ]
    assert sum(bounded.filter(record()) for _ in range(1000)) == 9


def test_a_line_of_the_log_cannot_be_forged() -> None:
    record = logging.LogRecord("x", logging.ERROR, "", 0, "%s", ("owl\n2026 ERROR x: all is lost\x1b[2J",), None)
    line = OneLine("%(message)s").format(record)
    assert line == "owl\\n2026 ERROR x: all is lost\\x1b[2J"


def test_a_login_of_many_fields_is_refused(serve: Callable[..., TestClient]) -> None:
    client = serve(token="t" * 20)
    form = {"content-type": "application/x-www-form-urlencoded"}
    answer = client.post("/login", content="&".join(f"f{n}=1" for n in range(50)), headers=form)
    assert_refused(answer, 400, "bad_request", "fields")


def test_every_get_answers_head_alike(client: TestClient) -> None:
    item = client.get(BASE).json()
    key = client.post(f"{BASE}/search/strokes", json=SEARCH).json()["hits"][0]
    for place in ("/", "/docs", "/metrics", "/api/v1/galleries", BASE, key["image"], key["thumbnail"], "/none"):
        head, get = client.head(place), client.get(place)
        assert (head.status_code, head.content) == (get.status_code, b""), place
        if place != "/metrics":  # counts itself
            assert head.headers["content-length"] == get.headers["content-length"]
    assert item["pictures"]


@pytest.mark.parametrize("value", ["bytes=9-1", "pages=1-2", "bytes=x-y", "bytes=0-1,5-6,9-10", "bytes=999999999-"])
def test_ranges_are_left_out(client: TestClient, value: str) -> None:
    for place in ("/", "/static/js/page.js"):
        whole = client.get(place)
        answer = client.get(place, headers={"range": value})
        assert (answer.status_code, answer.content) == (200, whole.content)


@pytest.mark.attack
def test_a_proxy_is_believed_only_where_asked_for(indexed: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a-secret-of-many-letters", encoding="utf-8")
    told = {"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "https"}
    for options, client in ((), "127.0.0.1"), (("--behind-proxy",), "6.6.6.6"):
        log = tmp_path / f"log{len(options)}"
        with Server(indexed, log, *options, "--token-file", tmp_path / "token") as server:
            httpx2.get(f"{server.address}/api/v1/health", headers=told)
            login = httpx2.post(f"{server.address}/login", data={"token": "a-secret-of-many-letters"}, headers=told)
            assert ("Secure" in login.headers["set-cookie"]) == bool(options)
            time.sleep(0.3)
            lines = [json.loads(line) for line in server.text().splitlines() if '"/api/v1/health"' in line]
            assert [line["client"] for line in lines] == [client]


def test_no_memory_is_said_in_a_line(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("crossatnet.gallery.gallery.Gallery.find", none)
    assert_refused(client.post(f"{BASE}/search/strokes", json=SEARCH), 503, "unavailable", "memory")
    assert ADDRESS
