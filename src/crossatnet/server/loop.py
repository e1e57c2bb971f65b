"""The workers' event loop, which shares new connections fairly among them."""

import asyncio
from typing import Any


class FairLoop(asyncio.SelectorEventLoop):
    """Takes one new connection at a time.

    asyncio takes all that wait at once, as many as the backlog is long: of several workers on one socket the first to
    wake would get them all, and keep them, while the others stand idle.
    """

    async def create_server(self, *arguments: Any, backlog: int, **options: Any) -> asyncio.Server:  # type: ignore[override]
        """As asyncio's, for a given `sock`."""
        server = await super().create_server(*arguments, backlog=1, **options)
        options["sock"].listen(backlog)  # how many may wait is another matter
        return server
