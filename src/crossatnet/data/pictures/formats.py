"""The formats of pictures: how their files begin and end, and what must be installed to read them.

Nothing that is not listed here is decoded: fewer parsers face untrusted bytes.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

from PIL import features

from crossatnet.system.errors import how_to_install

HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
VIDEO_BRANDS = (b"qt  ", b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"mp41", b"mp42", b"avc1", b"M4V ", b"MSNV")
RAW_MAGIC = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb", b"\0MRM")
TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
SUBFILE_TYPE, MAKE, DNG_VERSION = 254, 271, 50706  # tags of TIFF
REDUCED = 1  # a subfile type: a smaller version of another picture in the file


@dataclass(frozen=True)
class Format:
    """A format by the name that Pillow gives it, or would. `module` must be importable; "" is Pillow itself."""

    name: str
    suffixes: tuple[str, ...]  # the first is given to files that are kept
    module: str = ""

    @property
    def is_readable(self) -> bool:
        """Whether this installation can read it."""
        if self.name == "AVIF":  # newer versions of Pillow have it
            return bool(features.check("avif"))
        return not self.module or find_spec(self.module) is not None


PHOTOS = (
    Format("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo")),
    Format("PNG", (".png", ".apng")),
    Format("WEBP", (".webp",)),
    Format("GIF", (".gif",)),
    Format("BMP", (".bmp", ".dib")),
    Format("TIFF", (".tif", ".tiff")),
    Format("AVIF", (".avif",), "PIL"),
    Format("HEIF", (".heic", ".heif", ".hif"), "pillow_heif"),
    Format("JXL", (".jxl",), "imagecodecs"),
)
RAW = Format(
    "RAW",
    (
        *(".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".srf", ".raf", ".orf", ".rw2", ".pef"),
        *(".srw", ".3fr", ".erf", ".kdc", ".dcr", ".mos", ".mrw", ".x3f", ".iiq", ".rwl"),
    ),
    "rawpy",
)
VIDEO = Format("VIDEO", (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".3gp"), "av")
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")  # that every installation reads


@cache
def picture_formats() -> tuple[Format, ...]:
    """The formats of pictures that this installation reads; a video is none.

    Example:
        >>> from crossatnet.data.pictures.formats import picture_formats
        >>> "JPEG" in [each.name for each in picture_formats()]
        True
    """
    return tuple(each for each in (*PHOTOS, RAW) if each.is_readable)


def suffixes(formats: Iterable[Format]) -> frozenset[str]:
    """The suffixes of some formats, in small letters, with the dot.

    Example:
        >>> from crossatnet.data.pictures.formats import picture_formats, suffixes
        >>> ".jfif" in suffixes(picture_formats())
        True
    """
    return frozenset(suffix for each in formats for suffix in each.suffixes)


def what_is_missing(name: str) -> str:
    """What a user does to read a format that this installation does not, as a command.

    Example:
        >>> from crossatnet.data.pictures.formats import what_is_missing
        >>> what_is_missing("HEIF")
        "pip install 'crossatnet[formats]'"
    """
    module = next(each.module for each in (*PHOTOS, RAW, VIDEO) if each.name == name)
    return how_to_install("pillow_heif" if module == "PIL" else module)


def format_of(content: bytes) -> str | None:
    """The name of the format of a file's bytes, by their beginning; None for one that Pillow recognises itself.

    A camera's raw file may look like a TIFF: it says so by a tag of its own, or by a first picture that is a camera's
    preview.

    Example:
        >>> from crossatnet.data.pictures.formats import format_of
        >>> format_of(b"\\0\\0\\0\\x18ftypheic\\0\\0\\0\\0mif1heic")
        'HEIF'
    """
    if content[4:8] == b"ftyp":
        brands = {content[8:12], *(content[at : at + 4] for at in range(16, min(len(content), 64), 4))}
        first = content[8:12]
        if first == b"crx ":
            return "RAW"
        if first in VIDEO_BRANDS or first.startswith(b"3g"):
            return "VIDEO"
        if first in (b"avif", b"avis") or (first in (b"mif1", b"msf1") and b"avif" in brands):
            return "AVIF"
        return "HEIF" if first in HEIF_BRANDS else None
    if content.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")):
        return "JXL"
    if content.startswith(b"\x1aE\xdf\xa3") or (content.startswith(b"RIFF") and content[8:12] == b"AVI "):
        return "VIDEO"
    is_raw = content.startswith(RAW_MAGIC) or (
        content.startswith(TIFF_MAGIC) and (content[8:10] == b"CR" or _is_raw(content))
    )
    return "RAW" if is_raw else None


def _is_raw(content: bytes) -> bool:
    """Whether the first directory of a TIFF is that of a camera's raw file."""
    order = "<" if content.startswith(b"I") else ">"
    try:
        (start,) = struct.unpack_from(f"{order}I", content, 4)
        (entries,) = struct.unpack_from(f"{order}H", content, start)
        rows = [struct.unpack_from(f"{order}H6xI", content, start + 2 + 12 * number) for number in range(entries)]
    except struct.error:
        return False
    values = dict(rows)  # of tags, where they are one long integer
    return DNG_VERSION in values or (MAKE in values and values.get(SUBFILE_TYPE) == REDUCED)
