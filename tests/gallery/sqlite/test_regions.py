"""Regions of pictures: a gallery's file keeps them through all changes, and a search finds pictures by them."""

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from crossatnet.gallery.backend import (
    BOX_STEPS,
    EVERYTHING,
    NO_ITEM,
    CodedRegions,
    Facts,
    FileState,
    Filter,
    MadeWith,
)
from crossatnet.gallery.sqlite import present, sidefile
from crossatnet.gallery.sqlite.checking import check
from crossatnet.gallery.sqlite.copies import backup, replace
from crossatnet.gallery.sqlite.regions import record
from crossatnet.gallery.sqlite.store import Store
from crossatnet.system.errors import UserError
from oracles.search import hamming, nearest_by_parts

MADE_WITH = MadeWith("f" * 64, "", "fake", dimension=8, code_bits=16, regions=True)
PENALTY = 0.1
WORTH = 1  # bits of 16, by `penalty_bits`


def unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), np.float32)


def coded(rows: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.packbits(np.concatenate([rows > 0, rows > 0.3], axis=1), axis=1)


def parts(count: int, random: np.random.Generator) -> CodedRegions:
    """So many regions in different places."""
    embeddings = unit(random.standard_normal((count, 8)))
    return CodedRegions(
        random.integers(0, BOX_STEPS + 1, (count, 4)).astype(np.float32) / BOX_STEPS, coded(embeddings), embeddings
    )


def put(store: Store, numbers: list[int], random: np.random.Generator) -> None:
    facts = [Facts(f"/p/{n % 3}/{n}", f"class {n % 3}", FileState(1, 1, f"{n}"), 1, 1) for n in numbers]
    embeddings = unit(random.standard_normal((len(numbers), 8)))
    regions = [parts(int(random.integers(0, 4)), random) for _ in numbers]
    store.put(facts, coded(embeddings), embeddings, regions=regions)


def rows_of(path: Path, filter: Filter) -> list[tuple[int, bytes, bytes, NDArray[np.void]]]:
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT id, class_name, code, embedding, regions FROM items ORDER BY id").fetchall()
    return [
        (key, code, embedding, np.frombuffer(column, record(MADE_WITH)))
        for key, name, code, embedding, column in found
        if filter == EVERYTHING or name in filter.class_names
    ]


def assert_finds_what_a_loop_finds(store: Store, queries: NDArray[np.float32], k: int) -> None:
    for filter in (EVERYTHING, Filter(class_names=("class 1",))):
        stored = rows_of(store.path, filter)
        ids = [row[0] for row in stored]
        wholes = [np.frombuffer(row[2], "<f2") for row in stored]
        others = [[*row[3]["embedding"]] for row in stored]
        found = store.nearest(queries, coded(queries), k, filter, PENALTY)
        for number, query in enumerate(queries):
            expected = nearest_by_parts(ids, wholes, others, query, k, PENALTY)
            kept = found.ids[number] != NO_ITEM
            assert found.ids[number][kept].tolist() == [key for key, _, _ in expected]
            assert found.scores[number][kept] == pytest.approx([score for _, score, _ in expected], abs=1e-6)
            assert found.boxes is not None
            for box, (key, _, part) in zip(found.boxes[number], expected, strict=False):
                of_part = [np.nan] * 4 if part is None else stored[ids.index(key)][3]["box"][part] / BOX_STEPS
                np.testing.assert_allclose(box, of_part, atol=1e-6)
        assert_codes_find_what_a_loop_finds(store, queries, k, filter)


def assert_codes_find_what_a_loop_finds(store: Store, queries: NDArray[np.float32], k: int, filter: Filter) -> None:
    found = store.nearest_codes(coded(queries), k, filter, PENALTY)
    for number, code in enumerate(coded(queries)):
        expected = sorted(
            (
                min(
                    [
                        hamming(np.frombuffer(own, np.uint8), code),
                        *(WORTH + hamming(each, code) for each in row["code"]),
                    ]
                ),
                key,
            )
            for key, own, _, row in rows_of(store.path, filter)
        )[:k]
        assert found.ids[number].tolist() == [key for _, key in expected]
        assert found.scores[number] == pytest.approx([1 - distance / 16 for distance, _ in expected], abs=1e-6)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "my.gallery", MADE_WITH)


@pytest.mark.parametrize("seed", range(2))
def test_two_readers_follow_any_changes(store: Store, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(present, "UNFLUSHED", 20)  # side files for galleries of any size
    random, other, numbers = np.random.default_rng(seed), Store.open(store.path), 0
    for step in range(24):
        writer, what = (store, other)[random.integers(2)], random.integers(10)
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
        if step % 4 == 0:
            assert_finds_what_a_loop_finds(store, unit(random.standard_normal((2, 8))), 7)
    assert sidefile.path_of(store.path).exists()
    for reader in (store, other, Store.open(store.path)):
        assert_finds_what_a_loop_finds(reader, unit(random.standard_normal((2, 8))), 1000)


def test_regions_of_one_picture_take_no_room_from_others(store: Store) -> None:
    random = np.random.default_rng(0)
    query = unit(random.standard_normal((1, 8)))
    wholes = unit(random.standard_normal((300, 8)))
    alike = CodedRegions(np.zeros((8, 4), np.float32), np.tile(coded(query), (8, 1)), np.tile(query, (8, 1)))
    facts = [Facts(f"/p/{n}", None, FileState(1, 1, f"{n}"), 1, 1) for n in range(300)]
    store.put(facts, coded(wholes), wholes, regions=[alike] * 150 + [parts(0, random)] * 150)
    for k in (1, 20, 200, 300):
        for found in (store.nearest(query, coded(query), k), store.nearest_codes(coded(query), k)):
            assert len(set(found.ids[0].tolist()) - {NO_ITEM}) == k


@pytest.mark.parametrize("is_flushed", [True, False])
def test_a_picture_is_found_by_a_part_in_a_gallery_larger_than_the_shortlist(
    tmp_path: Path, is_flushed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(present, "UNFLUSHED", 1000)
    random, items = np.random.default_rng(0), 4000
    planes = random.standard_normal((32, 256))
    wholes, regions = unit(random.standard_normal((items, 32))), unit(random.standard_normal((items, 2, 32)))
    query = unit(random.standard_normal((1, 32)))
    planted = [*range(7, items, 400)]
    regions[planted, 1] = unit(query + 0.05 * random.standard_normal((len(planted), 32)))
    made = [np.packbits(rows @ planes > 0, axis=-1) for rows in (wholes, regions, query)]
    boxes = np.array([[0, 0, 0.2, 0.2], [0.4, 0.4, 0.8, 1]], np.float32)
    with closing(Store.create(tmp_path / "my.gallery", MadeWith("f" * 64, "", "fake", 32, 256, True))) as store:
        facts = [Facts(f"/p/{n}", None, FileState(1, 1, f"{n}"), 1, 1) for n in range(items)]
        store.put(
            facts, made[0], wholes, regions=[CodedRegions(boxes, *each) for each in zip(made[1], regions, strict=True)]
        )
        if is_flushed:
            store.flush()
        found = store.nearest(query, made[2], len(planted), region_penalty=PENALTY)
        by_codes = store.nearest_codes(made[2], len(planted), region_penalty=PENALTY)
    assert found.boxes is not None
    assert sorted(found.ids[0].tolist()) == sorted(by_codes.ids[0].tolist()) == [1 + number for number in planted]
    np.testing.assert_allclose(found.boxes[0], np.tile(boxes[1], (len(planted), 1)), atol=1 / BOX_STEPS)
    expected = np.sort(regions[planted, 1] @ query[0])[::-1] - PENALTY
    assert found.scores[0] == pytest.approx(expected, abs=1e-3)


def test_regions_are_replaced_with_their_picture_moved_with_it_and_removed_with_it(store: Store) -> None:
    random = np.random.default_rng(0)
    facts, embeddings = Facts("/p/a", None, FileState(1, 1, "a"), 1, 1), unit(random.standard_normal((1, 8)))
    for count in (3, 2):
        store.put([facts], coded(embeddings), embeddings, regions=[parts(count, random)])
        assert [len(row[3]) for row in rows_of(store.path, EVERYTHING)] == [count]
    before = rows_of(store.path, EVERYTHING)[0][3].tobytes()
    store.move([("/p/a", Facts("/p/b", None, FileState(1, 2, "a"), 1, 1))])
    assert rows_of(store.path, EVERYTHING)[0][3].tobytes() == before
    assert check(store.path).are_none
    store.remove(["/p/b"])
    assert store.nearest(embeddings, coded(embeddings), 5, region_penalty=0).ids.size == 0


def test_a_backup_and_a_replacement_have_the_regions_too(store: Store, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    put(store, [*range(30)], random)
    backup(store.path, tmp_path / "copy.gallery")
    put(store, [*range(10)], random)
    replace(store.path, tmp_path / "copy.gallery")
    with closing(Store.open(tmp_path / "copy.gallery")) as copy:
        assert copy.made_with == MADE_WITH
        assert rows_of(copy.path, EVERYTHING)[0][3].tobytes() == rows_of(store.path, EVERYTHING)[0][3].tobytes()
    assert_finds_what_a_loop_finds(store, unit(random.standard_normal((2, 8))), 10)


@pytest.mark.parametrize("place", [0, 5, 20, 40], ids=["box", "code", "embedding", "second region"])
def test_a_damaged_region_is_noticed(store: Store, place: int) -> None:
    random = np.random.default_rng(0)
    facts, embeddings = Facts("/p/a", None, FileState(1, 1, "a"), 1, 1), unit(random.standard_normal((1, 8)))
    store.put([facts], coded(embeddings), embeddings, regions=[parts(3, random)])
    damaged = bytearray(rows_of(store.path, EVERYTHING)[0][3].tobytes())
    damaged[place] ^= 4
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.create_function("with_facts", -1, lambda *_: None)
        connection.execute("UPDATE items SET regions = ?", (bytes(damaged),))
    assert [fault.reason for fault in check(store.path).faults] == ["its checksum is another one"]
    with closing(Store.open(store.path)) as reader:
        assert reader.nearest(embeddings, coded(embeddings), 5).ids.size == 0


@pytest.mark.parametrize("column", [b"short", b"\0" * 22 * 9, "text"])
def test_what_is_no_regions_is_noticed(store: Store, column: object) -> None:
    put(store, [0], np.random.default_rng(0))
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute("UPDATE items SET regions = ?", (column,))
    assert [fault.reason for fault in check(store.path).faults] == ["its regions are not some"]


def test_a_region_that_is_not_finite_is_not_stored(store: Store) -> None:
    random = np.random.default_rng(0)
    broken = parts(2, random)
    broken.embeddings[1, 3] = np.nan
    embeddings = unit(random.standard_normal((1, 8)))
    with pytest.raises(UserError, match="NaN or infinite"):
        store.put([Facts("/p/a", None, FileState(1, 1, "a"), 1, 1)], coded(embeddings), embeddings, regions=[broken])
    assert len(store) == 0
