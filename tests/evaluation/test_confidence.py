"""How sure hits are: the fit against scikit-learn's, everything else against loops."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from crossatnet.evaluation.confidence import (
    FEWEST_SURE,
    HITS,
    OTHERS,
    RIDGE,
    RIGHT_AMONG_SURE,
    Bin,
    Judged,
    calibration_error,
    chances,
    cross_fitted,
    fit,
    judge,
    reliability,
    sure_from,
)
from crossatnet.model.confidence import Confidence
from crossatnet.system.errors import UserError


def made(hits: int = 600, seed: int = 0, slopes: tuple[float, float] = (6.0, 0.8)) -> Judged:
    """Hits whose chance to be right follows the model."""
    random = np.random.default_rng(seed)
    rows = np.column_stack([random.uniform(-0.2, 0.9, hits), random.normal(2, 1.5, hits)])
    truth = 1 / (1 + np.exp(-(rows @ np.array(slopes) - 3)))
    return Judged(rows, random.random(hits) < truth, np.arange(hits) // HITS)


@pytest.mark.parametrize("seed", range(4))
def test_the_fit_is_that_of_scikit_learn(seed: int) -> None:
    judged = made(seed=seed)
    found = fit(judged)
    mean, spread = judged.features.mean(0), judged.features.std(0)
    model = LogisticRegression(C=1 / (RIDGE * len(judged.right)), tol=1e-10, max_iter=1000)
    model.fit((judged.features - mean) / spread, judged.right)
    expected = model.coef_[0] / spread
    assert (found.score, found.outstanding) == pytest.approx(tuple(expected), rel=1e-4)
    assert found.intercept == pytest.approx(model.intercept_[0] - expected @ mean, rel=1e-4)
    of_checkpoint = Confidence(weights="", sure=0.5, fitted_on="a test", **found._asdict())
    scores, others = np.array([0.8, 0.5]), np.array([0.0, 0.1, 0.4])
    rows = np.array([[score, (score - others.mean()) / others.std()] for score in scores])
    by_fit = chances(found, Judged(rows, np.array([True, True]), np.zeros(2, np.int64)))
    assert of_checkpoint.chances(scores, others) == pytest.approx(by_fit)


def test_a_better_score_is_never_less_sure() -> None:
    found = fit(made(slopes=(6.0, -0.8)))
    assert found.outstanding == 0
    assert found.score > 0


def test_a_score_that_tells_all_is_fitted_too() -> None:
    rows = np.column_stack([np.linspace(0, 1, 100), np.zeros(100)])
    judged = Judged(rows, rows[:, 0] > 0.5, np.arange(100))
    chance = chances(fit(judged), judged)
    assert np.isfinite(chance).all()
    assert ((chance > 0.5) == judged.right).all()


@pytest.mark.parametrize("right", [True, False])
def test_hits_that_are_all_alike_cannot_be_fitted(right: bool) -> None:
    with pytest.raises(UserError, match="cannot be fitted"):
        fit(Judged(np.zeros((3, 2)), np.full(3, right), np.arange(3)))


@pytest.mark.parametrize("pictures", [5, OTHERS + 40])
def test_first_hits_are_those_of_a_loop(pictures: int) -> None:
    random = np.random.default_rng(pictures)
    similarity, right = random.normal(size=(7, pictures)), random.random((7, pictures)) < 0.3
    counts = random.random((7, pictures)) < 0.8
    judged = judge(similarity, right, counts, seed=3)
    sample = np.random.default_rng(3).permutation(pictures)[:OTHERS]
    row = 0
    for query in range(7):
        best = sorted((-similarity[query, item], item) for item in range(pictures) if counts[query, item])[:HITS]
        others = [similarity[query, item] for item in sample]
        mean = sum(others) / len(others)
        spread = (sum((value - mean) ** 2 for value in others) / len(others)) ** 0.5
        for negative, item in best:
            assert judged.features[row] == pytest.approx([-negative, (-negative - mean) / spread])
            assert (judged.right[row], judged.query[row]) == (right[query, item], query)
            row += 1
    assert row == len(judged.right)


def test_no_thing_judges_itself() -> None:
    judged, thing = made(240), np.arange(20) % 5
    found = cross_fitted(judged, thing, folds=5)
    for number in range(5):
        own = thing[judged.query] == number
        others = Judged(judged.features[~own], judged.right[~own], judged.query[~own])
        expected = chances(fit(others), Judged(judged.features[own], judged.right[own], judged.query[own]))
        assert found[own] == pytest.approx(expected)


def test_sure_hits_are_right_as_often_as_is_promised() -> None:
    judged = made(4000)
    chance = chances(fit(judged), judged)
    bound = sure_from(chance, judged.right)
    expected = 1.0
    for candidate in sorted(set(chance), reverse=True):
        among = judged.right[chance >= candidate]
        if len(among) >= FEWEST_SURE and among.mean() >= RIGHT_AMONG_SURE:
            expected = candidate
    assert bound == expected < 1
    other = made(4000, seed=9)
    assert other.right[chances(fit(judged), other) >= bound].mean() > 0.8


def test_too_few_right_hits_make_none_sure() -> None:
    assert sure_from(np.linspace(0, 0.9, 100), np.zeros(100, bool)) == 1
    assert sure_from(np.ones(FEWEST_SURE - 1), np.ones(FEWEST_SURE - 1, bool)) == 1


def test_reliability_and_its_error_are_those_of_a_loop() -> None:
    random = np.random.default_rng(0)
    chance = np.append(random.random(300), [0.0, 1.0])
    right = random.random(302) < chance
    expected = []
    for low in range(10):
        some = [index for index, value in enumerate(chance) if low == min(int(10 * value), 9)]
        expected.append(Bin(float(np.mean(chance[some])), float(np.mean(right[some])), len(some)))
    table = reliability(chance, right)
    assert [each.hits for each in table] == [each.hits for each in expected]
    assert [value for each in table for value in each] == pytest.approx([value for each in expected for value in each])
    error = sum(abs(each.chance - each.right) * each.hits / 302 for each in expected)
    assert calibration_error(table) == pytest.approx(error)
