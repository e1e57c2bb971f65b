"""How much work a picture file asks for, by its outline: before any decoder sees it, and in microseconds.

A small file can ask for minutes: scans of a JPEG that are repeated a thousand times, a million empty chunks before the
pixels of a PNG. What is plain by its outline takes a time that its pixels bound. Everything else is left to a process
that can be ended, see `decoders`.
"""

import struct
from typing import NamedTuple

from crossatnet.system.errors import ImageError

MOST_SCANS = 100  # of a JPEG; encoders make 12, optimisers 30
SCANNED_PIXELS = 2_000_000_000  # pixels times scans: two seconds of decoding
MOST_SEGMENTS = 2_000  # before the first scan of a JPEG; a large colour profile has 50
CHUNK_BYTES, FREE_CHUNKS = 1_024, 200  # a PNG has a chunk for so many bytes at most, and so many more
JPEG, PNG, BMP = b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"BM"
START_OF_SCAN, END = 0xDA, 0xD9
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers that begin a frame
SEQUENTIAL = (0xC0, 0xC1)
WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}


class Outline(NamedTuple):
    """Sides in pixels of a plain file, and whether its decoder keeps all of it in memory whatever size is asked for."""

    width: int
    height: int
    is_kept_whole: bool


def outline(content: bytes) -> Outline | None:
    """The outline of a plain file's bytes; None for one that must be decoded where it can be ended.

    Raises `ImageError` for a JPEG of more scans than its pixels need.

    Example:
        >>> from crossatnet.data.pictures.effort import outline
        >>> photo.save("photo.jpg")
        >>> outline((tmp_path / "photo.jpg").read_bytes())[:2]
        (120, 90)
    """
    try:
        if content.startswith(JPEG):
            return _jpeg(content)
        if content.startswith(PNG):
            return _png(content)
        if content.startswith(BMP):
            width, height = struct.unpack_from("<ii", content, 18)
            return Outline(abs(width), abs(height), True)
    except (struct.error, IndexError):  # ends too early
        return None
    return None


def _jpeg(content: bytes) -> Outline | None:
    place, frame, width, height, components = 2, 0, 0, 0, 0
    for _ in range(MOST_SEGMENTS):
        if content[place] != 0xFF:
            return None
        marker = content[place + 1]
        if marker == 0xFF:  # filled up
            place += 1
            continue
        place += 2
        if marker in WITHOUT_LENGTH:
            continue
        (length,) = struct.unpack_from(">H", content, place)
        if marker in FRAMES:
            frame = marker
            height, width, components = struct.unpack_from(">HHB", content, place + 3)
        elif marker == START_OF_SCAN:
            is_one = frame in SEQUENTIAL and content[place + 2] == components
            scans = 1 if is_one else content.count(b"\xff\xda", place - 2)
            _check_scans(scans, width * height)
            return Outline(width, height, not is_one)
        elif marker == END:
            return None
        place += length
    return None


def _check_scans(scans: int, pixels: int) -> None:
    if scans > MOST_SCANS or scans * pixels > SCANNED_PIXELS:
        raise ImageError(
            f"a JPEG of {scans:,} scans, more than {pixels:,} pixels may need; save it again with another program"
        )


def _png(content: bytes) -> Outline | None:
    width, height = struct.unpack_from(">II", content, 16)
    place, most = len(PNG), FREE_CHUNKS + len(content) // CHUNK_BYTES
    for _ in range(most):
        if place >= len(content) or content[place + 4 : place + 8] == b"IEND":
            return Outline(width, height, True)
        place += 12 + struct.unpack_from(">I", content, place)[0]
    return None
