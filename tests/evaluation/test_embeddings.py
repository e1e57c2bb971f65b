"""Files of embeddings are read safely, from any origin, and scored as the functions score them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from crossatnet.evaluation.embeddings import evaluate_embeddings, read_embeddings
from crossatnet.evaluation.ranking import evaluate, evaluate_codes
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
