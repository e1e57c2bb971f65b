"""Copies of a picture count as one hit, in every order of pages, and against a loop that anyone can check."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crossatnet.gallery import Gallery, Hit
from crossatnet.gallery.duplicates import ALIKE, DETAIL, SAME_COSINE
from gallery import known
from gallery.fake_model import FakeModel

PICTURES = 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty pictures; of every fourth also a copy, one recompressed, and one at another size."""
    root = tmp_path / "pictures"
    for number in range(PICTURES):
        path = known.write(root / f"{number:02}.jpg", number)
        if number % 4 == 0:
            shutil.copy(path, root / f"{number:02} copy.jpg")
            picture = Image.open(path)
            picture.save(root / f"{number:02} again.jpg", quality=70)
            picture.resize((48, 48)).save(root / f"{number:02} small.png")
    return root


@pytest.fixture
def gallery(tmp_path: Path, folder: Path) -> Iterator[Gallery]:
    with Gallery.create(tmp_path / "my.gallery", FakeModel()) as gallery:
        gallery.add_folder(folder)
        yield gallery


def number_of(hit: Hit) -> str:
    return Path(hit.path).name[:2]


def test_copies_are_one_hit_with_the_others_beside_it(gallery: Gallery, folder: Path) -> None:
    result = gallery.find(str(folder / "08.jpg"), PICTURES, modality="photo", grouped=True)
    assert len(result.hits) == PICTURES
    assert not result.has_more
    assert number_of(result.hits[0]) == "08"
    assert sorted(Path(hit.path).name for hit in (result.hits[0], *result.hits[0].copies)) == [
        "08 again.jpg",
        "08 copy.jpg",
        "08 small.png",
        "08.jpg",
    ]
    for hit in result.hits:
        assert {number_of(copy) for copy in hit.copies} <= {number_of(hit)}
        assert len(hit.copies) == (3 if int(number_of(hit)) % 4 == 0 else 0)
        assert [hit.score, *(copy.score for copy in hit.copies)] == sorted(
            [hit.score, *(copy.score for copy in hit.copies)], reverse=True
        )
        assert all(copy.id in result.stored for copy in hit.copies)
    ungrouped = gallery.find(str(folder / "08.jpg"), 200, modality="photo")
    assert len(ungrouped.hits) == PICTURES + 30


def test_pages_of_groups_fit_together(gallery: Gallery, folder: Path) -> None:
    query = str(folder / "04.jpg")
    whole = gallery.find(query, PICTURES, modality="photo", grouped=True).hits
    pages: list[Hit] = []
    while True:
        page = gallery.find(query, 7, len(pages), modality="photo", grouped=True)
        pages += page.hits
        if not page.has_more:
            break
    assert [hit.id for hit in pages] == [hit.id for hit in whole]


def test_groups_equal_a_naive_loop(gallery: Gallery, folder: Path) -> None:
    hits = gallery.find(str(folder / "00.jpg"), 200, modality="photo").hits
    stored = gallery.store.pictures([hit.id for hit in hits])
    groups: list[list[int]] = []
    for hit in hits:
        for group in groups:
            first, this = stored[group[0]].facts, stored[hit.id].facts
            assert first.description is not None
            assert this.description is not None
            one, other = gallery.store.embedding(group[0]), gallery.store.embedding(hit.id)
            assert one is not None
            assert other is not None
            cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
            bits = (first.description.look ^ this.description.look).bit_count()
            is_near = bits <= ALIKE and cosine >= SAME_COSINE and first.description.look.bit_count() >= DETAIL
            if first.file.content_hash == this.file.content_hash or is_near:
                group.append(hit.id)
                break
        else:
            groups.append([hit.id])
    found = gallery.find(str(folder / "00.jpg"), 200, modality="photo", grouped=True).hits
    assert [[hit.id, *(copy.id for copy in hit.copies)] for hit in found] == groups


def test_flat_pictures_that_look_alike_by_chance_are_not_copies(tmp_path: Path) -> None:
    folder = tmp_path / "flat"
    folder.mkdir()
    for shade in (10, 20, 30):
        Image.new("RGB", (64, 64), (shade, 0, 0)).save(folder / f"{shade}.png")
    shutil.copy(folder / "10.png", folder / "copy.png")
    with Gallery.create(tmp_path / "flat.gallery", FakeModel()) as gallery:
        gallery.add_folder(folder)
        hits = gallery.find(str(folder / "20.png"), 10, modality="photo", grouped=True).hits
    names = [{Path(each.path).stem for each in (hit, *hit.copies)} for hit in hits]
    assert sorted(names, key=min) == [{"10", "copy"}, {"20"}, {"30"}]


def test_a_copy_stands_for_a_group_whose_best_file_is_gone(gallery: Gallery, folder: Path) -> None:
    query = (folder / "08.jpg").read_bytes()
    best = gallery.find(query, 1, modality="photo", grouped=True).hits[0]
    Path(best.path).unlink()
    now = gallery.find(query, 1, modality="photo", grouped=True).hits[0]
    assert now.id != best.id
    assert not now.gone
    assert number_of(now) == "08"
    assert [copy.gone for copy in now.copies if copy.id == best.id] == [True]
