"""Fits how sure a hit is, on classes that training has not met, and says how well the fit holds.

Letters: `Q` queries, `N` gallery pictures, `H` hits of all queries.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossatnet.model.confidence import OTHERS, features, logistic
from crossatnet.system.errors import UserError

HITS = 12  # of each query: what a page shows at first
RIGHT_AMONG_SURE = 0.85  # of things that the fit has not seen, so that .80 is left on others
FOLDS = 8
FEWEST_SURE = 30  # hits that the bound must hold for: fewer prove nothing
RIDGE = 1e-3  # of the coefficients, for standardised features: keeps a fit finite where a score tells all
STEPS = 50


class Judged(NamedTuple):
    """The first hits of some queries: what their chance depends on, and whether they are right."""

    features: NDArray[np.float64]  # (H, 2)
    right: NDArray[np.bool_]  # (H,)
    query: NDArray[np.int64]  # (H,), the number of each hit's query

    def among(self, hits: NDArray[np.bool_]) -> "Judged":
        """Some of the hits, by (H,)."""
        return Judged(self.features[hits], self.right[hits], self.query[hits])


class Fit(NamedTuple):
    """The coefficients of `crossatnet.model.confidence.Confidence`."""

    intercept: float
    score: float
    outstanding: float


class Bin(NamedTuple):
    """Hits of similar chance: their mean chance, the share of them that is right, and their number."""

    chance: float
    right: float
    hits: int


def judge(
    similarity: NDArray[np.floating], right: NDArray[np.bool_], counts: NDArray[np.bool_] | None = None, seed: int = 0
) -> Judged:
    """The first `HITS` hits of each query, by similarities (Q, N) and whether a picture is right (Q, N).

    Pictures that do not count, by (Q, N), are passed over. The gallery's spread is that of `OTHERS` pictures drawn from
    all of it, the same for all queries.

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.confidence import judge
        >>> judged = judge(np.array([[0.9, 0.1, 0.3]]), np.array([[True, False, False]]))
        >>> judged.right.tolist(), judged.features[:, 0].tolist()
        ([True, False, False], [0.9, 0.3, 0.1])
    """
    random = np.random.default_rng(seed)
    sample = random.permutation(similarity.shape[1])[:OTHERS]
    parts: list[Judged] = []
    for number, scores in enumerate(similarity):
        among = np.flatnonzero(counts[number]) if counts is not None else np.arange(len(scores))
        first = among[np.argsort(-scores[among], kind="stable")[:HITS]]
        own = np.full(len(first), number)
        parts.append(Judged(features(scores[first], scores[sample]), right[number, first], own))
    return Judged(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def fit(judged: Judged) -> Fit:
    """Logistic regression of `right` on the features, by Newton's method, coefficients below zero held at zero.

    Raises `UserError` if all hits are right, or none.

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.confidence import Judged, fit
        >>> rows = np.array([[0.1, 0.0], [0.2, 1.0], [0.3, 0.5], [0.4, 2.0]])
        >>> found = fit(Judged(rows, np.array([False, True, False, True]), np.arange(4)))
        >>> found.outstanding > 0
        True
    """
    if judged.right.all() or not judged.right.any():
        raise UserError("confidence cannot be fitted: all hits are right, or none is; give drawings of more things")
    used = [0, 1]
    while True:
        weights = _regression(judged.features[:, used], judged.right)
        negative = [column for column, weight in zip(used, weights[1:], strict=True) if weight < 0]
        if not negative:
            break
        used = [column for column in used if column not in negative]
    coefficients = np.zeros(2)
    coefficients[used] = weights[1:]
    return Fit(float(weights[0]), *map(float, coefficients))


def chances(fitted: Fit, judged: Judged) -> NDArray[np.float64]:
    """The chance (H,) of each hit by a fit.

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.confidence import Fit, Judged, chances
        >>> chances(Fit(0, 0, 0), Judged(np.zeros((1, 2)), np.array([True]), np.array([0]))).tolist()
        [0.5]
    """
    logits = judged.features @ np.array([fitted.score, fitted.outstanding]) + fitted.intercept
    return logistic(logits)


def cross_fitted(judged: Judged, thing: NDArray[np.int64], folds: int = FOLDS) -> NDArray[np.float64]:
    """The chance (H,) of each hit by a fit on other things; `thing` (Q,) numbers what each query shows.

    A network may be sure of a wrong answer for all drawings of a thing, so things must not be on both sides of a fit.

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.confidence import Judged, cross_fitted
        >>> rows, query = np.random.default_rng(0).normal(size=(40, 2)), np.arange(40)
        >>> cross_fitted(Judged(rows, rows[:, 0] > 0, query), query % 8, folds=2).shape
        (40,)
    """
    fold = np.random.default_rng(0).permutation(thing.max() + 1) % folds  # of each thing
    of_hit = fold[thing][judged.query]  # (H,)
    found = np.empty(len(of_hit))
    for number in range(folds):
        inside = of_hit == number
        found[inside] = chances(fit(judged.among(~inside)), judged.among(inside))
    return found


def sure_from(chance: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """The lowest chance from which on `RIGHT_AMONG_SURE` of the hits (H,) are right; 1 if there is none.

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.confidence import sure_from
        >>> chance = np.repeat([0.9, 0.6, 0.2], 50)
        >>> sure_from(chance, np.repeat([True, True, False], 50))
        0.6
    """
    order = np.argsort(-chance, kind="stable")
    share = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    ends = np.append(np.diff(chance[order]) != 0, True)  # a chance counts with all hits that have it
    enough = np.flatnonzero(ends & (share >= RIGHT_AMONG_SURE) & (np.arange(1, len(order) + 1) >= FEWEST_SURE))
    return float(chance[order[enough[-1]]]) if len(enough) else 1.0


def reliability(chance: NDArray[np.float64], right: NDArray[np.bool_], bins: int = 10) -> list[Bin]:
    """Hits (H,) in bins of equal width by their chance, lowest first, without empty ones (a reliability diagram).

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.confidence import reliability
        >>> reliability(np.array([0.25, 0.75]), np.array([False, True]), bins=2)
        [Bin(chance=0.25, right=0.0, hits=1), Bin(chance=0.75, right=1.0, hits=1)]
    """
    number = np.minimum((chance * bins).astype(int), bins - 1)
    members: Sequence[NDArray[np.bool_]] = [number == index for index in range(bins)]
    return [
        Bin(float(chance[some].mean()), float(right[some].mean()), int(some.sum())) for some in members if some.any()
    ]


def calibration_error(table: Sequence[Bin]) -> float:
    """The expected calibration error: the mean distance of chance and share of right hits, by the number of hits.

    Example:
        >>> from crossatnet.evaluation.confidence import Bin, calibration_error
        >>> calibration_error([Bin(0.5, 0.75, 3), Bin(0.1, 0.1, 1)])
        0.1875
    """
    hits = sum(each.hits for each in table)
    return sum(abs(each.chance - each.right) * each.hits for each in table) / hits


def _regression(columns: NDArray[np.float64], right: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Intercept and weights of a ridge logistic regression on columns (H, F), in the columns' own units."""
    mean, spread = columns.mean(0), np.maximum(columns.std(0), 1e-12)
    x = np.column_stack([np.ones(len(columns)), (columns - mean) / spread])  # (H, 1 + F)
    penalty = RIDGE * np.diag([0.0, *np.ones(columns.shape[1])])
    weights = np.zeros(x.shape[1])
    for _ in range(STEPS):
        chance = logistic(x @ weights)
        slope = x.T @ (chance - right) / len(x) + penalty @ weights
        curve = (x * (chance * (1 - chance))[:, None]).T @ x / len(x) + penalty + 1e-12 * np.eye(len(weights))
        step = np.linalg.solve(curve, slope)
        weights = weights - step
        if np.abs(step).max() < 1e-10:
            break
    own = weights[1:] / spread
    return np.array([weights[0] - own @ mean, *own])
