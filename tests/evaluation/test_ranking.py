"""Scores of embeddings, similarities and codes against scikit-learn, against loops, and by hand."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from threadpoolctl import threadpool_limits

from crossatnet.evaluation import ranking
from crossatnet.evaluation.metrics import OF_TIES, average_precision, joined, precision_at
from crossatnet.evaluation.ranking import evaluate, evaluate_codes, evaluate_similarity
from crossatnet.system.errors import UserError
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


def rows_at_once(rows: int, items: int = 61) -> int:
    """The memory with which each thread ranks so many queries at once."""
    return ranking.THREADS * rows * items * 11  # 8 bytes for a similarity, and a quarter for the scores


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


def test_scores_by_hand() -> None:
    """The gallery is at 10, 20 and 60 degrees; queries at 0 and 90 degrees both rank it as a b a."""
    angles = np.radians([10, 20, 60])
    gallery = np.stack([np.cos(angles), np.sin(angles)], axis=1) * [[3.0], [0.5], [1.0]]  # lengths do not matter
    scores = evaluate([[2, 0], [0, 0.1]], ["a", "a"], gallery, ["a", "b", "a"], at=(2,))
    assert scores.average_precision == pytest.approx([(1 + 2 / 3) / 2, (1 + 2 / 3) / 2])
    assert scores.means() == pytest.approx({"mAP@all": 5 / 6, "P@2": 0.5})
    assert scores.gallery_size == 3


def test_means_and_classes() -> None:
    scores = evaluate(np.eye(3), ["a", "b", "a"], np.eye(3), ["b", "b", "a"], at=(1,))
    # every query finds its own item first; the others tie: b [a b] for the first two queries, a [b b] for the last
    first, second = (1 / 2 + 1 / 3) / 2, (1 + (2 / 2 + 2 / 3) / 2) / 2
    assert scores.average_precision == pytest.approx([first, second, 1.0])
    assert scores.per_class() == pytest.approx({"a": (first + 1) / 2, "b": second})
    assert scores.means() == pytest.approx({"mAP@all": (first + second + 1) / 3, "P@1": 2 / 3})


def test_ties_score_their_expectation_in_every_order_of_the_gallery() -> None:
    """Three items tie, two of them relevant, before one more."""
    orders = ([True, True, False], [True, False, True], [False, True, True])
    expected = float(np.mean([oracle.average_precision([*order, False]) for order in orders]))
    for names in ("yxxy", "yxyx", "yyxx"):
        scores = evaluate([[0, 1]], ["x"], [[1, 0], [0, 1], [0, 1], [0, 1]], list(names))
        assert scores.average_precision == pytest.approx([expected], abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_ties_equal_the_loop(seed: int) -> None:
    """A long gallery of three embeddings at right angles: hundreds of ties."""
    random = np.random.default_rng(seed)
    gallery, gallery_class = np.eye(3)[random.integers(3, size=300)], random.integers(4, size=300)
    scores = evaluate(np.eye(3), [0, 1, 2], gallery, gallery_class, at=(50,))
    for index, query in enumerate(np.eye(3)):
        distances, relevant = (-gallery @ query).tolist(), (gallery_class == index).tolist()
        expected = oracle.tie_averaged_average_precision(distances, relevant)
        assert scores.average_precision[index] == pytest.approx(expected, abs=1e-12)
        expected = oracle.tie_averaged_precision_at(distances, relevant, 50)
        assert scores.precision_at[50][index] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("precision", [np.float32, np.float64])
@pytest.mark.parametrize("copies", [5, 7, 101])
@pytest.mark.parametrize("queries", [1, 3])
def test_copies_of_one_embedding_tie_wherever_they_stand(copies: int, queries: int, precision: type) -> None:
    """In float32, matrix products round the last columns differently from the first."""
    random = np.random.default_rng(0)
    classes = ["x"] + ["y"] * (copies - 1)
    for _ in range(50):
        query, item = (random.standard_normal((rows, 320)).astype(precision) for rows in (queries, 1))
        first = evaluate(query, ["x"] * queries, item.repeat(copies, 0), classes)
        last = evaluate(query, ["x"] * queries, item.repeat(copies, 0), classes[::-1])
        expected = sum(1 / rank for rank in range(1, copies + 1)) / copies
        assert first.average_precision == pytest.approx([expected] * queries, abs=1e-12)
        assert last.average_precision.tolist() == first.average_precision.tolist()


def test_float32_ranks_as_scikit_learn_sees_it_and_scores_as_float64() -> None:
    """Embeddings like those of networks: a pair that float32 orders differently differs only in the eighth decimal."""
    random = np.random.default_rng(0)
    centres, numbers = random.standard_normal((10, 64)), random.integers(10, size=3000)
    rows = (0.4 * centres[numbers] + random.standard_normal((3000, 64))).astype(np.float32)
    query, gallery = (rows[:300], numbers[:300]), (rows[300:], numbers[300:])
    found = evaluate(*query, *gallery)
    exact = evaluate(query[0].astype(np.float64), query[1], gallery[0].astype(np.float64), gallery[1])
    assert found.means() == pytest.approx(exact.means(), abs=1e-6)
    unit = [part / np.linalg.norm(part, axis=1, keepdims=True) for part, _ in (query, gallery)]
    expected = [
        average_precision_score(gallery[1] == name, row)
        for name, row in zip(query[1], unit[0] @ unit[1].T, strict=True)
    ]
    assert found.means()["mAP@all"] == pytest.approx(np.mean(expected), abs=1e-6)
    assert found.average_precision == pytest.approx(expected, abs=1e-4)


def test_float16_scores_as_the_float32_it_is() -> None:
    query, query_class, gallery, gallery_class = problem(0)
    half = [rows.astype(np.float16) for rows in (query, gallery)]
    found = evaluate(half[0], query_class, half[1], gallery_class)
    expected = evaluate(half[0].astype(np.float32), query_class, half[1].astype(np.float32), gallery_class)
    assert found.values["mAP@all"].tolist() == expected.values["mAP@all"].tolist()


@pytest.mark.parametrize(("block", "strip"), [(7, 1), (7, 300), (300, 3)])
@pytest.mark.parametrize("step", [1e-7, 1e-3])
def test_many_near_ties_and_ties_equal_the_loop(
    step: float, block: int, strip: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few or many values, in ties with dozens of items or one."""
    monkeypatch.setattr(ranking, "BLOCK", block)
    monkeypatch.setattr(ranking, "SCORED", strip * 450)
    random = np.random.default_rng(0)
    similarity = random.integers(-1500, 1500, size=(8, 900)) * step
    gallery_class = np.concatenate([np.arange(6), random.geometric(0.5, size=894) % 6])
    query_class, same = random.integers(6, size=8), np.where(np.arange(8) % 2, -1, np.arange(8) + 6)
    scores = evaluate_similarity(similarity, query_class, gallery_class, (1, 100), same=same)
    for index, row in enumerate(similarity.tolist()):
        others = [item for item in range(900) if item != same[index]]
        distances = [-row[item] for item in others]
        relevant = [bool(gallery_class[item] == query_class[index]) for item in others]
        expected = oracle.tie_averaged_average_precision(distances, relevant)
        assert scores.average_precision[index] == pytest.approx(expected, abs=1e-12)
        expected = oracle.tie_averaged_precision_at(distances, relevant, 100)
        assert scores.values["P@100"][index] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("relevant", [2, 150_000, 200_000])
def test_a_gallery_of_more_than_16_bits(relevant: int) -> None:
    random = np.random.default_rng(0)
    similarity, gallery_class = random.random((2, 200_000)), random.permutation(200_000) < relevant
    scores = evaluate_similarity(similarity, [True, True], gallery_class, at=(1000,))
    for index, row in enumerate(similarity):
        ranking = gallery_class[np.argsort(-row)]
        assert scores.average_precision[index] == pytest.approx(average_precision(ranking[None])[0], abs=1e-12)
        assert scores.precision_at[1000][index] == ranking[:1000].mean()


@pytest.mark.parametrize("block", [1, 2, 7, 22, 23, 24])
def test_does_not_depend_on_the_block(block: int) -> None:
    query, query_class, gallery, gallery_class = problem(0)
    gallery[30:50] = gallery[10:30]  # with ties
    whole = evaluate(query, query_class, gallery, gallery_class, at=(5,))
    parts = evaluate(query, query_class, gallery, gallery_class, at=(5,), memory=rows_at_once(block))
    assert np.array_equal(whole.average_precision, parts.average_precision)
    assert np.array_equal(whole.precision_at[5], parts.precision_at[5])


@pytest.mark.parametrize("queries", [1, 9, 1000])
def test_does_not_depend_on_the_cores(queries: int) -> None:
    """To the last bit, although float32 rounds differently in products of other shapes."""
    random = np.random.default_rng(0)
    query, gallery = (random.standard_normal((rows, 64)).astype(np.float32) for rows in (queries, 500))
    codes = [np.packbits(rows > 0, axis=1) for rows in (query, gallery)]
    query_class, gallery_class = np.arange(queries) % 7, np.arange(500) % 7
    found = []
    for threads in (1, 2, 5):
        with threadpool_limits(threads, "blas"):
            found.append(evaluate(query, query_class, gallery, gallery_class))
            found.append(evaluate_codes(codes[0], query_class, codes[1], gallery_class))
    for scores, alone in zip(found[2:], found[:2] * 2, strict=True):
        assert all(np.array_equal(values, alone.values[name]) for name, values in scores.values.items())
        assert np.array_equal(scores.precision_recall, alone.precision_recall)


def test_classes_may_be_numbers_but_a_number_is_not_a_name() -> None:
    numbered = evaluate(np.eye(2), [7, 8], np.eye(2), [7.0, 8.0], at=(1,))
    assert numbered.means() == {"mAP@all": 1.0, "P@1": 1.0}
    with pytest.raises(UserError, match="no item of class 7,"):
        evaluate(np.eye(2), [7, 8], np.eye(2), ["7", "8"])


@pytest.mark.parametrize("relevant", [1, 9, 4000])
@pytest.mark.parametrize("queries", [1, 600])
@pytest.mark.parametrize("memory", [2**22, 2**25])
def test_blocks_take_the_memory_they_may(memory: int, queries: int, relevant: int) -> None:
    """Without the whole matrix: 600 queries x 4,000 items take 19 MB a copy. Names are ranked as numbers."""
    query, gallery = np.random.default_rng(0).standard_normal((2, 4000, 2))
    names = ["a very long class name, " * 10 + str(number % (4000 // relevant)) for number in range(4000)]
    codes = np.packbits(gallery > 0, axis=1).repeat(16, 1)
    for scored, rows in ((evaluate, (query, gallery)), (evaluate_codes, (codes, codes))):
        tracemalloc.start()
        try:
            scored(rows[0][:queries], names[:queries], rows[1], names, memory=memory)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        returned = queries * (101 + 140) * 8 * 8  # curves and counts, and values computed from them
        assert peak < memory + returned + 8_000_000  # for the names


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
        ({"query": np.zeros((2, 8), np.uint8)}, "query is uint8: score packed codes with evaluate_codes"),
        ({"gallery": [[1, 0], [0, 0], [0, 1]]}, "gallery row 1 is all zeros, which has no direction"),
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


# Other definitions


def test_all_means_by_hand() -> None:
    """One query finds b a a, all relevant items included; the other, of a class with one item, finds a a b."""
    scores = evaluate_similarity([[3, 2, 1], [1, 2, 3]], ["a", "b"], list("baa"), at=(2,))
    assert scores.means() == pytest.approx({"mAP@all": (7 / 12 + 1 / 3) / 2, "P@2": 1 / 4})
    assert scores.all_means() == pytest.approx(
        {
            "mAP@all": (7 / 12 + 1 / 3) / 2,
            "P@2": (1 / 2 + 0) / 2,
            "mAP@2 (hits)": (1 / 2 + 0) / 2,
            "mAP@2 (min(k, R))": (1 / 4 + 0) / 2,
            "mAP@2 (R)": (1 / 4 + 0) / 2,
            "P@2 (min(k, R))": (1 / 2 + 0) / 2,
            "R-precision": (1 / 2 + 0) / 2,
            "mAP@all (VOC)": (2 / 3 + 1 / 3) / 2,
            **{f"mAP@all ({name})": (7 / 12 + 1 / 3) / 2 for name in OF_TIES},
        }
    )
    assert scores.precision_recall[:, [0, 50, 51, 100]] == pytest.approx(np.array([[2 / 3] * 4, [1 / 3] * 4]))


def test_a_small_class_is_scored_and_can_reach_one_where_k_is_not_the_divisor() -> None:
    """A class of two photos is scored too, with a best possible value of 1."""
    similarity = np.arange(300.0, 0, -1)[None].repeat(2, 0)
    scores = evaluate_similarity(similarity, ["rare", "common"], ["rare"] * 2 + ["common"] * 298, at=(200,))
    assert len(scores.average_precision) == 2
    assert set(scores.per_class()) == {"rare", "common"}
    assert scores.values["P@200"].tolist() == [0.01, 0.99]
    assert scores.values["P@200 (min(k, R))"].tolist() == [1.0, 0.99]
    assert scores.values["mAP@200 (min(k, R))"][0] == scores.values["R-precision"][0] == 1.0


def test_similarities_of_zero_and_below_count() -> None:
    scores = evaluate_similarity([[0, -1, -3, -2]], ["a"], list("aaab"))
    assert scores.average_precision == pytest.approx([(1 + 1 + 3 / 4) / 3])
    opposite = evaluate([[1, 0]], ["a"], [[-1, 0], [-1, 0.1], [0, 1]], list("aab"))
    assert opposite.average_precision == pytest.approx([(1 / 2 + 2 / 3) / 2])


def test_a_gallery_that_holds_its_images_twice_scores_otherwise() -> None:
    """The evaluator counts every item given and removes no duplicates, so that errors in a list of files show."""
    once = evaluate([[1, 0]], ["a"], [[0, 1], [1, 0]], list("ba"), at=(1, 2))
    twice = evaluate([[1, 0]], ["a"], [[0, 1], [1, 0]] * 2, list("ba") * 2, at=(1, 2))
    assert (once.gallery_size, twice.gallery_size) == (2, 4)
    assert (once.precision_at[2].tolist(), twice.precision_at[2].tolist()) == ([0.5], [1.0])


def random_rankings(seed: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Similarities of 10 queries to items of one length, with many ties, few or none, and which are relevant."""
    random = np.random.default_rng(seed)
    length = int(random.integers(2, 60))
    similarity = np.round(random.standard_normal((10, length)), int(random.integers(0, 9)))
    relevant = random.random((10, length)) < random.uniform(0.02, 0.9)
    relevant[np.arange(10), random.integers(length, size=10)] = True
    return similarity, relevant


@st.composite
def relevance(draw: st.DrawFn, fewest: int, most: int) -> NDArray[np.bool_]:
    """Which of so many items are relevant: at least one."""
    relevant: NDArray[np.bool_] = draw(arrays(np.bool_, st.integers(fewest, most)))
    relevant[draw(st.integers(0, len(relevant) - 1))] = True
    return relevant


@st.composite
def single_rankings(draw: st.DrawFn) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Similarities of a query to items, with many ties, few or none, and which items are relevant."""
    relevant = draw(relevance(2, 60))
    decimals = draw(st.integers(0, 9))
    steps = st.integers(-3 * 10**decimals, 3 * 10**decimals)
    return draw(arrays(np.int64, len(relevant), elements=steps)) / 10**decimals, relevant


@settings(max_examples=100, deadline=None, database=None)
@given(single_rankings())
def test_any_ranking_equals_the_loops_and_scikit_learn(drawn: tuple[NDArray[np.float64], NDArray[np.bool_]]) -> None:
    """Scikit-learn takes a tie as one rank, which is a definition of its own here."""
    similarity, relevant = drawn
    scores = evaluate_similarity(similarity[None], [True], relevant, at=(1, 7, 50))
    found = {name: value[0] for name, value in scores.values.items()}
    assert found["mAP@all (scikit-learn)"] == pytest.approx(average_precision_score(relevant, similarity), abs=1e-9)
    distances, hits = (-similarity).tolist(), relevant.tolist()
    assert found["mAP@all"] == pytest.approx(oracle.tie_averaged_average_precision(distances, hits), abs=1e-12)
    for k in (1, 7, 50):
        expected = oracle.tie_averaged_precision_at(distances, hits, k)
        assert found[f"P@{k}"] == pytest.approx(expected, abs=1e-12)
    curve = [oracle.radius_precision(distances, hits, level / 100) for level in range(0, 101, 10)]
    assert scores.precision_recall[0, ::10] == pytest.approx(curve, abs=1e-12)
    if len(set(distances)) == len(distances):
        ranked = relevant[np.argsort(-similarity)].tolist()
        expected = oracle.values(ranked, (1, 7, 50))
        expected |= {f"mAP@all ({name})": expected["mAP@all"] for name in OF_TIES}
        assert found == pytest.approx(expected, abs=1e-12)


def test_queries_of_one_block_have_their_own_numbers_of_relevant_items() -> None:
    similarity, _ = random_rankings(3)
    gallery_class = np.random.default_rng(0).geometric(0.4, size=similarity.shape[1])
    query_class = gallery_class[:10]
    scores = evaluate_similarity(similarity, query_class, gallery_class, at=(3,))
    for index, row in enumerate(similarity):
        alone = evaluate_similarity(row[None], query_class[index : index + 1], gallery_class, at=(3,))
        for name, values in alone.values.items():
            assert scores.values[name][index] == pytest.approx(values[0], abs=1e-12), name
        assert scores.precision_recall[index] == pytest.approx(alone.precision_recall[0], abs=1e-12)


@pytest.mark.parametrize("factor", [1.0, 1e5, 1e12, -1e9])
def test_similarities_of_any_size_keep_order_and_ties(factor: float) -> None:
    """Also where most of them are in one cell."""
    similarity, relevant = random_rankings(8)
    similarity = similarity * np.sign(factor) + (np.arange(similarity.shape[1]) % 7 == 0) * factor  # some are masked
    scores = evaluate_similarity(similarity, [True] * 10, relevant[0])
    for index, row in enumerate(similarity):
        expected = oracle.tie_averaged_average_precision((-row).tolist(), relevant[0].tolist())
        assert scores.average_precision[index] == pytest.approx(expected, abs=1e-12)


# Euclidean distance


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("seed", range(5))
def test_euclidean_equals_the_loop(seed: int, scale: float) -> None:
    query, query_class, gallery, gallery_class = problem(seed)
    gallery[30:50] = gallery[10:30]  # with ties
    away = np.full(7, 1000.0)  # and far from zero
    scores = evaluate(
        (query + away) * scale, query_class, (gallery + away) * scale, gallery_class, (10,), distance="euclidean"
    )
    for index, row in enumerate(query.tolist()):
        distances = [oracle.euclidean(row, item) for item in gallery.tolist()]
        relevant = (gallery_class == query_class[index]).tolist()
        expected = oracle.tie_averaged_average_precision(distances, relevant)
        assert scores.average_precision[index] == pytest.approx(expected, abs=1e-12)
        expected = oracle.tie_averaged_precision_at(distances, relevant, 10)
        assert scores.precision_at[10][index] == pytest.approx(expected, abs=1e-12)


def test_euclidean_by_hand() -> None:
    """From 1, items at 5, 2 and 0.5 are ranked c b a; by cosine all tie."""
    gallery, names = [[5.0], [2.0], [0.5]], list("abc")
    near = evaluate([[1.0]] * 3, names, gallery, names, distance="euclidean")
    assert near.average_precision == pytest.approx([1 / 3, 1 / 2, 1])
    third = (1 + 1 / 2 + 1 / 3) / 3  # of three that tie, one
    assert evaluate([[1.0]] * 3, names, gallery, names).average_precision == pytest.approx([third] * 3)
    equal = evaluate([[1.0]] * 2, ["a", "b"], [[1.0]] * 2, ["a", "b"], distance="euclidean")  # all at one place
    assert equal.average_precision == pytest.approx([3 / 4, 3 / 4])


def test_refuses_another_distance() -> None:
    with pytest.raises(UserError, match="distance must be cosine or euclidean, not 'manhattan'"):
        evaluate(np.eye(2), ["a", "b"], np.eye(2), ["a", "b"], distance="manhattan")  # type: ignore[arg-type]


# A query that is in the gallery itself


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("seed", range(5))
def test_self_matches_are_left_out(seed: int, distance: str) -> None:
    """The same as if each query searched a gallery without itself."""
    _, _, gallery, names = problem(seed)
    names[-5:] = names[:5]  # every class is there twice
    same = np.where(np.arange(61) % 3 == 0, -1, np.arange(61))
    scores = evaluate(gallery, names, gallery, names, at=(1, 60), distance=distance, same=same)  # type: ignore[arg-type]
    for row in range(61):
        others = np.arange(61) != same[row]
        alone = evaluate(
            gallery[row : row + 1],
            names[row : row + 1],
            gallery[others],
            names[others],
            at=(1, 60),
            distance=distance,  # type: ignore[arg-type]
        )
        for name, values in alone.values.items():
            assert scores.values[name][row] == pytest.approx(values[0], abs=1e-12), name


@pytest.mark.parametrize("seed", range(5))
def test_self_matches_of_codes_are_left_out(seed: int) -> None:
    random = np.random.default_rng(seed)
    codes, names = random.integers(4, size=(40, 2), dtype=np.uint8), np.arange(40) % 5
    same = np.where(np.arange(40) % 3 == 0, -1, np.arange(40))
    scores = evaluate_codes(codes, names, codes, names, at=(1, 7), same=same)
    for row in range(40):
        others = np.arange(40) != same[row]
        alone = evaluate_codes(codes[row : row + 1], names[row : row + 1], codes[others], names[others], at=(1, 7))
        for name, values in alone.values.items():
            assert scores.values[name][row] == pytest.approx(values[0], abs=1e-12), name


def test_self_matches_by_hand() -> None:
    """Without itself, each photo ranks b a or a b."""
    rows, names = [[1, 0], [1, 0.1], [0, 1]], list("aba")
    scores = evaluate(rows, names, rows, names, at=(1,), same=np.array([0, -1, 2]))
    assert scores.average_precision == pytest.approx([1 / 2, 1.0, 1 / 2])
    similar = evaluate_similarity([[1, 0.9, 0.1]], ["a"], names, same=np.array([0]))
    assert similar.average_precision == pytest.approx([1 / 2])


@pytest.mark.parametrize(
    ("same", "message"),
    [
        ([0], r"same must be 2 whole numbers, not int64\(1,\)"),
        ([0.0, 1.0], r"same must be 2 whole numbers, not float64\(2,\)"),
        ([0, 3], "same must be -1 or rows of the gallery, which has 3"),
        ([-2, 0], "same must be -1 or rows of the gallery, which has 3"),
        ([0, 1], "query 1 is itself the gallery's only item of class 'b'"),
    ],
)
def test_names_what_is_wrong_with_self_matches(same: list[float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluate(np.eye(2), ["a", "b"], np.ones((3, 2)), ["a", "b", "a"], same=np.array(same))
    with pytest.raises(UserError, match=message):
        evaluate_codes(
            *(codes_at([1, 1], 1), ["a", "b"]), *(codes_at([1, 1, 2], 1), ["a", "b", "a"]), same=np.array(same)
        )


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


def test_parts_are_joined_in_their_order() -> None:
    query, query_class, gallery, gallery_class = problem(0)
    whole = evaluate(query, query_class, gallery, gallery_class, at=(5,))
    parts = [
        evaluate(query[rows], query_class[rows], gallery, gallery_class, at=(5,)) for rows in (slice(9), slice(9, 23))
    ]
    together = joined(parts)
    assert together.all_means() == pytest.approx(whole.all_means())
    assert together.per_class() == pytest.approx(whole.per_class())
    assert np.array_equal(together.precision_recall, whole.precision_recall)
    assert (together.gallery_size, together.at) == (61, (5,))


def test_similarities_by_hand() -> None:
    """They need not be cosines; the second query's first items tie."""
    scores = evaluate_similarity([[-30, 70, 5], [2, 2, 1]], ["a", "b"], ["a", "b", "a"], at=(2,))
    assert scores.average_precision == pytest.approx([(1 / 2 + 2 / 3) / 2, (1 + 1 / 2) / 2])
    assert scores.precision_at[2].tolist() == [0.5, 0.5]


@pytest.mark.parametrize("block", [1, 7, 23])
def test_similarities_do_not_depend_on_the_block(block: int) -> None:
    _, query_class, _, gallery_class = problem(0)
    similarity = np.random.default_rng(0).integers(9, size=(23, 61))  # with ties
    whole = evaluate_similarity(similarity, query_class, gallery_class)
    parts = evaluate_similarity(similarity, query_class, gallery_class, memory=rows_at_once(block))
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


@st.composite
def few_distances(draw: st.DrawFn) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Hamming distances of up to 6 items, all tied or not, and which items are relevant."""
    relevant = draw(relevance(1, 6))
    return draw(arrays(np.int64, len(relevant), elements=st.integers(0, 2))), relevant


FewDistances = tuple[NDArray[np.int64], NDArray[np.bool_]]


@settings(max_examples=40, deadline=None, database=None)
@given(few_distances())
def test_codes_average_over_all_orders_within_ties(drawn: FewDistances) -> None:
    """Brute force: plain scores of every ranking that agrees with the distances."""
    distances, relevant = drawn
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
    """Random codes of 24 bits; only some bits may be set, and fewer such bits give longer ties."""
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
    """Items at distance 0, 1, 1, 2: b [a b] a stands for b a b a and b b a a, which are equally likely."""
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


@settings(max_examples=40, deadline=None, database=None)
@given(few_distances())
def test_codes_have_every_other_value_over_all_orders_within_ties(drawn: FewDistances) -> None:
    distances, relevant = drawn
    scores = evaluate_codes(codes_at([0], 1), [True], codes_at(distances, 1), relevant, at=(1, 2, 4, 9))
    expected = oracle.tied_values(distances.tolist(), relevant.tolist(), (1, 2, 4, 9))
    assert {name: value[0] for name, value in scores.values.items()} == pytest.approx(expected, abs=1e-12)
    curve = [oracle.radius_precision(distances.tolist(), relevant.tolist(), level / 100) for level in range(101)]
    assert scores.precision_recall[0] == pytest.approx(curve, abs=1e-12)


@pytest.mark.parametrize("memory", [1, 61 * 100, 2**29])
def test_codes_do_not_depend_on_the_block(memory: int) -> None:
    random = np.random.default_rng(0)
    _, query_class, _, gallery_class = problem(0)
    query, gallery = (random.integers(256, size=(rows, 9), dtype=np.uint8) for rows in (23, 61))  # 72 bits
    scores = evaluate_codes(query, query_class, gallery, gallery_class, memory=memory)
    for index, code in enumerate(query.tolist()):
        distances = [oracle.hamming(code, item) for item in gallery.tolist()]
        relevant = (gallery_class == query_class[index]).tolist()
        expected = oracle.tie_averaged_average_precision(distances, relevant)
        assert scores.average_precision[index] == pytest.approx(expected, abs=1e-12)


def test_codes_do_not_depend_on_the_gallerys_order() -> None:
    random = np.random.default_rng(0)
    _, query_class, _, gallery_class = problem(0)
    query, gallery = (random.integers(4, size=(rows, 2), dtype=np.uint8) for rows in (23, 61))
    order = random.permutation(61)
    first = evaluate_codes(query, query_class, gallery, gallery_class)
    second = evaluate_codes(query, query_class, gallery[order], gallery_class[order])
    assert np.array_equal(first.average_precision, second.average_precision)
    assert np.array_equal(first.precision_at[100], second.precision_at[100])


def test_codes_may_lie_in_memory_column_by_column() -> None:
    random = np.random.default_rng(0)
    _, query_class, _, gallery_class = problem(0)
    query, gallery = (random.integers(256, size=(rows, 9), dtype=np.uint8) for rows in (23, 61))
    by_rows = evaluate_codes(query, query_class, gallery, gallery_class)
    by_columns = evaluate_codes(np.asfortranarray(query), query_class, np.asfortranarray(gallery), gallery_class)
    assert np.array_equal(by_rows.average_precision, by_columns.average_precision)


def test_scores_of_codes_take_bounded_memory_however_many_queries() -> None:
    random = np.random.default_rng(0)
    query, gallery = (random.integers(256, size=(rows, 64), dtype=np.uint8) for rows in (4000, 50))
    tracemalloc.start()
    scores = evaluate_codes(query, np.arange(4000) % 5, gallery, np.arange(50) % 5, memory=2**22)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    kept = sum(values.nbytes for values in scores.values.values()) + scores.precision_recall.nbytes
    assert peak < 2**22 + 3 * kept + 4000 * 64 * 4


def test_long_codes_may_differ_in_every_bit() -> None:
    """A distance of 512 does not fit into one byte, the type of the codes."""
    gallery = codes_at([512, 256, 1], 64)
    scores = evaluate_codes(codes_at([0], 64), ["a"], gallery, list("aba"), at=(1,))
    assert scores.average_precision == pytest.approx([(1 + 2 / 3) / 2])
    assert scores.precision_at[1].tolist() == [1.0]


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
