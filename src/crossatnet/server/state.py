"""What the routes of one app share."""

from dataclasses import dataclass
from typing import cast

from fastapi import Request

from crossatnet.server.galleries import Galleries
from crossatnet.server.indexing import Indexing
from crossatnet.server.limits import Gate
from crossatnet.server.pictures import Thumbnails
from crossatnet.server.prometheus import Metrics


@dataclass(frozen=True)
class State:
    """The galleries, the gates, the thumbnails kept, the counters, and the folder that is added."""

    galleries: Galleries
    searches: Gate
    pictures: Gate
    decoding: Gate
    thumbnails: Thumbnails
    metrics: Metrics
    indexing: Indexing
    is_local: bool  # whether only this machine can reach the server


def state_of(request: Request) -> State:
    """The state of the app that a request is for."""
    return cast(State, request.app.state.crossatnet)
