"""Whether the difference of two models on the same queries is more than chance: the paired bootstrap.

Shapes: `Q` queries, `C` classes.
"""

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from crossatnet.evaluation.protocol import SEED
from crossatnet.system.errors import UserError

RESAMPLES = 2000


class Difference(BaseModel):
    """The mean difference of two models, 95% intervals and two-sided p-values of no difference.

    `queries`: as it would vary with other sketches of the same classes. `classes`: with other classes and their
    sketches too, which is the question of a zero-shot test; it is the wider of the two.
    """

    model_config = ConfigDict(frozen=True)

    mean: float
    queries: tuple[float, float]
    queries_p: float
    classes: tuple[float, float]
    classes_p: float


def paired_bootstrap(first: NDArray[np.float64], second: NDArray[np.float64], number: NDArray[np.int64]) -> Difference:
    r"""Resample the differences (Q,) of two models' scores of the same queries, whose class is `number` (Q,).

    Over queries: the queries of each class are drawn from it with replacement, as many as it has. Over classes: classes
    are drawn with replacement, then the queries of each drawn class, anew each time that a class is drawn (Efron and
    Tibshirani 1993). Intervals are percentiles of `RESAMPLES` means. $p = 2 \min(P(d \le 0), P(d \ge 0))$ of these
    means d, which is never less than $2 / (RESAMPLES + 1)$. Raises `UserError` for lists that do not fit.

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.significance import paired_bootstrap
        >>> paired_bootstrap(np.zeros(4), np.ones(4), np.array([0, 0, 1, 1])).mean
        1.0
    """
    if not first.shape == second.shape == number.shape or first.ndim != 1 or not len(first):
        raise UserError(f"scores of {first.shape} and {second.shape} queries, classes of {number.shape}; give the same")
    random, difference = np.random.default_rng(SEED), second - first
    order = np.argsort(number, kind="stable")
    sizes = np.unique(number, return_counts=True)[1]  # (C,)
    sums = np.stack(
        [
            part[random.integers(len(part), size=(RESAMPLES, len(part)))].sum(1)
            for part in np.split(difference[order], np.cumsum(sizes)[:-1])
        ]
    )  # (C, RESAMPLES): sums over drawn queries of each class
    over_queries = sums.sum(0) / sizes.sum()
    drawn = random.integers(len(sizes), size=(RESAMPLES, len(sizes)))
    version = random.integers(RESAMPLES, size=drawn.shape)  # of the drawn queries of a class
    over_classes = sums[drawn, version].sum(1) / sizes[drawn].sum(1)
    return Difference(
        mean=float(difference.mean()),
        queries=_interval(over_queries),
        queries_p=_p_value(over_queries),
        classes=_interval(over_classes),
        classes_p=_p_value(over_classes),
    )


def _interval(means: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def _p_value(means: NDArray[np.float64]) -> float:
    """Two-sided, the observed difference counted among the resamples."""
    below, above = (1 + int((sign * means <= 0).sum()) for sign in (1, -1))
    return min(1.0, 2 * min(below, above) / (len(means) + 1))
