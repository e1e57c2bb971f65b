"""Galleries on a real Milvus server: the server must do the same as the SQLite file."""

import itertools
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from crossatnet.gallery import Gallery
from crossatnet.gallery.backend import EVERYTHING, Facts, FileState, Filter, GalleryMissingError
from crossatnet.gallery.milvus.backend import MilvusBackend
from crossatnet.gallery.milvus.calls import Address, Connection
from crossatnet.system.errors import UserError
from gallery import milvus_server
from gallery.fake_model import FakeModel
from gallery.milvus_server import MilvusServer
from oracles.search import nearest_codes

pytestmark = pytest.mark.skipif(bool(milvus_server.missing()), reason=milvus_server.missing())

MODEL = FakeModel(dimension=32, code_bits=128)
ODD_NAMES = [
    "it's.png",
    '"quoted".png',
    "back\\slash.png",
    "new\nline.png",
    "é漢😀.png",
    "100%_.png",
    "tab\t.png",
    "\x01",
]


@pytest.fixture(scope="module")
def shared(server: MilvusServer) -> Iterator[Gallery]:
    with Gallery.create(f"milvus://127.0.0.1:{server.port}/shared", MODEL) as gallery:
        yield gallery


@pytest.fixture
def gallery(shared: Gallery) -> Iterator[Gallery]:
    """An empty gallery; the server takes seconds to make one, so it is emptied afterwards."""
    yield shared
    shared.store.remove([*shared.store.paths_under(Path("/"))])


@pytest.fixture
def twin(tmp_path: Path) -> Iterator[Gallery]:
    """The same in a file."""
    with Gallery.create(tmp_path / "twin.gallery", MODEL) as gallery:
        yield gallery


def facts(path: str, content: str = "a", class_name: str | None = "cat") -> Facts:
    return Facts(path, class_name, FileState(100, 1, content * 64), width=30, height=20)


def vectors(count: int, seed: int = 0) -> NDArray[np.float32]:
    rows = np.random.default_rng(seed).standard_normal((count, MODEL.dimension)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def put(gallery: Gallery, pictures: Sequence[Facts], embeddings: NDArray[np.float32]) -> None:
    gallery.store.put(pictures, MODEL.hash(embeddings), embeddings)


def found(
    gallery: Gallery, queries: NDArray[np.float32], k: int, filter: Filter = EVERYTHING
) -> list[list[tuple[str, float]]]:
    """Paths and scores, those of equal score by path: the ids of a file and of a server differ."""
    answers = gallery.search_embeddings(queries, k, filter)
    return [sorted(((hit.path, hit.score) for hit in hits), key=lambda hit: (-hit[1], hit[0])) for hits in answers]


def count_rows(gallery: Gallery) -> int:
    return milvus_server.count_rows(gallery.store.name)


@pytest.mark.scale  # the server alone needs a minute while cores are busy
def test_ten_thousand_items_give_the_same_top_ten_as_a_file(gallery: Gallery, twin: Gallery) -> None:
    centres, count = vectors(100, seed=1), 10_000
    picked = np.random.default_rng(2).integers(0, 100, count)
    embeddings = centres[picked] + 0.5 * vectors(count, seed=3)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    pictures = [facts(f"/p/{number:05d}.png") for number in range(count)]
    for place in (gallery, twin):
        for start in range(0, count, 2500):
            put(place, pictures[start : start + 2500], embeddings[start : start + 2500])
    assert len(gallery) == count
    queries = centres[:50] + 0.5 * vectors(50, seed=4)
    assert found(gallery, queries, 10) == found(twin, queries, 10)
    gallery.store.flush()
    assert found(gallery, queries, 10) == found(twin, queries, 10)
    assert [*gallery.store.paths_under(Path("/p"))] == [picture.path for picture in pictures]


def test_a_small_gallery_is_searched_exactly(gallery: Gallery) -> None:
    embeddings, queries = vectors(50), vectors(3, seed=1)
    put(gallery, [facts(f"/p/{number}") for number in range(50)], embeddings)
    halves = embeddings.astype(np.float16).astype(np.float32)
    cosines = queries @ (halves / np.linalg.norm(halves, axis=1, keepdims=True)).T
    for hits, row in zip(gallery.search_embeddings(queries, 50), cosines, strict=True):
        assert [hit.path for hit in hits] == [f"/p/{number}" for number in np.argsort(-row)]
        np.testing.assert_allclose([hit.score for hit in hits], np.sort(row)[::-1], rtol=1e-5)
    assert gallery.search_embeddings(queries, 10**20) == gallery.search_embeddings(queries, 50)


def test_codes_alone_rank_as_a_loop_does(gallery: Gallery) -> None:
    embeddings, queries = vectors(50), vectors(3, seed=1)
    put(gallery, [facts(f"/p/{number}", class_name=f"{number % 2}") for number in range(50)], embeddings)
    ids = gallery.store.ids([f"/p/{number}" for number in range(50)])
    codes = MODEL.hash(embeddings)
    for filter, numbers in ((EVERYTHING, range(50)), (Filter(class_names=("1",)), range(1, 50, 2))):
        kept = [ids[f"/p/{number}"] for number in numbers]
        for code, hits in zip(
            MODEL.hash(queries), gallery.search_embeddings(queries, 10, filter, ranking="code"), strict=True
        ):
            expected = nearest_codes(kept, [codes[number] for number in numbers], code, 10)
            assert [hit.id for hit in hits] == [key for key, _ in expected]
            assert [hit.score for hit in hits] == pytest.approx([score for _, score in expected])


def test_an_embedding_is_returned(gallery: Gallery) -> None:
    put(gallery, [facts("/p/a"), facts("/p/b")], vectors(2))
    key = gallery.store.ids(["/p/b", "/p/none"])["/p/b"]
    embedding = gallery.store.embedding(key)
    assert embedding is not None
    assert embedding.tolist() == vectors(2)[1].astype(np.float16).tolist()
    assert gallery.store.embedding(key + 1) is None


def test_an_empty_gallery_finds_nothing(gallery: Gallery) -> None:
    assert gallery.search_embeddings(vectors(2), 5) == [[], []]
    assert len(gallery) == 0
    assert gallery.store.file_states([]) == {}


def test_what_is_put_can_be_got_by_another_client_at_once(gallery: Gallery) -> None:
    pictures = [facts("/p/" + name, class_name=None if "é" in name else name) for name in ODD_NAMES]
    put(gallery, pictures, vectors(len(pictures)))
    with Gallery.open(gallery.store.name, MODEL) as other:
        assert other.store.file_states([picture.path for picture in pictures] + ["/none"]) == {
            picture.path: picture.file for picture in pictures
        }
        hits = other.search_embeddings(vectors(len(pictures)), 1)
        assert [hit.path for (hit,) in hits] == [picture.path for picture in pictures]
        items = other.store.pictures([hit.id for (hit,) in hits])
        assert [items[hit.id].facts for (hit,) in hits] == pictures
        assert [*other.store.paths_under(Path("/p"))] == sorted(picture.path for picture in pictures)


def test_the_same_batch_twice_is_stored_once(gallery: Gallery) -> None:
    pictures = [facts("/p/a"), facts("/p/b"), facts("/p/a", content="b")]  # and one path twice: the last one counts
    for _ in range(2):
        put(gallery, pictures, vectors(3))
    assert gallery.store.file_states(["/p/a"])["/p/a"].content_hash == "b" * 64
    assert (len(gallery), count_rows(gallery)) == (2, 2)
    assert found(gallery, vectors(3)[2:], 1)[0][0][0] == "/p/a"


def test_a_changed_picture_keeps_its_id_and_its_time_of_adding(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(gallery, [facts("/p/a")], vectors(1))
    before = gallery.search_embeddings(vectors(1), 1)[0][0]
    added = gallery.store.pictures([before.id])[before.id].added
    time.sleep(1.0 - time.time() % 1.0)  # times are kept in seconds
    put(gallery, [facts("/p/a", content="b"), facts("/p/b")], vectors(2, seed=1))
    after = gallery.search_embeddings(vectors(1, seed=1), 1)[0][0]
    assert (after.id, after.path) == (before.id, "/p/a")
    assert after.score == pytest.approx(1, abs=1e-3)
    item = gallery.store.pictures([after.id])[after.id]
    assert (item.added, item.facts) == (added, facts("/p/a", content="b"))
    assert count_rows(gallery) == 2


def test_touch_renews_the_stamp_alone(gallery: Gallery) -> None:
    put(gallery, [facts("/p/a")], vectors(1))
    gallery.store.touch([("/p/a", FileState(7, 8, "a" * 64)), ("/p/none", FileState(7, 8, "a" * 64))])
    (hit,) = gallery.search_embeddings(vectors(1), 5)[0]
    expected = replace(facts("/p/a"), file=FileState(7, 8, "a" * 64))
    assert gallery.store.pictures([hit.id])[hit.id].facts == expected
    assert hit.score == pytest.approx(1, abs=1e-3)


def test_what_was_removed_is_seen_no_more(gallery: Gallery) -> None:
    put(gallery, [facts("/p/a"), facts("/p/b")], vectors(2))
    ids = [hit.id for hit in gallery.search_embeddings(vectors(1), 2)[0]]
    with Gallery.open(gallery.store.name, MODEL) as other:
        assert len(other.search_embeddings(vectors(1), 2)[0]) == 2
        assert gallery.store.remove(["/p/a", "/p/none"]) == 1
        assert [hit.path for hit in other.search_embeddings(vectors(1), 2)[0]] == ["/p/b"]
    assert [item.facts.path for item in gallery.store.pictures(ids).values()] == ["/p/b"]
    assert (len(gallery), count_rows(gallery)) == (1, 1)
    assert gallery.store.remove(["/p/a"]) == 0


def test_a_picture_replaced_between_the_steps_of_a_search_is_found(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(gallery, [facts("/p/a"), facts("/p/b"), facts("/p/c")], vectors(3))
    assert len(gallery) == 3
    call, searches = Connection.call, 0

    def then_changed_by_another(connection: Connection, method: str, *arguments: Any, **named: Any) -> Any:
        nonlocal searches
        found = call(connection, method, *arguments, **named)
        if method == "search":
            searches += 1
            with Gallery.open(gallery.store.name, MODEL) as other:
                put(other, [facts("/p/a", content="b")], vectors(1, seed=1))
                other.store.remove(["/p/c"])
        return found

    monkeypatch.setattr(Connection, "call", then_changed_by_another)
    (hits,) = gallery.search_embeddings(vectors(1), 3)
    assert searches == 1
    assert {hit.path for hit in hits} == {"/p/a", "/p/b"}
    assert hits[0].score == pytest.approx(1, abs=1e-3)  # of the picture as it was
    assert gallery.store.file_states(["/p/a"])["/p/a"].content_hash == "b" * 64


def replace_again_and_again(place: str, stop: Any) -> None:
    """The changes of another process to the twenty pictures of the test below."""
    with Gallery.open(place, MODEL) as gallery:
        for content in itertools.cycle("bcde"):
            if stop.is_set():
                return
            put(gallery, [facts(f"/p/{number}", content) for number in range(20)], vectors(20))


@pytest.mark.scale
def test_no_picture_is_missed_while_another_process_replaces_it(gallery: Gallery) -> None:
    pictures = [facts(f"/p/{number}") for number in range(20)]
    put(gallery, pictures, vectors(20))
    ids = [hit.id for hit in gallery.search_embeddings(vectors(1), 20)[0]]
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    process = context.Process(target=replace_again_and_again, args=(gallery.store.name, stop))
    process.start()
    strong = Gallery.open(gallery.store.name, MODEL, consistency="strong")
    try:
        while set(gallery.store.file_states(["/p/0"])["/p/0"].content_hash) == {"a"}:
            assert process.is_alive()
        for _ in range(40):
            for each in (gallery, strong):
                assert len(each) == 20
                assert len(each.store.pictures(ids)) == 20
                assert len(each.search_embeddings(vectors(1), 20)[0]) == 20
            assert len(gallery.store.file_states([picture.path for picture in pictures])) == 20
            assert len([*gallery.store.paths_under(Path("/p"))]) == 20
            assert gallery.store.classes() == {"cat": 20}
        assert process.is_alive()
    finally:
        strong.close()
        stop.set()
        process.join()
    assert count_rows(gallery) == 20


def test_conditions_as_in_a_file(gallery: Gallery, twin: Gallery) -> None:
    names = ["/p/a", "/p/sub/b", "/p.x/c", '/q"/%_/d', "/q\\/e"]
    pictures = [
        facts(name, class_name=kind) for name, kind in zip(names, ["cat", "dog", None, '"x"', "cat"], strict=True)
    ]
    for place in (gallery, twin):
        put(place, pictures, vectors(len(names)))
        assert place.store.classes() == {"cat": 2, "dog": 1, '"x"': 1, None: 1}
    now = datetime.now(UTC)
    hour = timedelta(hours=1)
    for filter in (
        Filter(class_names=("cat",)),
        Filter(class_names=("dog", '"x"')),
        Filter(path_prefix="/p/"),
        Filter(path_prefix="/p"),
        Filter(path_prefix='/q"/%_/'),
        Filter(path_prefix="/q\\"),
        Filter(class_names=("cat",), path_prefix="/p", added_since=now - hour, added_before=now + hour),
        Filter(added_since=now + hour),
        Filter(added_before=now - hour),
    ):
        assert found(gallery, vectors(1), 10, filter) == found(twin, vectors(1), 10, filter), filter


def test_a_longer_shortlist_than_milvus_gives_is_searched_in_parts(
    gallery: Gallery, twin: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crossatnet.gallery.milvus.table.LONGEST_SHORTLIST", 300)
    pictures = [facts(f"/p/{number:03d}", class_name="ab"[number % 2]) for number in range(600)]
    for place in (gallery, twin):
        put(place, pictures, vectors(600))
    assert len(gallery) == 600  # from now on the count is up to date at once
    assert found(gallery, vectors(5, seed=1), 600) == found(twin, vectors(5, seed=1), 600)
    filter = Filter(class_names=("a",))
    assert found(gallery, vectors(5, seed=1), 600, filter) == found(twin, vectors(5, seed=1), 600, filter)


def test_two_paths_of_one_id_are_reported_and_nothing_is_overwritten(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(gallery, [facts("/p/a")], vectors(1))
    key = gallery.search_embeddings(vectors(1), 1)[0][0].id
    monkeypatch.setattr("crossatnet.gallery.milvus.backend.id_of", lambda *parts: key)
    with pytest.raises(UserError, match="/p/b has by chance the id of /p/a; rename one"):
        put(gallery, [facts("/p/b")], vectors(1))
    monkeypatch.undo()
    assert [*gallery.store.paths_under(Path("/"))] == ["/p/a"]


def test_compacting_and_settling_lose_nothing(gallery: Gallery) -> None:
    put(gallery, [facts("/p/a"), facts("/p/b")], vectors(2))
    gallery.store.flush()
    gallery.store.remove(["/p/b"])
    gallery.store.flush()
    gallery.store.compact()
    assert [hit.path for hit in gallery.search_embeddings(vectors(1), 2)[0]] == ["/p/a"]


# Mistakes


def test_no_gallery_of_that_name(server: MilvusServer) -> None:
    place = f"milvus://127.0.0.1:{server.port}/nothing"
    with pytest.raises(
        GalleryMissingError, match=f"no gallery there; make one with `crossatnet index FOLDER --to {place}`"
    ):
        Gallery.open(place)


def test_a_gallery_is_not_made_twice(gallery: Gallery) -> None:
    with pytest.raises(UserError, match="shared: exists already"):
        Gallery.create(gallery.store.name, MODEL)


def test_another_checkpoint_is_refused_by_name(gallery: Gallery) -> None:
    with pytest.raises(UserError, match=r"shared: made with checkpoint fake-0 .* is fake-7"):
        Gallery.open(gallery.store.name, FakeModel(dimension=32, code_bits=128, seed=7))


def test_a_collection_that_is_no_gallery_or_one_of_another_format(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crossatnet.gallery.milvus.collections.FORMAT", 4)
    with pytest.raises(UserError, match="shared: has format 2, this version reads 4 and 3; use the version that"):
        Gallery.open(gallery.store.name, MODEL)
    monkeypatch.setattr("crossatnet.gallery.milvus.collections.KIND", "another program's")
    with pytest.raises(UserError, match="shared is not a gallery of crossatnet there"):
        Gallery.open(gallery.store.name, MODEL)


def test_no_server(gallery: Gallery) -> None:
    with pytest.raises(UserError, match=r"milvus://127\.0\.0\.1:1/x: no Milvus server answers there; start it"):
        MilvusBackend.open(Address("127.0.0.1", 1, "x"))


def test_closing_twice_does_no_harm_to_others(gallery: Gallery) -> None:
    other = Gallery.open(gallery.store.name, MODEL)
    other.close()
    other.close()
    assert len(gallery) == 0
