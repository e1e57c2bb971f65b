"""How far a search on a server must look: measured is what a loop finds, and a search keeps what it promises."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from crossatnet.gallery import Gallery
from crossatnet.gallery.backend import Facts, FileState, Filter
from crossatnet.gallery.milvus import backend, reach
from crossatnet.gallery.milvus.rows import row_of
from crossatnet.gallery.milvus.table import LISTS
from crossatnet.gallery.reach import asked_as_drawings
from gallery import milvus_server
from gallery.fake_model import FakeModel
from gallery.milvus_server import MilvusServer
from oracles.search import hamming

ITEMS, DIMENSION = 300, 16
MODEL = FakeModel(dimension=DIMENSION, code_bits=64)


def embeddings_of(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Embeddings around a few centres, so that lists of codes mean something."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(9).standard_normal((40, DIMENSION))
    rows = centres[random.integers(0, 40, count)] + 0.3 * random.standard_normal((count, DIMENSION))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def facts(number: int) -> Facts:
    return Facts(f"/p/{number}", f"{number % 2}", FileState(1, 1, "a" * 64), 1, 1)


class FakeTable:
    """What the measuring asks of a `Table`: each item's list is its number modulo `LISTS`, nearest to it is list 0."""

    def __init__(self, items: int = ITEMS) -> None:
        self.properties: dict[str, str] = {}
        self.measured = 0
        embeddings = embeddings_of(items)
        codes = MODEL.hash(embeddings)
        self.rows = [row_of(facts(n), codes[n], embeddings[n], 0) for n in range(items)]
        self.list_of = {row["id"]: number % LISTS for number, row in enumerate(self.rows)}

    def count(self) -> int:
        return len(self.rows)

    def is_indexed(self) -> bool:
        return True

    def keep(self, name: str, text: str) -> None:
        self.measured += 1
        self.properties[name] = text

    def kept(self, name: str) -> str | None:
        return self.properties.get(name)

    def loaded(self, condition: str, fields: list[str], limit: int) -> list[dict[str, Any]]:
        return [{**row, "code": [row["code"]]} for row in self.rows[:limit]]

    def nearest(
        self, packed: NDArray[np.uint8], length: int, condition: str, fields: list[str], lists: int = LISTS
    ) -> list[list[dict[str, Any]]]:
        answers = []
        for code in packed:
            read = [row for row in self.rows if self.list_of[row["id"]] < lists]
            near = sorted(read, key=lambda row: (hamming(code, np.frombuffer(row["code"], np.uint8)), row["id"]))
            answers.append([{"id": row["id"], "entity": row} for row in near[:length]])
        return answers


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> FakeTable:
    monkeypatch.setattr(reach, "INDEXED", 100)
    monkeypatch.setattr(reach, "TESTS", 8)
    return FakeTable()


def test_what_is_measured_is_what_a_loop_finds(table: FakeTable) -> None:
    reach.measure(table, DIMENSION, 64)  # type: ignore[arg-type]
    tested = reach.read(table)  # type: ignore[arg-type]
    assert tested is not None
    assert (tested.lists, tested.items, tested.tests.shape) == (LISTS, ITEMS, (8, 100, 2))
    halves = embeddings_of(ITEMS).astype(np.float16).astype(np.float32)
    halves /= np.linalg.norm(halves, axis=1, keepdims=True)
    asked = asked_as_drawings(MODEL.hash(embeddings_of(ITEMS)[:8]), np.random.default_rng(8))
    for number in range(8):
        shortlist = [hit["id"] for hit in table.nearest(asked[number : number + 1], ITEMS, "", [])[0]]
        ids = [row["id"] for row in table.rows]
        best = sorted(range(ITEMS), key=lambda row: (-float(halves[row] @ halves[number]), ids[row]))
        expected = []
        for row in [row for row in best if row != number][:100]:
            needed = next(lists for lists in (1, 2, 4, 8, 16, 32, 64, LISTS) if row % LISTS < lists)
            expected.append([needed - 1, shortlist.index(ids[row])])
        assert tested.tests[number].tolist() == expected


def test_a_gallery_is_measured_again_only_when_it_has_changed_much(
    table: FakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    reach.measure(table, DIMENSION, 64)  # type: ignore[arg-type]
    reach.measure(table, DIMENSION, 64)  # type: ignore[arg-type]
    assert table.measured == 1
    table.rows = table.rows[: int(0.9 * ITEMS)]
    reach.measure(table, DIMENSION, 64)  # type: ignore[arg-type]
    assert table.measured == 1
    table.rows = table.rows[: int(0.7 * ITEMS)]
    reach.measure(table, DIMENSION, 64)  # type: ignore[arg-type]
    assert table.measured == 2
    monkeypatch.setattr(reach, "INDEXED", ITEMS)
    reach.measure(FakeTable(), DIMENSION, 64)  # type: ignore[arg-type]  # a small one
    assert table.measured == 2


def test_a_server_that_does_not_index_is_not_waited_for_without_end(
    table: FakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "is_indexed", lambda: False)
    monkeypatch.setattr(reach, "PATIENCE_S", 0.0)
    monkeypatch.setattr(reach, "PAUSE_S", 0.0)
    reach.measure(table, DIMENSION, 64)  # type: ignore[arg-type]
    assert table.measured == 0


@pytest.mark.parametrize("text", ["", "?", "[]", '{"items": 1}', json.dumps({"items": 1, "tests": "eJw="})])
def test_what_another_program_wrote_is_nothing_measured(table: FakeTable, text: str) -> None:
    table.properties[reach.PROPERTY] = text
    assert reach.read(table) is None  # type: ignore[arg-type]


@pytest.mark.scale  # the server takes half a minute to index
@pytest.mark.skipif(bool(milvus_server.missing()), reason=milvus_server.missing())
def test_a_large_gallery_is_searched_as_far_as_its_recall_asks(
    server: MilvusServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (reach, backend):
        monkeypatch.setattr(module, "INDEXED", 5000)
    place, items = f"milvus://127.0.0.1:{server.port}/reach", 12_000
    embeddings = embeddings_of(items)
    with Gallery.create(tmp_path / "twin.gallery", MODEL) as twin, Gallery.create(place, MODEL) as gallery:
        for start in range(0, items, 2000):
            part = slice(start, start + 2000)
            for one in (gallery, twin):
                one.store.put([facts(n) for n in range(items)[part]], MODEL.hash(embeddings[part]), embeddings[part])
        gallery.store.flush()
        tested = reach.read(gallery.store._table)
        assert tested is not None
        assert tested.items == items
        chosen = tested.reach(10, 0.9)
        assert chosen is not None
        assert 0 < chosen.lists < LISTS
        queries = embeddings_of(200, seed=3)
        exact = [[hit.path for hit in hits] for hits in twin.search_embeddings(queries, 10)]
        with (
            Gallery.open(place, MODEL, recall=1) as all_read,
            Gallery.open(place, MODEL, recall=0.9) as less_read,
        ):
            assert [sorted(hit.path for hit in hits) for hits in all_read.search_embeddings(queries, 10)] == [
                sorted(paths) for paths in exact
            ]
            found = [{hit.path for hit in hits} for hits in less_read.search_embeddings(queries, 10)]
            recall = np.mean([len(mine.intersection(theirs)) / 10 for mine, theirs in zip(found, exact, strict=True)])
            assert 0.85 < recall < 1
            cats = Filter(class_names=("1",))  # conditions are searched exactly
            assert [{hit.path for hit in hits} for hits in less_read.search_embeddings(queries[:20], 10, cats)] == [
                {hit.path for hit in hits} for hits in twin.search_embeddings(queries[:20], 10, cats)
            ]
