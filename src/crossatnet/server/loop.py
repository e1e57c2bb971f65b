"""The event loop of workers that share a socket: a new connection goes to the worker that has fewest."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any

DELAY_S = 0.002  # before a worker takes a new connection, for each connection that it has
MOST_S = 0.01


class FairLoop(asyncio.SelectorEventLoop):
    """Takes one connection at a time, after a short delay that grows with the number of its connections.

    asyncio takes all waiting connections at once: the first of several workers to wake would get them all and keep
    them, while the others are idle.
    """

    async def create_server(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.Protocol], *, sock: socket.socket, backlog: int, **_: Any
    ) -> asyncio.Server:
        """Like asyncio's, for a bound socket and without TLS."""
        server = await super().create_server(protocol_factory, sock=sock, start_serving=False)
        held: list[asyncio.Transport] = []
        greeted: set[asyncio.Task[None]] = set()  # keeps the tasks alive; the loop does not

        def resume() -> None:
            if sock.fileno() >= 0:  # not closed meanwhile
                self.add_reader(sock, notice)

        def notice() -> None:
            self.remove_reader(sock)
            held[:] = [transport for transport in held if not transport.is_closing()]
            self.call_later(min(DELAY_S * len(held), MOST_S), take)

        def take() -> None:
            with contextlib.suppress(OSError):  # another worker was faster, or no file is free: the rest wait
                connection, _ = sock.accept()
                connection.setblocking(False)
                task = self.create_task(greet(connection))
                greeted.add(task)
                task.add_done_callback(greeted.discard)
            resume()

        async def greet(connection: socket.socket) -> None:
            with contextlib.suppress(OSError):  # the client is gone already
                transport, _ = await self.connect_accepted_socket(protocol_factory, connection)
                held.append(transport)

        sock.listen(backlog)
        resume()
        return server
