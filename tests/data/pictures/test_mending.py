"""Pictures whose pixels are whole, with every kind of damage beside them."""

import io
import random
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from crossatnet.data.images import check_picture, load_image, picture_size
from crossatnet.data.photos import read_photo
from crossatnet.data.pictures.mending import mended
from crossatnet.system.errors import ImageError

pytestmark = pytest.mark.filterwarnings("ignore")  # Pillow warns of what is broken; the command line silences it
STRUCTURE = {254, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 317, 338, 339}  # tags that pixels need
DAMAGES = 300


def picture(width: int = 60, height: int = 44) -> Image.Image:
    """Patches of colour, larger than what JPEG blurs."""
    patches = np.random.default_rng(3).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(patches).resize((width, height), Image.Resampling.NEAREST)


def encoded(kind: str, image: Image.Image | None = None, **options: Any) -> bytes:
    file = io.BytesIO()
    (image or picture()).save(file, kind, **options)
    return file.getvalue()


def pixels(content: bytes) -> NDArray[np.uint8]:
    return np.asarray(load_image(content))


def chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        yield png[at + 4 : at + 8], png[at : at + 12 + length]
        at += 12 + length


def chunk(name: bytes, content: bytes, checksum: int | None = None) -> bytes:
    computed = zlib.crc32(name + content) if checksum is None else checksum
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", computed)


def png_with(side: bytes, before: bytes = b"IDAT") -> bytes:
    """A PNG with a further chunk before its pixels or its end."""
    whole = encoded("PNG")
    parts = []
    for name, part in chunks(whole):
        if name == before:
            parts.append(side)
        parts.append(part)
    return whole[:8] + b"".join(parts)


PNG_SIDES = {
    "text of 3 MB, compressed": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * 3_000_000)),
    "international text of 3 MB": chunk(b"iTXt", b"XML:com\0\1\0\0\0" + zlib.compress(b"a" * 3_000_000)),
    "a bad checksum": chunk(b"tEXt", b"Comment\0hello", checksum=1),
    "a bad checksum of the size": chunk(b"pHYs", struct.pack(">IIB", 1, 1, 1), checksum=7),
    "text that is no text": chunk(b"zTXt", b"\xff" * 9),
    "a broken profile": chunk(b"iCCP", b"name\0\0" + b"no zlib"),
    "transparency cut short": chunk(b"tRNS", b"\0"),
    "a broken animation": chunk(b"acTL", b"\0\0"),
    "frames that never come": chunk(b"acTL", struct.pack(">II", 0, 0)) + chunk(b"fcTL", b"\0" * 5),
    "broken EXIF": chunk(b"eXIf", b"II*\0\xff\xff\xff\xff"),
}


@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
@pytest.mark.parametrize("side", PNG_SIDES)
def test_a_png_is_read_whatever_stands_beside_its_pixels(side: str, before: bytes) -> None:
    content = png_with(PNG_SIDES[side], before)
    np.testing.assert_array_equal(pixels(content), np.asarray(picture()))
    assert check_picture(content, 10_000) == "PNG"
    assert picture_size(content) == (60, 44)


@pytest.mark.parametrize("missing", [1, 4, 8, 11, 12, 13, 16])
def test_a_png_without_its_end_is_whole(missing: int) -> None:
    np.testing.assert_array_equal(pixels(encoded("PNG")[:-missing]), np.asarray(picture()))


def test_a_png_whose_pixels_are_damaged_stays_refused() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to find it in a PNG, Pillow decodes the picture
    whole = encoded(
        "PNG", Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 50, 3), dtype=np.uint8)), exif=exif
    )
    cut = whole[: len(whole) // 2]
    for content in (cut, cut + whole[-12:]):
        with pytest.raises(ImageError, match="damaged"):
            load_image(content)


def test_a_png_keeps_transparency_profile_and_orientation_when_it_is_mended() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "b" * 3_000_000, zip=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    clear = picture().convert("RGBA")
    clear.putalpha(0)
    assert load_image(encoded("PNG", clear, pnginfo=info, exif=exif)).getcolors() == [(60 * 44, (255, 255, 255))]
    assert load_image(encoded("PNG", pnginfo=info, exif=exif)).size == (44, 60)


def segment(marker: int, content: bytes, length: int | None = None) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2 if length is None else length) + content


JPEG_SIDES = {
    "an application's own data": segment(0xED, b"Photoshop 3.0\x008BIM\x04\x04\0\0\xff\xff\xff\xff"),
    "broken EXIF": segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff"),
    "EXIF of nothing": segment(0xE1, b"Exif\0\0"),
    "a broken index of many pictures": segment(0xE2, b"MPF\0" + b"\xff" * 12),
    "a broken profile": segment(0xE2, b"ICC_PROFILE\0\1\1" + b"\0" * 200),
    "a part of a profile": segment(0xE2, b"ICC_PROFILE\0\2\5" + b"\0" * 200),
    "a length that lies": segment(0xED, b"x" * 40, length=90),
    "a length of nothing": segment(0xE5, b"x" * 40, length=0),
    "a short length": segment(0xFE, b"x" * 40, length=9),
}


@pytest.mark.parametrize("side", JPEG_SIDES)
def test_a_jpeg_is_read_whatever_stands_beside_its_pixels(side: str) -> None:
    whole = encoded("JPEG", quality=95)
    content = whole[:2] + JPEG_SIDES[side] + whole[2:]
    np.testing.assert_array_equal(pixels(content), pixels(whole))
    np.testing.assert_allclose(read_photo(content, 32), read_photo(whole, 32), atol=1)
    assert check_picture(content, 10_000) == "JPEG"
    assert picture_size(content) == (60, 44)


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}], ids=str
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_without_its_end_is_whole(mode: str, options: dict[str, Any]) -> None:
    whole = encoded("JPEG", picture(300, 200).convert(mode), quality=90, **options)
    assert whole.endswith(b"\xff\xd9")
    for missing in (1, 2):
        np.testing.assert_array_equal(pixels(whole[:-missing]), pixels(whole))


@pytest.mark.parametrize("missing", [40, 400, 2000])
def test_a_jpeg_that_lacks_pixels_stays_refused(missing: int) -> None:
    whole = encoded("JPEG", picture(300, 200), quality=95)
    assert not [*mended(whole[:-missing])]
    with pytest.raises(ImageError, match="damaged"):
        load_image(whole[:-missing])


def test_a_gif_without_its_end_is_whole() -> None:
    whole = encoded("GIF")
    np.testing.assert_array_equal(pixels(whole[:-1]), pixels(whole))


def tagged_tiff(**options: Any) -> bytes:
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    tags = ImageFileDirectory_v2()
    tags[270], tags[305], tags[700], tags[34377], tags[271] = "a" * 50, "paint", b"<xmp/>" * 9, b"8BIM" * 5, "Maker"
    return encoded("TIFF", tiffinfo=tags, dpi=(72, 72), **options)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
def test_a_tiff_is_read_whatever_its_other_tags_say(compression: str | None) -> None:
    whole = tagged_tiff(**({"compression": compression} if compression else {}))
    (start,) = struct.unpack_from("<I", whole, 4)
    (entries,) = struct.unpack_from("<H", whole, start)
    rows = [start + 2 + 12 * number for number in range(entries)]
    others = [row for row in rows if struct.unpack_from("<H", whole, row)[0] not in STRUCTURE]
    assert len(others) >= 5
    dice = random.Random(5)
    for _ in range(DAMAGES):
        content = bytearray(whole)
        row = dice.choice(others)
        for _ in range(dice.choice([1, 3, 8])):
            content[row + 2 + dice.randrange(10)] = dice.randrange(256)  # its type, count or value
        np.testing.assert_array_equal(pixels(bytes(content)), np.asarray(picture()))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_broken_exif_costs_no_picture(kind: str) -> None:
    exif = Image.Exif()
    exif[0x010E], exif[0x011A], exif[0x0132] = "hello there", 72.0, "2019:01:02 03:04:05"
    exif.get_ifd(0x8769)[0x9003] = "2019:01:02 03:04:05"
    raw = exif.tobytes()
    whole = encoded(kind, exif=raw, **({"lossless": True} if kind == "WEBP" else {}))
    plain = pixels(whole)
    at = whole.find(raw.removeprefix(b"Exif\0\0")[:20])
    dice = random.Random(6)
    assert at > 0
    for _ in range(DAMAGES):
        content = bytearray(whole)
        for _ in range(dice.choice([1, 3, 20])):
            content[at + 4 + dice.randrange(len(raw) - 20)] = dice.randrange(256)
        assert pixels(bytes(content)).size == plain.size
