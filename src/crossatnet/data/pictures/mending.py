"""Picture files whose pixels are whole and something beside them is not: the same files without what is beside.

Text of many megabytes, a bad checksum in a side chunk, a segment that lies about its length or a missing end marker is
no reason to lose a picture. A file is mended only after it could not be read as it is.
"""

import struct
import zlib
from collections.abc import Collection, Iterator, Mapping

import simplejpeg

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
OF_PIXELS = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
OF_COLOURS = (b"tRNS", b"iCCP", b"eXIf")  # kept where they are whole; eXIf has the orientation
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
JPEG_START, JPEG_END, SCAN = b"\xff\xd8", b"\xff\xd9", 0xDA
TABLES = (b"\xff\xdb", b"\xff\xc0", b"\xff\xc2", b"\xff\xc4")  # what pixels begin with, where segments are out of step
SIDE_SEGMENTS = (*range(0xE0, 0xF0), 0xFE)
KEPT_SEGMENTS = {0xE0: b"JFIF\0", 0xE1: b"Exif\0\0", 0xE2: b"ICC_PROFILE\0", 0xEE: b"Adobe"}
TIFF_MAGIC = (b"II*\0", b"MM\0*")
TIFF_PIXELS = frozenset(  # tags that say how pixels lie, also in tiles and in JPEG
    {254, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325, 338, 339, 347}
    | {529, 530, 531, 532}
)
TIFF_COLOURS = frozenset({274, 34675, 42113})  # orientation, profile, the value that means no data
GIF_MAGIC, GIF_END = (b"GIF87a", b"GIF89a"), b"\0;"


def mended(content: bytes) -> Iterator[bytes]:
    """The bytes of a picture file with nothing but its pixels and what they mean, then with its pixels alone.

    Nothing comes where that cannot be had. Of a JPEG only what decodes without a gap comes.

    Example:
        >>> from crossatnet.data.pictures.mending import mended
        >>> sketch.save("owl.png")
        >>> whole = (tmp_path / "owl.png").read_bytes()
        >>> next(mended(whole[:-12])) == whole
        True
    """
    if content.startswith(PNG_MAGIC):
        yield _mended_png(content, OF_COLOURS)
        yield _mended_png(content, ())
    elif content.startswith(JPEG_START):
        for kept in (KEPT_SEGMENTS, {0xEE: KEPT_SEGMENTS[0xEE]}):  # which says whether colours are inverted
            jpeg = _mended_jpeg(content, kept)
            if jpeg and _has_all_pixels(jpeg):
                yield jpeg
    elif content.startswith(TIFF_MAGIC):
        yield from filter(
            None, (_mended_tiff(content, {*TIFF_PIXELS, *TIFF_COLOURS}), _mended_tiff(content, TIFF_PIXELS))
        )
    elif content.startswith(GIF_MAGIC) and not content.endswith(GIF_END):
        yield content + GIF_END


def _mended_tiff(content: bytes, kept: Collection[int]) -> bytes | None:
    """With these tags only in its first directory, and no further one."""
    order = "<" if content.startswith(b"I") else ">"
    try:
        (start,) = struct.unpack_from(f"{order}I", content, 4)
        (entries,) = struct.unpack_from(f"{order}H", content, start)
    except struct.error:
        return None
    rows = [content[start + 2 + 12 * number : start + 14 + 12 * number] for number in range(entries)]
    wanted = [row for row in rows if len(row) == 12 and struct.unpack_from(f"{order}H", row)[0] in kept]
    directory = struct.pack(f"{order}H", len(wanted)) + b"".join(wanted) + bytes(4)
    return content[:start] + directory + content[start + len(directory) :]


def _mended_png(content: bytes, colours: Collection[bytes]) -> bytes:
    """Without side chunks, `colours` excepted that are whole; with an end. Pixels keep their checksums."""
    kept, at = [PNG_MAGIC], len(PNG_MAGIC)
    while at + 8 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        name, data, end = content[at + 4 : at + 8], content[at + 4 : at + 8 + length], at + 12 + length
        checksum = content[end - 4 : end]
        computed = zlib.crc32(data).to_bytes(4)
        if name == b"IEND":
            break
        if name in OF_PIXELS or (name in colours and checksum == computed):
            kept += [content[at : at + 4], data, checksum if len(checksum) == 4 else computed]
        at = end
    return b"".join([*kept, PNG_END])


def _mended_jpeg(content: bytes, sides: Mapping[int, bytes]) -> bytes | None:
    """Without side segments but those that are kept, by marker and beginning; with an end."""
    kept, at = [JPEG_START], len(JPEG_START)
    while content[at : at + 1] == b"\xff" and content[at + 1] != SCAN:
        marker, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4])
        end = at + 2 + length
        if marker in SIDE_SEGMENTS and content[end : end + 1] != b"\xff":  # its length is wrong: where do pixels begin?
            found = [place for place in (content.find(table, at + 4) for table in TABLES) if place > 0]
            if not found:
                return None
            at = min(found)
            continue
        if marker not in SIDE_SEGMENTS or content[at + 4 : end].startswith(sides.get(marker, b"\xff")):
            kept.append(content[at:end])
        at = end
    kept.append(content[at:])
    return b"".join([*kept, b"" if JPEG_END in content[-64:] else JPEG_END])


def _has_all_pixels(jpeg: bytes) -> bool:
    """Whether a JPEG decodes without a warning; at an eighth of its size, for which every bit is read too."""
    try:
        space = simplejpeg.decode_jpeg_header(jpeg)[2]
        target = {"Gray": "GRAY", "CMYK": "CMYK", "YCCK": "CMYK"}.get(space, "RGB")
        simplejpeg.decode_jpeg(jpeg, target, min_height=1, min_width=1, min_factor=8)
    except ValueError:
        return False
    return True
