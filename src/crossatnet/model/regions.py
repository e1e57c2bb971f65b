"""Regions: parts of a photo with an embedding of their own, for a thing that is only a part of it.

The network looks at the whole photo once. A small head proposes boxes from the maps of this look
(`model.proposals`). Each box is cut out of the photo and embedded like a photo, but smaller.

Letters: `R` regions, `D` the shared space, `i j` the backbone's finer map, `H W` the photo that parts are cut from,
`P` side of a part.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

METHOD = "proposals 2"  # of what is below; another text when other regions come out
MOST_REGIONS = 8  # of a photo
LARGEST_SHARE = 0.3  # of the photo's area; a larger part is the whole
POSSIBLE, SURE = 0.35, 0.5  # the least probability of a proposal; where the whole is one thing, of further ones
LEAST_SIDE = 0.05  # of a part, as a share of the photo's side: a smaller one shows too little
MOST_OVERLAP = 0.5  # of two proposals, as intersection over union; the less likely one is dropped
MOST_LIKENESS = 0.8  # cosine of a region and the whole; more is the same again

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


def found_in(
    photo: NDArray[np.uint8],
    proposals: NDArray[np.float32],
    whole: NDArray[np.float32],
    side: int,
    embed: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
) -> Regions:
    """The regions of a photo (H, W, 3), by what the look at the whole proposes, (5, i, j), and embeds, (D,).

    `embed` takes the parts, `side` pixels each way, (R, P, P, 3), to their embeddings (R, D).

    Example:
        >>> import numpy as np
        >>> from crossatnet.model.regions import found_in
        >>> nowhere = np.full((5, 4, 4), -9, np.float32)
        >>> found_in(np.zeros((90, 120, 3), np.uint8), nowhere, np.ones(8, np.float32), 64, embed=len).boxes.shape
        (0, 4)
    """
    boxes = proposed(proposals)  # (R, 4)
    if not len(boxes):
        return no_regions(len(whole))
    return distinct(whole, Regions(boxes, embed(cut(photo, boxes, side))))


def proposed(proposals: NDArray[np.float32]) -> NDArray[np.float32]:
    r"""The boxes (R, 4) that a `Proposer` proposes by the five numbers of each position of a map, (5, i, j).

    The first number is the logit that a thing's centre lies there. The others are the logarithms of the distances from
    the position's centre to the thing's left, top, right and bottom, in shares of the photo.

    1. Taken are the positions that are likelier than the eight around them and at least `POSSIBLE`, the likeliest
       first, without those whose box is too small or the same as a likelier one.
    2. If one that is `SURE` is larger than `LARGEST_SHARE`, the whole is that thing. Further ones must then be `SURE`
       too, as the parts of a thing look a little like things.

    Example:
        >>> import numpy as np
        >>> from crossatnet.model.regions import proposed
        >>> proposals = np.full((5, 4, 4), np.log(0.125), dtype=np.float32)
        >>> proposals[0] = -9
        >>> proposals[0, 1, 2] = 3
        >>> proposed(proposals).tolist()
        [[0.5, 0.25, 0.75, 0.5]]
    """
    likely = 1 / (1 + np.exp(-proposals[0].astype(np.float64)))  # (i, j)
    height, width = likely.shape
    rows, columns = np.nonzero(likely >= POSSIBLE)
    around = [likely[max(0, i - 1) : i + 2, max(0, j - 1) : j + 2].max() for i, j in zip(rows, columns, strict=True)]
    highest = likely[rows, columns] == np.array(around)
    rows, columns = rows[highest], columns[highest]
    likeliest = np.argsort(-likely[rows, columns], kind="stable")
    rows, columns = rows[likeliest], columns[likeliest]
    left, top, right, bottom = np.exp(np.minimum(proposals[1:, rows, columns], 0))
    across, down = (columns + 0.5) / width, (rows + 0.5) / height
    boxes = np.stack([across - left, down - top, across + right, down + bottom], axis=1).clip(0, 1)
    found: list[tuple[float, NDArray[np.float64]]] = []
    for probability, box in zip(likely[rows, columns].tolist(), boxes, strict=True):
        is_new = all(overlap(box, other) <= MOST_OVERLAP for _, other in found)
        if is_new and min(box[2:] - box[:2]) >= LEAST_SIDE:
            found.append((probability, box))
    is_one_thing = any(probability >= SURE and area(box) > LARGEST_SHARE for probability, box in found)
    least = SURE if is_one_thing else POSSIBLE
    parts = [box for probability, box in found if probability >= least and area(box) <= LARGEST_SHARE]
    return np.array(parts[:MOST_REGIONS], dtype=np.float32).reshape(-1, 4)


def overlap(one: Sequence[float] | NDArray[np.floating], other: Sequence[float] | NDArray[np.floating]) -> float:
    """Of two boxes, the intersection over the union: 0 where they are apart, 1 where they are the same.

    Example:
        >>> from crossatnet.model.regions import overlap
        >>> overlap((0, 0, 0.5, 1), (0.25, 0, 0.75, 1))
        0.3333333333333333
    """
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = float(width * height)
    return shared / (area(one) + area(other) - shared)


def area(box: Sequence[float] | NDArray[np.floating]) -> float:
    """The share of the picture that a box covers.

    Example:
        >>> from crossatnet.model.regions import area
        >>> area((0, 0.5, 0.5, 1))
        0.25
    """
    return float((box[2] - box[0]) * (box[3] - box[1]))


def cut(photo: NDArray[np.uint8], boxes: NDArray[np.float32], side: int) -> NDArray[np.uint8]:
    """The parts of a photo (H, W, 3) in boxes (R, 4), each as a square picture: (R, P, P, 3).

    Example:
        >>> import numpy as np
        >>> from crossatnet.model.regions import cut
        >>> cut(np.zeros((300, 400, 3), np.uint8), np.array([[0, 0, 0.5, 0.2]], np.float32), 64).shape
        (1, 64, 64, 3)
    """
    picture, parts = Image.fromarray(photo), np.empty((len(boxes), side, side, 3), np.uint8)
    for part, (left, top, right, bottom) in zip(parts, boxes.tolist(), strict=True):
        edges = (left * picture.width, top * picture.height, right * picture.width, bottom * picture.height)
        part[:] = np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR, edges, reducing_gap=2.0))
    return parts


def distinct(whole: NDArray[np.float32], regions: Regions) -> Regions:
    """The regions that are not like the whole photo, whose embedding is (D,).

    Example:
        >>> import numpy as np
        >>> from crossatnet.model.regions import Regions, distinct
        >>> regions = Regions(np.array([[0, 0, 0.5, 1], [0.5, 0, 1, 1]], np.float32), np.eye(2, dtype=np.float32))
        >>> distinct(np.array([1, 0], np.float32), regions).boxes.tolist()
        [[0.5, 0.0, 1.0, 1.0]]
    """
    other = regions.embeddings @ whole < MOST_LIKENESS  # (R,)
    return Regions(regions.boxes[other], regions.embeddings[other])
