"""Where the relevant items of each query stand in its ranking, by exact comparison of similarities.

Shapes: `b` queries of a strip, `N` gallery items, `R` relevant items of a query, `P` relevant items of all of them.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossatnet.evaluation.similarity import Floats

RESERVED = 3  # cells of a row in which no item lies by its similarity: room for rounding, and the query itself


class Places(NamedTuple):
    """Where each relevant item stands, row by row, the best first: arrays (P,).

    `rank` counts from 1; items of one tie have successive ranks. `before` are the items that are better than the tie
    of the item, `tied` those of its tie, itself included; both are None where no relevant item ties with another item.
    """

    row: NDArray[np.int64]
    rank: NDArray[np.int64]
    before: NDArray[np.int64] | None
    tied: NDArray[np.int64] | None


def places(
    similarity: Floats, relevant: NDArray[np.int64], self_matches: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> Places:
    """The places of the relevant items by similarities (b, N); positions of queries themselves do not count.

    `relevant` (P,) are positions, ascending, in the flattened matrix, `self_matches` rows and columns; similarities
    there are overwritten.

    Sorting a gallery takes longer than comparing it with the query, and most of its order is not needed. So the range
    of a query's similarities is cut into about as many cells as there are items, and the items of each cell are
    counted. Only items in a cell with a relevant item are sorted. A rank is the place among the sorted items, plus the
    number of items in better cells that were not sorted. Which cell an item is in is computed with rounding, but a
    better item is never in a worse cell, and within a cell the similarities themselves are compared.

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.order import places
        >>> none = (np.array([], dtype=int), np.array([], dtype=int))
        >>> found = places(np.array([[0.1, 0.9, 0.1, 0.5]]), np.array([0, 3]), none)
        >>> found.rank.tolist(), found.before.tolist(), found.tied.tolist()
        ([2, 3], [1, 2], [1, 2])
    """
    queries, items = similarity.shape
    cell, cells = _cells(similarity, self_matches)
    held = cell.take(relevant)
    counts = np.bincount(cell, minlength=queries * cells)
    counts[held] = 0
    skipped = np.cumsum(counts)  # items up to each cell, of all rows, that are not sorted
    is_held = np.zeros(queries * cells, dtype=np.bool_)
    is_held[held] = True
    listed = np.flatnonzero(is_held.take(cell))
    row = (listed // items).astype(np.uint16)
    digits = _digits(similarity.ravel().take(listed))
    order = np.lexsort([*digits, row])
    listed = listed.take(order)
    is_relevant = np.zeros(queries * items, dtype=np.bool_)
    is_relevant[relevant] = True
    found = np.flatnonzero(is_relevant.take(listed))
    own = cell.take(listed.take(found))
    own_row = own // cells
    unsorted_before = skipped.take(own) - own_row * items
    rank = found + 1 + unsorted_before
    starts = _starts([digit.take(order) for digit in digits], row.take(order))
    if len(starts) == len(listed):
        return Places(own_row, rank, None, None)
    tie = np.searchsorted(starts, found, side="right") - 1  # the number of each relevant item's tie
    tied = np.diff(starts, append=len(listed)).take(tie)
    if tied.max() == 1:
        return Places(own_row, rank, None, None)
    return Places(own_row, rank, starts.take(tie) + unsorted_before, tied)


def _cells(
    similarity: Floats, self_matches: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> tuple[NDArray[np.int64], int]:
    """The cell of every item in the flattened matrix, the best first and row after row, and the cells of a row."""
    queries, items = similarity.shape
    cells = items + RESERVED
    similarity[self_matches] = np.inf
    low = similarity.min(1)
    similarity[self_matches] = -np.inf
    high = similarity.max(1)
    with np.errstate(over="ignore", invalid="ignore"):
        spread = high - low
        if np.isfinite(spread).all():
            below = high[:, None] - similarity  # (b, N)
        else:  # they are so far apart that their difference has no number
            spread = high / 4 - low / 4
            below = (high / 4)[:, None] - similarity / 4
        # Where so few numbers lie between the worst and the best, all items are in one cell.
        is_wide = spread > cells * np.finfo(similarity.dtype).tiny
        below *= np.where(is_wide, items / np.where(is_wide, spread, 1), 0).astype(similarity.dtype)[:, None]
        first = np.arange(queries) * cells
        below += first.astype(similarity.dtype)[:, None]
    below[self_matches] = first[self_matches[0]] + cells - 1
    return below.ravel().astype(np.int32).astype(np.int64), cells  # NumPy has no fast way from floats to 64 bits


def _digits(values: Floats) -> list[NDArray[np.uint16]]:
    """Floats as whole numbers in the opposite order, in digits of 16 bits, the last first; equal floats are equal.

    NumPy sorts numbers of 16 bits by their digits, several times faster than it compares longer ones.
    """
    size = values.itemsize
    word = np.dtype(f"i{size}")
    bits = (values + values.dtype.type(0)).view(word)  # + 0: the zeros of both signs are equal
    ascending = bits ^ ((bits >> (8 * size - 1)) & np.iinfo(word).max)  # of negative ones, the lower bits turned over
    descending = ~ascending ^ np.iinfo(word).min
    return [(descending >> low).astype(np.uint16) for low in range(0, 8 * size, 16)]


def _starts(digits: list[NDArray[np.uint16]], row: NDArray[np.uint16]) -> NDArray[np.int64]:
    """Where the ties of a sorted list begin."""
    is_start = np.ones(len(row), dtype=np.bool_)
    is_start[1:] = row[1:] != row[:-1]
    for digit in digits:
        is_start[1:] |= digit[1:] != digit[:-1]
    return np.flatnonzero(is_start)
