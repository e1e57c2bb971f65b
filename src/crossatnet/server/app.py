"""The application: the routes, the guard before them, and the middleware that counts and logs."""

import contextlib
import gc
from collections.abc import AsyncIterator

import numpy as np
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from crossatnet.data import decoders
from crossatnet.gallery import Gallery
from crossatnet.server.errors import add_handlers
from crossatnet.server.galleries import Galleries
from crossatnet.server.indexing import Indexing
from crossatnet.server.limits import Gate
from crossatnet.server.pictures import Thumbnails
from crossatnet.server.prometheus import Metrics, Watch
from crossatnet.server.routes import files as routes_files
from crossatnet.server.routes import items as routes_items
from crossatnet.server.routes import search as routes_search
from crossatnet.server.routes import system as routes_system
from crossatnet.server.routes.system import STATIC
from crossatnet.server.security import Guard, Token
from crossatnet.server.settings import (
    DECODING_AT_ONCE,
    DECODING_WAITING,
    LOOPBACK,
    PICTURES_AT_ONCE,
    PICTURES_WAITING,
    SEARCHES_WAITING,
    Settings,
)
from crossatnet.server.state import State
from crossatnet.system.threads import compute_on_one_core
from crossatnet.system.version import __version__

DESCRIPTION = (
    "Draw a thing, find its pictures. Every error is {error: {code, message}}; ids are text. Where the server has a"
    " token, send it as Authorization: Bearer TOKEN."
)


def create_app(galleries: Galleries, settings: Settings) -> FastAPI:
    """The API and the page over open galleries; the app closes the galleries when it ends.

    Example:
        >>> from crossatnet.server.app import create_app
        >>> from crossatnet.server.galleries import Galleries
        >>> from crossatnet.server.settings import Settings
        >>> create_app(Galleries([]), Settings(places=())).title
        'crossatnet'
    """
    searches = Gate(settings.searches_at_once, SEARCHES_WAITING, prepare=compute_on_one_core)
    pictures, decoding = Gate(PICTURES_AT_ONCE, PICTURES_WAITING), Gate(DECODING_AT_ONCE, DECODING_WAITING)
    gates, is_local = (searches, pictures, decoding), settings.host in LOOPBACK
    state = State(galleries, *gates, Thumbnails(), Metrics(), Indexing(settings.folders), is_local)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        for served in galleries:
            await searches.run(lambda served=served: _warm_up(served.gallery))  # type: ignore[misc]
        # What is loaded by now stays in memory. Otherwise a full garbage collection stops every request for .14 s.
        gc.collect()
        gc.freeze()
        yield
        gc.unfreeze()
        state.indexing.stop()
        decoders.end_all()
        for gate in gates:
            gate.close()
        galleries.close()

    app = FastAPI(
        title="crossatnet",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,  # FastAPI's own page loads scripts from other hosts
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    token = Token(settings.token) if settings.token else None
    app.state.crossatnet, app.state.token = state, token
    add_handlers(app)
    for router in (routes_search.router, routes_items.router, routes_files.router, routes_system.router):
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=STATIC))
    app.add_middleware(Guard, token=token, is_loopback=is_local)
    app.add_middleware(Watch, metrics=state.metrics)
    return app


def _warm_up(gallery: Gallery) -> None:
    """Do now what would slow down the first search: read the codes, and let torch prepare itself."""
    gallery.search((np.array([[0, 0], [1, 1]], np.float32),), 1)
