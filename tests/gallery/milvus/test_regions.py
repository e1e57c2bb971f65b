"""Regions of pictures on a real Milvus server: found are the same pictures as in a file, by the same boxes."""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from crossatnet.cli.main import app
from crossatnet.gallery import Gallery
from crossatnet.gallery.backend import (
    EVERYTHING,
    NO_ITEM,
    Backend,
    CodedRegions,
    Facts,
    FileState,
    Filter,
    box_bytes,
    box_fractions,
)
from crossatnet.gallery.milvus import collections
from crossatnet.gallery.milvus.calls import Address, Connection
from crossatnet.gallery.milvus.rows import id_of, region_ids
from crossatnet.gallery.shortlist import penalty_bits
from crossatnet.system.errors import UserError
from gallery import milvus_server
from gallery.fake_model import BOXES, FakeModel
from gallery.known import noise
from gallery.milvus_server import MilvusServer
from oracles.search import hamming, nearest_by_parts

pytestmark = [
    pytest.mark.scale,
    pytest.mark.skipif(bool(milvus_server.missing()), reason=milvus_server.missing()),
]

DIMENSION, BITS, PENALTY = 16, 64, 0.1
MODEL = FakeModel(DIMENSION, BITS, regions=True)
NO_PARTS = CodedRegions(
    np.empty((0, 4), np.float32), np.empty((0, BITS // 8), np.uint8), np.empty((0, DIMENSION), np.float32)
)


@pytest.fixture(scope="module")
def shared(server: MilvusServer) -> Iterator[Gallery]:
    with Gallery.create(f"milvus://127.0.0.1:{server.port}/parts", MODEL, regions=True) as gallery:
        yield gallery


@pytest.fixture
def store(shared: Gallery) -> Iterator[Backend]:
    """An empty gallery; all that a test leaves is removed, and regions with their pictures."""
    yield shared.store
    shared.store.remove([*shared.store.paths_under(Path("/"))])


@pytest.fixture
def twin(tmp_path: Path) -> Iterator[Backend]:
    """The same in a file."""
    with Gallery.create(tmp_path / "twin.gallery", MODEL, regions=True) as gallery:
        yield gallery.store


def unit(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), np.float32)


def vectors(count: int, seed: int = 0) -> NDArray[np.float32]:
    return unit(np.random.default_rng(seed).standard_normal((count, DIMENSION)))


def parts(embeddings: NDArray[np.float32], seed: int = 0) -> CodedRegions:
    """Regions anywhere in a picture."""
    boxes = np.random.default_rng(seed).random((len(embeddings), 4), np.float32)
    return CodedRegions(boxes, MODEL.hash(embeddings), embeddings)


def facts(number: int, content: str = "a") -> Facts:
    return Facts(f"/p/{number % 2}/{number}", f"class {number % 3}", FileState(1, 1, content * 64), 30, 20)


def put(
    store: Backend, pictures: Sequence[Facts], embeddings: NDArray[np.float32], regions: Sequence[CodedRegions]
) -> None:
    store.put(pictures, MODEL.hash(embeddings), embeddings, regions=regions)


def made(count: int, seed: int = 0) -> tuple[list[Facts], NDArray[np.float32], list[CodedRegions]]:
    """Pictures with 0 to 8 regions each."""
    random = np.random.default_rng(seed)
    regions = [parts(vectors(int(random.integers(0, 9)), seed=1000 + n), n) for n in range(count)]
    return [facts(number) for number in range(count)], vectors(count, seed), regions


def found(store: Backend, query: NDArray[np.float32], k: int, filter: Filter = EVERYTHING) -> list[tuple[Any, ...]]:
    """The path, score and box of each hit of a query (D,), by embeddings."""
    return answered(store, store.nearest(query[None], MODEL.hash(query[None]), k, filter, PENALTY))


def found_by_codes(
    store: Backend, query: NDArray[np.float32], k: int, filter: Filter = EVERYTHING
) -> list[tuple[Any, ...]]:
    return answered(store, store.nearest_codes(MODEL.hash(query[None]), k, filter, PENALTY))


def answered(store: Backend, nearest: Any) -> list[tuple[Any, ...]]:
    (ids,), (scores,), (boxes,) = nearest
    kept = ids != NO_ITEM
    items = store.pictures(ids[kept].tolist())
    return [
        (items[key].facts.path, score, None if np.isnan(box).any() else tuple(box))
        for key, score, box in zip(ids[kept].tolist(), scores[kept].tolist(), boxes[kept].tolist(), strict=True)
    ]


def count_rows(store: Backend) -> int:
    return milvus_server.count_rows(store.name)


# What is found


def test_the_same_is_found_as_by_a_loop_and_in_a_file(store: Backend, twin: Backend) -> None:
    pictures, wholes, regions = made(60)
    now, day = datetime.now(UTC), timedelta(days=1)
    for place in (store, twin):
        put(place, pictures, wholes, regions)
    halves = [whole.astype(np.float16) for whole in wholes]
    others = [[*one.embeddings.astype(np.float16)] for one in regions]
    for filter, numbers in (
        (EVERYTHING, [*range(60)]),
        (Filter(class_names=("class 1",)), [*range(1, 60, 3)]),
        (Filter(path_prefix="/p/1/", added_since=now - day), [*range(1, 60, 2)]),
        (Filter(added_before=now - day), []),
    ):
        for query in vectors(3, seed=5):
            for k in (5, 1000):
                expected = [
                    (pictures[n].path, score, None if part is None else box_of(regions[n], part))
                    for n, score, part in nearest_by_parts(
                        numbers, [halves[n] for n in numbers], [others[n] for n in numbers], query, k, PENALTY
                    )
                ]
                hits = found(store, query, k, filter)
                assert [(path, box) for path, _, box in hits] == [(path, box) for path, _, box in expected]
                assert [hit[1] for hit in hits] == pytest.approx([each[1] for each in expected], abs=1e-6)
                assert hits == found(twin, query, k, filter)
            # many have an equal share of bits, and ids, which order them, differ: so all of them
            by_codes = found_by_codes(store, query, 60, filter)
            assert {hit[0]: hit[1] for hit in by_codes} == {
                pictures[n].path: pytest.approx(share_of_bits(query, wholes[n], regions[n])) for n in numbers
            }
            assert by_codes == sorted(by_codes, key=lambda hit: (-hit[1], id_of(hit[0])))
            assert sorted(by_codes) == sorted(found_by_codes(twin, query, 60, filter))


def box_of(regions: CodedRegions, part: int) -> tuple[float, ...]:
    return tuple(box_fractions(box_bytes(regions.boxes))[part].tolist())


def share_of_bits(query: NDArray[np.float32], whole: NDArray[np.float32], regions: CodedRegions) -> float:
    (code, own) = MODEL.hash(np.stack([query, whole]))
    worth = penalty_bits(PENALTY, BITS)
    return 1 - min([hamming(code, own), *(worth + hamming(code, each) for each in regions.packed)]) / BITS


def test_a_gallery_larger_than_its_shortlist(store: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a hit says does not depend on the shortlist, and planted regions are found where no whole is near."""
    pictures, wholes, regions = made(200)
    query = vectors(1, seed=77)[0]
    planted = [*range(3, 200, 40)]
    for number in planted:
        near = unit(query + 0.05 * vectors(1, seed=number))
        regions[number] = parts(np.concatenate([vectors(2, seed=number), near]), number)
    put(store, pictures, wholes, regions)
    exact = {path: (score, box) for path, score, box in found(store, query, 1000)}
    assert len(exact) == 200
    monkeypatch.setattr("crossatnet.gallery.milvus.backend.shortlist_length", lambda *_: 12)
    monkeypatch.setattr("crossatnet.gallery.milvus.backend.SHORTEST", 12)
    for hits in (found(store, query, 5), found_by_codes(store, query, 5)):
        assert {hit[0] for hit in hits} == {pictures[number].path for number in planted}
        assert {hit[2] for hit in hits} == {box_of(regions[number], 2) for number in planted}
    assert {path: (score, box) for path, score, box in found(store, query, 8)}.items() <= exact.items()


def test_all_regions_come_with_all_pictures_in_several_searches_if_need_be(
    store: Backend, twin: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crossatnet.gallery.milvus.table.LONGEST_SHORTLIST", 100)
    monkeypatch.setattr("crossatnet.gallery.milvus.backend.shortlist_length", lambda *_: 20)
    pictures, wholes, _ = made(20)
    regions = [parts(vectors(8, seed=100 + number), number) for number in range(20)]
    for place in (store, twin):
        put(place, pictures, wholes, regions)
    for query in vectors(10, seed=5):
        assert found(store, query, 5) == found(twin, query, 5)


def test_regions_of_one_picture_take_no_room_from_others(store: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crossatnet.gallery.milvus.backend.shortlist_length", lambda k, *_: 10 * k)
    monkeypatch.setattr("crossatnet.gallery.milvus.backend.SHORTEST", 1)
    pictures, wholes, regions = made(60)
    query = vectors(1, seed=77)[0]
    regions[:12] = [parts(np.tile(query, (8, 1)), number) for number in range(12)]
    put(store, pictures, wholes, regions)
    for hits in (found(store, query, 5), found_by_codes(store, query, 5)):
        assert len(hits) == 5
        assert {hit[0] for hit in hits} <= {picture.path for picture in pictures[:12]}


def test_queries_are_asked_together_and_answered_each(store: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, *made(30))
    queries = vectors(5, seed=5)
    together = store.nearest(queries, MODEL.hash(queries), 4, region_penalty=PENALTY)
    monkeypatch.setattr("crossatnet.gallery.milvus.backend.RERANK_FLOATS", 1)  # one at a time
    alone = store.nearest(queries, MODEL.hash(queries), 4, region_penalty=PENALTY)
    for mine, their in zip(together, alone, strict=True):
        np.testing.assert_array_equal(mine, their)
    assert len({tuple(ids) for ids in together.ids.tolist()}) == 5


# What is kept


def test_what_counts_and_lists_sees_pictures_only(store: Backend) -> None:
    pictures, wholes, _ = made(4)
    put(store, pictures, wholes, [parts(vectors(5, seed=n)) for n in range(4)])
    assert count_rows(store) == 24
    assert len(store) == 4
    assert store.classes() == {"class 0": 2, "class 1": 1, "class 2": 1}
    assert store.folders() == {"/p/0": 2, "/p/1": 2}
    assert [*store.paths_under("/p")] == ["/p/0/0", "/p/0/2", "/p/1/1", "/p/1/3"]
    assert {tuple(row) for row in store.sample(100)} == {tuple(row) for row in wholes.astype(np.float16).tolist()}
    keys = store.ids([picture.path for picture in pictures])
    assert keys == {picture.path: id_of(picture.path) for picture in pictures}
    region = region_ids(keys["/p/0/0"])[0]
    assert store.pictures([region, keys["/p/0/0"]]).keys() == {keys["/p/0/0"]}
    assert store.embedding(region) is None


def test_a_picture_that_is_put_again_has_its_new_regions_only(store: Backend) -> None:
    whole, old, new = vectors(1), vectors(5, seed=1), vectors(2, seed=2)
    for embeddings, content in ((old, "a"), (new, "a"), (old, "b"), (new[:0], "b"), (new, "c")):
        put(store, [facts(0, content)], whole, [parts(embeddings)])
        assert count_rows(store) == 1 + len(embeddings)
    assert found(store, new[1], 1)[0][1:] == (pytest.approx(1 - PENALTY, abs=1e-3), box_of(parts(new), 1))
    for query in old:
        assert found(store, query, 1)[0][1] < 0.9 - PENALTY
    put(store, [facts(0), facts(1), facts(0, "d")], vectors(3), [parts(old), NO_PARTS, parts(new)])  # a path twice
    assert count_rows(store) == 2 + len(new)


def test_regions_are_removed_with_their_picture(store: Backend) -> None:
    pictures, wholes, _ = made(2)
    put(store, pictures, wholes, [parts(vectors(8, seed=1)), parts(vectors(3, seed=2))])
    assert store.remove([pictures[0].path, "/none"]) == 1
    assert (len(store), count_rows(store)) == (1, 4)
    for query in vectors(8, seed=1):
        assert [hit[0] for hit in found(store, query, 5)] == [pictures[1].path]
    assert store.remove([pictures[0].path]) == 0


def test_a_touched_picture_is_found_by_its_regions(store: Backend) -> None:
    regions = parts(vectors(3, seed=1))
    put(store, [facts(0)], vectors(1), [regions])
    store.touch([(facts(0).path, replace(facts(0).file, mtime_ns=9))])
    assert store.file_states([facts(0).path])[facts(0).path].mtime_ns == 9
    assert found(store, regions.embeddings[2], 1)[0][2] == box_of(regions, 2)
    assert count_rows(store) == 4


def test_a_region_that_is_not_finite_is_not_stored(store: Backend) -> None:
    broken = parts(vectors(2))
    broken.embeddings[1, 3] = np.nan
    with pytest.raises(UserError, match="NaN or infinite"):
        put(store, [facts(0)], vectors(1), [broken])
    assert count_rows(store) == 0


# A process that was killed


def put_half(store: Backend, monkeypatch: pytest.MonkeyPatch, *batch: Any) -> None:
    """Store a batch as far as its regions."""
    call = Connection.call

    def killed(connection: Connection, method: str, *arguments: Any, **named: Any) -> Any:
        if method == "upsert" and named["partition_name"] != "regions":
            raise KeyboardInterrupt
        return call(connection, method, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "call", killed)
        with pytest.raises(KeyboardInterrupt):
            put(store, *batch)


def test_regions_whose_picture_was_not_stored_are_no_hits(store: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    query = vectors(1, seed=9)[0]
    pictures, wholes, regions = made(40)
    alike = [parts(unit(query + 0.01 * vectors(8, seed=n)), n) for n in range(20)]
    put_half(store, monkeypatch, pictures[:20], wholes[:20], alike)
    assert (len(store), count_rows(store)) == (0, 160)
    assert found(store, query, 5) == found_by_codes(store, query, 5) == []
    put(store, pictures[20:], wholes[20:], regions[20:])
    with monkeypatch.context() as patch:
        patch.setattr("crossatnet.gallery.milvus.backend.shortlist_length", lambda *_: 15)
        patch.setattr("crossatnet.gallery.milvus.backend.SHORTEST", 15)
        for hits in (found(store, query, 5), found_by_codes(store, query, 5)):  # though they fill their shortlist
            assert len(hits) == 5
            assert {hit[0] for hit in hits} <= {picture.path for picture in pictures[20:]}
    put(store, pictures[:20], wholes[:20], alike)
    assert {hit[0] for hit in found(store, query, 20)} == {picture.path for picture in pictures[:20]}


def test_regions_of_another_content_than_the_stored_one_do_not_count(
    store: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, old, new = vectors(2), vectors(3, seed=1), vectors(3, seed=2)
    put(store, [facts(0), facts(1)], whole, [parts(old), NO_PARTS])
    put_half(store, monkeypatch, [facts(0, "b")], whole[:1], [parts(new)])
    for query in new:
        hits = {path: (score, box) for path, score, box in found(store, query, 2)}
        assert hits[facts(0).path] == (pytest.approx(float(query @ whole[0]), abs=1e-3), None)
        assert [*hits] == sorted(hits, key=lambda path: -hits[path][0])
    assert store.file_states([facts(0).path])[facts(0).path].content_hash == "a" * 64  # so it will be indexed again
    put(store, [facts(0, "b")], whole[:1], [parts(new)])
    assert found(store, new[1], 1)[0][2] == box_of(parts(new), 1)


# Formats


def described(place: str) -> dict[str, Any]:
    address = Address.parse(place)
    with closing(Connection(address)) as connection:
        found = connection.call("describe_collection", address.name)
        partitions = sorted(connection.call("list_partitions", address.name))
    number = json.loads(found["description"])["format"]
    return {"format": number, "fields": [field["name"] for field in found["fields"]], "partitions": partitions}


def test_a_gallery_without_regions_is_as_before(store: Backend, server: MilvusServer) -> None:
    fields = ["id", "code", "embedding", "path", "class_name", "content_hash"]
    fields += ["size", "mtime_ns", "width", "height", "added"]
    with Gallery.create(f"milvus://127.0.0.1:{server.port}/plain", MODEL) as gallery:
        plain = gallery.store
        pictures, wholes, regions = made(3)
        put(plain, pictures, wholes, regions)  # which it does not keep
        assert described(plain.name) == {"format": 2, "fields": fields, "partitions": ["_default"]}
        assert count_rows(plain) == len(plain) == 3
        query = regions[1].embeddings[:1]
        assert plain.nearest(query, MODEL.hash(query), 5, region_penalty=0.0).boxes is None
        assert plain.nearest_codes(MODEL.hash(query), 5).boxes is None
    with_regions = {"format": 3, "fields": [*fields, "whole", "box"], "partitions": ["_default", "regions"]}
    assert described(store.name) == with_regions


def test_an_older_version_refuses_a_gallery_with_regions(store: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collections, "REGIONS_FORMAT", 2)  # what it reads
    with pytest.raises(UserError, match=r"parts: has format 3, this version reads 2 .*; use the version that made it"):
        Gallery.open(store.name, MODEL)


def test_a_gallery_whose_making_was_cut_short_is_made_whole(server: MilvusServer) -> None:
    address = Address("127.0.0.1", server.port, "cut_short")
    Gallery.create(str(address), MODEL, regions=True).close()
    with closing(Connection(address)) as connection:
        connection.call("release_partitions", address.name, ["regions"])
        connection.call("drop_partition", address.name, "regions")
    with Gallery.open(str(address), MODEL) as gallery:
        regions = parts(vectors(3, seed=1))
        put(gallery.store, [facts(0)], vectors(1), [regions])
        assert found(gallery.store, regions.embeddings[0], 1)[0][2] == box_of(regions, 0)


def test_things_that_are_a_part_of_a_photo_are_found_by_the_command_line(server: MilvusServer, tmp_path: Path) -> None:
    photos, place = tmp_path / "photos", f"milvus://127.0.0.1:{server.port}/indexed"
    photos.mkdir()
    for number in range(6):
        noise(number).save(photos / f"{number}.png")
    noise(3).crop((32, 32, 64, 64)).save(tmp_path / "corner.png")
    embedder = ("--embedder", "gallery.milvus.test_regions:MODEL")

    def run(*arguments: str) -> Any:
        result = CliRunner().invoke(app, [*arguments, "--json"])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    run("index", str(photos), "--to", place, "--regions", "on", *embedder)
    assert run("info", place)["regions"] is True
    (hit,) = run("search", place, str(tmp_path / "corner.png"), "--photo", "-k", "1", *embedder)
    assert (Path(hit["path"]).stem, hit["box"]) == ("3", pytest.approx(BOXES[1], abs=0.002))
