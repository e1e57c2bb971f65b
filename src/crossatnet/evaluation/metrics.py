r"""Retrieval metrics: scores from the ranks of a query's relevant items. Those of rankings with ties: `ties.py`.

Shapes: `Q` queries, `N` gallery items, `P` points of a curve. Let `R` be the number of relevant gallery items of a
query, and `ranks` (Q, R) their ranks, counted from 1, ascending. Queries with fewer relevant items than others are
padded with infinity, where precision is 0. `ranking.py` makes the rankings.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossatnet.system.errors import UserError

LEVELS = 101  # of recall, from 0 to 1
OF_TIES = ("optimistic", "pessimistic", "scikit-learn")  # definitions that differ from the plain one only by ties

Values = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class RetrievalScores:
    """Scores of every query, in the queries' order.

    Example:
        >>> import numpy as np
        >>> from crossatnet import evaluate
        >>> scores = evaluate(np.eye(2), ["cat", "dog"], np.eye(2), ["cat", "dog"], at=(1,))
        >>> scores.means()
        {'mAP@all': 1.0, 'P@1': 1.0}
        >>> scores.all_means()["R-precision"]
        1.0
        >>> scores.per_class()
        {'cat': 1.0, 'dog': 1.0}
    """

    values: Values  # (Q,) of each definition that `all_means` names
    precision_recall: NDArray[np.float64]  # (Q, LEVELS), `interpolated_precision`
    query_class: NDArray[np.generic]  # (Q,)
    gallery_size: int
    at: tuple[int, ...]

    @property
    def average_precision(self) -> NDArray[np.float64]:
        """Plain average precision on the whole gallery, (Q,)."""
        return self.values["mAP@all"]

    @property
    def precision_at(self) -> dict[int, NDArray[np.float64]]:
        """P@k, divided by k: k -> (Q,)."""
        return {k: self.values[f"P@{k}"] for k in self.at}

    def means(self) -> dict[str, float]:
        """Means over all queries: `mAP@all`, `P@k`."""
        means = self.all_means()
        return {name: means[name] for name in ("mAP@all", *(f"P@{k}" for k in self.at))}

    def all_means(self) -> dict[str, float]:
        """Means over all queries of every definition; the brackets distinguish definitions of one name.

        `mAP@all`, `P@k`; `mAP@k (hits)`, `mAP@k (min(k, R))`, `mAP@k (R)` (see `average_precision_at`);
        `P@k (min(k, R))`; `R-precision`; `mAP@all (VOC)`. Where items tie, these are expectations over random orders
        within ties, `(VOC)` alone takes ties whole (see `ties.interpolated_average_precision_of_ties`).
        `mAP@all (optimistic)` and `(pessimistic)` are those of the best and the worst order within ties, and
        `(scikit-learn)` takes ties whole, as `sklearn.metrics.average_precision_score` does.
        """
        return {name: float(values.mean()) for name, values in self.values.items()}

    def per_class(self) -> dict[str, float]:
        """mAP@all of the queries of each class."""
        return {
            str(name): float(self.average_precision[self.query_class == name].mean())
            for name in np.unique(self.query_class)
        }


def joined(parts: Sequence[RetrievalScores]) -> RetrievalScores:
    """One set of scores from several: those of queries that were ranked in the same gallery, in the order of the parts.

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.metrics import joined
        >>> from crossatnet.evaluation.ranking import evaluate
        >>> parts = [evaluate(np.eye(2)[[row]], [row], np.eye(2), [0, 1]) for row in (0, 1)]
        >>> joined(parts).average_precision.tolist()
        [1.0, 1.0]
    """
    first = parts[0]
    return RetrievalScores(
        {name: np.concatenate([part.values[name] for part in parts]) for name in first.values},
        np.concatenate([part.precision_recall for part in parts]),
        np.concatenate([part.query_class for part in parts]),
        first.gallery_size,
        first.at,
    )


# Definitions for rankings without ties


def relevant_ranks(relevant: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The `ranks` (Q, R) of the relevant items of rankings (Q, N), the best rank first.

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.metrics import relevant_ranks
        >>> relevant_ranks(np.array([[True, False, True]])).tolist()
        [[1.0, 3.0]]
    """
    found = relevant.sum(1)
    ranks = np.full((len(relevant), found.max(initial=0)), np.inf)
    ranks[np.arange(ranks.shape[1]) < found[:, None]] = np.nonzero(relevant)[1] + 1
    return ranks


def average_precision(relevant: NDArray[np.bool_]) -> NDArray[np.float64]:
    r"""Plain average precision of rankings, given as the relevance (Q, N) of each rank, the best first.

    $AP = \frac{1}{R} \sum_{i: r_i = 1} \frac{1}{i} \sum_{j \le i} r_j$, the mean of precision at each relevant rank, as
    scikit-learn computes it. Returns (Q,); NaN for a ranking without a relevant item.

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.metrics import average_precision
        >>> average_precision(np.array([[True, False, True]])).round(4).tolist()
        [0.8333]
    """
    return average_precision_at(relevant_ranks(relevant), max(relevant.shape[1], 1))["R"]


def average_precision_at(ranks: NDArray[np.float64], k: int) -> Values:
    r"""AP@k of `ranks` (Q, R) with each denominator in use: name -> (Q,). They agree only for a perfect ranking.

    $AP@k = \frac{1}{d} \sum_{i: rank_i \le k} \frac{i}{rank_i}$, where d is `hits`, the number of relevant items among
    the first k (lenient: 1 for a single hit at rank 1; 0 without any hit); `min(k, R)`, the most that k ranks can hold
    (strict); or `R`, all relevant items, where no ranking reaches 1 if R > k. Published figures seldom say which they
    use. Without a relevant item the value is NaN, for `hits` 0.

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.metrics import average_precision_at
        >>> values = average_precision_at(np.array([[1.0, 3.0]]), k=2)
        >>> {name: value.tolist() for name, value in values.items()}
        {'hits': [1.0], 'min(k, R)': [0.5], 'R': [0.5]}
    """
    check_k(k)
    total = np.where(ranks <= k, precisions_at(ranks), 0.0).sum(1)
    found, relevant = hits_at(ranks, k), np.isfinite(ranks).sum(1)
    with np.errstate(invalid="ignore"):
        return {
            "hits": total / np.maximum(found, 1),
            "min(k, R)": total / np.minimum(k, relevant),
            "R": total / relevant,
        }


def interpolated_average_precision(ranks: NDArray[np.float64]) -> NDArray[np.float64]:
    r"""AP as PASCAL VOC defines it since 2010, at all points of recall: `ranks` (Q, R) -> (Q,).

    $AP = \frac{1}{R} \sum_i \max_{j \ge i} \frac{j}{rank_j}$: precision is replaced by its envelope, the best at this
    or any higher recall (Everingham et al. 2010; not the mean at 11 recalls, which VOC used until 2009). Never less
    than the plain value. NaN without a relevant item.

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.metrics import interpolated_average_precision
        >>> interpolated_average_precision(np.array([[2.0, 3.0]])).round(4).tolist()
        [0.6667]
    """
    with np.errstate(invalid="ignore"):
        return _envelope(precisions_at(ranks)).sum(1) / np.isfinite(ranks).sum(1)  # type: ignore[no-any-return]


def hits_at(ranks: NDArray[np.float64], k: int | NDArray[np.int64]) -> NDArray[np.int64]:
    """Relevant items among the first k, a number or (Q,): `ranks` (Q, R) -> (Q,).

    Divided by k this is P@k. Divided by min(k, R) it is the other P@k in use, which can reach 1 if R < k. With k = R,
    divided by R, it is R-precision (Manning, Raghavan and Schütze 2008, 8.4).

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.metrics import hits_at
        >>> hits_at(np.array([[1.0, 3.0]]), k=2).tolist()
        [1]
    """
    check_k(k)
    return (ranks <= np.reshape(k, (-1, 1))).sum(1)  # type: ignore[no-any-return]


def precision_at(relevant: NDArray[np.bool_], k: int) -> NDArray[np.float64]:
    r"""P@k of rankings (Q, N): relevant items among the first k, divided by k even if the gallery is shorter. (Q,)

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.metrics import precision_at
        >>> precision_at(np.array([[True, False, True]]), k=2).tolist()
        [0.5]
    """
    return hits_at(relevant_ranks(relevant), k) / k


def interpolated_precision(hits: NDArray[np.int64], precision: NDArray[np.float64]) -> NDArray[np.float64]:
    r"""Curves of precision at the recalls 0, 0.01, ..., 1: (Q, LEVELS).

    Args: the points (Q, P) of each query's curve, as the number of `hits` up to it, ascending to R, and the precision
    there. The value at recall r is the best precision at any recall of at least r, $p(r) = \max_{r' \ge r} p(r')$
    (Manning, Raghavan and Schütze 2008, 8.4).

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.metrics import interpolated_precision
        >>> curve = interpolated_precision(np.array([[1, 2]]), np.array([[1.0, 0.5]]))
        >>> curve[0, [0, 50, 51, 100]].tolist()
        [1.0, 1.0, 0.5, 0.5]
    """
    queries, points = hits.shape
    needed = _needed(hits[:, -1])
    offset = np.arange(queries)[:, None] * (hits.max() + 1)  # makes one ascending list of all queries' hits
    point = np.searchsorted((hits + offset).ravel(), (needed + offset).ravel()).reshape(queries, LEVELS)
    return np.take_along_axis(_envelope(precision), point - np.arange(queries)[:, None] * points, axis=1)


# Every definition at once


def score_ranks(ranks: NDArray[np.float64], at: Sequence[int]) -> tuple[Values, NDArray[np.float64]]:
    """Every definition, and the precision-recall curves, of `ranks` (Q, R) of items without ties.

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.metrics import score_ranks
        >>> values, curves = score_ranks(np.array([[1.0, 3.0]]), at=(2,))
        >>> values["P@2"].tolist(), curves.shape
        ([0.5], (1, 101))
    """
    precisions = precisions_at(ranks)
    return score_precisions(ranks, precisions, precisions, at)


def score_precisions(
    ranks: NDArray[np.float64], precisions: NDArray[np.float64], ends: NDArray[np.float64], at: Sequence[int]
) -> tuple[Values, NDArray[np.float64]]:
    """As `score_ranks`, by other precisions (Q, R) than those at the ranks: expected ones, and those where ties end.

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.metrics import score_precisions
        >>> values, _ = score_precisions(np.array([[1.0]]), np.array([[0.75]]), np.array([[0.5]]), at=(2,))
        >>> values["mAP@all"].tolist(), values["mAP@all (VOC)"].tolist()
        ([0.75], [0.5])
    """
    relevant = np.isfinite(ranks).sum(1)
    # One after another: so a sum does not depend on how many ranks of infinity follow.
    total = np.cumsum(precisions, axis=1)  # (Q, R), up to each hit
    plain = total[:, -1] / relevant
    values = {"mAP@all": plain}
    found = {k: hits_at(ranks, k) for k in at}
    values |= {f"P@{k}": found[k] / k for k in at}
    for k in at:
        hits, most = found[k], np.minimum(k, relevant)
        up_to = np.where(hits, np.take_along_axis(total, np.maximum(hits, 1)[:, None] - 1, axis=1)[:, 0], 0.0)
        values |= {
            f"mAP@{k} (hits)": up_to / np.maximum(hits, 1),
            f"mAP@{k} (min(k, R))": up_to / most,
            f"mAP@{k} (R)": up_to / relevant,
            f"P@{k} (min(k, R))": hits / most,
        }
    values["R-precision"] = hits_at(ranks, relevant) / relevant
    envelope = _envelope(ends)
    values["mAP@all (VOC)"] = np.cumsum(envelope, axis=1)[:, -1] / relevant
    values |= {f"mAP@all ({name})": plain for name in OF_TIES}
    return values, np.take_along_axis(envelope, _needed(relevant) - 1, axis=1)


def precisions_at(ranks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Precision at each relevant rank, (Q, R) -> (Q, R).

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.metrics import precisions_at
        >>> precisions_at(np.array([[1.0, 4.0]])).tolist()
        [[1.0, 0.5]]
    """
    return np.arange(1, ranks.shape[1] + 1) / ranks


def _envelope(precision: NDArray[np.float64]) -> NDArray[np.float64]:
    """The best precision at this or a later point, (Q, P)."""
    return np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]


def _needed(relevant: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of R (Q,) relevant items are a recall of 0, 0.01, ..., 1, rounded up, at least one: (Q, LEVELS)."""
    return np.maximum(-(-np.arange(LEVELS) * relevant[:, None] // (LEVELS - 1)), 1)  # type: ignore[no-any-return]


def check_k(k: int | NDArray[np.int64]) -> None:
    """Raise `UserError` unless every k is 1 or more.

    Example:
        >>> from crossatnet.evaluation.metrics import check_k
        >>> check_k(1)
    """
    if np.min(k, initial=1) < 1:
        raise UserError(f"P@k needs k of at least 1, not {np.min(k)}")
