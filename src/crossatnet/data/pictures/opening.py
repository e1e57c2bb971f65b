"""Opening picture files: what they are and how large, from their first bytes, before anything is decoded."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from PIL import ExifTags, Image, ImageFile, JpegImagePlugin, UnidentifiedImageError

from crossatnet.data.pictures.formats import (
    FORMATS,
    PHOTOS,
    RAW,
    TIFF_MAGIC,
    VIDEO,
    format_of,
    picture_formats,
    what_is_missing,
)
from crossatnet.data.pictures.mending import mended
from crossatnet.system.errors import ImageError
from crossatnet.system.files import NotPlainError, open_plain

MAX_BYTES = 200_000_000
SHRINKING = 3  # times the limit of pixels: a JPEG up to so large is decoded smaller
MANY_PICTURES = {"MPO": "JPEG"}  # a file of several pictures, of which the first is taken -> the format of that one
ON_ITS_SIDE = (5, 6, 7, 8)  # orientations whose width and height change places
NO_ORIENTATION = 1

Result = TypeVar("Result")


class TooManyPixelsError(ImageError):
    """A picture with more pixels than are allowed."""


@dataclass(frozen=True)
class Opened:
    """A picture that may not be decoded yet, and its format's name.

    `turned` is the EXIF orientation of its pixels where the picture itself says nothing. `has_late_exif`: EXIF may
    stand after its pixels, where it is found only by decoding them.
    """

    image: Image.Image
    form: str
    turned: int = NO_ORIENTATION
    has_late_exif: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels of the upright picture."""
        width, height = self.image.size
        is_on_its_side = self.form != "TIFF" and self.orientation() in ON_ITS_SIDE  # Pillow opens a TIFF upright
        return (height, width) if is_on_its_side else (width, height)

    def orientation(self) -> int:
        """The EXIF orientation of its pixels. Of a PNG it may have to be decoded for that."""
        if self.image.format == "PNG" and "exif" not in self.image.info and not self.has_late_exif:
            return self.turned
        try:
            found = self.image.getexif().get(ExifTags.Base.Orientation, self.turned)
        except Exception:  # broken EXIF makes Pillow raise nearly anything
            return self.turned
        return found if isinstance(found, int) else self.turned


def read_bytes(source: str | Path | bytes, name: str) -> bytes:
    """The bytes of a picture file; `name` is what messages call it. Raises `ImageError` for one that is too large."""
    if isinstance(source, bytes):
        return source
    with open_plain(source) as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ImageError(f"{name}: larger than {MAX_BYTES // 1_000_000} MB; make it smaller")
    return content


def in_spite_of_metadata(content: bytes, use: Callable[[bytes], Result]) -> Result:
    """What `use` makes of a picture file's bytes, if need be of its pixels without what stands beside them.

    Raises what `use` raises.
    """
    try:
        return use(content)
    except ImageError:
        raise
    except Exception:  # broken metadata makes Pillow raise nearly anything
        for pixels in mended(content):
            with suppress(Exception):  # the first error says more of the file as it is
                return use(pixels)
        raise


@contextmanager
def opened(content: bytes, name: str, is_sent: bool = False) -> Iterator[Opened]:
    """The bytes of a picture file, opened and not yet decoded. Of a camera's raw file the preview inside it.

    What is sent by others is neither taken for a raw file nor for a video. Raises `ImageError` for what needs a library
    that is not installed, and whatever Pillow raises.
    """
    form = format_of(content)
    if form in (RAW.name, VIDEO.name) and is_sent:
        raise ImageError(_no_picture(name))
    if form is not None and not next(each for each in (*PHOTOS, RAW, VIDEO) if each.name == form).is_readable:
        raise ImageError(f"{name}: this installation cannot read {form}: {what_is_missing(form)}")
    if form == VIDEO.name:
        from crossatnet.data.pictures.video import first_frame

        yield Opened(first_frame(content), form)
    elif form == RAW.name:
        from crossatnet.data.pictures.raw import preview

        shown = preview(content)
        with shown.image as image:
            yield Opened(image, form, shown.orientation)
    else:
        with opened_by_pillow(content) as image:
            format_name = str(image.format)
            yield Opened(image, MANY_PICTURES.get(format_name, format_name), has_late_exif=b"eXIf" in content)


def opened_by_pillow(content: bytes) -> Image.Image:
    """The bytes of a picture file, opened by Pillow and the libraries that it reads further formats with.

    Raises whatever these raise. Videos, and the previews in cameras' raw files, are for `opened`.
    """
    # Reading a small photo takes no longer than to load the libraries of other formats, or to look for them.
    formats = _all_formats() if _is_of_other_libraries(content) else FORMATS
    has_deep = content.startswith(TIFF_MAGIC) and find_spec("tifffile") is not None
    try:
        image = Image.open(io.BytesIO(content), formats=formats)
    except Image.DecompressionBombError:
        if not content.startswith(b"\xff\xd8"):
            raise
        return JpegImagePlugin.JpegImageFile(io.BytesIO(content))  # which may be decoded smaller
    except UnidentifiedImageError:
        if not has_deep:
            raise
    else:
        if not (has_deep and _is_cut_to_8_bits(image)):
            return image
    from crossatnet.data.pictures.deep_tiff import open_deep

    return open_deep(content)


def _is_cut_to_8_bits(image: ImageFile.ImageFile) -> bool:
    """Whether Pillow would keep only the upper half of the colours of 16 bits that a TIFF has."""
    return image.mode in ("RGB", "RGBA", "CMYK") and "16" in str(image.tile[0][3])


def _is_of_other_libraries(content: bytes) -> bool:
    """Whether a file's bytes are of a format that not every Pillow reads by itself: AVIF, HEIF or JPEG XL."""
    return content[4:8] in (b"ftyp", b"JXL ") or content.startswith(b"\xff\x0a")


@cache
def _all_formats() -> tuple[str, ...]:
    """The names of all formats of photos that can be read here; makes Pillow know those of other libraries."""
    readable = tuple(each.name for each in PHOTOS if each.is_readable)
    if "HEIF" in readable:
        import pillow_heif

        pillow_heif.register_heif_opener(decode_threads=1)  # pictures are read by several threads already
    if "JXL" in readable:
        from crossatnet.data.pictures.jxl import JxlImageFile

        Image.register_open(JxlImageFile.format, JxlImageFile, lambda head: format_of(head) == JxlImageFile.format)
    return readable


def _no_picture(name: str) -> str:
    return f"{name}: not a picture (readable: {', '.join(each.name for each in picture_formats())})"


@contextmanager
def plain_errors(name: str, max_pixels: int) -> Iterator[None]:
    """Turns whatever reading a picture may raise into `ImageError`."""
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except NotPlainError as error:
        raise ImageError(f"{name}: {error.strerror}, not a picture") from error
    except IsADirectoryError as error:
        raise ImageError(f"{name}: a folder, not a picture") from error
    except FileNotFoundError as error:
        raise ImageError(f"{name}: no such file") from error
    except Image.DecompressionBombError as error:
        raise TooManyPixelsError(f"{name}: more pixels than the limit of {max_pixels:,}; make it smaller") from error
    except UnidentifiedImageError as error:
        raise ImageError(_no_picture(name)) from error
    except Exception as error:  # damaged bytes make Pillow raise nearly anything, struct.error and TypeError included
        reason = " ".join(str(error).split())  # of some only a number
        shown = f" ({reason})" if any(letter.isalpha() for letter in reason) else ""
        raise ImageError(f"{name}: damaged picture{shown}") from error


def check_size(image: Image.Image, name: str, max_pixels: int) -> None:
    """Raise `TooManyPixelsError` for a picture of more than `max_pixels`."""
    if image.width * image.height > max_pixels:
        size = f"{image.width} x {image.height}"
        raise TooManyPixelsError(f"{name}: {size} pixels, more than the limit of {max_pixels:,}; make it smaller")
