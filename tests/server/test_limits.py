"""A flood of requests is refused at once and the service goes on; slow jobs are answered in time."""

import asyncio
import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import uvicorn
from fastapi.testclient import TestClient

from crossatnet.server import limits, settings
from crossatnet.server.errors import ApiError
from crossatnet.server.limits import Gate
from gallery.fake_model import FakeModel
from server.serving import BASE, HOUSE, assert_refused

SKETCH = {
    "type": "http",
    "http_version": "1.1",
    "method": "POST",
    "scheme": "http",
    "path": f"{BASE}/search/sketch",
    "query_string": b"",
    "headers": [(b"host", b"localhost"), (b"content-type", b"image/png")],
}


def refused(error: ApiError) -> tuple[int, str, str | None]:
    return error.status_code, error.code, (error.headers or {}).get("Retry-After")


def test_a_full_gate_refuses_and_opens_again() -> None:
    async def scene() -> None:
        gate, release = Gate(at_once=2, waiting=1), threading.Event()
        running = [asyncio.create_task(gate.run(lambda: release.wait(60))) for _ in range(3)]
        await asyncio.sleep(0)
        for _ in range(5):
            with pytest.raises(ApiError) as caught:
                await gate.run(lambda: True)
            assert refused(caught.value) == (503, "overloaded", "1")
        release.set()
        assert await asyncio.gather(*running) == [True] * 3
        assert await gate.run(lambda: 7) == 7
        gate.close()

    asyncio.run(scene())


def test_no_more_jobs_run_at_once_than_allowed() -> None:
    running, most, lock = 0, 0, threading.Lock()

    def job() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.01)
        with lock:
            running -= 1

    async def scene() -> None:
        gate = Gate(at_once=3, waiting=100)
        await asyncio.gather(*(gate.run(job) for _ in range(30)))
        gate.close()

    asyncio.run(scene())
    assert most == 3


async def answered(gate: Gate) -> int:
    """The result of a job, once there is room for it and a free thread."""
    while True:
        with contextlib.suppress(ApiError):
            return await gate.run(lambda: 7)
        await asyncio.sleep(0.01)


def test_a_job_that_takes_too_long_is_answered_and_keeps_its_place() -> None:
    async def scene() -> None:
        gate, release = Gate(at_once=1, waiting=1, seconds=0.05), threading.Event()
        for _ in range(2):  # one runs, one waits
            with pytest.raises(ApiError) as caught:
                await gate.run(lambda: release.wait(60))
            assert refused(caught.value) == (503, "timeout", "1")
        gate.require_room()  # the waiting job is dropped
        waiting = asyncio.create_task(gate.run(lambda: 8))
        await asyncio.sleep(0)
        with pytest.raises(ApiError):
            gate.require_room()  # the running job keeps its place
        with pytest.raises(ApiError):
            await waiting
        release.set()
        assert await answered(gate) == 7
        gate.close()

    asyncio.run(scene())


@pytest.mark.parametrize("error", [ValueError, TimeoutError])  # a job may have a time limit of its own
def test_errors_of_jobs_come_out_and_free_their_place(error: type[Exception]) -> None:
    def fail() -> None:
        raise error("no")

    async def scene() -> None:
        gate = Gate(at_once=1, waiting=0)
        for _ in range(5):
            with pytest.raises(error, match="no"):
                await gate.run(fail)
        gate.close()

    asyncio.run(scene())


def test_threads_are_prepared_once() -> None:
    prepared: list[str] = []

    async def scene() -> None:
        gate = Gate(1, 9, prepare=lambda: prepared.append(threading.current_thread().name))
        names = await asyncio.gather(*(gate.run(lambda: threading.current_thread().name) for _ in range(5)))
        assert {*names} == {*prepared}
        gate.close()

    asyncio.run(scene())
    assert len(prepared) == 1


def test_an_overloaded_server_says_so_and_keeps_serving(
    serve: Callable[..., TestClient], model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crossatnet.server.app.SEARCHES_WAITING", 2)
    client = serve(searches=1)
    release, embed = threading.Event(), model.embed

    def slow(*arguments: object) -> object:
        assert release.wait(60)
        return embed(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(model, "embed", slow)

    def search() -> object:
        return client.post(f"{BASE}/search/strokes", json={"strokes": HOUSE})

    with ThreadPoolExecutor(3) as threads:
        waiting = [threads.submit(search) for _ in range(3)]
        while client.get("/metrics").text.count("crossatnet_requests_in_flight 4.0") == 0:
            threading.Event().wait(0.01)
        for _ in range(3):
            answer = search()
            assert_refused(answer, 503, "overloaded", "try again")  # type: ignore[arg-type]
            assert answer.headers["retry-after"] == "1"  # type: ignore[attr-defined]
        unread = client.post(f"{BASE}/search/strokes", content=b"{", headers={"content-type": "application/json"})
        assert_refused(unread, 503, "overloaded")  # the body is not parsed, which would cost more than the refusal
        assert client.get("/api/v1/health").status_code == 200
        assert client.get("/api/v1/ready").status_code == 200
        assert client.get(f"{BASE}/items/1/thumbnail").status_code == 200
        release.set()
        assert [each.result().status_code for each in waiting] == [200] * 3  # type: ignore[attr-defined]
    assert search().status_code == 200  # type: ignore[attr-defined]
    assert "crossatnet_refused_total 4.0" in client.get("/metrics").text


def test_a_body_that_does_not_come_is_given_up(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.05)
    sent: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        await asyncio.sleep(60)
        raise AssertionError("it waits for ever")

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    asyncio.run(client.app(SKETCH, receive, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]  # type: ignore[operator]
    assert json.loads(sent[1]["body"])["error"]["code"] == "too_slow"  # type: ignore[arg-type]


def test_a_client_that_goes_away_is_no_failure(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    coming = iter([{"type": "http.request", "body": b"x", "more_body": True}, {"type": "http.disconnect"}])
    sent: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        return next(coming)

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    with caplog.at_level(logging.INFO, "crossatnet"):
        asyncio.run(client.app(SKETCH, receive, send))  # type: ignore[arg-type]
    assert sent == []
    (record,) = caplog.records
    assert (record.name, json.loads(record.getMessage())["status"]) == ("crossatnet.access", 499)


def test_a_search_whose_client_went_away_is_dropped_before_it_is_computed(
    serve: Callable[..., TestClient], model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = serve(searches=1).app
    began, release, embed = threading.Event(), threading.Event(), model.embed
    computed = 0

    def slow(*arguments: object) -> object:
        nonlocal computed
        computed += 1
        began.set()
        assert release.wait(60)
        return embed(*arguments)  # type: ignore[arg-type]

    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    body = json.dumps({"strokes": HOUSE}).encode()
    head = f"POST {BASE}/search/strokes HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"

    def asking() -> socket.socket:
        client = socket.create_connection(listening.getsockname(), timeout=60)
        client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return client

    def wait_until(inside: int) -> None:
        gate = app.state.crossatnet.searches  # type: ignore[attr-defined]
        deadline = time.monotonic() + 60
        while gate._inside != inside:
            assert time.monotonic() < deadline
            time.sleep(0.005)

    monkeypatch.setattr(model, "embed", slow)
    try:
        first = asking()
        assert began.wait(60)
        waiting = [asking() for _ in range(5)]
        wait_until(6)
        for client in waiting[:4]:
            client.close()
        wait_until(2)  # the one that is computed, and the one whose client waits
        release.set()
        assert {client.recv(12) for client in (first, waiting[4])} == {b"HTTP/1.1 200"}
        first.close()
        waiting[4].close()
    finally:
        release.set()
        server.should_exit = True
        thread.join()
    assert computed == 2


def test_cores_are_shared_by_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "cores", lambda: 8)
    chosen = [
        settings.Settings((), workers=workers, searches=searches)
        for workers, searches in ((1, 0), (4, 0), (16, 0), (4, 3))
    ]
    assert [each.searches_at_once for each in chosen] == [8, 2, 1, 3]
