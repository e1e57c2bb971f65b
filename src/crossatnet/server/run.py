"""Runs the server: one process, or several workers that share a socket, and a supervisor.

uvicorn serves; its supervisor replaces a worker that dies. Workers get the settings through a pipe, so that no command
line shows the token.
"""

import contextlib
import os
import signal
import socket
import tempfile
import threading
import time
import urllib.request
import webbrowser
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess

from crossatnet.data import decoders
from crossatnet.gallery.embedder import Embedder, load_embedder
from crossatnet.runtime.load import load
from crossatnet.server import uploads
from crossatnet.server.galleries import Galleries, open_galleries
from crossatnet.server.logs import log_to_stderr
from crossatnet.server.loop import allow_descriptors
from crossatnet.server.settings import DECODER_BYTES, DECODER_SECONDS, DECODERS, PIXELS_IN_WORKER, Settings
from crossatnet.system.errors import UserError
from crossatnet.system.threads import cores

GRACE_SECONDS = 6  # for running requests when the server is stopped
STOP_SECONDS = 9.0  # after which it ends, whatever still runs: what is acknowledged is on the disk
HUNG_SECONDS = 30  # a worker that is silent for so long is replaced
BACKLOG = 512  # waiting connections


def serve(settings: Settings, announce: Callable[[str], None], open_browser: bool = False) -> None:
    """Serve until stopped by Ctrl-C or SIGTERM; running requests are answered first. Stopping takes 10 s at most.

    `announce` is called with the address once the socket is bound. Raises `UserError` if the port is taken or a gallery
    cannot be opened.
    """
    listening = bind(settings.host, settings.port)
    galleries = open_at(settings)  # here a mistake is reported once, not by every worker
    address = address_of(settings.host, listening.getsockname()[1])
    announce(address)
    if open_browser:
        threading.Thread(target=_open_when_ready, args=(address,), daemon=True).start()
    with listening:
        if settings.workers == 1:
            _serve_here(settings, galleries, listening)
        else:
            galleries.close()
            _serve_with_workers(settings, listening)


def open_at(settings: Settings) -> Galleries:
    """The galleries of the settings. Raises `UserError` if one cannot be opened, or if uploads cannot be written."""
    if settings.uploads is not None:
        settings.uploads.mkdir(parents=True, exist_ok=True)
        if not os.access(settings.uploads, os.W_OK | os.X_OK):
            raise UserError(f"{settings.uploads}: cannot be written; give a folder of yours with --uploads")
    model: Embedder | None = load(settings.checkpoint) if settings.checkpoint else None
    if settings.embedder:
        model = load_embedder(settings.embedder)
    galleries = open_galleries(settings.places, settings.uploads, model, settings.consistency, settings.recall)
    for served in galleries:
        uploads.tidy(served)
    return galleries


def _worker_app(settings: Settings) -> FastAPI:
    """The app of a worker, made in its own process."""
    return _app(settings, open_at(settings))


def _app(settings: Settings, galleries: Galleries) -> FastAPI:
    from crossatnet.server.app import create_app

    log_to_stderr(settings.access_log)
    allow_descriptors()
    processes = max(1, DECODERS // settings.workers)
    limits = decoders.Limits(processes, DECODER_SECONDS, DECODER_BYTES, PIXELS_IN_WORKER, nice=5)
    decoders.limit(limits)
    _end_in_time()
    return create_app(galleries, settings)


def _end_in_time() -> None:
    """From a signal to stop on, `STOP_SECONDS` are left to this process: no request or decoder keeps it longer."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(number)

        def stopped(number: int, frame: Any, before: Any = before) -> None:
            timer = threading.Timer(STOP_SECONDS, os._exit, (128 + number,))
            timer.daemon = True
            timer.start()
            if callable(before):
                before(number, frame)

        signal.signal(number, stopped)


def _serve_here(settings: Settings, galleries: Galleries, listening: socket.socket) -> None:
    server = uvicorn.Server(_config(partial(_app, settings, galleries), settings))
    server.run(sockets=[listening])
    if not server.started:
        raise UserError("the server could not start; its log gives the reason")


def _serve_with_workers(settings: Settings, listening: socket.socket) -> None:
    with tempfile.TemporaryDirectory(prefix="crossatnet-metrics-") as shared:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = shared  # before any worker loads prometheus_client
        # # Each worker computes on its share of the cores. Otherwise its threads wait for those of the others.
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // settings.workers)))
        log_to_stderr(settings.access_log)
        supervisor = Supervisor(_config(partial(_worker_app, settings), settings), [listening])
        supervisor.run()
    if supervisor.is_interrupted:
        raise KeyboardInterrupt


class Supervisor(Multiprocess):
    """Notices a killed worker at once, also while it waits for an answer of that worker."""

    is_interrupted = False  # by Ctrl-C, which the exit code must say

    def handle_int(self) -> None:
        """Like uvicorn's."""
        self.is_interrupted = True
        super().handle_int()

    def keep_subprocess_alive(self) -> None:
        """Like uvicorn's, which keeps the worker's end of the pipe open here and so would wait for `HUNG_SECONDS`."""
        for process in self.processes:
            process.child_conn.close()  # the copy in this process; the worker has its own
        super().keep_subprocess_alive()


def _config(app: Callable[[], FastAPI], settings: Settings) -> uvicorn.Config:
    workers = settings.workers
    return uvicorn.Config(
        app,
        factory=True,
        workers=workers,
        loop=f"crossatnet.server.loop:{'FairLoop' if workers > 1 else 'SteadyLoop'}",
        backlog=BACKLOG,
        log_config=None,
        access_log=False,  # `prometheus.Watch` writes it
        server_header=False,
        proxy_headers=settings.behind_proxy,
        timeout_graceful_shutdown=GRACE_SECONDS,
        timeout_worker_healthcheck=HUNG_SECONDS,
    )


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `UserError` if the address is in use or not of this machine."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        reason = reason.partition(" (while attempting")[0]  # Python names the address too
        raise UserError(f"cannot listen on {host}, port {port} ({reason}); give another --port or --host") from error
    # # Connections inherit it. asyncio sets it only for sockets that were made with their protocol named. Without it,
    # the body of an answer waits about 40 ms until the client acknowledges the headers.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.set_inheritable(True)
    return listening


def address_of(host: str, port: int) -> str:
    """The address by which a browser on this machine finds a server on a host and port."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}"


def _open_when_ready(address: str, seconds: float = 60.0) -> None:
    """Open the page in the browser once the server answers."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/api/v1/health", timeout=5):
            webbrowser.open(address)
            return
        time.sleep(0.2)


def read_token(file: Path | None) -> str | None:
    """The token from a file, or from CROSSATNET_TOKEN; None if there is neither. Raises `UserError` for a weak one."""
    from crossatnet.server.security import check_token

    if file is None:
        text, where = os.environ.get("CROSSATNET_TOKEN", ""), "CROSSATNET_TOKEN"
    else:
        try:
            text, where = file.read_text(encoding="utf-8"), str(file)
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not text"
            raise UserError(f"{file}: the token cannot be read ({reason}); give a file of one line") from error
        if not text.strip():
            raise UserError(f"{file}: empty; write a token into it, such as `openssl rand -hex 32` prints")
    return check_token(text.strip(), where) if text.strip() else None
