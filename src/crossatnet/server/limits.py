"""Limits on work at the same time and on the size of requests, so that a flood of requests is refused."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from starlette.types import Message, Receive, Scope

from crossatnet.server.errors import ApiError
from crossatnet.server.settings import (
    BODIES_BYTES,
    BODY_SECONDS,
    JOB_SECONDS,
    LOGIN_BYTES,
    PICTURE_BYTES,
    STROKES_BYTES,
)

Result = TypeVar("Result")


class Gate:
    """Runs jobs on a limited number of threads, with a short queue before them; more jobs are refused at once.

    A running job cannot be stopped: if it takes too long, its request is answered with an error, but the job keeps its
    thread until it is done.
    """

    def __init__(
        self, at_once: int, waiting: int, prepare: Callable[[], object] = lambda: None, seconds: float = JOB_SECONDS
    ) -> None:
        """`prepare` is called once in each thread before its first job."""
        self._threads = ThreadPoolExecutor(at_once, initializer=prepare)
        self._most = at_once + waiting
        self._seconds = seconds
        self._inside = 0
        self._lock = threading.Lock()  # guards the count, which the threads of jobs change too

    def require_room(self) -> None:
        """Raise `ApiError` 503 if there is no room for a job now."""
        if self._inside >= self._most:
            # # with a new connection the client may reach another worker
            raise ApiError(
                503, "the server is busy: try again in a moment", "overloaded", headers={"Connection": "close"}
            )

    async def run(self, job: Callable[[], Result]) -> Result:
        """What the job returns or raises. Raises `ApiError` 503 if there is no room, or if the job takes too long."""
        with self._lock:
            self.require_room()
            self._inside += 1
        future = self._threads.submit(job)
        future.add_done_callback(self._leave)
        try:
            async with asyncio.timeout(self._seconds) as limit:
                return await asyncio.wrap_future(future)
        except TimeoutError as error:
            if not limit.expired():  # the job's own `TimeoutError`
                raise
            raise ApiError(503, f"no answer within {self._seconds:g} s: ask for less, or later", "timeout") from error

    def close(self) -> None:
        """End the threads once their jobs are done; waiting jobs are dropped."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _leave(self, future: "Future[Result]") -> None:
        with self._lock:
            self._inside -= 1


def largest_body(path: str) -> int:
    """How many bytes the body of a request to this path may have."""
    if path.endswith(("/strokes", "/selection/archive", "/selection/paths")):
        return STROKES_BYTES
    if path.endswith(("/sketch", "/sketch/reading", "/photo", "/items")):
        return PICTURE_BYTES
    return LOGIN_BYTES


class Bodies:
    """The bytes of all bodies that are in memory, of requests that are not answered yet."""

    def __init__(self) -> None:
        self.held = 0


@contextmanager
def bounded_receive(scope: Scope, receive: Receive, bodies: Bodies) -> Iterator[Receive]:
    """`receive` that raises `ApiError` if the body is too large, arrives too slowly, or finds no room beside others.

    Then the connection is closed, and the rest of the body is not read. Small bodies always find room.
    """
    most = largest_body(scope["path"])
    loop = asyncio.get_running_loop()
    read = 0
    deadline: float | None = loop.time() + BODY_SECONDS

    async def bounded() -> Message:
        nonlocal read, deadline
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError as error:
            raise _closing(408, f"the body did not come within {BODY_SECONDS:g} s; send it faster") from error
        if not message.get("more_body", False):
            deadline = None  # after the body, only the end of the connection is awaited
        came = len(message.get("body", b""))
        read += came
        bodies.held += came
        if read > most:
            raise too_large(most)
        if read > STROKES_BYTES and bodies.held > BODIES_BYTES:
            raise ApiError(
                503, "the server holds as many pictures as it may: try again", "overloaded", {"Connection": "close"}
            )
        return message

    try:
        yield bounded
    finally:
        bodies.held -= read


def too_large(most: int) -> ApiError:
    """The error answer to a body of more than so many bytes."""
    return _closing(413, f"a body of more than {most:,} bytes is not taken here; make it smaller")


def _closing(status: int, message: str) -> ApiError:
    return ApiError(status, message, headers={"Connection": "close"})
