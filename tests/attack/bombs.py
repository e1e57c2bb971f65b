"""Small picture files that ask for much time or memory, made here."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    made = io.BytesIO()
    image.save(made, form, **options)
    return made.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def jpeg_of_scans(times: int, size: tuple[int, int] = (7_000, 5_670)) -> bytes:
    """A progressive JPEG of one colour whose last scan is there so many times."""
    whole = encoded(Image.new("RGB", size, "white"), "JPEG", progressive=True)
    start = whole.rindex(b"\xff\xda")
    return whole[:start] + whole[start:-2] * times + b"\xff\xd9"


def png_of_empty_chunks(chunks: int) -> bytes:
    """A PNG with so many empty chunks before its pixels."""
    whole = encoded(Image.new("RGB", (8, 8)), "PNG")
    return whole[:33] + chunk(b"tEXt", b"") * chunks + whole[33:]


def png_of_small_parts(parts: int) -> bytes:
    """A PNG whose pixels come in empty parts first."""
    whole = encoded(Image.new("RGB", (8, 8)), "PNG")
    return whole[:33] + chunk(b"IDAT", b"") * parts + whole[33:]


def gif_of_comments(megabytes: int) -> bytes:
    """A GIF with a comment of so many megabytes, in parts of 255 bytes."""
    part = b"\xff" + b"x" * 255
    comment = b"!\xfe" + part * (megabytes * 1_000_000 // 256) + b"\0"
    whole = encoded(Image.new("P", (8, 8)), "GIF")
    return whole[:13] + comment + whole[13:] if not whole[10] & 0x80 else _behind_palette(whole, comment)


def _behind_palette(whole: bytes, between: bytes) -> bytes:
    end = 13 + 3 * 2 ** ((whole[10] & 7) + 1)
    return whole[:end] + between + whole[end:]


def tiff_of_entries(entries: int, size: int) -> bytes:
    """A TIFF whose directory has so many entries, all of which point to the same `size` bytes."""
    count = min(entries, 65_535)
    rows = b"".join(
        struct.pack("<HHII", 40_000 + number % 20_000, 1, size, 8 + 2 + 12 * count) for number in range(count)
    )
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", count) + rows + bytes(4) + bytes(size)


def tiff_of_strips(side: int) -> bytes:
    """A TIFF of one bit a pixel in strips of one row, which all point to the same bytes."""
    entries = [
        *((256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 1), (259, 3, 1, 5), (262, 3, 1, 1), (277, 3, 1, 1)),
        *((278, 4, 1, 1),),
    ]
    head = 8 + 2 + 12 * (len(entries) + 2) + 4
    places, lengths = head, head + 4 * side
    rows = sorted([*entries, (273, 4, side, places), (279, 4, side, lengths)])
    directory = b"".join(struct.pack("<HHII", *row) for row in rows)
    strip = b"\x80\x0b\x60\x50\x38\x24\x16\x0d\x07\x84\x42\x61\x50\xb8\x64\x36\x1d" * 40
    start = lengths + 4 * side
    header = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(rows)) + directory + bytes(4)
    return header + struct.pack("<I", start) * side + struct.pack("<I", len(strip)) * side + strip


def noise(side: int, form: str, **options: object) -> bytes:
    """A picture that a strong codec takes long for."""
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    return encoded(Image.fromarray(pixels), form, **options)


TIME: dict[str, Callable[[], bytes]] = {
    "a jpeg of 4,000 scans": lambda: jpeg_of_scans(4_000),
    "a small jpeg of 60,000 scans": lambda: jpeg_of_scans(60_000, (800, 800)),
    "a png of 1.6 million chunks": lambda: png_of_empty_chunks(1_600_000),
    "a png of 1.6 million empty parts": lambda: png_of_small_parts(1_600_000),
    "a gif with a comment of 19 MB": lambda: gif_of_comments(19),
    "a tiff of 65,535 entries of 10 MB": lambda: tiff_of_entries(65_535, 10_000_000),
    "a tiff of 20,000 strips": lambda: tiff_of_strips(6_000),
}
MEMORY: dict[str, Callable[[], bytes]] = {  # 40 megapixels each
    "a tiff of 32 bits": lambda: encoded(
        Image.fromarray(np.zeros((6_300, 6_300), np.float32)), "TIFF", compression="tiff_deflate"
    ),
    "a png of 16 bits": lambda: encoded(Image.fromarray(np.zeros((6_300, 6_300), np.uint16)), "PNG", compress_level=1),
    "rgba": lambda: encoded(Image.new("RGBA", (6_300, 6_300), (10, 200, 30, 90)), "PNG", compress_level=1),
    "a palette with transparency": lambda: encoded(
        Image.new("P", (6_300, 6_300), 3), "PNG", transparency=3, compress_level=1
    ),
    "cmyk": lambda: encoded(Image.new("CMYK", (6_300, 6_300), (10, 200, 30, 90)), "TIFF", compression="tiff_lzw"),
    "rgb of 40 megapixels": lambda: encoded(Image.new("RGB", (6_300, 6_300), (10, 200, 30)), "PNG", compress_level=1),
}
