"""Where the relevant items of each query stand in its ranking, by exact comparison of similarities.

Shapes: `b` queries of a strip, `N` gallery items, `R` relevant items of a query, `P` relevant items of all of them.
"""

import numpy as np
from numpy.typing import NDArray

from crossatnet.evaluation.similarity import Floats
from crossatnet.evaluation.ties import Ties

RESERVED = 3  # cells of a row in which no item lies by its similarity: room for rounding, and the query itself


def places(
    similarity: Floats, relevant: NDArray[np.int64], self_matches: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> tuple[NDArray[np.int64], Ties]:
    """The ranks (P,) of the relevant items by similarities (b, N), row by row, the best first; and their ties.

    Items of one tie have successive ranks. `relevant` (P,) are positions, ascending, in the flattened matrix,
    `self_matches` rows and columns of queries themselves, which do not count; similarities there are overwritten.

    Sorting a gallery takes longer than comparing it with the query, and most of its order is not needed. So the range
    of a query's similarities is cut into about as many cells as there are items, and the items of each cell are
    counted. Only items in a cell with a relevant item are sorted. A rank is the place among the sorted items, plus the
    number of items in better cells that were not sorted. Which cell an item is in is computed with rounding, but a
    better item is never in a worse cell, and within a cell the similarities themselves are compared.

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.order import places
        >>> none = (np.array([], dtype=int), np.array([], dtype=int))
        >>> ranks, ties = places(np.array([[0.1, 0.9, 0.1, 0.5]]), np.array([0, 3]), none)
        >>> ranks.tolist(), [column.tolist() for column in ties]
        ([2, 3], [[0], [1], [2], [2], [1]])
    """
    queries, items = similarity.shape
    cell, cells = _cells(similarity, self_matches)
    held = cell.take(relevant)
    counts = np.bincount(cell, minlength=queries * cells)
    counts[held] = 0
    skipped = np.cumsum(counts)  # items up to each cell, of all rows, that are not sorted
    is_held = np.zeros(queries * cells, dtype=np.bool_)
    is_held[held] = True
    listed = np.flatnonzero(is_held.take(cell))  # row after row
    begin = np.arange(queries + 1) * items
    first = np.searchsorted(listed, begin)  # where each row begins in the list, and the list's end
    value = similarity.ravel().take(listed)
    order = np.lexsort([*_digits(value), np.repeat(np.arange(queries, dtype=np.uint16), np.diff(first))])
    listed, value = listed.take(order), value.take(order)
    is_relevant = np.zeros(queries * items, dtype=np.bool_)
    is_relevant[relevant] = True
    found = np.flatnonzero(is_relevant.take(listed))
    start_of_row = np.searchsorted(relevant, begin)  # among the relevant items, and their end
    row = np.repeat(np.arange(queries), np.diff(start_of_row))
    unsorted_before = skipped.take(cell.take(listed.take(found))) - row * items
    is_start = np.ones(len(listed) + 1, dtype=np.bool_)  # of a tie, and the list's end
    np.not_equal(value[1:], value[:-1], out=is_start[1:-1])
    is_start[first] = True
    (tied,) = np.nonzero(~(is_start.take(found) & is_start.take(found + 1)))  # relevant items that are not alone
    return found + 1 + unsorted_before, _ties(
        tied, row, tied - start_of_row[row[tied]], found, unsorted_before, is_start
    )


def _ties(
    tied: NDArray[np.int64],
    row: NDArray[np.int64],
    number: NDArray[np.int64],
    found: NDArray[np.int64],
    unsorted_before: NDArray[np.int64],
    is_start: NDArray[np.bool_],
) -> Ties:
    """The ties of relevant items `tied`, which have this `number` among their query's; all else is of all of them."""
    starts = np.flatnonzero(is_start)
    tie = np.searchsorted(starts, found[tied], side="right") - 1
    is_first = np.ones(len(tied), dtype=np.bool_)
    is_first[1:] = tie[1:] != tie[:-1]
    (leaders,) = np.nonzero(is_first)
    tie, leading = tie[leaders], tied[leaders]
    return Ties(
        row[leading],
        number[leaders],
        starts[tie] + unsorted_before[leading],
        starts[tie + 1] - starts[tie],
        np.diff(leaders, append=len(tied)),
    )


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
