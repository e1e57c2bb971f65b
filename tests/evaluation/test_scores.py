"""Scores of embeddings of any origin, and files of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from crossatnet.evaluation.ranking import evaluate, evaluate_codes
from crossatnet.evaluation.scores import (
    RESAMPLES,
    SEED,
    Task,
    class_interval,
    read_embeddings,
    score,
    seconds_per_query,
)
from crossatnet.evaluation.zero_shot import evaluate_embeddings
from crossatnet.system.errors import UserError

CLASSES = np.array(["ant", "bee", "cat"])


def drawn(**changes: Any) -> dict[str, NDArray[Any]]:
    """Arrays of a file: 5 queries, 9 gallery items, 4 dimensions."""
    random = np.random.default_rng(1)
    return {
        "query": random.normal(size=(5, 4)).astype(np.float32),
        "query_class": CLASSES[[0, 1, 2, 0, 1]],
        "gallery": random.normal(size=(9, 4)).astype(np.float32),
        "gallery_class": CLASSES[[0, 1, 2] * 3],
        **changes,
    }


def saved(path: Path, arrays: dict[str, NDArray[Any]]) -> Path:
    np.savez(path, **arrays)
    return path


def test_the_interval_is_that_of_a_loop_over_drawn_classes() -> None:
    random = np.random.default_rng(3)
    names = random.choice(list("abcdefg"), 60)  # classes of uneven size, mixed up
    precision = random.uniform(size=60)
    generator, every, means = np.random.default_rng(SEED), sorted(set(names)), []
    for _ in range(RESAMPLES):
        pooled: list[float] = []
        for index in generator.integers(0, len(every), len(every)):
            pooled += [value for value, name in zip(precision, names, strict=True) if name == every[index]]
        means.append(sum(pooled) / len(pooled))
    assert class_interval(precision, names) == pytest.approx(np.percentile(means, [2.5, 97.5]))


def test_the_interval_of_one_class_is_its_mean() -> None:
    assert class_interval(np.array([0.25, 0.75]), np.array(["a", "a"])) == (0.5, 0.5)


def test_copies_are_scored_without_and_with() -> None:
    arrays = drawn()
    task = Task(arrays["query_class"], arrays["gallery_class"], copied=[2, 0], copied_class=["cat", "bee"])
    row, _ = score("any", 4, arrays["query"], arrays["gallery"], task, (3,))
    assert row.metrics == evaluate(*arrays.values(), at=(3,)).means()
    gallery = np.concatenate([arrays["gallery"], arrays["gallery"][2:3], arrays["gallery"][0:1]])
    classes = [*arrays["gallery_class"], "cat", "bee"]
    assert row.with_duplicates == evaluate(arrays["query"], arrays["query_class"], gallery, classes, at=(3,)).means()
    assert row.with_duplicates != row.metrics
    without, _ = score("any", 4, arrays["query"], arrays["gallery"], Task(*list(arrays.values())[1::2]), (3,))
    assert without.with_duplicates is None


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_search_is_timed_and_weighed(dtype: type) -> None:
    query, gallery = np.ones((3, 8), dtype=dtype), np.ones((300, 8), dtype=dtype)
    assert 0 < seconds_per_query(query, gallery) < 1
    assert 0 < seconds_per_query(query, gallery[:1]) < 1  # fewer items than hits
    row, _ = score("any", 8, query, gallery, Task(["a"] * 3, ["a"] * 300), (1,))
    assert row.gallery_bytes == 300 * 8 * np.dtype(dtype).itemsize
    assert row.seconds_per_query is not None


def test_a_file_is_scored_as_by_the_function(tmp_path: Path) -> None:
    arrays = drawn()
    results = evaluate_embeddings(saved(tmp_path / "mine.npz", arrays), at=(2,))
    (row,) = results.rows
    assert (row.model, row.dimension) == ("mine", 4)
    scores = evaluate(*arrays.values(), at=(2,))
    assert row.metrics == scores.means()
    assert {**row.metrics, **row.other_metrics} == scores.all_means()
    assert row.per_class == scores.per_class()
    assert (results.queries, results.gallery, results.classes) == (5, 9, 3)


def test_a_file_of_codes_and_numbered_classes(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    codes = {name: random.integers(0, 256, (rows, 2), dtype=np.uint8) for name, rows in (("query", 5), ("gallery", 9))}
    numbers = {"query_class": np.array([0, 1, 2, 0, 1]), "gallery_class": np.array([0, 1, 2] * 3)}
    arrays = drawn(**codes, **numbers)
    row = evaluate_embeddings(saved(tmp_path / "codes.npz", arrays), at=(2,)).rows[0]
    assert row.dimension == 16
    assert row.metrics == evaluate_codes(*arrays.values(), at=(2,)).means()


def test_files_with_the_same_task_say_the_same_data(tmp_path: Path) -> None:
    first = saved(tmp_path / "a.npz", drawn())
    better = saved(tmp_path / "b.npz", drawn(query=np.ones((5, 4))))
    other = saved(tmp_path / "c.npz", drawn(query_class=CLASSES[[0, 1, 2, 1, 0]]))
    data = [evaluate_embeddings(path).data for path in (first, better, other)]
    assert data[0] == data[1] != data[2]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"query": np.ones(5)}, r"query must be floats .* not float64\(5,\)"),
        ({"gallery": np.ones((0, 4))}, r"gallery must be floats .* not float64\(0, 4\)"),
        ({"gallery": np.ones((9, 4), dtype=np.int64)}, r"gallery must be floats .* not int64\(9, 4\)"),
        ({"gallery": np.ones((9, 3))}, r"query has 4 dimensions, gallery 3"),
        ({"gallery": np.ones((9, 4), dtype=np.uint8)}, r"query is float32, gallery uint8; give codes for both"),
        ({"query": np.full((5, 4), np.nan)}, r"query row 0 has values that are not finite"),
        ({"query_class": CLASSES}, r"query has 5 embeddings but classes of shape \(3,\)"),
        ({"query_class": np.ones((5, 1), dtype=int)}, r"query_class must be integers or strings .* not int64\(5, 1\)"),
        ({"gallery_class": np.ones(9)}, r"gallery_class must be integers or strings .* not float64"),
        ({"gallery_class": np.array(["ant"] * 9)}, r"the gallery has no item of class 'bee'"),
        ({"query_class": np.array(["ant", 1, None, {}, []], dtype=object)}, r"query_class cannot be read .* objects"),
    ],
)
def test_files_that_cannot_be_scored(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = saved(tmp_path / "wrong.npz", drawn(**changes))
    with pytest.raises(UserError, match=rf"wrong\.npz: {said}"):
        evaluate_embeddings(path)


def test_files_that_are_no_embeddings(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.npz: no such file"):
        read_embeddings(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("not an archive")
    with pytest.raises(UserError, match=r"text\.npz: not an \.npz file"):
        read_embeddings(tmp_path / "text.npz")
    (tmp_path / "empty.npz").write_bytes(b"")
    with pytest.raises(UserError, match=r"empty\.npz: not an \.npz file"):
        read_embeddings(tmp_path / "empty.npz")
    np.save(tmp_path / "one.npy", np.ones((3, 4)))
    with pytest.raises(UserError, match=r"one\.npy: not an \.npz file"):
        read_embeddings(tmp_path / "one.npy")
    arrays = drawn()
    del arrays["query"], arrays["gallery_class"]
    with pytest.raises(UserError, match=r"less\.npz: no array query, gallery_class; it needs query, query_class"):
        read_embeddings(saved(tmp_path / "less.npz", arrays))
    whole = saved(tmp_path / "cut.npz", drawn())
    whole.write_bytes(whole.read_bytes()[:300])
    with pytest.raises(UserError, match=r"cut\.npz: not an \.npz file, or damaged"):
        read_embeddings(whole)
