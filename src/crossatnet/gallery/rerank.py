"""Orders hits again, with the attention of the drawing they were found by.

Letters: `N` pictures, `S` side of the network's input.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from crossatnet.data.images import Picture
from crossatnet.gallery.embedder import Embedder, penalty_of
from crossatnet.gallery.queries import cut_out
from crossatnet.gallery.results import Hit
from crossatnet.system.errors import ImageError

AT_ONCE = 32  # pictures in one pass of the network


def rerank(
    model: Embedder, sketch: NDArray[np.uint8], hits: Sequence[Hit], read: Callable[[Hit], Picture]
) -> list[Hit]:
    """Hits in the order of their scores with the attention of a sketch (S, S, 3).

    `read` gives a hit's picture. A hit that was found by a part of it is looked at there, and loses the same penalty.
    One whose picture cannot be read, as it was moved or damaged, keeps its score.
    """
    penalty = penalty_of(model)
    rescored: list[Hit] = []
    for start in range(0, len(hits), AT_ONCE):
        some = [*hits[start : start + AT_ONCE]]
        readable: dict[int, NDArray[np.uint8]] = {}  # place in `some` -> (S, S, 3)
        for number, hit in enumerate(some):
            with contextlib.suppress(ImageError):
                shown = read(hit) if hit.box is None else cut_out(read(hit), hit.box)
                readable[number] = model.preprocess(shown, "photo")
        if readable:
            seen = model.guide(sketch, np.stack([*readable.values()]))[0]  # (N,)
            for number, similarity in zip(readable, seen.tolist(), strict=True):
                lost = 0.0 if some[number].box is None else penalty
                some[number] = replace(some[number], score=(some[number].score + similarity - lost) / 2)
        rescored += some
    return sorted(rescored, key=lambda hit: -hit.score)
