"""Retrieval metrics against scikit-learn, against loops, and by hand."""

import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from crossatnet import metrics
from crossatnet.errors import UserError
from crossatnet.metrics import average_precision, evaluate, precision_at
from oracles import metrics as oracle

Problem = tuple[NDArray[np.float64], NDArray[np.str_], NDArray[np.float64], NDArray[np.str_]]


def problem(seed: int, queries: int = 23, gallery: int = 61, dimension: int = 7, classes: int = 5) -> Problem:
    """Random embeddings of every length; every class is in the gallery."""
    random = np.random.default_rng(seed)
    names = np.array([f"class {number}" for number in range(classes)])
    query_class = names[random.integers(classes, size=queries)]
    gallery_class = names[np.concatenate([np.arange(classes), random.integers(classes, size=gallery - classes)])]
    rows = [random.standard_normal((count, dimension)) * random.uniform(0.1, 9) for count in (queries, gallery)]
    return rows[0], query_class, rows[1], gallery_class


@pytest.mark.parametrize("seed", range(30))
def test_average_precision_equals_scikit_learn_and_the_loop(seed: int) -> None:
    random = np.random.default_rng(seed)
    length = int(random.integers(2, 200))
    relevant = random.random((8, length)) < random.uniform(0.02, 0.9)
    relevant[:, random.integers(length)] = True
    score = -np.arange(length)  # best first, no ties
    ours = average_precision(relevant)
    assert ours == pytest.approx([average_precision_score(row, score) for row in relevant], abs=1e-12)
    assert ours == pytest.approx([oracle.average_precision(row.tolist()) for row in relevant], abs=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_evaluate_equals_the_loop_over_queries(seed: int) -> None:
    query, query_class, gallery, gallery_class = problem(seed)
    scores = evaluate(query, query_class, gallery, gallery_class, at=(1, 10, 100))
    for index, row in enumerate(query):
        order = oracle.ranking(row.tolist(), gallery.tolist())
        relevant = [bool(gallery_class[item] == query_class[index]) for item in order]
        assert scores.average_precision[index] == pytest.approx(oracle.average_precision(relevant), abs=1e-12)
        for k in (1, 10, 100):
            assert scores.precision_at[k][index] == pytest.approx(oracle.precision_at(relevant, k), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_evaluate_equals_scikit_learn(seed: int) -> None:
    query, query_class, gallery, gallery_class = problem(seed)
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (query, gallery)]
    similarity = unit[0] @ unit[1].T
    expected = [
        average_precision_score(gallery_class == name, row) for name, row in zip(query_class, similarity, strict=True)
    ]
    assert evaluate(query, query_class, gallery, gallery_class).average_precision == pytest.approx(expected, abs=1e-12)


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


def test_scores_by_hand() -> None:
    """The gallery stands at 10, 20 and 60 degrees; queries at 0 and 90 see it from either end, as a b a."""
    angles = np.radians([10, 20, 60])
    gallery = np.stack([np.cos(angles), np.sin(angles)], axis=1) * [[3.0], [0.5], [1.0]]  # lengths do not matter
    scores = evaluate([[2, 0], [0, 0.1]], ["a", "a"], gallery, ["a", "b", "a"], at=(2,))
    assert scores.average_precision == pytest.approx([(1 + 2 / 3) / 2, (1 + 2 / 3) / 2])
    assert scores.means() == pytest.approx({"mAP@all": 5 / 6, "P@2": 0.5})
    assert scores.gallery_size == 3


def test_means_and_classes() -> None:
    scores = evaluate(np.eye(3), ["a", "b", "a"], np.eye(3), ["b", "b", "a"], at=(1,))
    # every query finds its own item first and the others tied: b b a for the first two queries, a b b for the last
    assert scores.average_precision == pytest.approx([1 / 3, 1.0, 1.0])
    assert scores.per_class() == pytest.approx({"a": (1 / 3 + 1) / 2, "b": 1.0})
    assert scores.means() == pytest.approx({"mAP@all": (1 / 3 + 1 + 1) / 3, "P@1": 2 / 3})


def test_equal_similarities_keep_the_gallerys_order() -> None:
    gallery = [[1, 0], [0, 1], [0, 1], [0, 1]]
    assert evaluate([[0, 1]], ["x"], gallery, ["x", "x", "y", "y"]).average_precision == pytest.approx(
        [(1 + 2 / 4) / 2]
    )
    assert evaluate([[0, 1]], ["x"], gallery, ["x", "y", "y", "x"]).average_precision == pytest.approx(
        [(1 / 3 + 2 / 4) / 2]
    )


@pytest.mark.parametrize("seed", range(3))
def test_ties_equal_the_loop(seed: int) -> None:
    """A long gallery of three embeddings at right angles: hundreds of ties, in which only the order decides."""
    random = np.random.default_rng(seed)
    gallery, gallery_class = np.eye(3)[random.integers(3, size=300)], random.integers(4, size=300)
    scores = evaluate(np.eye(3), [0, 1, 2], gallery, gallery_class, at=(50,))
    for index, query in enumerate(np.eye(3).tolist()):
        relevant = [bool(gallery_class[item] == index) for item in oracle.ranking(query, gallery.tolist())]
        assert scores.average_precision[index] == pytest.approx(oracle.average_precision(relevant), abs=1e-12)
        assert scores.precision_at[50][index] == oracle.precision_at(relevant, 50)


@pytest.mark.parametrize("copies", [5, 7, 101])
@pytest.mark.parametrize("queries", [1, 3])
def test_copies_of_one_embedding_tie_wherever_they_stand(copies: int, queries: int) -> None:
    """In float32, matrix products round the last columns in another way than the first."""
    random = np.random.default_rng(0)
    classes = ["x"] + ["y"] * (copies - 1)
    for _ in range(50):
        query, item = random.standard_normal((queries, 320)), random.standard_normal((1, 320)).astype(np.float32)
        first = evaluate(query, ["x"] * queries, item.repeat(copies, 0), classes)
        last = evaluate(query, ["x"] * queries, item.repeat(copies, 0), classes[::-1])
        assert first.average_precision.tolist() == [1.0] * queries
        assert last.average_precision == pytest.approx([1 / copies] * queries)


@pytest.mark.parametrize("block", [1, 2, 7, 22, 23, 24])
def test_does_not_depend_on_the_block(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    query, query_class, gallery, gallery_class = problem(0)
    gallery[30:50] = gallery[10:30]  # with ties
    whole = evaluate(query, query_class, gallery, gallery_class, at=(5,))
    monkeypatch.setattr(metrics, "BLOCK", block)
    parts = evaluate(query, query_class, gallery, gallery_class, at=(5,))
    assert np.array_equal(whole.average_precision, parts.average_precision)
    assert np.array_equal(whole.precision_at[5], parts.precision_at[5])


def test_classes_may_be_numbers_but_a_number_is_not_a_name() -> None:
    numbered = evaluate(np.eye(2), [7, 8], np.eye(2), [7.0, 8.0], at=(1,))
    assert numbered.means() == {"mAP@all": 1.0, "P@1": 1.0}
    with pytest.raises(UserError, match="no item of class 7,"):
        evaluate(np.eye(2), [7, 8], np.eye(2), ["7", "8"])


def test_many_long_class_names_take_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comment on BLOCK promises what it takes: names are ranked as numbers."""
    monkeypatch.setattr(metrics, "BLOCK", 64)
    query, gallery = np.random.default_rng(0).standard_normal((2, 4000, 2))
    names = ["a very long class name, " * 10 + str(number % 9) for number in range(4000)]
    tracemalloc.start()
    try:
        evaluate(query[:64], names[:64], gallery, names)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 * 4000 * 60 + 10_000_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": np.zeros((0, 2))}, r"query must be embeddings of shape \(rows, dimensions\), not \(0, 2\)"),
        ({"gallery": np.zeros(2)}, r"gallery must be embeddings .* not \(2,\)"),
        ({"query": np.ones((2, 3))}, "query has 3 dimensions, gallery 2"),
        ({"query_class": ["a"]}, r"query has 2 embeddings but classes of shape \(1,\)"),
        ({"gallery_class": [["a", "b", "a"]]}, r"gallery has 3 embeddings but classes of shape \(1, 3\)"),
        ({"gallery": [[1, 0], [np.nan, 1], [np.inf, 1]]}, "gallery row 1 has values that are not finite"),
        ({"query": [[1, 0], [-np.inf, 1]]}, "query row 1 has values that are not finite"),
        ({"query_class": ["a", "zebra"]}, "no item of class 'zebra'"),
        ({"at": (0,)}, "k of at least 1, not 0"),
    ],
)
def test_names_what_does_not_fit(change: dict[str, object], message: str) -> None:
    good = {
        "query": np.eye(2),
        "query_class": ["a", "b"],
        "gallery": np.ones((3, 2)),
        "gallery_class": ["a", "b", "a"],
        "at": (1,),
    }
    assert evaluate(**good).gallery_size == 3
    with pytest.raises(UserError, match=message):
        evaluate(**{**good, **change})
