"""The server in its own processes under load: what it refuses when it is full, and the effect of a killed worker."""

import asyncio
import contextlib
import gc
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urlsplit

import numpy as np
import pytest
import uvicorn
from fastapi.testclient import TestClient
from uvicorn.supervisors.multiprocess import Process

from crossatnet import CrossATNet, Gallery
from crossatnet.gallery.backend import Facts, FileState
from crossatnet.server import loop, run
from crossatnet.server.settings import SEARCHES_WAITING

SEARCH = "/api/v1/galleries/made/search/strokes"
BODY = json.dumps({"strokes": [[[0, 0], [50, 90], [100, 0], [0, 0]]], "k": 5}).encode()
JSON = {"Content-Type": "application/json"}
WORKERS = 2
PATIENCE_S = 120.0  # reached only on an overloaded machine


@dataclass
class Running:
    """A server with two workers. A thread reads its access log to find which worker answered."""

    process: "subprocess.Popen[str]"
    host: str = ""
    port: int = 0
    workers: list[int] = field(default_factory=list)  # the workers of the answers so far, in order

    def ask(self, path: str) -> int:
        """The status of an answer over a connection of its own."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE_S)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        finally:
            connection.close()

    def wait_for(self, workers: int) -> None:
        """Ask until so many different workers have answered."""
        deadline = time.monotonic() + PATIENCE_S
        while len(set(self.workers)) < workers:
            assert time.monotonic() < deadline, f"{len(set(self.workers))} workers answered, not {workers}"
            with contextlib.suppress(OSError, http.client.HTTPException):  # it may reach the killed worker
                self.ask("/api/v1/health")
            time.sleep(0.05)

    def read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if line.startswith("{"):
                self.workers.append(json.loads(line)["worker"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    file = tmp_path_factory.mktemp("load") / "made.gallery"
    model = CrossATNet.from_pretrained("crossatnet-quickstart")
    embeddings = np.random.default_rng(0).standard_normal((50, model.dimension)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    with Gallery.create(file, model) as gallery:
        facts = [Facts(f"/none/{number}.jpg", None, FileState(1, 1, f"{number:064x}"), 8, 8) for number in range(50)]
        gallery.store.put(facts, model.hash(embeddings), embeddings)
    command = [
        sys.executable,
        "-m",
        "crossatnet",
        "serve",
        str(file),
        "--port",
        "0",
        "--workers",
        str(WORKERS),
    ]
    process = subprocess.Popen([*command, "--searches", "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    running = Running(process)
    threading.Thread(target=running.read_log, daemon=True).start()
    try:
        assert process.stdout is not None
        place = urlsplit(process.stdout.readline().split(" ")[0])
        running.host, running.port = place.hostname or "", place.port or 0
        running.wait_for(WORKERS)
        yield running
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def test_what_finds_no_room_is_refused_and_the_rest_is_answered(server: Running) -> None:
    room = WORKERS * (1 + SEARCHES_WAITING)
    asked = 3 * room

    async def statuses() -> list[tuple[int, str, str]]:
        streams = [await held() for _ in range(asked)]
        for _, writer in streams:
            writer.write(b"Content-Type: application/json\r\n\r\n" + BODY)
        return await asyncio.gather(*(answer(*each) for each in streams))

    async def received(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines if line)
        return int(first.split()[1]), headers, await reader.readexactly(int(headers["content-length"]))

    async def held() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection that a worker has taken already: a fast server would answer the first before the last is open.

        It has sent the start of its search. Else a busy machine might close it as idle before the last one is open.
        """
        while True:
            reader, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(b"GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            _, headers, _ = await received(reader)
            if headers.get("connection") != "close":  # which some answers say
                head = f"POST {SEARCH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(BODY)}\r\n"
                writer.write(head.encode())
                return reader, writer
            writer.close()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[int, str, str]:
        status, headers, body = await received(reader)
        writer.close()
        return status, headers.get("retry-after", ""), json.loads(body)["error"]["code"] if status != 200 else ""

    counts = Counter(asyncio.run(asyncio.wait_for(statuses(), PATIENCE_S)))
    assert set(counts) == {(200, "", ""), (503, "1", "overloaded")}
    assert counts[(200, "", "")] >= 1 + SEARCHES_WAITING  # even if one worker had all connections
    assert sum(counts.values()) == asked
    assert post(http.client.HTTPConnection(server.host, server.port, timeout=PATIENCE_S)) == 200


def test_a_killed_worker_takes_only_its_own_requests(server: Running) -> None:
    connections, answered, failed, is_over = 4, Counter[int](), [], threading.Event()

    def trickle() -> None:
        connection = http.client.HTTPConnection(server.host, server.port, timeout=PATIENCE_S)
        while not is_over.wait(0.01):
            try:
                answered[post(connection)] += 1
            except (OSError, http.client.HTTPException) as error:
                failed.append(error)
                connection.close()  # and opened again with the next request
        connection.close()

    threads = [threading.Thread(target=trickle) for _ in range(connections)]
    for thread in threads:
        thread.start()
    known, before = set(server.workers), answered[200]
    os.kill(server.workers[-1], signal.SIGKILL)
    try:
        server.wait_for(len(known) + 1)  # a new worker answers
    finally:
        is_over.set()
        for thread in threads:
            thread.join(PATIENCE_S)
    assert len(failed) <= connections
    assert set(answered) == {200}
    assert answered[200] > before
    assert server.ask("/api/v1/ready") == 200


def test_a_worker_that_dies_while_it_is_asked_for_a_sign_of_life_is_noticed_at_once() -> None:
    worker = Process(uvicorn.Config("none:app"), [])  # never started, so no other process holds its end of the pipe
    supervisor = run.Supervisor.__new__(run.Supervisor)
    supervisor.processes, supervisor.should_exit = [worker], threading.Event()
    supervisor.should_exit.set()  # no worker may be started again
    supervisor.keep_subprocess_alive()
    assert worker.child_conn.closed
    assert not worker.ping(PATIENCE_S)


def connected(clients: int) -> list[int]:
    """How many connections each of two servers took; two servers of one loop on one socket replace two workers."""
    counts = [0, 0]

    class Counting(asyncio.Protocol):
        def __init__(self, worker: int) -> None:
            self.worker = worker

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            counts[self.worker] += 1

    async def count() -> None:
        here = asyncio.get_running_loop()
        with run.bind("127.0.0.1", 0) as first, first.dup() as second, contextlib.ExitStack() as stack:
            servers = [
                await here.create_server(partial(Counting, worker), sock=sock, backlog=clients)
                for worker, sock in enumerate((first, second))
            ]
            for _ in range(clients):
                stack.enter_context(socket.create_connection(first.getsockname()))
            async with asyncio.timeout(PATIENCE_S):
                while sum(counts) < clients:
                    await asyncio.sleep(0.001)
            for server in servers:
                server.close()

    with asyncio.Runner(loop_factory=loop.FairLoop) as runner:
        runner.run(count())
    return counts


def test_a_worker_that_has_a_connection_leaves_the_next_to_one_that_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "DELAY_S", 3600.0)  # an hour: no server takes a second connection
    monkeypatch.setattr(loop, "MOST_S", 3600.0)
    assert connected(2) == [1, 1]


def test_all_connections_are_taken() -> None:
    assert sum(connected(40)) == 40


def test_answers_do_not_wait_for_the_client_to_acknowledge_their_headers() -> None:
    with run.bind("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_collections_of_garbage_pass_over_what_was_there_at_the_start(serve: Callable[..., TestClient]) -> None:
    gc.unfreeze()  # the page's tests may run a server in this process
    assert not gc.get_freeze_count()
    serve()
    assert gc.get_freeze_count() > len(gc.get_objects())  # all imported objects are frozen, also torch's


def post(connection: http.client.HTTPConnection) -> int:
    connection.request("POST", SEARCH, BODY, JSON)
    answer = connection.getresponse()
    answer.read()
    return answer.status
