"""Regions: parts of a photo with an embedding of their own, for a thing that is only a part of it.

All windows of a few sizes are pooled from the one map of the photo. The few kept are those that say most beyond the
whole and beyond each other.

Letters: `W` windows, `R` regions, `D` the shared space, `h w` the backbone's map.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_REGIONS = 8  # of a photo
SPANS = (0.25, 0.4, 0.6)  # of a window's sides, as shares of the map's
ALIKE = 0.75  # cosine from which an embedding says no more than another


@dataclass(frozen=True)
class Regions:
    """Parts of one photo: boxes (R, 4) and their embeddings (R, D), L2-normalised; R is 0 to `MOST_REGIONS`.

    A box is (left, top, right, bottom) in shares 0..1 of the upright photo.
    """

    boxes: NDArray[np.float32]
    embeddings: NDArray[np.float32]


def windows(height: int, width: int) -> NDArray[np.int64]:
    """The windows of a map (h, w), as (left, top, right, bottom) in cells: (W, 4).

    Of each span of `SPANS`, those that lie half their side or less apart and reach every edge.

    Example:
        >>> from crossatnet.model.regions import windows
        >>> windows(2, 2).tolist()
        [[0, 0, 1, 1], [1, 0, 2, 1], [0, 1, 1, 2], [1, 1, 2, 2]]
    """
    found: dict[tuple[int, int, int, int], None] = {}
    for span in SPANS:
        tall, wide = max(1, round(span * height)), max(1, round(span * width))
        for top in starts(height, tall):
            for left in starts(width, wide):
                found[left, top, left + wide, top + tall] = None
    return np.array([*found], dtype=np.int64)


def starts(length: int, side: int) -> list[int]:
    """Where windows of this side begin along a map of this length: half a side apart or less, the last at the end."""
    count = 1 + -(-(length - side) // max(1, side // 2))
    return [round(place) for place in np.linspace(0, length - side, count)]


def masks(height: int, width: int) -> NDArray[np.bool_]:
    """The windows of a map (h, w) as masks of its positions: (W, h * w)."""
    inside = np.zeros((len(windows(height, width)), height, width), dtype=bool)
    for mask, (left, top, right, bottom) in zip(inside, windows(height, width), strict=True):
        mask[top:bottom, left:right] = True
    return inside.reshape(len(inside), -1)


def chosen(whole: NDArray[np.float32], embeddings: NDArray[np.float32], height: int, width: int) -> Regions:
    """The regions of a photo: of the windows of its map (h, w), whose embeddings (W, D) are given, the best few.

    The window least like the whole (D,) and like those chosen before comes next, until all that are left are alike.
    """
    boxes = windows(height, width) / np.array([width, height, width, height])  # (W, 4)
    kept: list[int] = []
    likeness = embeddings @ whole  # (W,), with the whole or a region, whichever is nearest
    while len(kept) < MOST_REGIONS and likeness.min() < ALIKE:
        kept.append(int(likeness.argmin()))
        likeness = np.maximum(likeness, embeddings @ embeddings[kept[-1]])
    return Regions(boxes[kept].astype(np.float32), embeddings[kept])
