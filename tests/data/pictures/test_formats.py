"""Every format that a person's folder may hold."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from crossatnet.data import decoders
from crossatnet.data.images import check_picture, load_image, picture_size
from crossatnet.data.photos import read_photo
from crossatnet.data.pictures import formats
from crossatnet.data.pictures.formats import PHOTOS, RAW, VIDEO, format_of, picture_formats, suffixes
from crossatnet.data.pictures.jxl import jxl_size
from crossatnet.system.errors import ImageError
from picture_files import encoded, multi_picture, patches, raw_photo, tiff, video

WHOLE = patches(480, 360)
MADE: dict[str, Callable[[], bytes]] = {
    "JPEG": lambda: encoded(WHOLE, "JPEG", quality=95),
    "JPEG of several": lambda: multi_picture(WHOLE, patches(480, 360, seed=1)),
    "PNG": lambda: encoded(WHOLE, "PNG"),
    "WEBP": lambda: encoded(WHOLE, "WEBP", quality=95),
    "GIF": lambda: encoded(WHOLE, "GIF"),
    "BMP": lambda: encoded(WHOLE, "BMP"),
    "TIFF": lambda: encoded(WHOLE, "TIFF"),
    "AVIF": lambda: encoded(WHOLE, "AVIF", quality=95),
    "HEIF": lambda: encoded(WHOLE, "HEIF", quality=95),
    "JXL": lambda: encoded(WHOLE, "JXL"),
    "RAW": lambda: raw_photo(WHOLE),
    "VIDEO": lambda: video(WHOLE),
    "VIDEO mov": lambda: video(WHOLE, form="mov"),
    "VIDEO avi": lambda: video(WHOLE, form="avi"),
    "VIDEO matroska": lambda: video(WHOLE, form="matroska"),
}


@pytest.mark.parametrize("kind", MADE)
def test_a_file_of_every_format_is_the_picture_it_shows(kind: str) -> None:
    content = MADE[kind]()
    image = load_image(content)
    assert image.mode == "RGB"
    assert image.size == picture_size(content) == WHOLE.size
    assert np.abs(np.asarray(image).astype(int) - np.asarray(WHOLE)).mean() < 4
    assert np.abs(read_photo(content, 48).astype(int) - read_photo(WHOLE, 48)).mean() < 5


@pytest.mark.parametrize("kind", MADE)
def test_what_is_sent_is_a_photo_and_no_raw_file_or_video(kind: str) -> None:
    if kind.startswith(("RAW", "VIDEO")):
        with pytest.raises(ImageError, match="not a picture"):
            check_picture(MADE[kind](), 1_000_000)
    else:
        assert check_picture(MADE[kind](), 1_000_000) == kind.split()[0]


@pytest.mark.parametrize("kind", ["AVIF", "HEIF", "JXL", "RAW", "VIDEO"])
def test_a_format_whose_library_is_missing_says_what_to_install(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = MADE[kind]()
    monkeypatch.setattr(formats, "find_spec", lambda module: None)
    monkeypatch.setattr(formats.features, "check", lambda feature: False)
    monkeypatch.setenv(decoders.CHILD, "1")  # read in this process, of which this is true
    with pytest.raises(ImageError, match=rf"cannot read {kind}: pip install 'crossatnet\[formats\]'"):
        load_image(content)


def test_suffixes_of_the_base_and_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = suffixes(picture_formats())
    assert {".jpe", ".jfif", ".heic", ".avif", ".jxl", ".nef", ".dng", ".png", ".tif"} <= everything
    assert not everything & suffixes([VIDEO])
    picture_formats.cache_clear()
    monkeypatch.setattr(formats, "find_spec", lambda module: None)
    assert {each.name for each in picture_formats()} == {"JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"}
    picture_formats.cache_clear()
    every = [suffix for each in (*PHOTOS, RAW, VIDEO) for suffix in each.suffixes]
    assert len(every) == len({*every})


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_phones_turn_their_pictures(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = {1: 0, 3: 180, 6: 270, 8: 90}[orientation]
    content = encoded(WHOLE, kind, quality=95, exif=exif.tobytes())
    expected = np.asarray(WHOLE.rotate(turned, expand=True)).astype(int)
    assert picture_size(content) == expected.shape[1::-1]
    assert np.abs(np.asarray(load_image(content)) - expected).mean() < 4


@pytest.mark.parametrize(("flip", "turned"), [(1, 0), (3, 180), (6, 270), (8, 90)])
def test_the_preview_of_a_raw_file_is_upright(flip: int, turned: int) -> None:
    content = raw_photo(WHOLE, flip=flip)
    expected = np.asarray(WHOLE.rotate(turned, expand=True)).astype(int)
    assert picture_size(content) == expected.shape[1::-1]
    assert np.abs(np.asarray(load_image(content)) - expected).mean() < 4
    shown = Image.fromarray(expected.astype(np.uint8))
    assert np.abs(read_photo(content, 48).astype(int) - read_photo(shown, 48)).mean() < 5


def test_a_raw_file_without_a_preview_worth_its_name_is_developed() -> None:
    assert load_image(raw_photo(None)).size == (256, 192)
    assert load_image(raw_photo(patches(120, 90))).size == (256, 192)


def test_a_large_preview_of_a_raw_file_is_decoded_small_where_that_is_enough() -> None:
    assert load_image(raw_photo(patches(1600, 1200)), enough=300).size == (400, 300)


def test_a_photo_of_a_phone_is_read_by_its_own_smaller_version_where_that_is_enough() -> None:
    content = encoded(patches(1600, 1200), "HEIF", thumbnails=[400], quality=90)
    assert load_image(content, enough=600).size == (400, 300)
    assert load_image(content, enough=601).size == (1600, 1200)
    ours, whole = (read_photo(each, 300).astype(int) for each in (content, encoded(patches(1600, 1200), "HEIF")))
    assert np.abs(ours - whole).mean() < 5
    assert picture_size(content) == (1600, 1200)


def test_a_plain_tiff_of_a_scanner_is_no_raw_file() -> None:
    grey = np.arange(200, dtype=np.uint8).reshape(10, 20)
    tags: list[Any] = [(256, 4, [20]), (257, 4, [10]), (258, 3, [8]), (259, 3, [1]), (262, 3, [1]), (277, 3, [1])]
    scanned = tiff([([*tags, (254, 4, [0]), (271, 2, [*b"Scanner\0"])], grey.tobytes())])
    assert format_of(scanned) is None
    np.testing.assert_array_equal(np.asarray(load_image(scanned))[..., 0], grey)


@pytest.mark.parametrize(
    ("width", "height"), [(8, 8), (256, 256), (257, 31), (64, 48), (513, 300), (9000, 3), (1, 1), (16, 9), (300, 200)]
)
def test_the_size_of_a_jpeg_xl_is_known_from_its_first_bits(width: int, height: int) -> None:
    import imagecodecs

    picture = np.zeros((height, width, 3), np.uint8)
    for container in (False, True):
        content = bytes(imagecodecs.jpegxl_encode(picture, usecontainer=container))
        assert jxl_size(content) == (width, height) == load_image(content).size


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 128, 255]], np.uint8), [(0,) * 3, (128,) * 3, (255,) * 3]),
        (np.array([[0, 257 * 100, 65535]], np.uint16), [(0,) * 3, (100,) * 3, (255,) * 3]),
        (np.array([[[0, 0], [0, 255], [255, 255]]], np.uint8), [(255,) * 3, (0,) * 3, (255,) * 3]),
        (np.array([[[9, 8, 7, 255], [9, 8, 7, 0]]], np.uint8), [(9, 8, 7), (255, 255, 255)]),
        (np.array([[[0.0, 0.5, 1.0]]], np.float32), [(0, 128, 255)]),
    ],
)
def test_jpeg_xl_of_every_depth(values: Any, expected: Any) -> None:
    import imagecodecs

    content = bytes(imagecodecs.jpegxl_encode(values, lossless=True))
    np.testing.assert_allclose(np.asarray(load_image(content))[0], expected, atol=1)


def test_the_first_frame_of_a_moving_jpeg_xl() -> None:
    import imagecodecs

    frames = np.stack([np.full((8, 8, 3), value, np.uint8) for value in (10, 200)])
    content = bytes(imagecodecs.jpegxl_encode(frames, lossless=True))
    assert np.asarray(load_image(content)).tolist() == frames[0].tolist()


def test_a_deep_photo_of_a_phone_keeps_its_tones() -> None:
    import pillow_heif

    values = (np.arange(64 * 64).reshape(64, 64, 1) * 16).astype(np.uint16).repeat(3, axis=2)
    file = io.BytesIO()
    made = pillow_heif.from_bytes("RGB;16", (64, 64), values.tobytes())
    made.save(file, quality=-1)
    assert np.abs(np.asarray(load_image(file.getvalue())).astype(int) - values // 256).max() <= 3
