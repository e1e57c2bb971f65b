"""Colours as a person sees them: profiles, deep values, transparency of every depth."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from crossatnet.data.images import load_image
from crossatnet.data.photos import read_photo
from crossatnet.data.pictures.colours import Depth, from_deep, plausible_range, srgb_transform
from crossatnet.system.errors import ImageError
from picture_files import encoded, grey_tiff, patches, swapped_profile, tiff

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LOSSLESS: dict[str, dict[str, Any]] = {"PNG": {}, "TIFF": {}, "WEBP": {"lossless": True}, "HEIF": {"quality": -1}}


def by_pillow(image: Image.Image, profile: bytes) -> Image.Image:
    given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    converted = ImageCms.profileToProfile(image, given, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert converted is not None
    return converted


def distance(ours: Image.Image | NDArray[np.uint8], theirs: Image.Image | NDArray[np.uint8]) -> int:
    return int(np.abs(np.asarray(ours).astype(int) - np.asarray(theirs)).max())


@pytest.mark.parametrize("kind", LOSSLESS)
def test_a_profile_is_applied(kind: str) -> None:
    content = encoded(patches(), kind, icc_profile=swapped_profile(), **LOSSLESS[kind])
    assert distance(by_pillow(patches(), swapped_profile()), patches()) > 100
    assert distance(load_image(content), by_pillow(patches(), swapped_profile())) <= (4 if kind == "HEIF" else 0)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_profile_is_applied_to_a_jpeg_that_is_read_the_fast_way(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    plain = encoded(patches(800, 600), "JPEG", quality=95, exif=exif)
    content = encoded(patches(800, 600), "JPEG", quality=95, exif=exif, icc_profile=swapped_profile())
    expected = by_pillow(Image.fromarray(read_photo(plain, 64)), swapped_profile())
    assert distance(read_photo(content, 64), expected) <= 2


def test_the_profile_of_a_palette_and_of_transparent_colours() -> None:
    palette = patches().quantize(16)
    content = encoded(palette, "PNG", icc_profile=swapped_profile())
    assert distance(load_image(content), by_pillow(palette.convert("RGB"), swapped_profile())) == 0
    clear = patches().convert("RGBA")
    clear.putalpha(Image.fromarray(np.tile(np.array([0, 255], np.uint8), (180, 120))))
    shown = np.asarray(load_image(encoded(clear, "PNG", icc_profile=swapped_profile())))
    assert (shown[:, ::2] == 255).all()
    assert distance(shown[:, 1::2], np.asarray(by_pillow(patches(), swapped_profile()))[:, 1::2]) == 0


@pytest.mark.parametrize(
    ("profile", "mode"),
    [
        (SRGB, "RGB"),
        (b"", "RGB"),
        (b"no profile", "RGB"),
        (SRGB[:300], "RGB"),
        (SRGB, "L"),
        (SRGB, "CMYK"),
        (None, "RGB"),
    ],
    ids=["sRGB itself", "empty", "no profile", "cut", "grey", "ink", "none"],
)
def test_a_profile_that_says_nothing_changes_nothing(profile: bytes, mode: str) -> None:
    assert srgb_transform(profile, mode) is None
    content = encoded(patches().convert(mode), "TIFF", icc_profile=profile)
    assert distance(load_image(content), load_image(encoded(patches().convert(mode), "TIFF"))) == 0


def steps(kind: str) -> NDArray[Any]:
    """Five greys from dark to light, of a number type, and not over all of its range."""
    return np.array([[100, 200, 300, 400, 500]] * 3).astype(kind) / (1 if kind[0] in "ui" else 1000)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("white_is_zero", [False, True])
@pytest.mark.parametrize("kind", ["uint16", "int16", "uint32", "int32", "float32", "float64"])
def test_a_deep_tiff_is_spread_over_its_range_and_tag_262_heeded(kind: str, white_is_zero: bool, order: str) -> None:
    content = grey_tiff(steps(kind), white_is_zero, order)
    expected = np.array([0, 64, 128, 191, 255])
    shown = np.asarray(load_image(content))
    assert distance(shown[0, :, 0], expected[::-1] if white_is_zero else expected) <= 1


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_white_is_zero_is_the_same_at_every_depth(kind: str) -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    values = grey.astype(kind) * {"uint8": 1, "uint16": 257, "float32": np.float32(1 / 255)}[kind]
    shown = np.asarray(load_image(grey_tiff(values.astype(kind), white_is_zero=True)))[..., 0]
    assert distance(shown, 255 - grey) <= 1


@pytest.mark.parametrize(
    "hole",
    [np.nan, np.inf, -np.inf, -3.4e38, 3.4e38, -9999.0, -99999.0, -32768.0, 1e20, -1e10],
)
def test_what_was_not_measured_does_not_flatten_the_rest(hole: float) -> None:
    heights = np.linspace(310.0, 420.0, 400, dtype=np.float32).reshape(20, 20)
    holed = heights.copy()
    holed[:5, :9] = hole
    shown, plain = (np.asarray(load_image(grey_tiff(values))) for values in (holed, heights))
    assert distance(shown[5:], plain[5:]) <= 30  # what is left is spread over its own range
    assert shown[5:].max() == 255
    assert shown[5:].std() > 50


def test_a_tiff_that_names_what_means_no_data() -> None:
    heights = np.linspace(310.0, 420.0, 400, dtype=np.float32).reshape(20, 20)
    heights[0] = 77.0
    assert np.asarray(load_image(grey_tiff(heights)))[1].max() > 170
    named = np.asarray(load_image(grey_tiff(heights, no_data="77")))
    assert named[1, 0, 0] <= 1
    assert named[0].max() == 0


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 1.0], (0.0, 1.0)),  # black and white, whatever they are
        ([0.0, 1.0, 255.0], (0.0, 255.0)),  # few values far apart are no holes
        ([-9999.0, 4.0, 5.0], (4.0, 5.0)),
        ([np.nan, np.inf], (0.0, 0.0)),
        ([7.0], (7.0, 7.0)),
        ([-3.4e38, 1.0, 2.0, 1e20], (1.0, 2.0)),
        ([-3.4e38, 1.0, 2.0, 3.4e38], (1.0, 2.0)),
    ],
)
def test_the_plausible_range(values: list[float], expected: tuple[float, float]) -> None:
    assert plausible_range(np.array([values], np.float32)) == expected


def test_a_large_deep_picture_is_scaled_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=(50, 40)).astype(np.float32)
    whole = from_deep(values, Depth(is_stretched=True))
    monkeypatch.setattr("crossatnet.data.pictures.colours.BLOCK", 90)
    np.testing.assert_array_equal(from_deep(values, Depth(is_stretched=True)), whole)


@pytest.mark.parametrize("kind", ["uint16", "float32"])
def test_deep_colours_are_spread_together(kind: str) -> None:
    values = np.array([[[0, 100, 400], [400, 200, 0]]] * 2).astype(kind)
    tags: list[Any] = [
        *((256, 4, [2]), (257, 4, [2]), (258, 3, [values.itemsize * 8] * 3), (259, 3, [1]), (262, 3, [2])),
        *((277, 3, [3]), (278, 4, [2]), (284, 3, [1]), (339, 3, [3 if kind == "float32" else 1] * 3)),
    ]
    shown = np.asarray(load_image(tiff([(tags, values.tobytes())])))
    assert distance(shown[0], np.array([[0, 64, 255], [255, 128, 0]])) <= 1


def raw_png(depth: int, colour: int, row: bytes, transparent: bytes) -> bytes:
    """A PNG of one row, written bit by bit, with a transparent colour."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    width = len(row) * 8 // (depth * (3 if colour == 2 else 1))
    header = struct.pack(">IIBBBBB", width, 1, depth, colour, 0, 0, 0)
    parts = (b"IHDR", header), (b"tRNS", transparent), (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize(
    ("depth", "colour", "row", "transparent", "expected"),
    [
        (1, 0, bytes([0b0101_0101]), [0], [255] * 8),  # black is transparent: white paper everywhere
        (2, 0, bytes([0b00_01_10_11]), [1], [0, 255, 170, 255]),
        (2, 0, bytes([0b00_01_10_11]), [0], [255, 85, 170, 255]),
        (4, 0, bytes([0x0F, 0x51]), [5], [0, 255, 255, 17]),
        (8, 0, bytes([0, 9, 200]), [9], [0, 255, 200]),
        (16, 0, struct.pack(">3H", 0, 257 * 9, 257 * 200), [257 * 9], [0, 255, 200]),
        (8, 2, bytes([1, 2, 3, 4, 5, 6]), [1, 2, 3], [(255,) * 3, (4, 5, 6)]),
        (16, 2, struct.pack(">6H", 256, 512, 768, 1024, 1280, 1536), [256, 512, 768], [(255,) * 3, (4, 5, 6)]),
    ],
)
def test_a_transparent_colour_of_every_depth(
    depth: int, colour: int, row: bytes, transparent: list[int], expected: list[Any]
) -> None:
    shown = np.asarray(load_image(raw_png(depth, colour, row, struct.pack(f">{len(transparent)}H", *transparent))))[0]
    wanted = np.array(expected)
    np.testing.assert_array_equal(shown, np.stack([wanted] * 3, axis=-1) if wanted.ndim == 1 else wanted)


def test_colours_that_were_multiplied_by_their_transparency() -> None:
    clear = Image.new("RGBA", (4, 4), (200, 100, 50, 128))
    assert distance(load_image(clear.convert("RGBa")), load_image(clear)) <= 2


def sized(side: int, kind: str, **options: Any) -> bytes:
    return encoded(patches(side, side), kind, **options)


def test_a_jpeg_of_too_many_pixels_is_decoded_smaller() -> None:
    content = sized(400, "JPEG", quality=90)
    assert load_image(content, max_pixels=400 * 400).size == (400, 400)
    smaller = load_image(content, max_pixels=400 * 400 - 1)
    assert smaller.size == (200, 200)
    assert distance(smaller.resize((20, 20)), load_image(content).resize((20, 20))) < 40
    for kind in ("PNG", "WEBP", "TIFF"):
        with pytest.raises(ImageError, match="400 x 400 pixels, more than the limit of 159,999"):
            load_image(sized(400, kind), max_pixels=400 * 400 - 1)
    with pytest.raises(ImageError, match="more than the limit"):
        load_image(sized(400, "JPEG", progressive=True), max_pixels=400 * 400 - 1)
    with pytest.raises(ImageError, match="more than the limit of 159,999"):
        load_image(content, max_pixels=160_000 // 3)
