"""Photos read the fast way are those that Pillow reads."""

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image

from crossatnet.data import photos
from crossatnet.data.images import load_image, prepare
from crossatnet.data.photos import read_photo, read_photo_in_full
from crossatnet.system.errors import ImageError

SIDE = 64


def picture(width: int, height: int) -> Image.Image:
    """Patches of colour with noise: large shapes and single pixels."""
    random = np.random.default_rng(0)
    patches = Image.fromarray(random.integers(0, 256, (5, 7, 3), dtype=np.uint8)).resize((width, height))
    noise = random.normal(0, 20, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(patches) + noise, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def by_pillow(content: bytes) -> NDArray[np.uint8]:
    """Every new pixel exactly: without `prepare`'s short cut, which first shrinks in whole blocks."""
    return np.array(load_image(content, enough=2 * SIDE).resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def differences(ours: NDArray[np.uint8], theirs: NDArray[np.uint8]) -> NDArray[np.int64]:
    assert ours.shape == theirs.shape == (SIDE, SIDE, 3)
    assert ours.dtype == np.uint8
    assert ours.flags.c_contiguous
    return np.abs(ours.astype(np.int64) - theirs)


@pytest.fixture
def no_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures that are left to Pillow are an error."""

    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("left to Pillow")

    monkeypatch.setattr(photos, "load_image", refuse)


@pytest.mark.usefixtures("no_pillow")
@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"progressive": True}, {"optimize": True}], ids=str)
@pytest.mark.parametrize("size", [(64, 64), (40, 30), (127, 200), (300, 200), (513, 512), (1025, 1100), (1, 90)])
def test_a_jpeg_is_what_pillow_makes_of_it(size: tuple[int, int], options: dict[str, Any]) -> None:
    content = encoded(picture(*size), quality=90, **options)
    difference = differences(read_photo(content, SIDE), by_pillow(content))
    assert difference.max() <= 1
    assert difference.mean() < 0.25


@pytest.mark.usefixtures("no_pillow")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    content = encoded(picture(300, 200), exif=exif)
    assert differences(read_photo(content, SIDE), by_pillow(content)).max() <= 1


@pytest.mark.usefixtures("no_pillow")
def test_a_grey_jpeg_becomes_rgb() -> None:
    content = encoded(picture(300, 200).convert("L"))
    assert differences(read_photo(content, SIDE), by_pillow(content)).max() <= 1


@pytest.mark.parametrize(
    ("size", "decoded"),
    [
        ((255, 255), 255),
        ((256, 256), 128),
        ((511, 900), 256),
        ((512, 512), 128),
        ((1024, 1024), 128),
        ((2048, 2048), 256),
    ],
)
def test_a_large_jpeg_is_decoded_at_a_fraction_never_below_twice_the_side(
    size: tuple[int, int], decoded: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = []
    decode = simplejpeg.decode_jpeg

    def watched(*arguments: Any, **options: Any) -> NDArray[np.uint8]:
        pixels: NDArray[np.uint8] = decode(*arguments, **options)
        shapes.append(pixels.shape)
        return pixels

    monkeypatch.setattr(simplejpeg, "decode_jpeg", watched)
    read_photo(encoded(Image.new("RGB", size)), SIDE)
    assert [min(shape[:2]) for shape in shapes] == [decoded]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "image", "torch not loaded"])
def test_a_photo_and_its_square_are_decoded_once(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image, exif = picture(600, 400), Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    content = image if kind == "image" else encoded(image, kind if kind.isupper() else "JPEG", exif=exif)
    if kind == "torch not loaded":
        monkeypatch.delitem(sys.modules, torch.__name__)
    expected = read_photo(content, SIDE)
    upright = np.asarray(load_image(content))
    calls = []
    for place, name in ((simplejpeg, "decode_jpeg"), (photos, "load_image")):
        real = getattr(place, name)
        monkeypatch.setattr(place, name, lambda *given, real=real, **more: [calls.append(0), real(*given, **more)][1])
    own, full = read_photo_in_full(content, SIDE)
    assert len(calls) == (kind != "GIF")  # which another process decodes
    assert (own == expected).all()  # to the bit
    assert min(full.shape[:2]) >= 2 * SIDE
    assert full.shape[0] / full.shape[1] == pytest.approx(upright.shape[0] / upright.shape[1], abs=0.02)
    reference = Image.fromarray(upright).resize(full.shape[1::-1], Image.Resampling.BOX)
    assert np.abs(full.astype(int) - np.asarray(reference)).mean() < 4


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize(("size", "shape"), [((1100, 300), (300, 1100)), ((2200, 1500), (750, 1100))])
def test_what_parts_are_cut_from_is_bounded(kind: str, size: tuple[int, int], shape: tuple[int, int]) -> None:
    _, full = read_photo_in_full(encoded(picture(*size), kind), 448)
    assert full.shape == (*shape, 3)
    assert full.shape[0] * full.shape[1] <= photos.FULL_PIXELS


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "CMYK", "array", "image", "torch not loaded"])
def test_everything_else_is_pillows(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image = picture(300, 200)
    monkeypatch.delattr(simplejpeg, "decode_jpeg")
    if kind == "array":
        assert (read_photo(np.asarray(image), SIDE) == prepare(image, "photo", SIDE)).all()
        return
    if kind == "image":
        assert (read_photo(image, SIDE) == prepare(image, "photo", SIDE)).all()
        return
    if kind == "torch not loaded":
        monkeypatch.delitem(sys.modules, torch.__name__)
    content = encoded(image.convert("CMYK")) if kind == "CMYK" else encoded(image, kind if kind.isupper() else "JPEG")
    expected = prepare(load_image(content, enough=2 * SIDE), "photo", SIDE)
    assert (read_photo(content, SIDE) == expected).all()


@pytest.mark.usefixtures("no_pillow")
def test_a_file_is_read_like_its_bytes(tmp_path: Path) -> None:
    content = encoded(picture(300, 200))
    (tmp_path / "a.jpg").write_bytes(content)
    expected = read_photo(content, SIDE)
    assert (read_photo(tmp_path / "a.jpg", SIDE) == expected).all()
    assert (read_photo(str(tmp_path / "a.jpg"), SIDE) == expected).all()


def test_what_cannot_be_used_is_refused_as_by_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(picture(300, 200))
    bad: dict[str, bytes | Path] = {
        "damaged picture": content[: len(content) // 2],
        "not a picture": b"\xff\xd8 and no more",
        "no such file": tmp_path / "missing.jpg",
        "a folder": tmp_path,
    }
    for reason, source in bad.items():
        with pytest.raises(ImageError, match=reason) as ours:
            read_photo(source, SIDE)
        with pytest.raises(ImageError) as theirs:
            load_image(source)
        assert str(ours.value) == str(theirs.value)
    header = content.find(b"\xff\xc0") + 5  # height and width stand here
    huge = content[:header] + (20_000).to_bytes(2, "big") * 2 + content[header + 4 :]
    monkeypatch.delattr(simplejpeg, "decode_jpeg")  # nothing so large is decoded to find out
    with pytest.raises(ImageError, match="pixels"):
        read_photo(huge, SIDE)


def test_a_file_larger_than_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded(picture(300, 200)))
    monkeypatch.setattr("crossatnet.data.pictures.opening.MAX_BYTES", 1000)
    with pytest.raises(ImageError, match="larger than"):
        read_photo(tmp_path / "a.jpg", SIDE)


def test_damage_that_can_be_mended_is_pillows_to_judge() -> None:
    content = encoded(picture(300, 200))
    patched = content[:-2] + b"\0\0\0" + content[-2:]  # bytes that mean nothing before the end
    expected = prepare(load_image(patched, enough=2 * SIDE), "photo", SIDE)
    assert (read_photo(patched, SIDE) == expected).all()
