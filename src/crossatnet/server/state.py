"""What the routes of one app share."""

from dataclasses import dataclass
from typing import cast

from fastapi import Request

from crossatnet.server.galleries import Galleries
from crossatnet.server.limits import Gate
from crossatnet.server.pictures import Thumbnails
from crossatnet.server.prometheus import Metrics


@dataclass(frozen=True)
class State:
    """The galleries, the gates of searches, pictures and decoding, the thumbnails kept, and the counters."""

    galleries: Galleries
    searches: Gate
    pictures: Gate
    decoding: Gate
    thumbnails: Thumbnails
    metrics: Metrics


def state_of(request: Request) -> State:
    """The state of the app that a request is for."""
    return cast(State, request.app.state.crossatnet)
