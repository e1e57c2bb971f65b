"""Hostile and honest requests together: the honest ones are answered in time, within bounds of memory and log.

For `ATTACK_MINUTES`, ten at most; `test_bombs.py` has a shorter one.
"""

import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import count, cycle
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import numpy as np
import pytest

from attack import bombs
from attack.servers import Server
from crossatnet.gallery.sqlite.checking import check
from crossatnet.gallery.sqlite.copies import backup
from crossatnet.server.settings import BODIES_BYTES, DECODER_BYTES, DECODERS
from server.serving import HOUSE, PNG, picture

SECONDS = 60 * min(10, float(os.environ.get("ATTACK_MINUTES", "0")))
IDLE, SLOW = 300, 10  # connections
OWN_GROWTH = 3 * BODIES_BYTES  # what the server itself may take beyond what it took before; bodies come in pieces

ODD = (  # method, path, headers, body
    ("POST", "/search/strokes", {"content-type": "application/json"}, b"[" * 900_000),
    ("POST", "/search/strokes", {"content-type": "application/json"}, b'{"k": ' + b"9" * 5_000 + b"}"),
    ("POST", "/search/strokes", {"content-type": "application/json"}, b"\xff" * 2_000_000),
    ("GET", "/items/" + "9" * 4_000, {}, b""),
    ("GET", "/items/1/image", {"range": "bytes=" + "0-1," * 2_000}, b""),
    ("GET", "/../../../../etc/passwd", {"x-forwarded-for": "\t" + "6" * 1_000}, b""),
    ("BREW", "/", {"cookie": "crossatnet=" + "x;" * 2_000}, b""),
    ("POST", "/items?class_name=..%2f..&file_name=%00%ff", {"content-type": "image/png"}, b"\x89PNG\r\n\x1a\n"),
)


class Siege:
    """Threads that send requests to a server until it is over, and what was seen meanwhile."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.is_over = threading.Event()  # for the honest
        self.is_stopped = threading.Event()  # for all
        self.searches: list[float] = []  # seconds
        self.answers: Counter[object] = Counter()
        self.failures: list[str] = []
        self.decoder_bytes: list[int] = [0]
        self.own_bytes: list[int] = []
        self._address = urlsplit(server.address).netloc.split(":")

    def honest_searches(self) -> None:
        with httpx2.Client(timeout=60) as client:
            while not self.is_over.is_set():
                began = time.monotonic()
                answer = client.post(f"{self.server.base}/search/strokes", json={"strokes": HOUSE, "k": 3})
                self.searches.append(time.monotonic() - began)
                self.expect(answer, "a search", 200)
                time.sleep(0.05)

    def honest_uploads(self) -> None:
        """A picture is added, looked at, and every second one deleted."""
        with httpx2.Client(timeout=120) as client:
            for number in count(50_000):
                if self.is_over.is_set():
                    return
                added = client.post(f"{self.server.base}/items", content=picture(number), headers=PNG)
                if self.expect(added, "an upload", 201):
                    place = f"{self.server.base}/items/{added.json()['id']}"
                    self.expect(client.get(f"{place}/image"), "an image", 200)
                    if number % 2:
                        self.expect(client.delete(place), "a deletion", 204)
                time.sleep(0.2)

    def bombs(self, kinds: list[bytes], first: int) -> None:
        with httpx2.Client(timeout=120) as client:
            for content in cycle(kinds[first:] + kinds[:first]):
                for place in ("items", "search/photo"):
                    if self.is_stopped.is_set():
                        return
                    with suppress(httpx2.HTTPError):  # at the end
                        answer = client.post(f"{self.server.base}/{place}", content=content, headers=PNG)
                        self.answers["bomb", answer.status_code] += 1

    def odd_requests(self) -> None:
        for method, path, headers, body in cycle(ODD):
            if self.is_stopped.is_set():
                return
            with suppress(httpx2.HTTPError):  # some are cut off
                answer = httpx2.request(method, self.server.base + path, headers=headers, content=body, timeout=60)
                self.answers["odd", answer.status_code] += 1
                if answer.status_code >= 500 and answer.status_code != 503:
                    self.failures.append(f"{method} {path[:40]}: {answer.status_code}")
            time.sleep(0.02)

    def idle_connections(self) -> None:
        held: list[socket.socket] = []
        while not self.is_stopped.is_set():
            with suppress(OSError):
                held.append(socket.create_connection((self._address[0], int(self._address[1])), timeout=2))
            if len(held) > IDLE:
                held.pop(0).close()
            time.sleep(0.01)
        for each in held:
            each.close()

    def slow_bodies(self) -> None:
        head = f"POST /api/v1/galleries/{self.server.gallery}/search/photo HTTP/1.1\r\nHost: localhost\r\n"
        head += "Content-Type: image/png\r\nContent-Length: 1000000\r\n\r\n"
        held: list[socket.socket] = []
        while not self.is_stopped.is_set():
            with suppress(OSError):
                held.append(socket.create_connection((self._address[0], int(self._address[1])), timeout=2))
                held[-1].sendall(head.encode())
            for each in held:
                with suppress(OSError):
                    each.sendall(b"x")
            if len(held) >= SLOW:
                held.pop(0).close()
            time.sleep(1)
        for each in held:
            each.close()

    def watch_memory(self) -> None:
        while not self.is_stopped.is_set():
            own, decoders = memory(self.server.process.pid)
            self.own_bytes.append(own)
            self.decoder_bytes.append(decoders)
            time.sleep(0.2)

    def expect(self, answer: httpx2.Response, what: str, status: int) -> bool:
        self.answers[what, answer.status_code] += 1
        if answer.status_code not in (status, 503):
            self.failures.append(f"{what}: {answer.status_code} {answer.text[:200]}")
        return answer.status_code == status


@pytest.mark.attack
@pytest.mark.skipif(not SECONDS, reason="takes ATTACK_MINUTES")
def test_hostile_requests_hold_up_neither_honest_ones_nor_the_end(indexed: Path, tmp_path: Path) -> None:
    place = tmp_path / "pets.gallery"
    backup(indexed, place)
    kinds = [make() for make in bombs.TIME.values()] + [make() for make in list(bombs.MEMORY.values())[:3]]
    assert len(kinds) == 10
    with Server(place, tmp_path / "log", "--uploads", tmp_path / "uploads") as server:
        siege = Siege(server)
        warm = memory(server.process.pid)[0]
        others = (siege.odd_requests, siege.idle_connections, siege.slow_bodies, siege.watch_memory)
        hostile = [threading.Thread(target=job) for job in others]
        hostile += [threading.Thread(target=siege.bombs, args=(kinds, number)) for number in range(len(kinds))]
        honest = [threading.Thread(target=job) for job in (siege.honest_searches, siege.honest_uploads)]
        for thread in hostile + honest:
            thread.start()
        time.sleep(SECONDS)
        siege.is_over.set()
        for thread in honest:
            thread.join()
        stopped = server.stop(signal.SIGTERM)  # with bombs under way
        siege.is_stopped.set()
        for thread in hostile:
            thread.join()
    p95 = float(np.percentile(siege.searches, 95))
    refused = siege.answers["a search", 503] / len(siege.searches)
    log = server.log.stat().st_size
    print(
        f"{SECONDS:.0f} s: {len(siege.searches)} searches, p95 {p95:.2f} s, {refused:.1%} refused; SIGTERM"
        f" {stopped:.1f} s; decoders {max(siege.decoder_bytes) / 1e6:.0f} MB, the server {warm / 1e6:.0f} MB before,"
        f" {max(siege.own_bytes) / 1e6:.0f} MB at most; log {log / 1e6:.2f} MB"
    )
    print(json.dumps({str(key): number for key, number in sorted(siege.answers.items(), key=str)}))
    assert siege.failures == []
    assert "Traceback" not in server.text()
    assert check(place).are_none
    assert log < 10_000_000
    assert max(siege.decoder_bytes) < DECODERS * DECODER_BYTES
    assert max(siege.own_bytes) < warm + OWN_GROWTH
    assert stopped < 10
    assert p95 < 1


def memory(server: int) -> tuple[int, int]:
    """Bytes in memory of a server's own process, and of its processes that read pictures."""
    own, decoders = resident(server), 0
    for child in children(server):
        decoders += resident(child)
    return own, decoders


def children(process: int) -> Iterator[int]:
    with suppress(OSError):
        for task in Path(f"/proc/{process}/task").iterdir():
            yield from map(int, (task / "children").read_text().split())


def resident(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):  # just ended
        return 0
