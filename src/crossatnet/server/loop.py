"""The event loop of workers that share a socket: new connections go to those who have fewest."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any

SHYNESS_S = 0.002  # for each connection a worker has, it leaves a new one to the others so long
MOST_S = 0.01


class FairLoop(asyncio.SelectorEventLoop):
    """Waits a little before it takes a connection, the longer the more it has, and takes one at a time.

    asyncio takes all that wait at once: of several workers the first to wake would get them all, and keep them, while
    the others stand idle.
    """

    async def create_server(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.Protocol], *, sock: socket.socket, backlog: int, **_: Any
    ) -> asyncio.Server:
        """As asyncio's, for a socket that is bound; without TLS."""
        server = await super().create_server(protocol_factory, sock=sock, start_serving=False)
        held: list[asyncio.Transport] = []
        greeted: set[asyncio.Task[None]] = set()  # the loop itself does not keep its tasks

        def resume() -> None:
            if sock.fileno() >= 0:  # not closed meanwhile
                self.add_reader(sock, notice)

        def notice() -> None:
            self.remove_reader(sock)
            held[:] = [transport for transport in held if not transport.is_closing()]
            self.call_later(min(SHYNESS_S * len(held), MOST_S), take)

        def take() -> None:
            with contextlib.suppress(OSError):  # another worker was faster, or no file is free: those who wait, wait
                connection, _ = sock.accept()
                connection.setblocking(False)
                task = self.create_task(greet(connection))
                greeted.add(task)
                task.add_done_callback(greeted.discard)
            resume()

        async def greet(connection: socket.socket) -> None:
            with contextlib.suppress(OSError):  # the client has gone already
                transport, _ = await self.connect_accepted_socket(protocol_factory, connection)
                held.append(transport)

        sock.listen(backlog)
        resume()
        return server
