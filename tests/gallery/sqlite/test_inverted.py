"""The index of codes: what it reads is what a loop reads, and what it promises is what its tests measured."""

import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from crossatnet.gallery import reach as gallery_reach
from crossatnet.gallery.backend import EVERYTHING, NO_ITEM, Facts, FileState, Filter, MadeWith
from crossatnet.gallery.reach import Reach
from crossatnet.gallery.shortlist import hamming_nearest
from crossatnet.gallery.sqlite import clustering, inverted, present, sidefile
from crossatnet.gallery.sqlite.clustering import assigned, lists_for, trained
from crossatnet.gallery.sqlite.inverted import Inverted, build
from crossatnet.gallery.sqlite.store import Store
from crossatnet.system.errors import UserError
from crossatnet.system.recall import check_recall
from oracles.search import hamming, nearest, nearest_codes

DIMENSION, BITS = 16, 64
MADE_WITH = MadeWith("f" * 64, "/models/fake", "fake", DIMENSION, BITS)
PLANES = np.random.default_rng(99).standard_normal((DIMENSION, BITS))

Codes = NDArray[np.uint8]


def clustered(count: int, random: np.random.Generator, shift: float = 0.0) -> NDArray[np.float32]:
    """Embeddings of unit length around 40 centres; `shift` moves the centres."""
    centres = np.random.default_rng(0).standard_normal((40, DIMENSION))
    centres = centres * (1 - shift) + shift * np.random.default_rng(1).standard_normal(centres.shape)
    rows = centres[random.integers(0, len(centres), count)] + 0.3 * random.standard_normal((count, DIMENSION))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def coded(embeddings: NDArray[np.float32]) -> Codes:
    return np.packbits(embeddings @ PLANES > 0, axis=1)


def built(embeddings: NDArray[np.float32], lists: int = 64) -> Inverted:
    return build(coded(embeddings), embeddings.astype(np.float16).__getitem__, lists)


def few_bits(count: int, random: np.random.Generator) -> Codes:
    """Codes of which many are equally far from any other."""
    return random.integers(0, 4, (count, 2), dtype=np.uint8)


# Reading lists


@pytest.mark.parametrize("seed", range(4))
def test_the_lists_that_are_read_give_what_a_loop_finds_in_them(seed: int) -> None:
    random = np.random.default_rng(seed)
    codes = few_bits(200, random)
    index = build(codes, np.ones((200, 4), np.float16).__getitem__, lists=16)
    is_live = random.random(200) < 0.8
    list_of = index.list_of()
    for live in (None, is_live):
        counts = [row for row in range(200) if live is None or live[row]]
        for code in few_bits(5, random):
            order = sorted(range(16), key=lambda number, code=code: (hamming(index.centres[number], code), number))
            for lists, length in ((1, 3), (3, 40), (16, len(counts))):
                while True:  # twice as many, until they hold enough
                    inside = [row for row in counts if list_of[row] in order[:lists]]
                    if len(inside) >= length:
                        break
                    lists *= 2
                expected = nearest_codes(inside, [codes[row] for row in inside], code, length)
                found = index.nearest(code, live, Reach(lists, length))
                assert found.tolist() == [row for row, _ in expected]


@pytest.mark.parametrize("seed", range(4))
def test_all_lists_give_what_the_exact_search_gives_bit_for_bit(seed: int) -> None:
    random = np.random.default_rng(seed)
    codes, is_live = few_bits(300, random), random.random(300) < 0.7
    index = build(codes, np.ones((300, 4), np.float16).__getitem__, lists=25)
    for code in few_bits(10, random):
        for length in (1, 17, int(is_live.sum())):
            exact = hamming_nearest(codes, is_live, code[None], length)[1][0]
            found = index.nearest(code, is_live, Reach(25, length))
            assert found.tolist() == sorted(exact.tolist(), key=lambda row: (hamming(codes[row], code), row))


def test_lists_hold_each_row_once_in_order() -> None:
    index = built(clustered(500, np.random.default_rng(0)))
    assert sorted(index.rows.tolist()) == [*range(500)]
    for start, end in zip(index.starts[:-1], index.starts[1:], strict=True):
        assert (np.diff(index.rows[start:end]) > 0).all()
        assert (index.list_of()[index.rows[start:end]] == index.list_of()[index.rows[start]]).all() or start == end


# Centres


def test_codes_are_in_the_list_of_the_nearest_centre(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clustering, "TOPS_TRIED", 8)
    monkeypatch.setattr(clustering, "AT_ONCE", 70)
    codes = coded(clustered(300, np.random.default_rng(0)))
    centres = trained(codes, 64)
    for code, number in zip(codes, assigned(codes, centres).tolist(), strict=True):
        distances = [hamming(centre, code) for centre in centres]
        assert distances[number] == min(distances)


def test_centres_are_nearer_to_their_codes_than_any_of_these_are_to_each_other() -> None:
    codes = coded(clustered(2000, np.random.default_rng(0)))
    centres = trained(codes, 64)
    own = np.mean(
        [hamming(centres[number], code) for code, number in zip(codes, assigned(codes, centres), strict=True)]
    )
    chosen = codes[np.random.default_rng(1).permutation(2000)[:64]]
    near = np.mean([min(hamming(other, code) for other in chosen) for code in codes[:200]])
    assert own < near


def test_there_are_as_many_lists_as_a_size_wants_and_no_new_ones_for_a_few_items() -> None:
    assert lists_for(10**6) == 126**2
    assert lists_for(10**7) == 225**2
    assert lists_for(12 * 10**6, before=225**2) == 225**2
    assert lists_for(4 * 10**7, before=225**2) == 318**2
    assert lists_for(10**6, before=225**2) == 126**2


# Measuring


def test_a_reach_has_the_recall_that_the_tests_measured() -> None:
    index = built(clustered(2000, np.random.default_rng(0)))
    for recall in (0.5, 0.9, 0.97):
        reach = index.tested.reach(10, recall)
        assert reach is not None
        shares = [
            sum(lists < (reach.lists or 64) and place < reach.length for lists, place in hits[:10].tolist()) / 10
            for hits in index.tests
        ]
        shares.append(0.0)
        mean = sum(shares) / len(shares)
        error = math.sqrt(sum((share - mean) ** 2 for share in shares) / len(shares)) / math.sqrt(len(shares))
        assert mean - error >= recall
    assert index.tested.reach(10, 0.9999) is None  # more than the tests can tell
    assert index.tested.reach(101, 0.5) is None
    cheap, dear = index.tested.reach(10, 0.5), index.tested.reach(10, 0.97)
    assert cheap is not None
    assert dear is not None
    assert 0 < cheap.lists < (dear.lists or 64)


def test_tests_hold_the_places_of_the_hits_of_exact_searches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery_reach, "FLIPPED", 0.0)
    monkeypatch.setattr(inverted, "TESTS", 150)
    embeddings = clustered(150, np.random.default_rng(0))
    index, codes, halves = built(embeddings, 16), coded(embeddings), embeddings.astype(np.float16)
    assert index.tests.shape == (150, 100, 2)
    for row in range(0, 150, 10):
        query = halves[row].astype(np.float32)
        hits = [key for key, _ in nearest([*range(150)], [*halves], query, 101) if key != row][:100]
        order = [key for key, _ in nearest_codes([*range(150)], [*codes], codes[row], 150)]
        lists = [key for key, _ in nearest_codes([*range(16)], [*index.centres], codes[row], 16)]
        expected = [[lists.index(index.list_of()[hit]), order.index(hit)] for hit in hits]
        assert index.tests[row].tolist() == expected


@pytest.mark.parametrize("recall", [0.8, 0.9, 0.97])
def test_new_queries_find_as_much_as_was_asked_for(recall: float) -> None:
    random = np.random.default_rng(0)
    embeddings = clustered(4000, random)
    index, codes = built(embeddings, 256), coded(embeddings)
    reach = index.tested.reach(10, recall)
    assert reach is not None
    queries, shares = clustered(200, random), []
    for query, code in zip(queries, coded(queries), strict=True):
        true = set(np.argsort(-(embeddings @ query))[:10].tolist())
        rows = index.nearest(code, None, Reach(reach.lists or 256, reach.length))
        best = rows[np.argsort(-(embeddings[rows] @ query))[:10]]
        shares.append(len(true & set(best.tolist())) / 10)
        assert len(rows) < len(codes) / 4
    assert np.mean(shares) >= recall


# Changes


def test_what_has_its_list_keeps_it_until_the_codes_have_drifted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inverted, "DRIFT_LISTS", 2)
    random = np.random.default_rng(0)
    embeddings = clustered(1000, random)
    index = built(embeddings)
    lists = index.list_of()
    lists[:100] = -1
    with monkeypatch.context() as patch:
        patch.setattr(inverted, "trained", None)  # centres are not found again
        again = build(coded(embeddings), embeddings.astype(np.float16).__getitem__, 64, (index, lists))
    np.testing.assert_array_equal(again.centres, index.centres)
    np.testing.assert_array_equal(again.list_of(), index.list_of())
    assert again.first_read == index.first_read
    others = clustered(1000, random, shift=1.0)
    drifted = build(coded(others), others.astype(np.float16).__getitem__, 64, (index, np.full(1000, -1, np.int32)))
    np.testing.assert_array_equal(drifted.centres, trained(coded(others), 64))
    assert drifted.first_read == drifted.usual_lists()


# In a gallery


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Side files and indexes for small galleries, with few lists that a search reads."""
    monkeypatch.setattr(present, "UNFLUSHED", 20)
    monkeypatch.setattr(present, "INDEXED", 100)
    monkeypatch.setattr(gallery_reach, "RERANKED", 1)  # or else so few codes are all scanned
    monkeypatch.setattr(gallery_reach, "IN_LISTS", 1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store.create(tmp_path / "my.gallery", MADE_WITH)) as made:
        yield made


def put(store: Store, numbers: list[int], random: np.random.Generator) -> None:
    facts = [Facts(f"/p/{n}", f"class {n % 3}", FileState(1, 1, "a"), 1, 1) for n in numbers]
    embeddings = clustered(len(numbers), random)
    store.put(facts, coded(embeddings), embeddings)


def side_file(store: Store) -> sidefile.SideFile:
    with closing(sqlite3.connect(store.path)) as connection:
        token = str(connection.execute("SELECT side_token FROM meta").fetchone()[0])
    side = sidefile.read(store.path, token, BITS // 8, DIMENSION)
    assert side is not None
    return side


def found(store: Store, queries: NDArray[np.float32], k: int, filter: Filter = EVERYTHING) -> NDArray[np.int64]:
    return store.nearest(queries, coded(queries), k, filter).ids


def truth(path: Path, queries: NDArray[np.float32], k: int, class_name: str = "") -> list[list[int]]:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT id, class_name, embedding FROM items").fetchall()
    kept = {key: np.frombuffer(half, "<f2") for key, name, half in rows if class_name in ("", name)}
    return [[key for key, _ in nearest([*kept], [*kept.values()], query, k)] for query in queries]


def shared(ids: NDArray[np.int64], true: list[list[int]]) -> float:
    """The share of the true hits that were found; what was found is there, and each once."""
    for row, expected in zip(ids.tolist(), true, strict=True):
        assert len(set(row)) == len(row)
        assert NO_ITEM not in row[: len(expected)]
    return float(np.mean([len(set(row) & set(hits)) / len(hits) for row, hits in zip(ids.tolist(), true, strict=True)]))


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("seed", range(2))
def test_any_changes_keep_the_recall_and_conditions_are_exact(store: Store, seed: int) -> None:
    random = np.random.default_rng(seed)
    put(store, [*range(800)], random)
    store.flush()
    assert side_file(store).index is not None
    numbers, reads = 800, []
    with closing(Store.open(store.path, recall=0.9)) as reader, closing(Store.open(store.path, recall=1)) as exact:
        for _ in range(9):
            what = random.integers(4)
            if what == 0:
                put(store, [*range(numbers, numbers + 100)], random)
                numbers += 100
            elif what == 1:
                put(store, random.integers(0, numbers, 50).tolist(), random)
            elif what == 2:
                store.remove([f"/p/{n}" for n in random.integers(0, numbers, 150).tolist()])
            else:
                (store.flush, store.compact)[random.integers(2)]()
            queries = clustered(8, random)
            true = truth(store.path, queries, 10)
            assert shared(found(reader, queries, 10), true) >= 0.9
            assert shared(found(reader, queries[:2], 60), truth(store.path, queries[:2], 60)) >= 0.9
            assert found(exact, queries, 10).tolist() == true
            only = Filter(class_names=("class 1",))
            assert found(reader, queries[:3], 10, only).tolist() == truth(store.path, queries[:3], 10, "class 1")
            index = side_file(store).index
            assert index is not None
            reach = index.tested.reach(10, 0.9)
            reads.append(reach is not None and 0 < reach.lists < len(index.centres))
    assert any(reads)


@pytest.mark.usefixtures("eager")
def test_what_is_written_again_is_in_the_lists_of_its_present_codes(store: Store) -> None:
    random = np.random.default_rng(0)
    put(store, [*range(300)], random)
    store.flush()
    first = side_file(store).index
    put(store, [*range(40), *range(300, 340)], random)
    store.remove([f"/p/{n}" for n in range(100, 120)])
    store.flush()
    side = side_file(store)
    assert first is not None
    assert side.index is not None
    np.testing.assert_array_equal(side.index.centres, first.centres)
    np.testing.assert_array_equal(side.index.list_of(), assigned(side.codes, side.index.centres))
    assert len(side.ids) == 320


@pytest.mark.usefixtures("eager")
def test_an_emptied_gallery_finds_what_is_left(store: Store) -> None:
    random = np.random.default_rng(0)
    put(store, [*range(300)], random)
    store.flush()
    queries = clustered(3, random)
    with closing(Store.open(store.path, recall=0.5)) as reader:
        store.remove([f"/p/{n}" for n in range(295)])
        assert found(reader, queries, 10)[:, :5].tolist() == truth(store.path, queries, 10)
        store.remove([f"/p/{n}" for n in range(295, 300)])
        assert found(reader, queries, 10).size == 0
        put(store, [400, 401], random)
        assert found(reader, queries, 10).tolist() == truth(store.path, queries, 10)


@pytest.mark.usefixtures("eager")
def test_a_side_file_without_an_index_is_searched_and_then_written_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    queries = clustered(5, random)
    monkeypatch.setattr(present, "INDEXED", 10_000)
    put(store, [*range(300)], random)
    store.flush()
    assert side_file(store).index is None
    monkeypatch.setattr(present, "INDEXED", 100)
    with closing(Store.open(store.path, recall=0.9)) as reader:
        assert found(reader, queries, 10).tolist() == truth(store.path, queries, 10)
    assert side_file(store).index is None
    store.flush()
    index = side_file(store).index
    assert index is not None
    assert len(index.centres) == lists_for(300)


@pytest.mark.usefixtures("eager")
def test_a_crash_while_the_index_is_built_leaves_the_older_side_file(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    put(store, [*range(300)], random)
    store.flush()
    older = sidefile.path_of(store.path).read_bytes()
    put(store, [*range(300, 400)], random)

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sidefile, "build", killed)
    with pytest.raises(KeyboardInterrupt):
        store.flush()
    assert sidefile.path_of(store.path).read_bytes() == older
    queries = clustered(5, random)
    with closing(Store.open(store.path, recall=0.9)) as reader:
        assert shared(found(reader, queries, 10), truth(store.path, queries, 10)) >= 0.9
    with closing(Store.open(store.path, recall=1)) as reader:
        assert found(reader, queries, 10).tolist() == truth(store.path, queries, 10)


@pytest.mark.usefixtures("eager")
def test_a_gallery_of_regions_has_no_index(tmp_path: Path) -> None:
    with closing(Store.create(tmp_path / "my.gallery", replace(MADE_WITH, regions=True))) as store:
        put(store, [*range(300)], np.random.default_rng(0))
        store.flush()
        assert side_file(store).index is None


@pytest.mark.usefixtures("eager")
def test_every_damaged_part_of_an_index_is_noticed(store: Store) -> None:
    put(store, [*range(120)], np.random.default_rng(0))
    store.flush()
    path, side = sidefile.path_of(store.path), side_file(store)
    whole = path.read_bytes()
    assert side.index is not None
    for part in (side.index.centres, side.index.starts, side.index.rows, side.index.codes, side.index.tests):
        start = whole.index(part.tobytes())
        for place in range(start, start + part.nbytes, max(1, part.nbytes // 7)):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
            assert sidefile.read(store.path, side.header.token, BITS // 8, DIMENSION) is None


def test_a_recall_is_a_share() -> None:
    for recall in (1e-6, 0.95, 1.0):
        check_recall(recall)
    for recall in (0.0, -0.5, 1.01, 95.0, math.nan, math.inf):
        with pytest.raises(UserError, match=r"give a share above 0, such as \.95, or 1 for the exact search"):
            check_recall(recall)
