"""Snapshots of a changing gallery always hold the same items as SQLite, and find the same as a loop."""

import itertools
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from crossatnet.gallery.backend import EVERYTHING, NO_ITEM, Facts, FileState, Filter, MadeWith, Nearest
from crossatnet.gallery.sqlite import present as present_module
from crossatnet.gallery.sqlite import sidefile
from crossatnet.gallery.sqlite import snapshot as snapshot_module
from crossatnet.gallery.sqlite.segment import Changes
from crossatnet.gallery.sqlite.store import Store
from crossatnet.system.errors import UserError
from oracles.search import nearest, nearest_codes

MADE_WITH = MadeWith("f" * 64, "/models/fake", "fake", dimension=8, code_bits=16)


def vectors(count: int, random: np.random.Generator) -> NDArray[np.float32]:
    rows = random.standard_normal((count, 8)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def codes(embeddings: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.packbits(np.concatenate([embeddings > 0, embeddings > 0.3], axis=1), axis=1)


def put(store: Store, numbers: list[int], random: np.random.Generator) -> None:
    facts = [Facts(f"/p/{n % 3}/{n}", f"class {n % 3}", FileState(1, 1, "a"), 1, 1) for n in numbers]
    embeddings = vectors(len(numbers), random)
    store.put(facts, codes(embeddings), embeddings)


def truth(path: Path) -> dict[int, tuple[str, NDArray[np.float16]]]:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT id, class_name, embedding FROM items").fetchall()
    return {key: (class_name, np.frombuffer(half, "<f2")) for key, class_name, half in rows}


def assert_finds_what_a_loop_finds(store: Store, queries: NDArray[np.float32], k: int) -> None:
    stored = truth(store.path)
    for filter in (EVERYTHING, Filter(class_names=("class 1",))):
        kept = {key: half for key, (name, half) in stored.items() if filter == EVERYTHING or name in filter.class_names}
        ids, scores, _ = store.nearest(queries, codes(queries), k, filter)
        for query, row, values in zip(queries, ids.tolist(), scores.tolist(), strict=True):
            expected = nearest([*kept], [*kept.values()], query, k)
            assert [key for key in row if key != NO_ITEM] == [key for key, _ in expected]
            assert values[: len(expected)] == pytest.approx([score for _, score in expected], abs=1e-6)
        assert_codes_find_what_a_loop_finds(store, [*kept], queries, k, filter)


def assert_codes_find_what_a_loop_finds(
    store: Store, kept: list[int], queries: NDArray[np.float32], k: int, filter: Filter
) -> None:
    """Codes of 16 bits tie often, so this also checks that ties are in order and that pages fit together."""
    with closing(sqlite3.connect(store.path)) as connection:
        stored = {key: np.frombuffer(code, np.uint8) for key, code in connection.execute("SELECT id, code FROM items")}
    ids, scores, _ = store.nearest_codes(codes(queries), k, filter)
    for code, row, values in zip(codes(queries), ids.tolist(), scores.tolist(), strict=True):
        expected = nearest_codes(kept, [stored[key] for key in kept], code, k)
        assert row == [key for key, _ in expected]
        assert values == pytest.approx([score for _, score in expected], abs=1e-6)


def side_token(store: Store) -> str:
    with closing(sqlite3.connect(store.path)) as connection:
        return str(connection.execute("SELECT side_token FROM meta").fetchone()[0])


def side_file(store: Store) -> sidefile.SideFile | None:
    """The side file of a gallery, if there is an undamaged one."""
    return sidefile.read(store.path, side_token(store), MADE_WITH.code_bits // 8, MADE_WITH.dimension)


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[snapshot_module.Snapshot]:
    """The snapshots that searches use, the latest last."""
    snapshots: list[snapshot_module.Snapshot] = []
    find = snapshot_module.Snapshot.nearest

    def noted(snapshot: snapshot_module.Snapshot, *arguments: Any) -> Nearest:
        snapshots.append(snapshot)
        return find(snapshot, *arguments)

    monkeypatch.setattr(snapshot_module.Snapshot, "nearest", noted)
    return snapshots


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "my.gallery", MADE_WITH)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Side files for galleries of any size."""
    monkeypatch.setattr(present_module, "UNFLUSHED", 20)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("seed", range(4))
def test_two_readers_follow_any_changes(store: Store, seed: int) -> None:
    random = np.random.default_rng(seed)
    other = Store.open(store.path)
    numbers = 0
    for step in range(40):
        writer = (store, other)[random.integers(2)]
        what = random.integers(10)
        if what < 5 or not numbers:
            fresh = int(random.integers(1, 30))
            put(writer, [*range(numbers, numbers + fresh)], random)
            numbers += fresh
        elif what < 7:
            put(writer, random.integers(0, numbers, 5).tolist(), random)
        elif what < 9:
            writer.remove([f"/p/{n % 3}/{n}" for n in random.integers(0, numbers, 10).tolist()])
        else:
            (writer.compact, writer.flush)[random.integers(2)]()
        if step % 3 == 0:
            assert_finds_what_a_loop_finds(store, vectors(2, random), 7)
    for reader in (store, other, Store.open(store.path)):
        assert_finds_what_a_loop_finds(reader, vectors(3, random), 1000)
        assert len(reader) == len(truth(store.path))


def test_segments_stay_few_while_items_come_in_small_batches(
    store: Store, searched: list[snapshot_module.Snapshot]
) -> None:
    random = np.random.default_rng(0)
    for start in range(0, 300, 3):
        put(store, [start, start + 1, start + 2], random)
        store.nearest(vectors(1, random), np.zeros((1, 2), np.uint8), 1)
    sizes = [len(segment.ids) for segment in searched[-1].segments]
    assert sum(sizes) == 300
    assert all(first > 2 * second for first, second in itertools.pairwise(sizes))


@pytest.mark.usefixtures("eager")
def test_the_side_file_is_used_and_kept_through_small_changes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    put(store, [*range(500)], random)
    store.flush()
    before = sidefile.path_of(store.path).read_bytes()
    put(store, [*range(500, 505)], random)
    store.remove(["/p/0/0"])
    store.flush()
    assert sidefile.path_of(store.path).read_bytes() == before

    read: list[int] = []
    read_rows = snapshot_module.Snapshot.after

    def counted(snapshot: snapshot_module.Snapshot, changes: Changes) -> snapshot_module.Snapshot:
        read.append(len(changes.ids))
        return read_rows(snapshot, changes)

    monkeypatch.setattr(snapshot_module.Snapshot, "after", counted)
    with closing(Store.open(store.path)) as reader:
        assert_finds_what_a_loop_finds(reader, vectors(3, random), 20)
    assert read == [5]


@pytest.mark.usefixtures("eager")
def test_a_long_run_writes_the_side_file_on_its_way(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(present_module, "PUT_IN_A_RUN", 50)
    random, held = np.random.default_rng(0), []
    for start in range(0, 1000, 10):
        put(store, [*range(start, start + 10)], random)
        side = side_file(store)
        held.append(side.header.items if side else 0)
    assert max(start + 10 - items for start, items in zip(range(0, 1000, 10), held, strict=True)) <= 260
    assert 5 < len(set(held)) < 15
    assert_finds_what_a_loop_finds(store, vectors(2, random), 1000)


@pytest.mark.usefixtures("eager")
def test_a_reader_that_stays_lets_go_of_what_has_come_into_the_side_file(
    store: Store, searched: list[snapshot_module.Snapshot]
) -> None:
    random = np.random.default_rng(0)
    put(store, [*range(100)], random)
    store.flush()
    with closing(Store.open(store.path)) as reader:
        for start in range(100, 1000, 10):
            put(store, [*range(start, start + 10)], random)
            if start % 50 == 0:
                store.flush()
            assert_finds_what_a_loop_finds(reader, vectors(1, random), 5)
            assert searched[-1].in_memory <= 60
        assert_finds_what_a_loop_finds(reader, vectors(2, random), 1000)


@pytest.mark.usefixtures("eager")
def test_a_side_file_from_before_a_compaction_is_written_again(
    store: Store, searched: list[snapshot_module.Snapshot]
) -> None:
    random = np.random.default_rng(0)
    put(store, [*range(100)], random)
    store.flush()
    older = sidefile.path_of(store.path).read_bytes()
    token = side_token(store)
    store.remove(["/p/0/0"])
    store.compact()
    sidefile.path_of(store.path).write_bytes(older)  # as after a kill before the side file was written
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute("UPDATE meta SET side_token = ?", (token,))
    with closing(Store.open(store.path)) as reader:
        assert_finds_what_a_loop_finds(reader, vectors(2, random), 1000)
        assert searched[-1].in_memory == 0


def test_a_small_gallery_is_one_file(store: Store, tmp_path: Path) -> None:
    put(store, [*range(100)], np.random.default_rng(0))
    store.flush()
    store.compact()
    store.nearest(vectors(1, np.random.default_rng(1)), np.zeros((1, 2), np.uint8), 1)
    store.close()
    assert [path.name for path in tmp_path.iterdir()] == ["my.gallery"]


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("damage", ["missing", "header", "codes", "embeddings", "cut", "folder"])
def test_a_damaged_side_file_is_written_again_and_changes_nothing(store: Store, damage: str) -> None:
    random = np.random.default_rng(0)
    put(store, [*range(100)], random)
    store.flush()
    path = sidefile.path_of(store.path)
    content = bytearray(path.read_bytes())
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        place = {"header": 40, "codes": 4096 + 100 * 8 + 70, "embeddings": len(content) - 40, "cut": 0}[damage]
        content[place : place + 100] = bytes(byte ^ 255 for byte in content[place : place + 100])
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else content)
    with closing(Store.open(store.path)) as reader:
        assert_finds_what_a_loop_finds(reader, vectors(5, random), 1000)
    if damage != "folder":
        assert reader.thumbnail_side == 0
        with closing(Store.open(store.path)) as again:
            side = side_file(again)
            assert side is not None
            assert len(side.embeddings(np.arange(100))) == 100


@pytest.mark.usefixtures("eager")
def test_a_side_file_of_a_later_state_is_not_used_for_an_older_copy(store: Store, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    put(store, [*range(50)], random)
    store.close()
    copy = store.path.read_bytes()
    with closing(Store.open(store.path)) as later:
        put(later, [*range(50, 150)], random)
        later.flush()
    for name in ("my.gallery-wal", "my.gallery-shm"):
        assert not (tmp_path / name).exists()
    store.path.write_bytes(copy)
    with closing(Store.open(store.path)) as restored:
        put(restored, [*range(200, 210)], random)  # the same generation as the later state, with other items
        assert_finds_what_a_loop_finds(restored, vectors(3, random), 1000)


@pytest.mark.usefixtures("eager")
def test_a_lock_or_a_full_disk_keeps_nobody_from_searching(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    put(store, [*range(100)], random)

    def fails(*arguments: object) -> bool:
        raise OSError("no space left on device")

    monkeypatch.setattr(sidefile, "write", fails)
    store.flush()
    assert_finds_what_a_loop_finds(store, vectors(3, random), 1000)
    monkeypatch.undo()
    monkeypatch.setattr(present_module, "UNFLUSHED", 20)

    def locked(*arguments: object) -> bool:
        raise UserError("another process keeps the gallery locked")

    monkeypatch.setattr(sidefile, "write", locked)
    with closing(Store.open(store.path)) as reader:
        assert_finds_what_a_loop_finds(reader, vectors(3, random), 1000)
