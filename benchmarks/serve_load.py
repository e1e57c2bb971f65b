"""Load for a server: a process of its own that asks over many connections and notes every answer.

    python benchmarks/serve_load.py http://127.0.0.1:8000 plan.json --connections 8 --seconds 15

A plan is a JSON list of requests: `kind` (what to count it under), `method`, `path`, and with a body its `type` and
the bytes in base64. Each connection asks, waits for the answer and asks again, the requests in an order of chance; with
`--once` all connections together ask each request of the plan once. A refusal (503) is waited out as `Retry-After`
says, unless `--impatient`. Connections are kept open, and opened anew if they break.

HTTP is spoken over bare asyncio streams: the load takes part of the server's cores, so it must cost little. Prints one
JSON object: what it took itself, and a row for each answer.
"""

import argparse
import asyncio
import base64
import itertools
import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_S = 60.0  # the server promises an answer within 30 s


@dataclass(frozen=True)
class Request:
    """One request, its bytes ready to be sent."""

    kind: str
    content: bytes


@dataclass
class Notes:
    """What came back. Seconds are counted from the start of the load."""

    answers: list[dict[str, Any]] = field(default_factory=list)
    broken: list[dict[str, Any]] = field(default_factory=list)


class Connection:
    """A kept-alive connection that carries one request at a time."""

    def __init__(self, host: str, port: int) -> None:
        self._place = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        """Status, headers by lower-case name, and body. Raises `OSError` or `EOFError` if the connection breaks."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._place, limit=1 << 20)
        reader, writer = self._streams
        try:
            writer.write(request.content)
            status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
        except BaseException:
            self.close()
            raise
        if headers.get("connection") == "close":
            self.close()
        return int(status.split()[1]), headers, body

    def close(self) -> None:
        """Let go; the next request opens another."""
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("plan", type=Path)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--once", action="store_true")
    parser.add_argument("--impatient", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    place = urlsplit(options.address)
    plan = [request(place.netloc, **one) for one in json.loads(options.plan.read_text(encoding="utf-8"))]
    random.Random(options.seed).shuffle(plan)
    requests = iter(plan) if options.once else itertools.cycle(plan)
    began, cpu = time.perf_counter(), time.process_time()
    notes = asyncio.run(
        load(place.hostname or "", place.port or 80, requests, options.connections, options.seconds, options.impatient)
    )
    wall = time.perf_counter() - began
    own = {"seconds": wall, "cpu_share": (time.process_time() - cpu) / wall}
    print(json.dumps({**own, "answers": notes.answers, "broken": notes.broken}))


def request(host: str, kind: str, method: str, path: str, type: str = "", body: str = "") -> Request:
    """A line of a plan as the bytes to send."""
    content = base64.b64decode(body)
    head = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    if method == "POST":
        head += [f"Content-Type: {type}", f"Content-Length: {len(content)}"]
    return Request(kind, "\r\n".join([*head, "", ""]).encode() + content)


async def load(
    host: str, port: int, requests: Iterator[Request], connections: int, seconds: float, impatient: bool
) -> Notes:
    """Ask over so many connections until the time is over or there are no more requests."""
    notes, began = Notes(), time.perf_counter()

    async def client(number: int) -> None:
        connection = Connection(host, port)
        while time.perf_counter() - began < seconds and (asked := next(requests, None)) is not None:
            started = time.perf_counter()
            fact: dict[str, Any] = {"kind": asked.kind, "connection": number, "started": started - began}
            try:
                status, headers, body = await asyncio.wait_for(connection.ask(asked), TIMEOUT_S)
            except (OSError, EOFError, TimeoutError) as error:
                notes.broken.append({**fact, "ended": time.perf_counter() - began, "error": type(error).__name__})
                await asyncio.sleep(0.01)  # while the server is gone a client does not spin
                continue
            fact |= {"status": status, "ms": 1000 * (time.perf_counter() - started), "bytes": len(body)}
            if status == 200 and headers.get("content-type") == "application/json":
                fact["server_ms"] = json.loads(body).get("milliseconds")
            notes.answers.append(fact)
            if status == 503 and not impatient:
                await asyncio.sleep(float(headers["retry-after"]))
        connection.close()

    await asyncio.gather(*(client(number) for number in range(connections)))
    return notes


if __name__ == "__main__":
    main()
