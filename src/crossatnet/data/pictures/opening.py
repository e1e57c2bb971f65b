"""Opening picture files: what they are and how large, from their first bytes, before anything is decoded."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from crossatnet.data.pictures.formats import FORMATS
from crossatnet.system.errors import ImageError

MAX_BYTES = 200_000_000


class TooManyPixelsError(ImageError):
    """A picture with more pixels than are allowed."""


@contextmanager
def opened(source: str | Path | bytes, name: str, max_pixels: int) -> Iterator[Image.Image]:
    """A picture file or its bytes, opened and not yet decoded; `name` is what messages call it.

    Raises `ImageError` for what is no picture or too large, also for what the block raises while it decodes.
    """
    with plain_errors(name, max_pixels):
        if not isinstance(source, bytes) and Path(source).stat().st_size > MAX_BYTES:
            raise ImageError(f"{name}: larger than {MAX_BYTES // 1_000_000} MB; make it smaller")
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
            check_size(image, name, max_pixels)
            yield image


@contextmanager
def plain_errors(name: str, max_pixels: int) -> Iterator[None]:
    """Turns whatever reading a picture may raise into `ImageError`."""
    try:
        yield
    except ImageError:
        raise
    except IsADirectoryError as error:
        raise ImageError(f"{name}: a folder, not a picture") from error
    except FileNotFoundError as error:
        raise ImageError(f"{name}: no such file") from error
    except Image.DecompressionBombError as error:
        raise TooManyPixelsError(f"{name}: more pixels than the limit of {max_pixels:,}; make it smaller") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: not a picture (readable: {', '.join(FORMATS)})") from error
    except Exception as error:  # damaged bytes make Pillow raise nearly anything, struct.error and TypeError included
        raise ImageError(f"{name}: damaged picture ({error})") from error


def check_size(image: Image.Image, name: str, max_pixels: int) -> None:
    """Raise `TooManyPixelsError` for a picture of more than `max_pixels`."""
    if image.width * image.height > max_pixels:
        size = f"{image.width} x {image.height}"
        raise TooManyPixelsError(f"{name}: {size} pixels, more than the limit of {max_pixels:,}; make it smaller")
