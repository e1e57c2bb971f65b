"""Retrieval metrics against scikit-learn, against loops, and by hand."""

import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from crossatnet import metrics
from crossatnet.errors import UserError
from crossatnet.metrics import (
    average_precision,
    evaluate,
    evaluate_codes,
    evaluate_similarity,
    expected_average_precision,
    expected_precision_at,
    precision_at,
)
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


# Similarities of any origin


@pytest.mark.parametrize("seed", range(5))
def test_similarities_score_as_the_embeddings_they_come_from(seed: int) -> None:
    query, query_class, gallery, gallery_class = problem(seed)
    gallery[30:50] = gallery[10:30]  # with ties
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (query, gallery)]
    ours = evaluate_similarity(unit[0] @ unit[1].T, query_class, gallery_class, at=(1, 10, 100))
    expected = evaluate(query, query_class, gallery, gallery_class, at=(1, 10, 100))
    assert np.array_equal(ours.average_precision, expected.average_precision)
    assert all(np.array_equal(ours.precision_at[k], expected.precision_at[k]) for k in (1, 10, 100))
    assert ours.per_class() == expected.per_class()
    assert ours.gallery_size == expected.gallery_size == 61


def test_similarities_by_hand() -> None:
    """They need not be cosines; the second query's tie keeps the gallery's order."""
    scores = evaluate_similarity([[-30, 70, 5], [2, 2, 1]], ["a", "b"], ["a", "b", "a"], at=(2,))
    assert scores.average_precision == pytest.approx([(1 / 2 + 2 / 3) / 2, 1 / 2])
    assert scores.precision_at[2].tolist() == [0.5, 0.5]


@pytest.mark.parametrize("block", [1, 7, 23])
def test_similarities_do_not_depend_on_the_block(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    _, query_class, _, gallery_class = problem(0)
    similarity = np.random.default_rng(0).integers(9, size=(23, 61))  # with ties
    whole = evaluate_similarity(similarity, query_class, gallery_class)
    monkeypatch.setattr(metrics, "BLOCK", block)
    parts = evaluate_similarity(similarity, query_class, gallery_class)
    assert np.array_equal(whole.average_precision, parts.average_precision)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"similarity": np.zeros(3)}, r"finite numbers of shape \(queries, items\), not \(3,\)"),
        ({"similarity": np.zeros((2, 0))}, r"finite numbers of shape \(queries, items\), not \(2, 0\)"),
        ({"similarity": [[0, np.nan, 1], [1, 2, 3]]}, "similarity must be finite"),
        ({"similarity": [[0, 1, 2], [1, 2, -np.inf]]}, "similarity must be finite"),
        ({"query_class": ["a"]}, r"query has 2 embeddings but classes of shape \(1,\)"),
        ({"gallery_class": ["a", "b"]}, r"gallery has 3 embeddings but classes of shape \(2,\)"),
        ({"query_class": ["a", "zebra"]}, "no item of class 'zebra'"),
        ({"at": (1, 0)}, "k of at least 1, not 0"),
    ],
)
def test_names_what_does_not_fit_similarities(change: dict[str, object], message: str) -> None:
    good = {
        "similarity": [[1, 2, 3], [3, 2, 1]],
        "query_class": ["a", "b"],
        "gallery_class": ["a", "b", "a"],
        "at": (1,),
    }
    assert evaluate_similarity(**good).gallery_size == 3
    with pytest.raises(UserError, match=message):
        evaluate_similarity(**{**good, **change})


# Hash codes


def codes_at(distances: NDArray[np.int64] | list[int], size: int) -> NDArray[np.uint8]:
    """A code of `size` bytes for each distance from the code of zeros: its first bits are set."""
    return np.packbits(np.arange(8 * size) < np.asarray(distances)[:, None], axis=1)


@pytest.mark.parametrize("seed", range(40))
def test_codes_average_over_all_orders_within_ties(seed: int) -> None:
    """Brute force: plain scores of every ranking that agrees with the distances."""
    random = np.random.default_rng(seed)
    distances = random.integers(random.integers(1, 4), size=random.integers(1, 7))  # up to 6 items, all tied or not
    relevant = random.random(len(distances)) < 0.5
    relevant[random.integers(len(distances))] = True
    scores = evaluate_codes(codes_at([0], 1), [True], codes_at(distances, 1), relevant, at=(1, 2, 4, 9))
    rankings = list(oracle.orders_within_ties(distances.tolist(), relevant.tolist()))
    expected = np.mean([oracle.average_precision(ranking) for ranking in rankings])
    assert scores.average_precision[0] == pytest.approx(expected, abs=1e-12)
    for k in (1, 2, 4, 9):
        expected = np.mean([oracle.precision_at(ranking, k) for ranking in rankings])
        assert scores.precision_at[k][0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("free_bits", [0, 1, 3, 8, 24])
@pytest.mark.parametrize("seed", range(4))
def test_codes_equal_the_loop(seed: int, free_bits: int) -> None:
    """Random codes of 24 bits, of which only some are not zero: the fewer, the longer the ties."""
    _, query_class, _, gallery_class = problem(seed)
    free = np.packbits(np.random.default_rng(seed).permutation(24) < free_bits)
    query, gallery = (np.random.default_rng(seed + n).integers(256, size=(n, 3)) & free for n in (23, 61))
    scores = evaluate_codes(
        query.astype(np.uint8), query_class, gallery.astype(np.uint8), gallery_class, at=(1, 10, 61, 100)
    )
    for index, code in enumerate(query.tolist()):
        distances = [oracle.hamming(code, item) for item in gallery.tolist()]
        relevant = (gallery_class == query_class[index]).tolist()
        expected = oracle.tie_averaged_average_precision(distances, relevant)
        assert scores.average_precision[index] == pytest.approx(expected, abs=1e-12)
        for k in (1, 10, 61, 100):
            expected = oracle.tie_averaged_precision_at(distances, relevant, k)
            assert scores.precision_at[k][index] == pytest.approx(expected, abs=1e-12)
    assert scores.query_class.tolist() == query_class.tolist()
    assert scores.gallery_size == 61


@pytest.mark.parametrize("seed", range(10))
def test_codes_without_ties_score_as_plain_rankings(seed: int) -> None:
    random = np.random.default_rng(seed)
    distances = random.permutation(65)[:40]
    relevant = random.random(40) < 0.3
    relevant[random.integers(40)] = True
    scores = evaluate_codes(codes_at([0], 8), [True], codes_at(distances, 8), relevant, at=(5, 100))
    ranking = relevant[np.argsort(distances)][None]
    assert scores.average_precision == pytest.approx(average_precision(ranking), abs=1e-12)
    for k in (5, 100):
        assert scores.precision_at[k] == pytest.approx(precision_at(ranking, k), abs=1e-12)


def test_codes_by_hand() -> None:
    """Items at distance 0, 1, 1, 2: the rankings b [a b] a are b a b a and b b a a, each as likely."""
    scores = evaluate_codes(codes_at([0], 1), ["a"], codes_at([2, 1, 0, 1], 1), list("aabb"), at=(1, 2, 3, 4, 8))
    assert scores.average_precision == pytest.approx([((1 / 2 + 2 / 4) / 2 + (1 / 3 + 2 / 4) / 2) / 2])
    assert {k: values.tolist() for k, values in scores.precision_at.items()} == {
        1: [0.0],
        2: [0.25],
        3: [pytest.approx(1 / 3)],
        4: [0.5],
        8: [0.25],
    }
    assert scores.means() == pytest.approx(
        {"mAP@all": 11 / 24, "P@1": 0, "P@2": 1 / 4, "P@3": 1 / 3, "P@4": 1 / 2, "P@8": 1 / 4}
    )


@pytest.mark.parametrize(
    ("items", "hits"), [(1, 1), (2, 1), (7, 7), (10, 3), (1000, 1), (200_000, 37), (200_000, 150_000)]
)
def test_codes_that_all_tie(items: int, hits: int) -> None:
    """$AP = (H_N + (R - 1) (N - H_N) / (N - 1)) / N$ with the harmonic number $H_N$: a gallery in random order."""
    gallery_class = np.arange(items) < hits
    scores = evaluate_codes(codes_at([3], 1), [True], codes_at([5], 1).repeat(items, 0), gallery_class, at=(1, 300_000))
    harmonic = sum(1 / rank for rank in range(1, items + 1))
    expected = (harmonic + (hits - 1) * (items - harmonic) / max(items - 1, 1)) / items
    assert scores.average_precision[0] == pytest.approx(expected, rel=1e-10)
    assert scores.precision_at[1][0] == pytest.approx(hits / items)
    assert scores.precision_at[300_000][0] == pytest.approx(hits / 300_000)


def test_codes_do_not_depend_on_the_gallerys_order() -> None:
    random = np.random.default_rng(0)
    _, query_class, _, gallery_class = problem(0)
    query, gallery = (random.integers(4, size=(rows, 2), dtype=np.uint8) for rows in (23, 61))
    order = random.permutation(61)
    first = evaluate_codes(query, query_class, gallery, gallery_class)
    second = evaluate_codes(query, query_class, gallery[order], gallery_class[order])
    assert np.array_equal(first.average_precision, second.average_precision)
    assert np.array_equal(first.precision_at[100], second.precision_at[100])


def test_long_codes_may_differ_in_every_bit() -> None:
    """A distance of 512 does not fit into the bytes that it is counted from."""
    gallery = codes_at([512, 256, 1], 64)
    scores = evaluate_codes(codes_at([0], 64), ["a"], gallery, list("aba"), at=(1,))
    assert scores.average_precision == pytest.approx([(1 + 2 / 3) / 2])
    assert scores.precision_at[1].tolist() == [1.0]


def test_counts_of_distances_without_items_change_nothing() -> None:
    items, hits = np.array([[2, 3]]), np.array([[1, 1]])
    padded = [np.array([[0, row[0, 0], 0, 0, row[0, 1], 0]]) for row in (items, hits)]
    assert expected_average_precision(*padded) == pytest.approx(expected_average_precision(items, hits))
    assert expected_precision_at(*padded, 3) == pytest.approx(expected_precision_at(items, hits, 3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"query": np.zeros(2, np.uint8)},
            r"query must be packed codes, uint8 of shape \(rows, bytes\), not uint8\(2,\)",
        ),
        ({"query": np.zeros((0, 2), np.uint8)}, r"query must be packed codes.*not uint8\(0, 2\)"),
        ({"gallery": np.zeros((3, 2), np.int64)}, r"gallery must be packed codes.*not int64\(3, 2\)"),
        ({"gallery": np.zeros((3, 2), np.bool_)}, r"gallery must be packed codes.*not bool\(3, 2\)"),
        ({"query": np.zeros((2, 8), np.uint8)}, "query has codes of 64 bits, gallery of 16"),
        ({"query_class": ["a"]}, r"query has 2 embeddings but classes of shape \(1,\)"),
        ({"gallery_class": [["a", "b", "a"]]}, r"gallery has 3 embeddings but classes of shape \(1, 3\)"),
        ({"query_class": ["a", "zebra"]}, "no item of class 'zebra'"),
        ({"at": (0,)}, "k of at least 1, not 0"),
    ],
)
def test_names_what_does_not_fit_codes(change: dict[str, object], message: str) -> None:
    good = {
        "query": np.zeros((2, 2), np.uint8),
        "query_class": ["a", "b"],
        "gallery": np.zeros((3, 2), np.uint8),
        "gallery_class": ["a", "b", "a"],
        "at": (1,),
    }
    assert evaluate_codes(**good).gallery_size == 3
    with pytest.raises(UserError, match=message):
        evaluate_codes(**{**good, **change})
