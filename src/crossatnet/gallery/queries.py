"""What may be asked of a gallery, made ready.

Letters: `Q` queries, `D` embedding dimension, `S` side of the network's input.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crossatnet.data.images import Modality, Picture, load_image
from crossatnet.data.strokes import Drawing, named_drawing, render
from crossatnet.gallery.backend import Backend, StoredPicture
from crossatnet.model.framing import part_of
from crossatnet.model.interface import Attentive, CannotGuideError, check_attention
from crossatnet.model.regions import Box
from crossatnet.system.errors import UserError

SMALLEST_PART = 0.02  # of a picture's side
ENOUGH = 512  # pixels of each side of a part, decoded: more than networks take


@dataclass(frozen=True)
class Prepared:
    """A query that is read already: its pixels (S, S, 3) as the network takes them, see `Gallery.prepare`."""

    pixels: NDArray[np.uint8]


@dataclass(frozen=True)
class PartOf:
    """A part of a stored picture as a query: what its file shows within `box`."""

    picture: StoredPicture
    box: Box


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


def cut_out(picture: Picture, box: Box) -> Image.Image:
    """What a picture shows within a box. Raises `ImageError` if it cannot be read, `UserError` for a wrong box.

    Example:
        >>> from crossatnet.gallery.queries import cut_out
        >>> photo.size, cut_out(photo, (0.5, 0, 1, 0.5)).size
        ((120, 90), (60, 45))
    """
    check_box(box)
    left, top, right, bottom = box
    return part_of(load_image(picture, enough=math.ceil(ENOUGH / min(right - left, bottom - top))), box)


def check_box(box: Box) -> None:
    """Raise `UserError` unless a box is a part of a picture, large enough to show something.

    Example:
        >>> from crossatnet.gallery.queries import check_box
        >>> check_box((0.5, 0, 0.25, 1))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        crossatnet.system.errors.UserError: box is 0.5,0,0.25,1; give left,top,right,bottom as fractions ...
    """
    left, top, right, bottom = box
    is_inside = all(0 <= value <= 1 for value in box)  # not a number is not
    if not is_inside or min(right - left, bottom - top) < SMALLEST_PART:
        raise UserError(
            f"box is {','.join(f'{value:g}' for value in box)}; give left,top,right,bottom as fractions from 0 to 1,"
            f" right and bottom at least {SMALLEST_PART} more than left and top"
        )


def check_guidable(
    model: Attentive, query: Query | list[Query] | StoredPicture | PartOf | None, modality: Modality
) -> None:
    """Raise `CannotGuideError` unless a query is one drawing, and the model has attention to guide by it.

    Example:
        >>> from crossatnet import CrossATNet
        >>> from crossatnet.gallery.queries import check_guidable
        >>> model = CrossATNet.from_pretrained("crossatnet-open", runtime="onnx")
        >>> check_guidable(model, photo, "photo")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        crossatnet.model.interface.CannotGuideError: guided re-ranking needs a drawing, and one only: ...
    """
    is_drawing = modality == "sketch" and query is not None and not isinstance(query, StoredPicture | PartOf)
    if not is_drawing or (isinstance(query, list) and len(query) > 1):
        raise CannotGuideError(
            "guided re-ranking needs a drawing, and one only: search by one sketch, or rank by float or code"
        )
    check_attention(model, "to guide: search without re-ranking")


def check_page(k: int, offset: int = 0) -> None:
    """Raise `UserError` unless `k` hits after the first `offset` can be asked for."""
    if k < 1:
        raise UserError(f"k is {k}; ask for 1 hit or more")
    if offset < 0:
        raise UserError(f"offset is {offset}; skip 0 hits or more")
