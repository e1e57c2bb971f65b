"""Regions: parts of a photo with an embedding of their own, for a thing that is only a part of it.

The photo is looked at once more, larger, and windows of a few sizes are pooled from that map. Kept are the few that
together stand for all of them best, beside the whole. A photo that clearly shows one thing has none.

Letters: `W` windows, `R` regions, `D` the shared space, `h w` the backbone's map.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

METHOD = "windows 3"  # of what is below; another text when other regions come out
MOST_REGIONS = 8  # of a photo
SPANS = (1 / 4, 1 / 3, 1 / 2)  # of a window's sides, as shares of the map's
LEAST_GAIN = 0.015  # in cosine, mean over the windows: a region that adds less is not chosen
LEAST_CLARITY = 0.1  # of a region: what shows nothing clearly is found by too many drawings

Box = tuple[float, float, float, float]
"""A part of a picture: left, top, right and bottom as fractions of the upright picture, 0..1."""


@dataclass(frozen=True)
class Regions:
    """Parts of one photo: boxes (R, 4) and their embeddings (R, D), L2-normalised; R is 0 to `MOST_REGIONS`.

    A box is (left, top, right, bottom) in shares 0..1 of the upright photo.
    """

    boxes: NDArray[np.float32]
    embeddings: NDArray[np.float32]


def no_regions(dimension: int) -> Regions:
    """Of a photo that has none.

    Example:
        >>> from crossatnet.model.regions import no_regions
        >>> no_regions(512).boxes.shape, no_regions(512).embeddings.shape
        ((0, 4), (0, 512))
    """
    return Regions(np.empty((0, 4), np.float32), np.empty((0, dimension), np.float32))


def windows(height: int, width: int) -> NDArray[np.int64]:
    """The windows of a map (h, w), as (left, top, right, bottom) in cells: (W, 4).

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
    """Where windows of this side begin along a map of this length: about half a side apart, from end to end.

    Example:
        >>> from crossatnet.model.regions import starts
        >>> starts(12, 6)
        [0, 3, 6]
    """
    count = 1 - (side - length) // -(-side // 2)
    return [round(place) for place in np.linspace(0, length - side, count)]


def masks(height: int, width: int) -> NDArray[np.bool_]:
    """The windows of a map (h, w) as masks of its positions: (W, h * w).

    Example:
        >>> from crossatnet.model.regions import masks
        >>> masks(2, 2).astype(int).tolist()
        [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    """
    boxes = windows(height, width)
    inside = np.zeros((len(boxes), height, width), dtype=bool)
    for mask, (left, top, right, bottom) in zip(inside, boxes, strict=True):
        mask[top:bottom, left:right] = True
    return inside.reshape(len(inside), -1)


def chosen(
    whole: NDArray[np.float32],
    embeddings: NDArray[np.float32],
    clarity: NDArray[np.float32],
    height: int,
    width: int,
) -> Regions:
    r"""The regions among the windows of a map (h, w): whole (D,), embeddings (W, D), and clarity (W,) of the windows.

    Each window $v$ counts by its clarity $c_v$, and is stood for by whichever kept embedding is nearest. Next kept is
    the window that raises $\sum_v c_v \max_{k} \cos(v, k) / \sum_v c_v$ most, as long as that is `LEAST_GAIN` or more
    (greedy facility location). So a window like the whole, or like another, is kept no more. In the end those are
    dropped whose clarity is below `LEAST_CLARITY`; other windows of the same place would be no better.

    Example:
        >>> import numpy as np
        >>> from crossatnet.model.regions import chosen
        >>> whole = np.array([1, 0], dtype=np.float32)
        >>> parts = np.array([[1, 0], [0, 1], [0, 1], [1, 0]], dtype=np.float32)
        >>> chosen(whole, parts, np.ones(4, dtype=np.float32), 2, 2).boxes.tolist()
        [[0.5, 0.0, 1.0, 0.5]]
    """
    boxes = windows(height, width) / np.array([width, height, width, height])  # (W, 4)
    likeness = embeddings @ embeddings.T  # (W, W)
    share = clarity / clarity.sum()  # (W,)
    nearest = embeddings @ whole  # (W,), cosine with the nearest that is kept
    kept: list[int] = []
    while len(kept) < MOST_REGIONS:
        gain = np.maximum(likeness - nearest, 0) @ share  # (W,)
        best = int(gain.argmax())
        if gain[best] < LEAST_GAIN:
            break
        kept.append(best)
        nearest = np.maximum(nearest, likeness[best])
    kept = [window for window in kept if clarity[window] >= LEAST_CLARITY]
    return Regions(boxes[kept].astype(np.float32), embeddings[kept])
