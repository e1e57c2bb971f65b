"""Search against a loop that is easy to check, also while another process changes the gallery."""

import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from crossatnet.data.images import Modality, Picture
from crossatnet.data.strokes import render
from crossatnet.gallery import Gallery, Hit, PictureGoneError, Ranking, StoredPicture, rerank
from crossatnet.gallery import gallery as search_module
from crossatnet.gallery import shortlist as shortlist_module
from crossatnet.gallery.backend import Facts, FileState, Filter, GalleryMissingError, Nearest
from crossatnet.gallery.sqlite import snapshot as snapshot_module
from crossatnet.gallery.sqlite.snapshot import Snapshot
from crossatnet.model.interface import CannotGuideError
from crossatnet.system.errors import ImageError, UserError
from gallery.fake_model import FakeModel


def random_embeddings(count: int, dimension: int = 16, seed: int = 0) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def put(gallery: Gallery, model: FakeModel, embeddings: NDArray[np.float32], prefix: str = "/p/") -> None:
    facts = [
        Facts(f"{prefix}{number}.png", "even" if number % 2 == 0 else None, FileState(1, 1, "a"), 1, 1)
        for number in range(len(embeddings))
    ]
    gallery.store.put(facts, model.hash(embeddings), embeddings)


def oracle(gallery: NDArray[np.float32], query: NDArray[np.float32], k: int) -> list[tuple[int, float]]:
    """(id, cosine) of the k best, ties by id, one pair at a time; ids count from 1, halves are what is stored."""
    scored = []
    for number, row in enumerate(gallery.astype(np.float16).astype(np.float64), start=1):
        cosine = float(row @ query) / float(np.linalg.norm(row) * np.linalg.norm(query))
        scored.append((number, cosine))
    return sorted(scored, key=lambda pair: (-pair[1], pair[0]))[:k]


@pytest.fixture
def model() -> FakeModel:
    return FakeModel()


@pytest.fixture
def gallery(tmp_path: Path, model: FakeModel) -> Gallery:
    return Gallery.create(tmp_path / "my.gallery", model)


@pytest.mark.parametrize("k", [1, 10, 300, 1000])
def test_hits_are_the_oracles(gallery: Gallery, model: FakeModel, k: int) -> None:
    stored, queries = random_embeddings(300), random_embeddings(20, seed=1)
    put(gallery, model, stored)
    for query, hits in zip(queries, gallery.search_embeddings(queries, k), strict=True):
        expected = oracle(stored, query, k)
        assert [hit.id for hit in hits] == [number for number, _ in expected]
        np.testing.assert_allclose([hit.score for hit in hits], [cosine for _, cosine in expected], atol=1e-6)


def test_hits_carry_path_and_class(gallery: Gallery, model: FakeModel) -> None:
    stored = random_embeddings(2)
    put(gallery, model, stored)
    (hits,) = gallery.search_embeddings(stored[:1], k=2)
    assert hits == [Hit(1, "/p/0.png", hits[0].score, "even"), Hit(2, "/p/1.png", hits[1].score, None)]
    assert hits[0].score == pytest.approx(1.0, abs=1e-5)


def test_query_length_does_not_matter(gallery: Gallery, model: FakeModel) -> None:
    put(gallery, model, random_embeddings(50))
    query = random_embeddings(1, seed=1)
    assert gallery.search_embeddings(4.0 * query, 5) == gallery.search_embeddings(query, 5)


def test_one_query_and_many_give_the_same(gallery: Gallery, model: FakeModel) -> None:
    put(gallery, model, random_embeddings(300))
    queries = random_embeddings(25, seed=1)
    together = gallery.search_embeddings(queries, 10)
    assert together == [gallery.search_embeddings(query[None], 10)[0] for query in queries]


def test_equal_scores_are_ordered_by_id(gallery: Gallery, model: FakeModel) -> None:
    stored = random_embeddings(7)[np.random.default_rng(0).integers(0, 7, 200)]
    put(gallery, model, stored)
    for hits in gallery.search_embeddings(random_embeddings(10, seed=1), 200):
        assert hits == sorted(hits, key=lambda hit: (-hit.score, hit.id))
        assert len({hit.score for hit in hits}) == 7


def test_short_shortlist_finds_most_of_the_true_best(
    gallery: Gallery, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shortlist_module, "SHORTEST", 100)
    monkeypatch.setattr(shortlist_module, "SHORTLIST_RULE", ((0, 0.0, 1.0),))
    stored, queries = random_embeddings(600), random_embeddings(30, seed=1)
    put(gallery, model, stored)
    recalls = []
    for query, hits in zip(queries, gallery.search_embeddings(queries, 10), strict=True):
        expected = dict(oracle(stored, query, 10))
        recalls.append(len(expected.keys() & {hit.id for hit in hits}) / 10)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert np.mean(recalls) > 0.8  # the 100 nearest of 600 by 64 random bits; chance would give 0.17


def test_search_with_a_picture(gallery: Gallery, model: FakeModel, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    put(gallery, model, model.embed(noise, "photo"))
    Image.fromarray(noise[3]).save(tmp_path / "query.png")
    by_path = gallery.search(tmp_path / "query.png", k=2, modality="photo")
    assert by_path[0].id == 4
    assert by_path == gallery.search(noise[3], k=2, modality="photo")
    assert by_path != gallery.search(noise[3], k=2, modality="sketch")


def test_empty_gallery_gives_empty_lists(gallery: Gallery) -> None:
    assert gallery.search_embeddings(random_embeddings(2), 5) == [[], []]
    assert gallery.search(np.zeros((8, 8), np.uint8)) == []
    assert len(gallery) == 0


def test_no_queries_give_no_lists(gallery: Gallery, model: FakeModel) -> None:
    put(gallery, model, random_embeddings(3))
    assert gallery.search_embeddings(np.empty((0, 16), np.float32)) == []


# Guided re-ranking


PHOTOS = 70  # more than GUIDED


@pytest.fixture
def photos(gallery: Gallery, tmp_path: Path) -> Path:
    """A folder of noise, indexed."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (PHOTOS, 8, 8, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    assert gallery.add_folder(folder).added == PHOTOS
    return folder


@pytest.fixture
def sketch() -> NDArray[np.uint8]:
    """A few black strokes on white paper."""
    pixels = np.full((8, 8, 3), 255, dtype=np.uint8)
    pixels[2, 1:7] = pixels[2:7, 4] = 0
    return pixels


def guided_oracle(
    gallery: Gallery, model: FakeModel, sketch: NDArray[np.uint8], looked_at: int
) -> list[tuple[str, float]]:
    """(path, score) of the first plain hits, each guided alone."""
    scored = []
    for hit in gallery.search(sketch, k=looked_at):
        photo = model.preprocess(hit.path, "photo")
        (seen,) = model.guide(model.preprocess(sketch, "sketch"), photo[None])[0].tolist()
        scored.append((hit.path, (hit.score + seen) / 2))
    return sorted(scored, key=lambda pair: -pair[1])


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize(("k", "looked_at"), [(1, 50), (5, 50), (50, 50), (60, 60), (1000, PHOTOS)])
def test_guided_order_is_the_oracles(
    gallery: Gallery, model: FakeModel, sketch: NDArray[np.uint8], k: int, looked_at: int
) -> None:
    assert search_module.GUIDED == 50
    expected = guided_oracle(gallery, model, sketch, looked_at)[:k]
    model.guided_batch_sizes.clear()
    hits = gallery.search(sketch, k, rerank="guided")
    assert sum(model.guided_batch_sizes) == looked_at
    assert max(model.guided_batch_sizes) <= rerank.AT_ONCE
    assert [hit.path for hit in hits] == [path for path, _ in expected]
    assert [hit.score for hit in hits] == pytest.approx([score for _, score in expected], abs=1e-6)
    assert [hit.path for hit in hits] != [hit.path for hit in gallery.search(sketch, k)]


@pytest.mark.usefixtures("photos")
def test_guided_hits_come_from_the_first_plain_ones(
    gallery: Gallery, sketch: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_module, "GUIDED", 10)
    first = {hit.id: hit for hit in gallery.search(sketch, k=10)}
    hits = gallery.search(sketch, k=4, rerank="guided")
    assert len(hits) == 4
    assert all((hit.path, hit.class_name) == (first[hit.id].path, first[hit.id].class_name) for hit in hits)
    assert {hit.id for hit in gallery.search(sketch, k=10, rerank="guided")} == first.keys()
    assert not {hit.id for hit in gallery.search(sketch, k=70, rerank="guided")[:10]} <= first.keys()  # 11th and later


@pytest.mark.usefixtures("photos")
def test_plain_search_looks_at_nothing_again(gallery: Gallery, model: FakeModel, sketch: NDArray[np.uint8]) -> None:
    embedding = model.embed(model.preprocess(sketch, "sketch")[None], "sketch")
    assert gallery.search(sketch, 5) == gallery.search_embeddings(embedding, 5)[0]
    assert gallery.search(sketch, 5, "sketch", None) == gallery.search(sketch, 5)
    assert not model.guided_batch_sizes


def test_guided_hits_whose_files_cannot_be_read_keep_their_score(
    gallery: Gallery, model: FakeModel, photos: Path, sketch: NDArray[np.uint8]
) -> None:
    expected = dict(guided_oracle(gallery, model, sketch, 50))
    plain = gallery.search(sketch, k=50)
    vanished, text, cut, folder = plain[0], plain[1], plain[20], plain[49]
    Path(vanished.path).unlink()
    Path(text.path).write_text("not a picture")
    Path(cut.path).write_bytes(Path(cut.path).read_bytes()[:100])
    Path(folder.path).unlink()
    Path(folder.path).mkdir()
    expected |= {hit.path: hit.score for hit in (vanished, text, cut, folder)}
    model.guided_batch_sizes.clear()
    hits = gallery.search(sketch, k=50, rerank="guided")
    assert {hit.path: hit.score for hit in hits} == pytest.approx(expected, abs=1e-6)
    assert [hit.score for hit in hits] == sorted(expected.values(), reverse=True)
    assert sum(model.guided_batch_sizes) == 46
    assert replace(vanished, gone=True) in hits
    assert all(hit in hits for hit in (text, cut, folder))  # as they were found


def test_guided_search_without_one_readable_file_is_a_plain_one(
    gallery: Gallery, model: FakeModel, photos: Path, sketch: NDArray[np.uint8]
) -> None:
    shutil.rmtree(photos)
    assert gallery.search(sketch, 60, rerank="guided") == gallery.search(sketch, 60)
    assert not model.guided_batch_sizes


def test_equal_guided_scores_are_ordered_by_id(
    gallery: Gallery, model: FakeModel, tmp_path: Path, sketch: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(40):  # two batches
        Image.fromarray(sketch).save(tmp_path / f"{number}.png")
    put(gallery, model, random_embeddings(3)[np.arange(40) % 3], prefix=f"{tmp_path}/")
    monkeypatch.setattr(model, "guide", lambda _, photos: (np.ones(len(photos)), None))
    hits = gallery.search(sketch, 40, rerank="guided")
    assert hits == sorted(hits, key=lambda hit: (-hit.score, hit.id))
    assert len({hit.score for hit in hits}) == 3


def test_guided_search_of_an_empty_gallery(gallery: Gallery, sketch: NDArray[np.uint8]) -> None:
    assert gallery.search(sketch, rerank="guided") == []


def test_guided_search_needs_a_drawing(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeModel, "preprocess", lambda *_: pytest.fail("the query was read before it was refused"))
    with pytest.raises(UserError, match="guided re-ranking needs a drawing, and one only: search by one sketch"):
        gallery.search(np.zeros((8, 8), np.uint8), modality="photo", rerank="guided")


def test_guided_search_needs_attention(tmp_path: Path, sketch: NDArray[np.uint8]) -> None:
    model = FakeModel(has_attention=False)
    gallery = Gallery.create(tmp_path / "blind.gallery", model)
    put(gallery, model, random_embeddings(3))
    with pytest.raises(UserError, match="fake-0 has no attention to guide: search without re-ranking"):
        gallery.search(sketch, rerank="guided")
    assert len(gallery.search(sketch)) == 3


@pytest.mark.parametrize("k", [0, -3])
def test_guided_search_refuses_k_below_one(gallery: Gallery, sketch: NDArray[np.uint8], k: int) -> None:
    with pytest.raises(UserError, match=f"k is {k}; ask for 1 hit or more"):
        gallery.search(sketch, k, rerank="guided")


# Other queries, several together, and conditions


STROKES = (np.array([[0, 0], [9, 9]], np.float32), np.array([[0, 9], [9, 0]], np.float32))


def pictures(count: int, seed: int = 5) -> list[NDArray[np.uint8]]:
    return [*np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)]


def test_strokes_are_searched_for_as_the_picture_they_draw(gallery: Gallery, model: FakeModel) -> None:
    put(gallery, model, random_embeddings(50))
    assert gallery.search(STROKES, 5) == gallery.search(render(STROKES), 5)
    assert gallery.search(STROKES, 5) != gallery.search(STROKES[:1], 5)


@pytest.mark.parametrize("modality", ["sketch", "photo"])
def test_several_queries_are_averaged(gallery: Gallery, model: FakeModel, modality: Modality) -> None:
    put(gallery, model, random_embeddings(100))
    queries = pictures(3)
    embeddings = model.embed(np.stack([model.preprocess(query, modality) for query in queries]), modality)
    expected = oracle(random_embeddings(100), embeddings.mean(axis=0), 10)
    hits = gallery.search([*queries], 10, modality)
    assert [hit.id for hit in hits] == [number for number, _ in expected]
    assert [hit.score for hit in hits] == pytest.approx([score for _, score in expected], abs=1e-6)
    assert gallery.search([queries[0]], 10, modality) == gallery.search(queries[0], 10, modality)


@pytest.mark.parametrize("k", [1, 10, 1000])
def test_the_union_has_what_is_near_to_any_query(gallery: Gallery, model: FakeModel, k: int) -> None:
    put(gallery, model, random_embeddings(100))
    queries, drawn = [STROKES, *pictures(2)], [render(STROKES), *pictures(2)]
    best: dict[int, float] = {}
    embeddings = model.embed(np.stack([model.preprocess(query, "sketch") for query in drawn]), "sketch")  # one batch
    for hits in gallery.search_embeddings(embeddings, 100):
        for hit in hits:
            best[hit.id] = max(hit.score, best.get(hit.id, -1.0))
    expected = sorted(best.items(), key=lambda pair: (-pair[1], pair[0]))[:k]
    hits = gallery.search(queries, k, combine="union")
    assert [hit.id for hit in hits] == [number for number, _ in expected]
    assert [hit.score for hit in hits] == pytest.approx([score for _, score in expected], abs=1e-6)


def test_conditions_hold_under_the_shortlist_too(
    gallery: Gallery, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_module, "shortlist_length", lambda k, bits, items: min(300, items))
    stored, queries = random_embeddings(600), random_embeddings(10, seed=1)
    put(gallery, model, stored)
    even = Filter(class_names=("even",))
    for query, hits in zip(queries, gallery.search_embeddings(queries, 10, even), strict=True):
        expected = [pair for pair in oracle(stored, query, 600) if pair[0] % 2 == 1][:10]  # ids count from 1
        assert [hit.id for hit in hits] == [number for number, _ in expected]
    assert gallery.search(STROKES, 5, filter=Filter(path_prefix="/nowhere")) == []
    guided = gallery.search(STROKES, 5, filter=even, rerank="guided")
    assert {hit.class_name for hit in guided} == {"even"}
    assert len(guided) == 5


def test_queries_that_cannot_be_combined(gallery: Gallery, sketch: NDArray[np.uint8]) -> None:
    with pytest.raises(UserError, match="no query: give a drawing"):
        gallery.search([])
    with pytest.raises(UserError, match="one only: search by one sketch"):
        gallery.search([sketch, sketch], rerank="guided")
    with pytest.raises(UserError, match="unknown way to combine queries 'both': give 'average' or 'union'"):
        gallery.search([sketch, sketch], combine="both")  # type: ignore[arg-type]


# # Pages, and other kinds of queries


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize(("ranking", "known"), [("float", PHOTOS), ("code", PHOTOS), ("guided", 50)])
def test_pages_put_together_are_the_whole_list(
    gallery: Gallery, sketch: NDArray[np.uint8], ranking: Ranking, known: int
) -> None:
    whole = gallery.find(sketch, 100, ranking=ranking, reranked=50)
    assert (len(whole.hits), whole.offset, whole.has_more) == (known, 0, False)
    hits, offset, has_more = [], 0, True
    while has_more:
        page = gallery.find(sketch, 9, offset, ranking=ranking, reranked=50)
        assert page.offset == offset
        assert [stored.id for stored in page.pictures] == [hit.id for hit in page.hits]
        assert [stored.facts.path for stored in page.pictures] == [hit.path for hit in page.hits]
        hits, offset, has_more = hits + page.hits, offset + 9, page.has_more
    assert hits == whole.hits
    assert gallery.find(sketch, 9, 500, ranking=ranking).hits == []


@pytest.mark.usefixtures("photos")
def test_the_ranking_by_codes_is_that_of_their_embedding(
    gallery: Gallery, model: FakeModel, sketch: NDArray[np.uint8]
) -> None:
    embedding = model.embed(model.preprocess(sketch, "sketch")[None], "sketch")
    expected = gallery.search_embeddings(embedding, 20, ranking="code")[0]
    assert gallery.find(sketch, 20, ranking="code").hits == expected != gallery.search(sketch, 20)


@pytest.mark.usefixtures("photos")
def test_a_stored_picture_finds_others_like_it(gallery: Gallery) -> None:
    stored = gallery.store.pictures([3])[3]
    expected = [hit for hit in gallery.search(stored.facts.path, PHOTOS, "photo") if hit.id != 3]
    found = [gallery.find(stored, 30, offset) for offset in (0, 30, 60)]
    hits = [hit for page in found for hit in page.hits]
    assert [hit.id for hit in hits] == [hit.id for hit in expected]
    assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in expected], abs=1e-3)  # halves are stored
    assert [page.has_more for page in found] == [True, True, False]
    assert not gallery.find(stored, PHOTOS - 1).has_more
    with pytest.raises(CannotGuideError, match="needs a drawing"):
        gallery.find(stored, ranking="guided")
    gallery.store.remove([stored.facts.path])
    with pytest.raises(PictureGoneError, match=r"02\.png: no longer in .*my\.gallery; search again"):
        gallery.find(stored)


@pytest.mark.usefixtures("photos")
def test_what_is_looked_at_again_is_what_read_gives(gallery: Gallery, sketch: NDArray[np.uint8]) -> None:
    def read(stored: StoredPicture) -> Picture:
        if stored.id % 2:
            raise ImageError(f"{stored.facts.path}: refused")
        return Path(stored.facts.path).read_bytes()

    plain = {hit.id: hit.score for hit in gallery.search(sketch, 50)}
    guided = {hit.id: hit.score for hit in gallery.search(sketch, 50, rerank="guided")}
    expected = {key: plain[key] if key % 2 else guided[key] for key in plain}
    page = gallery.find(sketch, 50, ranking="guided", read=read)
    assert {hit.id: hit.score for hit in page.hits} == pytest.approx(expected)


def test_the_time_of_a_search_is_reported_by_its_parts(
    gallery: Gallery, model: FakeModel, sketch: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(gallery, model, random_embeddings(3))
    embed, nearest = model.embed, gallery.store.nearest
    monkeypatch.setattr(model, "embed", lambda *arguments: (time.sleep(0.05), embed(*arguments))[1])
    monkeypatch.setattr(gallery.store, "nearest", lambda *arguments: (time.sleep(0.02), nearest(*arguments))[1])
    started = time.perf_counter()
    page = gallery.find(sketch)
    assert page.network_seconds >= 0.05
    assert page.search_seconds >= 0.02
    assert page.network_seconds + page.search_seconds <= time.perf_counter() - started


def test_attention_is_that_of_the_drawing_in_the_photo(gallery: Gallery, model: FakeModel) -> None:
    (photo,) = pictures(1)
    expected = model.guide(model.preprocess(render(STROKES), "sketch"), model.preprocess(photo, "photo")[None])[1][0]
    np.testing.assert_array_equal(gallery.attention(STROKES, photo), expected)
    model.has_attention = False
    with pytest.raises(CannotGuideError, match="fake-0 has no attention to show; take another checkpoint"):
        gallery.attention(STROKES, photo)


def test_a_page_before_the_first_is_refused(gallery: Gallery, sketch: NDArray[np.uint8]) -> None:
    with pytest.raises(UserError, match="offset is -1; skip 0 hits or more"):
        gallery.find(sketch, 5, -1)


# # Removing


def test_pictures_and_folders_are_forgotten(gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "pictures"
    for number, name in enumerate(["a/1.png", "a/b/2.png", "ab/3.png", "4.png", "5.png"]):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pictures(1, number)[0]).save(folder / name)
    gallery.add_folder(folder)
    (tmp_path / "alias").symlink_to(folder)
    monkeypatch.chdir(folder)
    with pytest.raises(UserError, match=r"nothing\.png: no picture of .*my\.gallery is there or below; nothing"):
        gallery.remove(["4.png", "nothing.png"])
    assert len(gallery) == 5
    (folder / "4.png").unlink()
    assert gallery.remove(["a", "4.png", folder / "4.png", tmp_path / "alias" / "5.png"]) == 4
    assert [Path(hit.path).name for hit in gallery.search(STROKES)] == ["3.png"]
    assert (folder / "5.png").exists()
    assert gallery.add_folder(folder).added == 3


# Another connection changes the file


def test_reader_sees_what_a_writer_adds_changes_and_removes(gallery: Gallery, model: FakeModel) -> None:
    stored = random_embeddings(4)
    put(gallery, model, stored[:2])
    with Gallery.open(gallery.store.name, model) as reader:
        assert {hit.id for hit in reader.search_embeddings(stored[2:3])[0]} == {1, 2}
        put(gallery, model, stored[2:3], prefix="/q/")
        assert reader.search_embeddings(stored[2:3])[0][0].path == "/q/0.png"
        put(gallery, model, stored[3:4], prefix="/q/")
        assert reader.search_embeddings(stored[3:4])[0][0].score == pytest.approx(1.0, abs=1e-5)
        gallery.store.remove(["/q/0.png"])
        assert {hit.id for hit in reader.search_embeddings(stored[2:3])[0]} == {1, 2}
        assert len(reader) == 2


def test_item_removed_while_it_is_found_is_left_out(
    gallery: Gallery, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = random_embeddings(5)
    put(gallery, model, stored)
    find = Snapshot.nearest

    def find_then_lose(snapshot: Snapshot, *arguments: object) -> Nearest:
        found = find(snapshot, *arguments)  # type: ignore[arg-type]
        gallery.store.remove(["/p/4.png", "/p/1.png"])
        return found

    monkeypatch.setattr(Snapshot, "nearest", find_then_lose)
    assert {hit.id for hit in gallery.search_embeddings(stored[:1])[0]} == {1, 3, 4}
    gallery.store.remove([f"/p/{number}.png" for number in range(5)])
    assert gallery.search_embeddings(stored[:1]) == [[]]


def test_threads_search_while_another_adds(gallery: Gallery, model: FakeModel) -> None:
    stored = random_embeddings(200)
    put(gallery, model, stored[:50])
    found: list[int] = []

    def search() -> None:
        for query in stored[:50]:
            found.append(gallery.search_embeddings(query[None], 1)[0][0].id)

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(50, 200, 10):
        put(gallery, model, stored[number : number + 10], prefix=f"/{number}/")
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(list(range(1, 51)) * 4)


# Models and mistakes


def test_missing_gallery(tmp_path: Path) -> None:
    with pytest.raises(GalleryMissingError, match="crossatnet index FOLDER -o"):
        Gallery.open(tmp_path / "none.gallery")


def test_another_checkpoint_is_refused_by_name(gallery: Gallery) -> None:
    with pytest.raises(
        UserError, match=r"made with checkpoint fake-0 .* is fake-7 .*give fake-0, or index .* another file"
    ):
        Gallery.open(gallery.store.name, FakeModel(seed=7))


def test_the_model_is_loaded_when_first_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = FakeModel(source="/models/fake")
    Gallery.create(tmp_path / "my.gallery", model).close()
    loaded = []

    def load(source: str, runtime: str) -> FakeModel:
        loaded.append(source)
        return model

    monkeypatch.setattr("crossatnet.gallery.checkpoints.load", load)
    gallery = Gallery.open(tmp_path / "my.gallery")
    assert len(gallery) == 0
    assert not loaded
    gallery.search(np.zeros((8, 8), np.uint8))
    gallery.search(np.zeros((8, 8), np.uint8))
    assert loaded == ["/models/fake"]


def test_a_loaded_checkpoint_that_changed_since_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Gallery.create(tmp_path / "my.gallery", FakeModel(source="/models/fake")).close()
    monkeypatch.setattr("crossatnet.gallery.checkpoints.load", lambda *_: FakeModel(seed=7))
    with pytest.raises(UserError, match="give /models/fake, or index"):
        Gallery.open(tmp_path / "my.gallery").search(np.zeros((8, 8), np.uint8))


def test_a_checkpoint_that_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Gallery.create(tmp_path / "my.gallery", FakeModel(source="/models/fake")).close()

    def load(source: str, runtime: str) -> FakeModel:
        raise UserError(f"{source}: no such checkpoint")

    monkeypatch.setattr("crossatnet.gallery.checkpoints.load", load)
    with pytest.raises(UserError, match=r"my\.gallery: cannot load .*: /models/fake: no such checkpoint"):
        Gallery.open(tmp_path / "my.gallery").search(np.zeros((8, 8), np.uint8))


def test_a_model_that_was_never_saved_must_be_given(gallery: Gallery) -> None:
    with pytest.raises(
        UserError, match=r"fake-0, which was not saved; pass it to Gallery\.open, or name .* --embedder"
    ):
        Gallery.open(gallery.store.name).search(np.zeros((8, 8), np.uint8))


@pytest.mark.parametrize("source", ["owner/name", "towers:model", "../beside", "~/models/mine", "fake", "C:\\models"])
def test_what_a_gallery_says_of_its_model_leads_to_no_hub_and_no_import(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gallery may come from anybody: only a packaged name or an absolute folder is ever looked at."""
    Gallery.create(tmp_path / "their.gallery", FakeModel(source=source)).close()
    mark = tmp_path / "mark"
    (tmp_path / "towers.py").write_text(f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n")
    (tmp_path / "fake").mkdir()
    monkeypatch.chdir(tmp_path)

    def ask(*arguments: object, **options: object) -> str:
        mark.touch()
        raise ConnectionError("the hub was asked")

    monkeypatch.setattr("huggingface_hub.snapshot_download", ask)
    with pytest.raises(UserError, match=r"their\.gallery: made with '.*', no packaged checkpoint .*: --checkpoint$"):
        Gallery.open("their.gallery").search(np.zeros((8, 8), np.uint8))
    assert not mark.exists()


@pytest.mark.parametrize("k", [0, -3])
def test_k_below_one(gallery: Gallery, k: int) -> None:
    with pytest.raises(UserError, match=f"k is {k}; ask for 1 hit or more"):
        gallery.search_embeddings(random_embeddings(1), k)
    with pytest.raises(UserError, match=f"k is {k}"):
        gallery.search(np.zeros((8, 8), np.uint8), k)


@pytest.mark.parametrize("shape", [(16,), (2, 15), (1, 2, 16)])
def test_query_of_the_wrong_shape(gallery: Gallery, shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"must have shape \(queries, 16\), not"):
        gallery.search_embeddings(np.ones(shape, np.float32))


def test_query_that_is_not_a_number(gallery: Gallery) -> None:
    with pytest.raises(UserError, match="finite"):
        gallery.search_embeddings(np.full((1, 16), np.nan, np.float32))


def test_query_that_is_not_a_picture(gallery: Gallery, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such file"):
        gallery.search(tmp_path / "none.png")
