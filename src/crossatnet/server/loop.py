"""The event loops of servers: they take connections one by one, while there are descriptors, and end idle ones.

asyncio takes all waiting connections at once, and where it runs out of descriptors it writes a traceback for each try.
"""

import asyncio
import contextlib
import resource
import socket
import time
from collections.abc import Callable
from typing import Any

DELAY_S = 0.002  # before a worker takes a new connection, for each connection that it has
MOST_S = 0.01
FULL_S = 0.1  # between two looks whether a connection may be taken again
IDLE_S = 30.0  # a connection without a request, or with an unfinished one's headers, is ended then
SPARED_S = 0.5  # one that is idle for less is not ended to make room for another
DESCRIPTORS = 8192  # wished for; the system may allow fewer
RESERVED = 96  # descriptors for galleries, pictures, decoders and logs


class SteadyLoop(asyncio.SelectorEventLoop):
    """Takes connections while there are descriptors; the rest wait in the socket's queue.

    Connections that are idle for `IDLE_S` are ended, and the longest idle ones sooner if others wait.
    """

    async def create_server(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.Protocol], *, sock: socket.socket, backlog: int, **_: Any
    ) -> asyncio.Server:
        """Like asyncio's, for a bound socket and without TLS."""
        server = await super().create_server(protocol_factory, sock=sock, start_serving=False)
        sock.listen(backlog)
        _Door(self, protocol_factory, sock).open()
        return server

    def pause(self, connections: int) -> float:
        """Seconds to wait before a new connection is taken, for the number of those that are there."""
        return 0.0


class FairLoop(SteadyLoop):
    """The loop of workers that share a socket: a new connection goes to the worker that has fewest.

    It takes one connection at a time, after a short delay that grows with the number of its connections. Otherwise the
    first of several workers to wake would get them all and keep them, while the others are idle.
    """

    def pause(self, connections: int) -> float:
        """Seconds to wait before a new connection is taken, for the number of those that are there."""
        return min(DELAY_S * connections, MOST_S)


class _Held:
    """A connection: since when it has been without a request, and the request before."""

    def __init__(self, transport: asyncio.Transport, protocol: asyncio.BaseProtocol) -> None:
        self.transport = transport
        self._protocol = protocol
        self._request: object = None
        self._since = time.monotonic()

    def idle_for(self) -> float:
        """Seconds since its last answer was complete; 0 while a request is answered."""
        request = getattr(self._protocol, "cycle", None)  # uvicorn's: the request under way, or the last one
        is_busy = request is not None and not request.response_complete
        if is_busy or request is not self._request:
            self._request, self._since = request, time.monotonic()
        return time.monotonic() - self._since


class _Door:
    """Takes the connections of one listening socket into a loop."""

    def __init__(
        self, loop: SteadyLoop, protocol_factory: Callable[[], asyncio.Protocol], listening: socket.socket
    ) -> None:
        self._loop = loop
        self._protocol_factory = protocol_factory
        self._listening = listening
        self._held: list[_Held] = []
        self._greeting: set[asyncio.Task[None]] = set()  # keeps the tasks alive; the loop does not
        self._most = max(16, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVED)

    def open(self) -> None:
        """Take connections from now on, until the socket is closed."""
        self._wait()
        self._loop.call_later(IDLE_S / 10, self._end_idle)

    def _wait(self) -> None:
        if self._listening.fileno() >= 0:  # not closed meanwhile
            self._loop.add_reader(self._listening, self._notice)

    def _notice(self) -> None:
        self._loop.remove_reader(self._listening)
        self._held = [held for held in self._held if not held.transport.is_closing()]
        if len(self._held) + len(self._greeting) >= self._most:
            self._make_room()
            self._loop.call_later(FULL_S, self._wait)
        else:
            self._loop.call_later(self._loop.pause(len(self._held)), self._take)

    def _take(self) -> None:
        if self._listening.fileno() < 0:
            return
        try:
            connection, _ = self._listening.accept()
        except (BlockingIOError, ConnectionError, InterruptedError):  # another worker was faster, or the client is gone
            self._wait()
            return
        except OSError:  # no descriptor is free: the rest wait
            self._make_room()
            self._loop.call_later(FULL_S, self._wait)
            return
        connection.setblocking(False)
        task = self._loop.create_task(self._greet(connection))
        self._greeting.add(task)
        task.add_done_callback(self._greeting.discard)
        self._wait()

    async def _greet(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the client is gone already
            transport, protocol = await self._loop.connect_accepted_socket(self._protocol_factory, connection)
            self._held.append(_Held(transport, protocol))

    def _make_room(self) -> None:
        """End some of the connections that have been idle for longest."""
        idle = [(held.idle_for(), held) for held in self._held]
        idle.sort(key=lambda pair: -pair[0])
        for seconds, held in idle[: max(1, self._most // 10)]:
            if seconds > SPARED_S:
                held.transport.abort()

    def _end_idle(self) -> None:
        for held in self._held:
            if held.idle_for() > IDLE_S:
                held.transport.abort()
        self._held = [held for held in self._held if not held.transport.is_closing()]
        if self._listening.fileno() >= 0:
            self._loop.call_later(IDLE_S / 10, self._end_idle)


def allow_descriptors() -> None:
    """Raise this process's limit of open files to `DESCRIPTORS`, or to what the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wished = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wished:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wished, hard))
