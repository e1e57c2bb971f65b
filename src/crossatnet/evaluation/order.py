"""Where the relevant items of each query stand in its ranking, by exact comparison of similarities.

Shapes: `b` queries of a block, `N` gallery items, `P` relevant items of all these queries.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossatnet.evaluation.similarity import Floats, Matrix
from crossatnet.evaluation.ties import Ties

Numbers = NDArray[np.int64]


def places(similarity: Matrix, relevant: Sequence[Numbers], same: Numbers) -> tuple[Numbers, Ties]:
    """The ranks (P,) of the relevant items by similarities (b, N), row by row, the best first; and their ties.

    Items of one tie have successive ranks. `relevant` are the columns of each row's relevant items, `same` (b,) the
    column of the query itself, which does not count, or -1. The similarities are sorted in place: NumPy sorts numbers
    alone by vector instructions, several times faster than it finds the order of items, and a row fits a core's cache.
    A rank is then found by bisection. Of a tensor torch does both, on its device.

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.order import places
        >>> ranks, ties = places(np.array([[0.1, 0.9, 0.1, 0.5]]), [np.array([0, 3])], np.array([-1]))
        >>> ranks.tolist(), [column.tolist() for column in ties]
        ([2, 3], [[0], [1], [2], [2], [1]])
    """
    count = np.array([len(columns) for columns in relevant])
    if not isinstance(similarity, np.ndarray):
        return ranked(*_found_by_torch(similarity, relevant, count, same), count)
    found = [_found(*row) for row in zip(similarity, relevant, same.tolist(), strict=True)]
    before, size = (np.concatenate(column) for column in zip(*found, strict=True))
    return ranked(before, size, count)


def _found(values: Floats, relevant: Numbers, same: int) -> tuple[Numbers, Numbers]:
    """Of each relevant item of a row (N,), the best first: the number of better items, and of items in its tie."""
    sought = np.sort(values[relevant])
    if same >= 0:
        values[same] = -np.inf
    values.sort()
    end = values.searchsorted(sought, side="right")
    size = np.ones(len(sought), dtype=np.int64)
    (tied,) = np.nonzero(values[end - 2] == sought)
    size[tied] = end[tied] - values.searchsorted(sought[tied])
    return (len(values) - end)[::-1], size[::-1]


def _found_by_torch(
    similarity: Any, relevant: Sequence[Numbers], count: Numbers, same: Numbers
) -> tuple[Numbers, Numbers]:
    """As `_found`, of all rows of a tensor (b, N) at once, row by row; `count` (b,) is how many are relevant."""
    import torch

    is_item = np.arange(count.max()) < count[:, None]  # (b, R); rows with fewer are filled up
    columns = np.zeros(is_item.shape, dtype=np.int64)
    columns[is_item] = np.concatenate(relevant)
    filled = torch.as_tensor(~is_item, device=similarity.device)
    sought = similarity.gather(1, torch.as_tensor(columns, device=similarity.device))
    sought = sought.masked_fill(filled, -torch.inf).sort(1, descending=True).values
    (rows,) = np.nonzero(same >= 0)
    similarity[rows, same[rows]] = -torch.inf
    values = similarity.sort(1).values
    start, end = (torch.searchsorted(values, sought, right=right).cpu().numpy() for right in (False, True))
    return similarity.shape[1] - end[is_item], (end - start)[is_item]


def ranked(before: Numbers, size: Numbers, relevant: Numbers) -> tuple[Numbers, Ties]:
    """Ranks and ties of relevant items (P,), row by row, each with the number of better items and of those in its tie.

    `relevant` (b,) is how many of them each row has.

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.order import ranked
        >>> ranked(np.array([0, 0]), np.array([3, 3]), np.array([2]))[0].tolist()
        [1, 2]
    """
    first = np.cumsum(relevant) - relevant  # of each row
    is_leader = np.ones(len(before), dtype=np.bool_)  # of its tie
    np.not_equal(before[1:], before[:-1], out=is_leader[1:])
    is_leader[first] = True
    (leaders,) = np.nonzero(is_leader)
    hits = np.diff(leaders, append=len(before))
    ranks = before + 1
    if len(leaders) < len(before):
        ranks += np.arange(len(before)) - np.repeat(leaders, hits)
    is_tied = size[leaders] > 1
    leaders, hits = leaders[is_tied], hits[is_tied]
    row = np.searchsorted(first, leaders, side="right") - 1
    return ranks, Ties(row, leaders - first[row], before[leaders], size[leaders], hits)
