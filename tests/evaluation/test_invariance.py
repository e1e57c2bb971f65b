"""A ranking depends on nothing but the order of similarities: not on their scale, nor on any order of the arrays."""

import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from crossatnet.evaluation.metrics import RetrievalScores
from crossatnet.evaluation.ranking import evaluate, evaluate_codes, evaluate_similarity
from crossatnet.evaluation.similarity import gpu
from crossatnet.system.errors import UserError
from oracles import metrics as oracle

AT = (1, 3, 10)
Task = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]


@st.composite
def tasks(draw: st.DrawFn) -> Task:
    """Similarities (Q, N) that are whole numbers, with many ties or few, and classes of queries and gallery."""
    queries, items = draw(st.integers(1, 5)), draw(st.integers(3, 25))
    most = draw(st.sampled_from([1, 5, 1000]))
    similarity = draw(arrays(np.int64, (queries, items), elements=st.integers(-most, most)))
    gallery_class = draw(arrays(np.int64, items, elements=st.integers(0, 2)))
    query_class = gallery_class[draw(arrays(np.int64, queries, elements=st.integers(0, items - 1)))]
    return similarity.astype(np.float64), query_class, gallery_class


def assert_equal(found: RetrievalScores, expected: RetrievalScores, tolerance: float = 1e-12) -> None:
    assert set(found.values) == set(expected.values)
    for name, values in expected.values.items():
        assert found.values[name] == pytest.approx(values, abs=tolerance), name
    assert found.precision_recall == pytest.approx(expected.precision_recall, abs=tolerance)


INCREASING = {
    "tiny": lambda values: values * 1e-8,
    "tinier than any number but some": lambda values: values * 2.0**-1060,
    "huge": lambda values: values * 1e304,
    "offset": lambda values: values + 1e12,
    "exponential": lambda values: np.exp(values / 100),
    "cube": lambda values: values**3,
    "one masked far below": lambda values: np.where(values == values.min(), -1e300, values),
    "float32": lambda values: values.astype(np.float32),
    "integers": lambda values: values.astype(np.int64),
    "integers that floats cannot hold": lambda values: values.astype(np.int64) + 2**60,
}


@pytest.mark.parametrize("name", INCREASING)
@settings(max_examples=25, deadline=None, database=None)
@given(task=tasks())
def test_any_increasing_function_of_the_similarities_scores_the_same(name: str, task: Task) -> None:
    similarity, query_class, gallery_class = task
    expected = evaluate_similarity(similarity, query_class, gallery_class, AT)
    assert_equal(evaluate_similarity(INCREASING[name](similarity), query_class, gallery_class, AT), expected)


@settings(max_examples=50, deadline=None, database=None)
@given(tasks(), st.randoms(use_true_random=False))
def test_any_order_of_queries_and_gallery_scores_the_same(task: Task, random: object) -> None:
    similarity, query_class, gallery_class = task
    rows, columns = (np.array(random.sample(range(size), size)) for size in similarity.shape)  # type: ignore[attr-defined]
    expected = evaluate_similarity(similarity, query_class, gallery_class, AT)
    found = evaluate_similarity(similarity[rows][:, columns], query_class[rows], gallery_class[columns], AT)
    assert all(np.array_equal(found.values[name], values[rows]) for name, values in expected.values.items())


@settings(max_examples=40, deadline=None, database=None)
@given(tasks())
def test_every_definition_equals_the_naive_one_where_items_tie(task: Task) -> None:
    similarity, query_class, gallery_class = (part[..., :6] for part in task)
    asked = np.isin(query_class, gallery_class)
    if not asked.any():
        return
    similarity, query_class = similarity[asked[: len(similarity)]], query_class[asked]
    scores = evaluate_similarity(similarity, query_class, gallery_class, AT)
    for index, row in enumerate(similarity):
        expected = oracle.tied_values((-row).tolist(), (gallery_class == query_class[index]).tolist(), AT)
        found = {name: values[index] for name, values in scores.values.items()}
        assert found == pytest.approx(expected, abs=1e-12)


@st.composite
def signs(draw: st.DrawFn) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """Bits of queries and gallery, with classes."""
    size = 8 * draw(st.integers(1, 6))
    query, gallery = (
        draw(arrays(np.bool_, (draw(st.integers(1, most)), size), elements=st.booleans())) for most in (6, 40)
    )
    gallery_class = draw(arrays(np.int64, len(gallery), elements=st.integers(0, 3)))
    query_class = gallery_class[draw(arrays(np.int64, len(query), elements=st.integers(0, len(gallery) - 1)))]
    return query, gallery, query_class, gallery_class


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16])
@settings(max_examples=25, deadline=None, database=None)
@given(drawn=signs(), unit=st.booleans())
def test_signs_score_as_their_codes_to_the_last_bit(
    distance: str, kind: type, drawn: tuple[NDArray[np.bool_], ...], unit: bool
) -> None:
    """As +1 and -1, and divided by their length as networks' outputs are."""
    query, gallery, query_class, gallery_class = drawn
    length = np.sqrt(query.shape[1]) if unit and distance == "cosine" else 1
    floats = [((bits * 2.0 - 1) / length).astype(kind) for bits in (query, gallery)]
    found = evaluate(floats[0], query_class, floats[1], gallery_class, AT, distance=distance)  # type: ignore[arg-type]
    codes = [np.packbits(bits, axis=1) for bits in (query, gallery)]
    expected = evaluate_codes(codes[0], query_class, codes[1], gallery_class, AT)
    assert set(found.values) == set(expected.values)
    for name, values in expected.values.items():
        assert np.array_equal(found.values[name], values), name
    assert np.array_equal(found.precision_recall, expected.precision_recall)


def embeddings(seed: int = 1) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Queries and gallery around centres of their classes, so far apart that many are confused."""
    random = np.random.default_rng(seed)
    query_class, gallery_class = random.integers(6, size=40), np.arange(600) % 6
    centres = random.standard_normal((6, 32))
    query, gallery = (
        centres[number] + 2.5 * random.standard_normal((len(number), 32)) for number in (query_class, gallery_class)
    )
    return query, query_class, gallery, gallery_class


@pytest.mark.parametrize("precision", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1e-300, 1e-36, 1e-8, 1e8, 1e36, 1e300])
@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_embeddings_of_any_scale_score_the_same(distance: str, scale: float, precision: type) -> None:
    """Rounded once when they are scaled, so a few near pairs may change places."""
    query, query_class, gallery, gallery_class = embeddings()
    if abs(np.log10(scale)) > 37 and precision == np.float32:
        return  # float32 has no such numbers
    arrays_ = [(rows * scale).astype(precision) for rows in (query, gallery)]
    found = evaluate(arrays_[0], query_class, arrays_[1], gallery_class, distance=distance)  # type: ignore[arg-type]
    expected = evaluate(query, query_class, gallery, gallery_class, distance=distance)  # type: ignore[arg-type]
    tolerance = 1e-6 if precision == np.float32 else 1e-12
    assert found.means() == pytest.approx(expected.means(), abs=tolerance)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_powers_of_two_change_no_bit(distance: str) -> None:
    query, query_class, gallery, gallery_class = embeddings()
    expected = evaluate(query, query_class, gallery, gallery_class, distance=distance)  # type: ignore[arg-type]
    for power in (-900, -3, 5, 900):
        rows = [np.ldexp(part, power) for part in (query, gallery)]
        found = evaluate(rows[0], query_class, rows[1], gallery_class, distance=distance)  # type: ignore[arg-type]
        assert found.average_precision.tolist() == expected.average_precision.tolist()


@pytest.mark.parametrize("far", [1e6, 1e8, 1e12, 1e100])
def test_a_far_row_does_not_disturb_distances(far: float) -> None:
    query, query_class, gallery, gallery_class = embeddings()
    found = evaluate(
        query, query_class, np.vstack([gallery, np.full((1, 32), far)]), [*gallery_class, 0], distance="euclidean"
    )
    squares = ((query[:, None] - gallery) ** 2).sum(2)
    similarity = np.concatenate([-squares, np.full((40, 1), -np.inf)], axis=1)
    similarity[:, -1] = similarity[:, :-1].min() - 1
    expected = evaluate_similarity(similarity, query_class, [*gallery_class, 0])
    assert found.average_precision == pytest.approx(expected.average_precision, abs=1e-12)


def test_a_row_too_far_for_any_number_is_refused_by_name() -> None:
    query, query_class, gallery, gallery_class = embeddings()
    gallery[7] = 1e200
    with pytest.raises(UserError, match="gallery row 7 is so far from the others that its square overflows"):
        evaluate(query, query_class, gallery, gallery_class, distance="euclidean")
    query[3], gallery[7] = -1e250, 1
    with pytest.raises(UserError, match="query row 3 is so far from the others"):
        evaluate(query, query_class, gallery, gallery_class, distance="euclidean")


@pytest.mark.parametrize("offset", [1.0, 100.0, 1e4, 1e6])
@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_embeddings_with_a_large_offset_are_ranked_exactly(distance: str, offset: float) -> None:
    """Compared with numbers of 80 bits; their cosines differ by as little as 1e-12."""
    query, query_class, gallery, gallery_class = embeddings()
    query, gallery = (np.round(rows, 3) + offset for rows in (query, gallery))
    exact = [rows.astype(np.longdouble) for rows in (query, gallery)]
    if distance == "cosine":
        similarity = exact[0] @ (exact[1] / np.sqrt((exact[1] ** 2).sum(1, keepdims=True))).T
    else:
        similarity = -((exact[0][:, None] - exact[1]) ** 2).sum(2)
    expected = evaluate_similarity(similarity, query_class, gallery_class)
    found = evaluate(query, query_class, gallery, gallery_class, distance=distance)  # type: ignore[arg-type]
    assert found.average_precision == pytest.approx(expected.average_precision, abs=1e-5)
    assert found.means()["mAP@all"] == pytest.approx(expected.means()["mAP@all"], abs=1e-6)


def test_float32_with_a_large_offset_is_computed_in_float64() -> None:
    query, query_class, gallery, gallery_class = embeddings()
    rows = [(part + 300).astype(np.float32) for part in (query, gallery)]
    found = evaluate(rows[0], query_class, rows[1], gallery_class)
    exact = [part.astype(np.float64) for part in rows]
    expected = evaluate(exact[0], query_class, exact[1], gallery_class)
    assert found.average_precision.tolist() == expected.average_precision.tolist()


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_a_collapsed_model_scores_what_chance_does(distance: str) -> None:
    """All embeddings equal, the gallery sorted by class or not: as codes that all tie."""
    query_class, gallery_class = np.arange(12) % 3, np.sort(np.arange(60) % 3)
    rows = [np.full((size, 16), 0.7) for size in (12, 60)]
    found = evaluate(rows[0], query_class, rows[1], gallery_class, AT, distance=distance)  # type: ignore[arg-type]
    codes = [np.zeros((size, 2), dtype=np.uint8) for size in (12, 60)]
    expected = evaluate_codes(codes[0], query_class, codes[1], gallery_class, AT)
    assert_equal(found, expected, 0.0)
    shares = [average_precision_score(gallery_class == name, np.ones(60)) for name in query_class]
    assert found.values["mAP@all (scikit-learn)"] == pytest.approx(shares, abs=1e-12)


def test_zeros_of_both_signs_are_equal() -> None:
    scores = evaluate_similarity([[0.0, -0.0, 1.0]], ["a"], list("abb"))
    assert scores.average_precision == pytest.approx([(1 / 2 + 1 / 3) / 2])


# Torch multiplies and sorts, as on a GPU


def torch_task(kind: str) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    query, query_class, gallery, gallery_class = embeddings()
    if kind == "ties":
        query, gallery = (np.sign(rows[:, :9]) for rows in (query, gallery))
    if kind == "copies":
        gallery[300:] = gallery[:300]
    if kind == "classes of other sizes":
        gallery_class = np.minimum(gallery_class, np.arange(600) // 90)
    return query.astype(np.float32), query_class, gallery.astype(np.float32), gallery_class


@pytest.mark.parametrize("has_itself", [False, True])
@pytest.mark.parametrize("kind", ["plain", "ties", "copies", "classes of other sizes"])
def test_torch_finds_the_values_of_numpy(kind: str, has_itself: bool) -> None:
    """Exactly, where the products are whole numbers."""
    query, query_class, gallery, gallery_class = torch_task(kind)
    same = None
    if has_itself:
        gallery[:40], gallery_class[:40], same = query, query_class, np.arange(40)
    expected = evaluate(query, query_class, gallery, gallery_class, AT, same=same)
    found = evaluate(query, query_class, gallery, gallery_class, AT, same=same, device="cpu")
    assert found.all_means() == pytest.approx(expected.all_means(), abs=0 if kind == "ties" else 1e-6)


def test_a_gpu_is_used_if_torch_has_one_that_does_not_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert gpu() == "cuda"
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
    assert gpu() is None
    monkeypatch.undo()
    monkeypatch.delitem(sys.modules, "torch")
    assert gpu() is None  # torch is not loaded for it
