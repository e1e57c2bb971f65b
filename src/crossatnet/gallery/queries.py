"""What may be asked of a gallery, made ready.

Letters: `Q` queries, `D` embedding dimension, `S` side of the network's input.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crossatnet.data.images import Picture
from crossatnet.data.strokes import Drawing, named_drawing, render
from crossatnet.gallery.backend import Backend
from crossatnet.system.errors import UserError


@dataclass(frozen=True)
class Prepared:
    """A query that is read already: its pixels (S, S, 3) as the network takes them, see `Gallery.prepare`."""

    pixels: NDArray[np.uint8]


Query = Picture | Drawing | Prepared


def as_picture(query: Picture | Drawing) -> Picture:
    """A query as a picture: strokes, or a name that means the Nth drawing of a file of strokes, are drawn."""
    named = named_drawing(str(query)) if isinstance(query, str | Path) else None
    if named is not None:
        return render(named)
    return render(query) if isinstance(query, tuple) else query


def checked_embeddings(embeddings: NDArray[np.float32], store: Backend) -> NDArray[np.float32]:
    """Embeddings of queries (Q, D). Raises `UserError` for another shape, and for numbers that are not finite."""
    dimension = store.made_with.dimension
    embeddings = np.asarray(embeddings, dtype=np.float32)
    if embeddings.ndim != 2 or embeddings.shape[1] != dimension:
        raise UserError(
            f"{store.name}: query embeddings must have shape (queries, {dimension}), not {embeddings.shape}"
        )
    if not np.isfinite(embeddings).all():
        raise UserError(f"{store.name}: query embeddings must be finite numbers, some are NaN or infinite")
    return embeddings


def check_page(k: int, offset: int = 0) -> None:
    """Raise `UserError` unless `k` hits after the first `offset` can be asked for."""
    if k < 1:
        raise UserError(f"k is {k}; ask for 1 hit or more")
    if offset < 0:
        raise UserError(f"offset is {offset}; skip 0 hits or more")
