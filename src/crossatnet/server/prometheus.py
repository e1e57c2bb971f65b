"""Counts and logs every request: Prometheus metrics and a structured log."""

import asyncio
import json
import logging
import os
import time
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crossatnet.server.errors import ApiError
from crossatnet.server.security import SECURITY_HEADERS

SHARED = "PROMETHEUS_MULTIPROC_DIR"  # the folder of the counts of all workers
SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
GONE = 499  # in the log and the counters, for a client that closed its connection
ANSWERS_TO_MOVE = 100  # then the connection is closed, so that the next one may go to a less busy worker
METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
LONGEST_PATH = 200  # in the log; no route's is longer
UNKNOWN = "unknown"  # in place of an unknown route or method, as clients can invent any number of them

access_log = logging.getLogger("crossatnet.access")
error_log = logging.getLogger("crossatnet.server")


class Metrics:
    """Counters of one worker; where workers share a folder, `text` adds up those of all."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "crossatnet_requests", "Requests answered.", ("method", "route", "status"), registry=self._registry
        )
        self.seconds = Histogram(
            "crossatnet_request_seconds", "Seconds to answer.", ("route",), registry=self._registry, buckets=SECONDS
        )
        self.parts = Histogram(
            "crossatnet_search_part_seconds",
            "Seconds that searches spend in their parts.",
            ("part",),
            registry=self._registry,
            buckets=SECONDS,
        )
        self.in_flight = Gauge(
            "crossatnet_requests_in_flight",
            "Requests being answered.",
            registry=self._registry,
            multiprocess_mode="livesum",
        )
        self.refused = Counter(
            "crossatnet_refused",
            "Answers with 503: too much at once, or a gallery away.",
            registry=self._registry,
        )
        _forget_dead_workers()

    def searched(self, network: float, search: float) -> None:
        """Count the parts of a search, in seconds."""
        self.parts.labels("network").observe(network)
        self.parts.labels("search").observe(search)

    def text(self) -> bytes:
        """All counters in Prometheus's text format."""
        if SHARED not in os.environ:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)


class Watch:
    """The outermost ASGI middleware: counts and logs requests, adds security headers, and answers after failures."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        self._answers = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; no exception of it is raised here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status, sent = time.perf_counter(), 0, 0

        async def watched(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                self._answers += 1
                if self._answers % ANSWERS_TO_MOVE == 0:
                    headers.setdefault("Connection", "close")
                headers.setdefault("Cache-Control", "no-cache" if scope["path"].startswith("/static/") else "no-store")
            sent += len(message.get("body", b""))
            await send(message)

        with self._metrics.in_flight.track_inprogress():
            try:
                await self._app(scope, receive, watched)
            except ClientDisconnect:  # in the middle of the body: there is no client to answer
                status = GONE
            except asyncio.CancelledError:  # the server is stopping, and has waited for long enough
                if not status:
                    stopping = ApiError(503, "the server is stopping: try again in a moment")
                    await stopping.response()(scope, receive, watched)
            except Exception:
                error_log.exception("a request failed: %s %s", scope["method"], _route(scope))
                if not status:
                    failure = ApiError(500, "the server failed: its log gives the reason")
                    await failure.response()(scope, receive, watched)
        self._count(scope, status, time.perf_counter() - started, sent)

    def _count(self, scope: Scope, status: int, seconds: float, sent: int) -> None:
        route = _route(scope)
        method = scope["method"] if scope["method"] in METHODS else UNKNOWN
        self._metrics.requests.labels(method, route, str(status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        if status == 503:
            self._metrics.refused.inc()
        access_log.info(
            "%s",
            json.dumps(
                {
                    "time": round(time.time(), 3),
                    "client": scope["client"][0] if scope.get("client") else None,
                    "method": scope["method"],
                    "path": scope["path"][:LONGEST_PATH],  # without the query
                    "status": status,
                    "bytes": sent,
                    "milliseconds": round(1000 * seconds, 1),
                    "worker": os.getpid(),
                }
            ),
        )


def _route(scope: Scope) -> str:
    """The template of the route that took a request."""
    return str(getattr(scope.get("route"), "path", UNKNOWN))


def _forget_dead_workers() -> None:
    """Remove the gauges that killed workers left behind; their counters still count."""
    if SHARED not in os.environ:
        return
    for file in Path(os.environ[SHARED]).glob("gauge_live*_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        if not _is_alive(pid):
            mark_process_dead(pid)  # type: ignore[no-untyped-call]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
