"""Files of embeddings are read safely, from any origin, and scored as the functions score them."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from numpy.typing import NDArray
from pyarrow import parquet

from crossatnet.evaluation.embedding_files import read_embeddings
from crossatnet.evaluation.embeddings import evaluate_embeddings
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


def test_byte_strings_are_text(tmp_path: Path) -> None:
    """As HDF5 keeps them: the same scores, classes and data as text."""
    as_bytes = {name: np.char.encode(drawn()[name], "utf-8") for name in ("query_class", "gallery_class")}
    found = evaluate_embeddings(saved(tmp_path / "bytes.npz", drawn(**as_bytes)), at=(2,))
    expected = evaluate_embeddings(saved(tmp_path / "text.npz", drawn()), at=(2,))
    assert list(found.rows[0].per_class) == ["ant", "bee", "cat"]
    assert found.rows[0].per_class == expected.rows[0].per_class
    assert found.data == expected.data
    latin = drawn(query_class=np.array([b"ant", b"b\xe9e", b"cat", b"ant", b"bee"]))
    with pytest.raises(UserError, match=r"latin\.npz: query_class row 1 is b'b\\xe9e', bytes that are not UTF-8"):
        read_embeddings(saved(tmp_path / "latin.npz", latin))


def with_header(path: Path, name: str, shape: tuple[int, ...]) -> Path:
    """The archive, with another shape in the header of one array."""
    arrays, other = drawn(), path.with_suffix(".zip")
    saved(path, arrays)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(other, "w") as new:
        for entry in old.namelist():
            content = old.read(entry)
            if entry == f"{name}.npy":
                buffer = io.BytesIO()
                described = {"descr": "<f4", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_2_0(buffer, described)
                content = buffer.getvalue() + content[128:]
            new.writestr(entry, content)
    return other.rename(path)


@pytest.mark.parametrize("shape", [(10**13, 4), (2**62, 2**62), (6, 4)])
def test_a_file_that_claims_more_than_it_holds(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = with_header(tmp_path / "claims.npz", "query", shape)
    with pytest.raises(UserError, match=r"claims\.npz: query claims [0-9,]+ bytes of float32.*, but the file holds 80"):
        read_embeddings(path)
    folder = tmp_path / "folder"
    saved_in_folder(folder, drawn())
    with (folder / "query.npy").open("wb") as file, zipfile.ZipFile(path) as archive:
        file.write(archive.read("query.npy"))
    with pytest.raises(UserError, match=r"query\.npy: query claims [0-9,]+ bytes"):
        read_embeddings(folder)


def saved_in_folder(folder: Path, arrays: dict[str, NDArray[Any]]) -> Path:
    folder.mkdir()
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder


def test_a_folder_of_arrays_is_mapped_and_scored_as_the_archive(tmp_path: Path) -> None:
    folder = saved_in_folder(tmp_path / "mine", drawn())
    file = read_embeddings(folder)
    assert isinstance(file.gallery, np.memmap)
    expected = evaluate_embeddings(saved(tmp_path / "mine.npz", drawn()), at=(2,))
    found = evaluate_embeddings(folder, at=(2,))
    assert (found.rows[0].metrics, found.data) == (expected.rows[0].metrics, expected.data)
    (folder / "gallery.npy").write_text("no array")
    with pytest.raises(UserError, match=r"gallery\.npy: not an \.npy file"):
        read_embeddings(folder)
    (folder / "gallery.npy").unlink()
    with pytest.raises(UserError, match="no array gallery; it needs"):
        read_embeddings(folder)


def as_table(arrays: dict[str, NDArray[Any]], **columns: list[Any]) -> pyarrow.Table:
    embeddings = [row.tolist() for side in ("query", "gallery") for row in arrays[side]]
    part = ["query"] * len(arrays["query"]) + ["gallery"] * len(arrays["gallery"])
    classes = [*arrays["query_class"].tolist(), *arrays["gallery_class"].tolist()]
    kind = pyarrow.list_(pyarrow.uint8() if arrays["query"].dtype == np.uint8 else pyarrow.float32())
    whole = {"part": part, "class": classes, "embedding": pyarrow.array(embeddings, kind), **columns}
    return pyarrow.table(whole)


@pytest.mark.parametrize("kind", ["floats", "codes"])
def test_a_parquet_table_is_scored_as_the_archive(tmp_path: Path, kind: str) -> None:
    random = np.random.default_rng(0)
    codes = {name: random.integers(0, 256, (rows, 2), dtype=np.uint8) for name, rows in (("query", 5), ("gallery", 9))}
    arrays = drawn(**(codes if kind == "codes" else {}))
    parquet.write_table(as_table(arrays), tmp_path / "mine.parquet")
    found = evaluate_embeddings(tmp_path / "mine.parquet", at=(2,))
    expected = evaluate_embeddings(saved(tmp_path / "mine.npz", arrays), at=(2,))
    assert (found.rows[0].metrics, found.data) == (expected.rows[0].metrics, expected.data)


def test_tables_that_cannot_be_scored(tmp_path: Path) -> None:
    table, path = as_table(drawn()), tmp_path / "wrong.parquet"
    wrong = {
        "no column class; it needs part, class, embedding": table.drop_columns("class"),
        "part must be query or gallery, not 'test'": as_table(drawn(), part=["query"] * 5 + ["test"] * 9),
        "one length in all rows": as_table(drawn(), embedding=[[1.0]] * 5 + [[1.0, 2.0]] * 9),
        "a list of numbers in every row": as_table(drawn(), embedding=[1.0] * 14),
        "class must be integers or strings": as_table(drawn(), **{"class": [None] * 14}),
    }
    for message, each in wrong.items():
        parquet.write_table(each, path)
        with pytest.raises(UserError, match=rf"wrong\.parquet: .*{message}"):
            read_embeddings(path)
    path.write_text("no table")
    with pytest.raises(UserError, match=r"wrong\.parquet: not a Parquet file"):
        read_embeddings(path)


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
