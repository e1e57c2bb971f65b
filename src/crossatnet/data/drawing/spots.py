"""Connected parts of a picture, by NumPy alone, and ink cleared of specks.

Letters: `H W` the sides of a picture, `P` its marked pixels, `L` its parts.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

MARKED = 0.3  # of full ink: what is fainter joins no parts
REACH = 5  # pixels: ink that lies closer together counts as one part, for crayon and pencil have gaps
SPECK = 0.012  # of the longer side: what spans less in both directions, apart from all else, is no stroke


class Parts(NamedTuple):
    """The connected parts of a mask (H, W): the number of each pixel's part, or -1, and what each spans."""

    label: NDArray[np.int64]  # (H, W)
    area: NDArray[np.int64]  # (L,), pixels
    span: NDArray[np.int64]  # (L,), pixels, of the longer side of the box around it


def parts(mask: NDArray[np.bool_]) -> Parts:
    """Number the connected parts of a mask (H, W); pixels that touch at a side or a corner are connected.

    Every pixel starts as its own root. Each round hangs the roots of touching pixels under the lesser of both, and
    shortens all ways to the roots, until nothing changes: a few rounds, all of them whole-array operations.
    """
    number = np.full(mask.shape, -1, np.int64)
    number[mask] = np.arange(mask.sum())
    first, second = _touching(number)
    root = np.arange(mask.sum())
    while True:
        one, other = root[first], root[second]
        differ = one != other
        if not differ.any():
            break
        first, second, one, other = first[differ], second[differ], one[differ], other[differ]
        np.minimum.at(root, np.maximum(one, other), np.minimum(one, other))
        while True:
            shorter = root[root]
            if (shorter == root).all():
                break
            root = shorter
    _, part = np.unique(root, return_inverse=True)  # (P,)
    label = np.full(mask.shape, -1, np.int64)
    label[mask] = part
    area = np.bincount(part)
    return Parts(label, area, _spans(mask, part, len(area)))


def without_specks(ink: NDArray[np.float32]) -> NDArray[np.float32]:
    """Ink (H, W), 0..1, less what is smaller than any stroke and stands alone: dust, and noise of a camera."""
    wide = Image.fromarray((255 * (ink > MARKED)).astype(np.uint8)).filter(ImageFilter.MaxFilter(REACH))
    found = parts(np.asarray(wide) > 0)
    if not len(found.area):
        return np.zeros_like(ink)
    stays = found.span > max(ink.shape) * SPECK + REACH - 1  # (L,)
    return np.where(stays[found.label] & (found.label >= 0), ink, 0)


def _touching(number: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of touching pixels, each by its number: right, below, and both diagonals below."""
    pairs = [
        (number[:, :-1], number[:, 1:]),
        (number[:-1], number[1:]),
        (number[:-1, :-1], number[1:, 1:]),
        (number[:-1, 1:], number[1:, :-1]),
    ]
    both = [((one >= 0) & (other >= 0), one, other) for one, other in pairs]
    return (
        np.concatenate([one[touch] for touch, one, _ in both]),
        np.concatenate([other[touch] for touch, _, other in both]),
    )


def _spans(mask: NDArray[np.bool_], part: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    longest = np.zeros(count, np.int64)
    for place in np.nonzero(mask):  # rows, then columns
        low, high = np.full(count, max(mask.shape)), np.full(count, -1)
        np.minimum.at(low, part, place)
        np.maximum.at(high, part, place)
        longest = np.maximum(longest, high - low + 1)
    return longest
