"""Scores of rankings with ties, of any sizes: galleries of one item, queries with other numbers of relevant items."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from crossatnet.evaluation.metrics import relevant_ranks
from crossatnet.evaluation.ranking import evaluate_similarity
from crossatnet.evaluation.ties import Ties, score_counts, score_places
from crossatnet.system.errors import UserError
from oracles import metrics as oracle

AT = (1, 2, 5)
HUGE = np.finfo(np.float64).max
Counts = NDArray[np.int64]


@st.composite
def counts(draw: st.DrawFn) -> tuple[Counts, Counts]:
    """Items and hits (Q, T) of ties, some of them empty or without a hit; every query has a hit."""
    shape = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    items = draw(arrays(np.int64, shape, elements=st.integers(0, 4)))
    hits = np.minimum(items, draw(arrays(np.int64, shape, elements=st.integers(0, 4))))
    row, place = np.arange(shape[0]), draw(arrays(np.int64, shape[0], elements=st.integers(0, shape[1] - 1)))
    items[row, place], hits[row, place] = items[row, place] + 1, hits[row, place] + 1
    return items, hits


@settings(max_examples=150, deadline=None, database=None)
@given(counts())
def test_a_query_scores_the_same_beside_any_others(drawn: tuple[Counts, Counts]) -> None:
    """To the last bit, whether its ties are whole or divided by a k, and whatever ties the others have."""
    items, hits = drawn
    values, curves = score_counts(items, hits, AT)
    for row in range(len(items)):
        alone, curve = score_counts(items[[row]], hits[[row]], AT)
        assert {name: value[row] for name, value in values.items()} == {name: value[0] for name, value in alone.items()}
        assert np.array_equal(curves[row], curve[0])


@settings(max_examples=100, deadline=None, database=None)
@given(arrays(np.bool_, st.tuples(st.integers(1, 5), st.integers(1, 9)), elements=st.booleans()))
def test_ranks_without_ties_score_as_ties_of_one_item(relevant: NDArray[np.bool_]) -> None:
    """Queries with fewer relevant items than others have ranks of infinity."""
    relevant[:, 0] |= ~relevant.any(1)
    none = Ties(*(np.zeros(0, dtype=np.int64) for _ in Ties._fields))
    found, curves = score_places(relevant_ranks(relevant), none, AT)
    expected, expected_curves = score_counts(np.ones(relevant.shape, dtype=np.int64), relevant.astype(np.int64), AT)
    assert {name: value.tolist() for name, value in found.items()} == {
        name: value.tolist() for name, value in expected.items()
    }
    assert np.array_equal(curves, expected_curves)


@st.composite
def searches(draw: st.DrawFn) -> tuple[NDArray[np.float64], Counts, Counts, Counts]:
    """Similarities (Q, N) of few values, the greatest numbers among them; classes; and which item is the query."""
    queries, items = draw(st.integers(1, 5)), draw(st.integers(1, 12))
    values = st.sampled_from([-HUGE, -1.0, -0.0, 0.0, 5e-324, 1.0, HUGE])
    similarity = draw(arrays(np.float64, (queries, items), elements=values))
    gallery_class = draw(arrays(np.int64, items, elements=st.integers(0, 2)))
    asked = draw(arrays(np.int64, queries, elements=st.integers(0, items - 1)))  # an item that is relevant
    same = draw(arrays(np.int64, queries, elements=st.integers(-1, items - 1)))
    return similarity, gallery_class[asked], gallery_class, np.where(same == asked, -1, same)


@settings(max_examples=150, deadline=None, database=None)
@given(searches())
def test_galleries_of_any_size_equal_the_loop(drawn: tuple[NDArray[np.float64], Counts, Counts, Counts]) -> None:
    similarity, query_class, gallery_class, same = drawn
    scores = evaluate_similarity(similarity, query_class, gallery_class, AT, same=same)
    for index, row in enumerate(similarity.tolist()):
        others = [item for item in range(len(row)) if item != same[index]]
        distances = [-row[item] for item in others]
        relevant = [bool(gallery_class[item] == query_class[index]) for item in others]
        expected = oracle.tie_averaged_average_precision(distances, relevant)
        assert scores.average_precision[index] == pytest.approx(expected, abs=1e-12)
        for k in AT:
            expected = oracle.tie_averaged_precision_at(distances, relevant, k)
            assert scores.precision_at[k][index] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("items", [1, 3])
def test_what_is_not_finite_is_refused(value: float, items: int) -> None:
    similarity = np.zeros((2, items))
    similarity[1, -1] = value
    with pytest.raises(UserError, match="similarity must be finite numbers"):
        evaluate_similarity(similarity, [0, 0], [0] * items)
