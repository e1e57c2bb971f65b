r"""Retrieval metrics of rankings with ties: scores from how many items, and how many relevant ones, each tie has.

Shapes: `Q` queries, `R` relevant items of a query, `T` ties, the best first. A tie may have no relevant item, or no
item at all. Let $n_t$ be the `items` of tie t, $r_t$ its `hits`, the relevant ones among them, $N_t$ the items and
$R_t$ the hits of all better ties, and $R$ all hits.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossatnet.evaluation.metrics import (
    OF_TIES,
    Values,
    check_k,
    interpolated_precision,
    precisions_at,
    score_precisions,
)

Counts = NDArray[np.int64]


def expected_average_precision(items: Counts, hits: Counts, k: int | None = None) -> NDArray[np.float64]:
    r"""Expectation of average precision over random orders within ties: (Q, T), (Q, T) -> (Q,).

    The i-th item of tie t is relevant with probability $r_t / n_t$; if it is, $(i - 1) (r_t - 1) / (n_t - 1)$ hits of
    the tie are expected before it:

    $AP = \frac{1}{R} \sum_t \frac{r_t}{n_t} \sum_{i=1}^{m_t}
    \frac{R_t + 1 + (i - 1) \frac{r_t - 1}{n_t - 1}}{N_t + i}$ (McSherry and Najork 2008)

    with $m_t = n_t$. For AP@k with denominator R, $m_t$ is the number of items of the tie among the first k. The inner
    sums are differences of harmonic numbers.

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.ties import expected_average_precision
        >>> expected_average_precision(np.array([[2]]), np.array([[1]])).tolist()
        [0.75]
    """
    before, taken = _before(items), items
    if k is not None:
        check_k(k)
        taken = np.clip(k - before, 0, items)
    share = hits / np.maximum(items, 1)
    rise = (hits - 1) / np.maximum(items - 1, 1)
    return _total(share * _precisions(before, _before(hits), taken, rise)) / hits.sum(1)  # type: ignore[no-any-return]


def expected_lenient_average_precision(items: Counts, hits: Counts, k: int) -> NDArray[np.float64]:
    r"""Expectation of AP@k divided by the hits among the first k: (Q, T), (Q, T) -> (Q,).

    Sum and divisor are random together where tie b reaches beyond rank k. Of its $m = k - N_b$ items among the first k,
    h are hits with the hypergeometric probability $p(h)$. Let A be the expected sum of precisions in better ties; then

    $AP = \sum_h p(h) \frac{1}{R_b + h} \left(A + \frac{h}{m} \sum_{i=1}^{m}
    \frac{R_b + 1 + (i - 1) \frac{h - 1}{m - 1}}{N_b + i}\right)$, 0 without a hit.

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.ties import expected_lenient_average_precision
        >>> expected_lenient_average_precision(np.array([[2]]), np.array([[1]]), 1).tolist()
        [0.5]
    """
    check_k(k)
    before, hits_before = _before(items), _before(hits)
    is_whole = before + items <= k
    share = hits / np.maximum(items, 1)
    rise = (hits - 1) / np.maximum(items - 1, 1)
    whole = _total(np.where(is_whole, share * _precisions(before, hits_before, items, rise), 0.0))
    found = (hits * is_whole).sum(1)
    scores: NDArray[np.float64] = whole / np.maximum(found, 1)
    row, tie = np.nonzero(
        (before < k) & ~is_whole & (hits > 0)
    )  # the tie that reaches beyond k, at most one of a query
    if len(row):
        taken = (k - before[row, tie])[:, None]
        drawn, probability = _hypergeometric(items[row, tie][:, None], hits[row, tie][:, None], taken)  # (rows, H)
        climb = (drawn - 1) / np.maximum(taken - 1, 1)
        inside = drawn / taken * _precisions(before[row, tie][:, None], found[row][:, None], taken, climb)
        value = (whole[row][:, None] + inside) / np.maximum(found[row][:, None] + drawn, 1)
        scores[row] = _total(probability * value)
    return scores


def extreme_average_precision(items: Counts, hits: Counts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Optimistic and pessimistic average precision: (Q, T), (Q, T) -> (Q,), (Q,).

    The hits of each tie stand first or last in it, at ranks $S_t + 1$ to $S_t + r_t$ with $S_t = N_t$ or
    $S_t = N_t + n_t - r_t$: $AP = \frac{1}{R} \sum_t \sum_{i=1}^{r_t} \frac{R_t + i}{S_t + i}$. Public code that
    ignores ties reports a value between the two, and one of the two if its gallery is sorted by class.

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.ties import extreme_average_precision
        >>> best, worst = extreme_average_precision(np.array([[2]]), np.array([[1]]))
        >>> best.tolist(), worst.tolist()
        ([1.0], [0.5])
    """
    first, hits_before = _before(items), _before(hits)
    best, worst = (
        _total(_precisions(start, hits_before, hits, 1.0)) / hits.sum(1) for start in (first, first + items - hits)
    )
    return best, worst


def whole_tie_average_precision(items: Counts, hits: Counts) -> NDArray[np.float64]:
    r"""Average precision as scikit-learn computes it: all items of a tie are taken at once. (Q, T), (Q, T) -> (Q,)

    $AP = \frac{1}{R} \sum_t r_t \frac{R_t + r_t}{N_t + n_t}$. Of embeddings that are all equal it is the share of
    relevant items, where the expectation over random orders is higher.

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.ties import whole_tie_average_precision
        >>> whole_tie_average_precision(np.array([[2]]), np.array([[1]])).tolist()
        [0.5]
    """
    return _total(hits * _precision_at_ends(items, hits)) / hits.sum(1)  # type: ignore[no-any-return]


def interpolated_average_precision_of_ties(items: Counts, hits: Counts) -> NDArray[np.float64]:
    r"""AP as PASCAL VOC defines it since 2010, ties taken whole: (Q, T), (Q, T) -> (Q,).

    $AP = \frac{1}{R} \sum_t r_t \max_{u \ge t} \frac{R_u + r_u}{N_u + n_u}$, where only thresholds of similarity are
    points of the curve. Without ties: `metrics.interpolated_average_precision`.

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.ties import interpolated_average_precision_of_ties
        >>> interpolated_average_precision_of_ties(np.array([[1, 2]]), np.array([[0, 2]])).round(4).tolist()
        [0.6667]
    """
    best = np.maximum.accumulate(_precision_at_ends(items, hits)[:, ::-1], axis=1)[:, ::-1]
    return _total(hits * best) / hits.sum(1)  # type: ignore[no-any-return]


def expected_precision_at(items: Counts, hits: Counts, k: int | Counts) -> NDArray[np.float64]:
    """Expectation of P@k, k a number or (Q,), over random orders within ties: (Q, T), (Q, T) -> (Q,).

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.ties import expected_precision_at
        >>> expected_precision_at(np.array([[2]]), np.array([[1]]), k=1).tolist()
        [0.5]
    """
    check_k(k)
    share = np.clip(
        (np.reshape(k, (-1, 1)) - _before(items)) / np.maximum(items, 1), 0, 1
    )  # the share of each tie that is within the first k
    return _total(share * hits) / k


class Ties(NamedTuple):
    """The ties of several items, some of them relevant, that rankings have: arrays with one number for each tie."""

    query: Counts
    hits_before: Counts  # relevant items of the query in better ties
    before: Counts  # items in better ties
    items: Counts
    hits: Counts


def score_counts(items: Counts, hits: Counts, at: Sequence[int]) -> tuple[Values, NDArray[np.float64]]:
    """Every definition, and the precision-recall curves, of ties (Q, T), whose ends are the points of the curve.

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.ties import score_counts
        >>> values, curves = score_counts(np.array([[2]]), np.array([[1]]), at=(1,))
        >>> values["mAP@all"].tolist(), curves.shape
        ([0.75], (1, 101))
    """
    query, place = np.nonzero((items > 1) & (hits > 0))
    before, hits_before = _before(items), _before(hits)
    ties = Ties(query, *(part[query, place] for part in (hits_before, before, items, hits)))
    is_split = _are_split(ties, hits.sum(1), at)
    if is_split.all():
        return _score_ties(items, hits, at)
    whole = ~is_split
    scored = _score_whole(_ranks(items[whole], hits[whole]), _of_queries(ties, whole), at)
    return _merged(scored, _score_ties(items[is_split], hits[is_split], at) if is_split.any() else None, is_split)


def score_places(ranks: NDArray[np.float64], ties: Ties, at: Sequence[int]) -> tuple[Values, NDArray[np.float64]]:
    """As `score_counts`, from the `ranks` (Q, R) of relevant items, those of a tie in any order, and their ties.

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.ties import Ties, score_places
        >>> pair = Ties(*(np.array([number]) for number in (0, 0, 0, 2, 1)))
        >>> score_places(np.array([[2.0]]), pair, at=(1,))[0]["mAP@all"].tolist()
        [0.75]
    """
    is_split = _are_split(ties, np.isfinite(ranks).sum(1), at)
    whole = ~is_split
    scored = _score_whole(ranks[whole], _of_queries(ties, whole), at) if whole.any() else None
    if not is_split.any():
        return scored  # type: ignore[return-value]  # then all are whole
    split = _score_ties(*_counts(ranks[is_split], _of_queries(ties, is_split)), at)
    return split if scored is None else _merged(scored, split, is_split)


def _are_split(ties: Ties, relevant: Counts, at: Sequence[int]) -> NDArray[np.bool_]:
    """Which queries (Q,) have a tie that begins within the first k items and ends beyond them, k of `at` or R."""
    is_split = np.zeros(len(relevant), dtype=np.bool_)
    ends: list[int | Counts] = [*at, relevant[ties.query]]
    for k in ends:
        is_split[ties.query[(ties.before < k) & (ties.before + ties.items > k)]] = True
    return is_split


def _of_queries(ties: Ties, kept: NDArray[np.bool_]) -> Ties:
    """The ties of some queries, numbered as if these were all."""
    part = Ties(*(column[kept[ties.query]] for column in ties))
    return part._replace(query=(np.cumsum(kept) - 1)[part.query])


def _score_whole(ranks: NDArray[np.float64], ties: Ties, at: Sequence[int]) -> tuple[Values, NDArray[np.float64]]:
    """Every definition where no k divides a tie: its hits all count with their mean precision, or with its end's."""
    query, first, before, items, hits = ties
    plain = precisions_at(ranks)
    if not len(query):
        return score_precisions(ranks, plain, plain, at)
    expected, ends = plain, plain.copy()
    tie = np.repeat(np.arange(len(query)), hits)
    place = query[tie], first[tie] + np.arange(len(tie)) - (np.cumsum(hits) - hits)[tie]
    mean = _precisions(before, first, items, (hits - 1) / (items - 1)) / items
    expected[place] = mean[tie]
    end = (first + hits) / (before + items)
    ends[place] = end[tie]
    values, curves = score_precisions(ranks, expected, ends, at)
    relevant = np.isfinite(ranks).sum(1)
    totals = (
        _precisions(before, first, hits, 1.0),
        _precisions(before + items - hits, first, hits, 1.0),
        hits * end,
    )
    for name, total in zip(OF_TIES, totals, strict=True):
        more = np.bincount(query, total - hits * mean, minlength=len(ranks))
        values[f"mAP@all ({name})"] = values[f"mAP@all ({name})"] + more / relevant
    return values, curves


def _counts(ranks: NDArray[np.float64], ties: Ties) -> tuple[Counts, Counts]:
    """Items and hits (Q, T): every other one of the T ties has relevant items, those between them all others there."""
    is_rank = np.isfinite(ranks)
    hits_of, size = is_rank.astype(np.int64), is_rank.astype(np.int64)
    start = np.where(is_rank, ranks - 1, 0).astype(np.int64)
    tie = np.repeat(np.arange(len(ties.query)), ties.hits)
    offset = np.arange(len(tie)) - (np.cumsum(ties.hits) - ties.hits)[tie]
    hits_of[ties.query[tie], ties.hits_before[tie] + offset] = np.where(offset == 0, ties.hits[tie], 0)
    leader = ties.query, ties.hits_before
    size[leader], start[leader] = ties.items, ties.before
    row, place = np.nonzero(hits_of)
    number = np.arange(len(row)) - np.searchsorted(row, row)  # of a tie among its query's
    size, start, hits_of = size[row, place], start[row, place], hits_of[row, place]
    shape = (len(ranks), 2 * (int(number.max()) + 1))
    items, hits = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    items[row, 2 * number] = start - np.where(number, np.roll(start + size, 1), 0)
    items[row, 2 * number + 1], hits[row, 2 * number + 1] = size, hits_of
    return items, hits


def _merged(
    whole: tuple[Values, NDArray[np.float64]],
    split: tuple[Values, NDArray[np.float64]] | None,
    is_split: NDArray[np.bool_],
) -> tuple[Values, NDArray[np.float64]]:
    """One set of values and curves from those of queries with no divided tie and of others, where `is_split` (Q,)."""
    if split is None:
        return whole

    def joined(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
        both = np.empty((len(is_split), *first.shape[1:]))
        both[~is_split], both[is_split] = first, second
        return both

    return {name: joined(value, split[0][name]) for name, value in whole[0].items()}, joined(whole[1], split[1])


def _score_ties(items: Counts, hits: Counts, at: Sequence[int]) -> tuple[Values, NDArray[np.float64]]:
    relevant = hits.sum(1)
    values = {"mAP@all": expected_average_precision(items, hits)}
    values |= {f"P@{k}": expected_precision_at(items, hits, k) for k in at}
    for k in at:
        value, most = expected_average_precision(items, hits, k), np.minimum(k, relevant)
        values[f"mAP@{k} (hits)"] = expected_lenient_average_precision(items, hits, k)
        values |= {f"mAP@{k} (min(k, R))": value * relevant / most, f"mAP@{k} (R)": value}
        values[f"P@{k} (min(k, R))"] = values[f"P@{k}"] * k / most
    values["R-precision"] = expected_precision_at(items, hits, relevant)
    values["mAP@all (VOC)"] = interpolated_average_precision_of_ties(items, hits)
    values["mAP@all (optimistic)"], values["mAP@all (pessimistic)"] = extreme_average_precision(items, hits)
    values["mAP@all (scikit-learn)"] = whole_tie_average_precision(items, hits)
    return values, interpolated_precision(np.cumsum(hits, axis=1), _precision_at_ends(items, hits))


def _precisions(
    before: Counts, hits_before: Counts, taken: Counts, rise: NDArray[np.float64] | float
) -> NDArray[np.float64]:
    r"""$\sum_{i=1}^{m} \frac{R + 1 + (i - 1) q}{N + i}$ for N items and R hits `before`, m `taken` and a `rise` q."""
    harmonic = _harmonic(int((before + taken).max(initial=0)))
    reciprocals = harmonic[before + taken] - harmonic[before]  # the sum of 1 / (N + i)
    steps = taken - (before + 1) * reciprocals  # the sum of (i - 1) / (N + i)
    return (hits_before + 1) * reciprocals + rise * steps  # type: ignore[no-any-return]


def _hypergeometric(items: Counts, hits: Counts, taken: Counts) -> tuple[Counts, NDArray[np.float64]]:
    """How many hits are drawn when of `items` with `hits` some are `taken`, (rows, 1) each: numbers and probabilities.

    Only numbers near the mean (rows, H): those left out have a probability below 1e-16 (Bernstein's inequality).
    """
    mean = taken * hits / items
    reach = np.ceil(9 * np.sqrt(mean * (1 - hits / items)) + 30).astype(np.int64)
    low = np.maximum(np.maximum(0, taken - (items - hits)), np.floor(mean).astype(np.int64) - reach)
    high = np.minimum(np.minimum(taken, hits), np.ceil(mean).astype(np.int64) + reach)
    drawn = low + np.arange(int((high - low).max()) + 1)
    is_possible = drawn <= high
    drawn = np.minimum(drawn, high)
    factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, items.max() + 1)))])
    others = items - hits
    log = -factorial[drawn] - factorial[hits - drawn] - factorial[taken - drawn] - factorial[others - taken + drawn]
    weight = np.where(is_possible, np.exp(log - log.max(1, keepdims=True)), 0.0)
    return drawn, weight / _total(weight)[:, None]


def _ranks(items: Counts, hits: Counts) -> NDArray[np.float64]:
    """The ranks (Q, R) of all hits, those of a tie its first ones."""
    found, place = hits.sum(1), hits > 0
    size = hits[place]
    first = np.repeat((_before(items) + 1)[place], size)
    offset = np.arange(len(first)) - np.repeat(np.cumsum(size) - size, size)
    ranks = np.full((len(hits), int(found.max(initial=1))), np.inf)
    ranks[np.arange(ranks.shape[1]) < found[:, None]] = first + offset
    return ranks


def _precision_at_ends(items: Counts, hits: Counts) -> NDArray[np.float64]:
    """Precision where each tie ends, (Q, T)."""
    return np.cumsum(hits, axis=1) / np.maximum(np.cumsum(items, axis=1), 1)


def _total(values: NDArray[Any]) -> NDArray[np.float64]:
    """Sums over ties, (Q, T) -> (Q,), one after another: ties without hits between the others change no bit."""
    return np.cumsum(values, axis=1)[:, -1]


def _before(counts: Counts) -> Counts:
    """How many items the better ties have, (Q, T)."""
    return np.cumsum(counts, axis=1) - counts


def _harmonic(most: int) -> NDArray[np.float64]:
    """Harmonic numbers from 0 to `most` or more."""
    return _harmonic_table(1 << most.bit_length())


@lru_cache(maxsize=4)
def _harmonic_table(size: int) -> NDArray[np.float64]:
    return np.concatenate([[0.0], np.cumsum(1 / np.arange(1, size + 1))])
