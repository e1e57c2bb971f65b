"""Looks: what equal and similar pictures share, and what is told of a catalog."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from crossatnet.data.hashes import content_hash, short_hash
from crossatnet.data.layouts import read_catalog
from crossatnet.data.looks import BLOCK, Looks, class_pictures, look, looks, near
from crossatnet.system.errors import ImageError
from tiny_data import SEEN, UNSEEN, write_tiny


def picture(seed: int, side: int = 96) -> Image.Image:
    """A smooth, coloured pattern."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)


def differing(one: Image.Image, other: Image.Image) -> int:
    return (look(one) ^ look(other)).bit_count()


def test_a_look_survives_what_copies_undergo(tmp_path: Path) -> None:
    image = picture(0, 200)
    image.save(tmp_path / "copy.jpg", quality=60)
    with Image.open(tmp_path / "copy.jpg") as copy:
        assert differing(image, copy) <= 4
    assert differing(image, image.resize((90, 120))) <= 4
    assert differing(image, ImageEnhance.Brightness(image).enhance(0.8)) <= 4
    assert differing(image, ImageOps.grayscale(image)) == 0
    assert 0 <= look(image) < 2**64


def test_looks_of_different_pictures_differ() -> None:
    pictures = [picture(seed) for seed in range(12)]
    apart = [differing(one, other) for row, one in enumerate(pictures) for other in pictures[:row]]
    assert min(apart) > 10
    assert abs(np.mean(apart) - 32) < 4


def test_the_look_of_an_empty_picture_is_no_rounding_error() -> None:
    assert look(Image.new("RGB", (40, 30), (17, 99, 230))) == look(Image.new("RGB", (300, 300), "white"))


def test_near_finds_the_nearest_as_a_loop_does() -> None:
    random = np.random.default_rng(0)
    others: Looks = random.integers(0, 2**64, 300, dtype=np.uint64)
    ones: Looks = random.integers(0, 2**64, 2 * BLOCK + 3, dtype=np.uint64)
    for row, bits in ((0, 3), (BLOCK, 0), (2 * BLOCK + 2, 4), (5, 5)):
        ones[row] = others[row] ^ np.uint64(2**bits - 1)
    expected = []
    for row, one in enumerate(ones.tolist()):
        distances = [(one ^ other).bit_count() for other in others.tolist()]
        if min(distances) <= 4:
            expected.append((row, distances.index(min(distances)), min(distances)))
    found = near(ones, others, 4)
    assert [*zip(*(part.tolist() for part in found), strict=True)] == sorted(expected, key=lambda pair: pair[2])
    assert {row for row, *_ in expected} == {0, BLOCK, 2 * BLOCK + 2}


@pytest.mark.parametrize(("count", "others"), [(0, 3), (3, 0), (0, 0)])
def test_nothing_is_near_nothing(count: int, others: int) -> None:
    found = near(np.zeros(count, dtype=np.uint64), np.zeros(others, dtype=np.uint64), 4)
    assert [len(part) for part in found] == [0, 0, 0]


def test_what_is_kept_of_a_catalog(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    catalog = read_catalog(tmp_path, "folder", quiet=True)
    found = class_pictures(catalog, quiet=True)
    assert [*found] == sorted(SEEN + UNSEEN)
    for name, pictures in found.items():
        files = {folder: sorted((tmp_path / folder / name).iterdir()) for folder in ("sketches", "photos")}
        hashes = {
            folder: tuple(short_hash(content_hash(path.read_bytes())) for path in paths)
            for folder, paths in files.items()
        }
        assert (pictures.sketch, pictures.photo) == (hashes["sketches"], hashes["photos"])
        assert {len(content) for content in pictures.photo + pictures.look} == {16}
        assert [int(content, 16) for content in pictures.look] == [look(Image.open(path)) for path in files["photos"]]


def test_looks_name_a_photo_that_is_gone(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    photos = read_catalog(tmp_path, "folder", quiet=True).select(["star"], "photo").items
    (tmp_path / "photos" / "star" / "2.png").unlink()
    with pytest.raises(ImageError, match=r"2\.png: no such file"):
        looks(photos, quiet=True)
