"""Things that are only a part of a photo: found by the part, which the hit names; and parts of photos as queries."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crossatnet.gallery import Gallery, Hit, PartOf
from crossatnet.gallery.ingest.folder import _embedded
from crossatnet.gallery.ingest.reading import Decoded, Reader
from crossatnet.gallery.queries import cut_out
from crossatnet.system.errors import ImageError, UserError
from gallery.fake_model import BOXES, FakeModel
from gallery.known import noise

PHOTOS = 24
LEFT, CORNER = BOXES


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(PHOTOS):
        path = tmp_path / "photos" / f"{number:02}.png"
        path.parent.mkdir(exist_ok=True)
        noise(number).save(path)
    return tmp_path / "photos"


@pytest.fixture
def model() -> FakeModel:
    return FakeModel(dimension=64, regions=True)


@pytest.fixture
def gallery(folder: Path, tmp_path: Path, model: FakeModel) -> Gallery:
    gallery = Gallery.create(tmp_path / "my.gallery", model, regions=True)
    gallery.add_folder(folder)
    return gallery


def corner(number: int) -> Image.Image:
    """The lower right quarter of a photo."""
    return noise(number).crop((32, 32, 64, 64))


@pytest.mark.parametrize("ranking", ["float", "code"])
def test_a_photo_is_found_by_what_is_in_its_corner(gallery: Gallery, model: FakeModel, ranking: str) -> None:
    for number in (0, 7, 23):
        hits = gallery.find(corner(number), 5, modality="photo", ranking=ranking).hits  # type: ignore[arg-type]
        assert (Path(hits[0].path).stem, hits[0].box) == (f"{number:02}", pytest.approx(CORNER, abs=0.002))
        if ranking == "float":
            query = model.embed(model.preprocess(corner(number), "photo")[None], "photo")[0]
            pixels, full = model.preprocess_with_regions(noise(number))
            _, (regions,) = model.embed_with_regions(pixels[None], [full])
            assert hits[0].score == pytest.approx((regions.embeddings @ query).max() - model.region_penalty, abs=2e-3)


def test_a_whole_photo_is_found_as_a_whole(gallery: Gallery) -> None:
    (hit,) = gallery.search(noise(3), 1, "photo")
    assert (Path(hit.path).stem, hit.box) == ("03", None)
    assert hit.score == pytest.approx(1, abs=2e-3)


def test_a_gallery_without_regions_is_as_before(folder: Path, tmp_path: Path, model: FakeModel) -> None:
    with Gallery.create(tmp_path / "off.gallery", model, regions=False) as gallery:
        gallery.add_folder(folder)
        assert {hit.box for hit in gallery.search(corner(0), PHOTOS, "photo")} == {None}
        assert gallery.region(corner(0), noise(0)) is None
    with closing(sqlite3.connect(tmp_path / "off.gallery")) as connection:
        assert connection.execute("SELECT count(*) FROM items WHERE regions IS NULL").fetchone() == (PHOTOS,)
    with Gallery.create(tmp_path / "plain.gallery", FakeModel(dimension=64)) as gallery:
        gallery.add_folder(folder)
        assert not gallery.store.made_with.regions


def test_uploads_and_moved_files_have_their_regions(gallery: Gallery, folder: Path, tmp_path: Path) -> None:
    noise(100).save(tmp_path / "upload.png")
    gallery.add_picture(tmp_path / "upload.png")
    (folder / "07.png").rename(folder / "moved.png")
    assert gallery.add_folder(folder).moved == 1
    for number, name in ((100, "upload"), (7, "moved")):
        hits = gallery.search(corner(number), 1, "photo")
        assert (Path(hits[0].path).stem, hits[0].box) == (name, pytest.approx(CORNER, abs=0.002))


def test_the_region_of_a_hit_is_the_one_that_an_explanation_frames(gallery: Gallery) -> None:
    drawing = Image.fromarray(255 - np.asarray(corner(5)))  # the fake model reads drawings inverted
    (hit,) = gallery.search(drawing, 1)
    assert gallery.region(drawing, hit.path) == pytest.approx(hit.box, abs=0.002)


def test_a_guided_search_looks_at_the_part_that_was_found(gallery: Gallery, model: FakeModel) -> None:
    drawing = Image.fromarray(255 - np.asarray(corner(5)))  # the fake model reads drawings inverted
    plain = gallery.search(drawing, PHOTOS)
    assert {hit.box is None for hit in plain} == {True, False}
    expected, drawn = {}, model.preprocess(drawing, "sketch")
    for hit in plain:
        shown = noise(int(Path(hit.path).stem)) if hit.box is None else cut_out(hit.path, hit.box)
        (seen,) = model.guide(drawn, model.preprocess(shown, "photo")[None])[0].tolist()
        lost = 0.0 if hit.box is None else model.region_penalty
        expected[hit.path] = (hit.score + seen - lost) / 2
    guided = gallery.search(drawing, PHOTOS, rerank="guided")
    assert {hit.path: hit.score for hit in guided} == pytest.approx(expected, abs=1e-6)
    assert [hit.path for hit in guided] == sorted(expected, key=lambda path: -expected[path])
    assert {hit.path: hit.box for hit in guided} == {hit.path: hit.box for hit in plain}


def test_a_part_of_a_stored_picture_finds_others_and_not_itself(gallery: Gallery, folder: Path) -> None:
    corner(4).resize((64, 64), Image.Resampling.NEAREST).save(folder / "detail.png")
    gallery.add_folder(folder)
    stored = gallery.find(noise(4), 1, modality="photo").pictures[0]
    hits = gallery.find(PartOf(stored, (0.5, 0.5, 1, 1)), PHOTOS + 1).hits
    assert Path(hits[0].path).stem == "detail"
    assert stored.id not in {hit.id for hit in hits}
    assert len(hits) == PHOTOS
    Path(stored.facts.path).unlink()
    with pytest.raises(ImageError):
        gallery.find(PartOf(stored, (0.5, 0.5, 1, 1)))


@pytest.mark.parametrize(
    "box", [(0.5, 0, 0.4, 1), (0, 0, 1, 1.1), (-0.1, 0, 1, 1), (0, 0, 0.01, 1), (0, float("nan"), 1, 1)]
)
def test_a_part_that_is_none_is_refused(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(UserError, match=r"box is .*; give left,top,right,bottom as fractions from 0 to 1"):
        cut_out(noise(0), box)


def test_a_part_is_cut_from_the_upright_picture() -> None:
    sideways = noise(0)
    sideways.getexif()[274] = 6  # to be turned by 90 degrees clockwise
    upright = noise(0).transpose(Image.Transpose.ROTATE_270)
    np.testing.assert_array_equal(cut_out(sideways, (0, 0.5, 0.25, 1)), upright.crop((0, 32, 16, 64)))


def test_regions_that_cannot_be_found_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="fake-0 finds no regions; make the gallery without --regions on"):
        Gallery.create(tmp_path / "my.gallery", FakeModel(), regions=True)
    assert not (tmp_path / "my.gallery").exists()


def test_regions_found_in_another_way_are_not_mixed(gallery: Gallery, folder: Path, tmp_path: Path) -> None:
    path, changed = Path(gallery.store.name), FakeModel(dimension=64, regions=True)
    assert gallery.store.made_with.region_settings == changed.region_settings
    gallery.close()
    changed.region_settings = "thirds"
    with pytest.raises(UserError, match="with halves and quarters, but fake-0 finds them with thirds"):
        Gallery.open(path, changed)
    with closing(sqlite3.connect(path)) as connection, connection:  # as it was before the settings were noted
        connection.execute("ALTER TABLE meta DROP COLUMN region_settings")
        connection.execute("PRAGMA user_version = 5")
    with pytest.raises(UserError, match="with an older version, but fake-0 finds"):
        Gallery.open(path, changed)
    with Gallery.create(tmp_path / "off.gallery", FakeModel(dimension=64, regions=True)) as without:
        without.add_folder(folder)
    with Gallery.open(tmp_path / "off.gallery", changed) as without:
        assert len(without.search(noise(3), 1, "photo")) == 1


def test_waiting_batches_hold_no_pixels(folder: Path, model: FakeModel) -> None:
    reader = Reader(folder, model, thumbnail_side=0, regions=True)
    read = reader.read(str(folder / "03.png"), None)
    assert isinstance(read, Decoded)
    assert read.full is not None
    embedded = _embedded(reader, [read])
    assert [each.pixels.size for each in embedded.readings if isinstance(each, Decoded)] == [0]
    assert [each.full for each in embedded.readings if isinstance(each, Decoded)] == [None]
    assert len(embedded.regions[0].boxes) == 2
    plain = replace(reader, regions=False).read(str(folder / "03.png"), None)
    assert isinstance(plain, Decoded)
    assert plain.full is None


def test_copies_and_unions_keep_the_box_of_the_best(gallery: Gallery, folder: Path) -> None:
    (folder / "copy of 09.png").write_bytes((folder / "09.png").read_bytes())
    gallery.add_folder(folder)
    (hit,) = gallery.find([corner(9), noise(50)], 1, modality="photo", combine="union", grouped=True).hits
    assert len(hit.copies) == 1
    assert {each.box for each in (hit, *hit.copies)} == {hit.box}
    assert isinstance(hit, Hit)
    assert hit.box == pytest.approx(CORNER, abs=0.002)
