"""Definitions of metrics against scikit-learn, against loops, and by hand."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from crossatnet.evaluation.metrics import (
    average_precision,
    average_precision_at,
    hits_at,
    interpolated_average_precision,
    interpolated_precision,
    precision_at,
    relevant_ranks,
)
from crossatnet.evaluation.ties import expected_average_precision, expected_precision_at, extreme_average_precision
from oracles import metrics as oracle

DENOMINATORS = ("hits", "min(k, R)", "R")


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_equals_scikit_learn_and_the_loop(seed: int) -> None:
    random = np.random.default_rng(seed)
    length = int(random.integers(2, 200))
    relevant = random.random((8, length)) < random.uniform(0.02, 0.9)
    relevant[:, random.integers(length)] = True
    score = -np.arange(length)  # best first, no ties
    ours = average_precision(relevant)
    assert ours == pytest.approx([average_precision_score(row, score) for row in relevant], abs=1e-12)
    assert ours == pytest.approx([oracle.average_precision(row.tolist()) for row in relevant], abs=1e-12)


def test_average_precision_by_hand() -> None:
    relevant = np.array([[1, 0, 1, 0], [0, 0, 0, 1], [1, 1, 1, 1], [0, 1, 1, 0]], dtype=bool)
    expected = [(1 / 1 + 2 / 3) / 2, 1 / 4, 1.0, (1 / 2 + 2 / 3) / 2]
    assert average_precision(relevant) == pytest.approx(expected)


def test_a_ranking_without_anything_relevant_is_nan() -> None:
    assert np.isnan(average_precision(np.zeros((1, 3), dtype=bool))).tolist() == [True]


def test_precision_at_k_divides_by_k_even_if_the_gallery_is_shorter() -> None:
    relevant = np.array([[True, False, True], [False, True, True]])
    assert precision_at(relevant, 1).tolist() == [1.0, 0.0]
    assert precision_at(relevant, 2).tolist() == [0.5, 0.5]
    assert precision_at(relevant, 100).tolist() == [0.02, 0.02]


def test_every_definition_by_hand() -> None:
    """Hits at ranks 1, 4 and 5 of 5: precision 1, 1/2 and 3/5; the last is the best from rank 4 on."""
    ranks = relevant_ranks(np.array([[1, 0, 0, 1, 1]], dtype=bool))
    assert ranks.tolist() == [[1, 4, 5]]
    assert interpolated_average_precision(ranks) == pytest.approx([(1 + 3 / 5 + 3 / 5) / 3])
    for k, expected in ((2, [1, 1 / 2, 1 / 3]), (4, [3 / 2 / 2, 3 / 2 / 3, 3 / 2 / 3])):
        found = average_precision_at(ranks, k)
        assert [found[name][0] for name in DENOMINATORS] == pytest.approx(expected)
    assert [hits_at(ranks, k).tolist() for k in (1, 3, 4, 9)] == [[1], [1], [2], [3]]
    curve = interpolated_precision(np.array([[1, 2, 3]]), 1 / ranks * [1, 2, 3])[0]  # recall 1/3, 2/3, 1
    assert curve == pytest.approx([1.0] * 34 + [0.6] * 67)


def test_the_denominators_of_map_at_k_differ_widely() -> None:
    """One hit at rank 1, of a class of 1,000: perfect by hits, almost 0 if divided by 200 or by 1,000."""
    relevant = np.zeros((1, 2000), dtype=bool)
    relevant[0, [0, *range(1001, 2000)]] = True
    assert {name: value[0] for name, value in average_precision_at(relevant_ranks(relevant), 200).items()} == (
        pytest.approx({"hits": 1.0, "min(k, R)": 1 / 200, "R": 1 / 1000})
    )


def test_extremes_by_hand() -> None:
    """Items at distance 0, 1, 1, 2 are b [a b] a: at best the first hit is at rank 2, at worst at rank 3."""
    items, hits = np.array([[1, 2, 1]]), np.array([[0, 1, 1]])
    best, worst = extreme_average_precision(items, hits)
    assert best == pytest.approx([(1 / 2 + 2 / 4) / 2])
    assert worst == pytest.approx([(1 / 3 + 2 / 4) / 2])
    assert expected_average_precision(items, hits, 2) == pytest.approx([1 / 2 * 1 / 2 / 2])


def test_counts_of_distances_without_items_change_nothing() -> None:
    items, hits = np.array([[2, 3]]), np.array([[1, 1]])
    padded = [np.array([[0, row[0, 0], 0, 0, row[0, 1], 0]]) for row in (items, hits)]
    assert expected_average_precision(*padded) == pytest.approx(expected_average_precision(items, hits))
    assert expected_precision_at(*padded, 3) == pytest.approx(expected_precision_at(items, hits, 3))
