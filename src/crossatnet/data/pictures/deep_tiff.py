"""TIFF files that Pillow cannot open, such as colours in 16 bits or floating point, by the library tifffile."""

import io

import numpy as np
import tifffile
from PIL import Image

from crossatnet.data.pictures.colours import Depth, from_deep
from crossatnet.system.errors import ImageError

MOST_PIXELS = 100_000_000
NO_DATA = 42113  # a tag
WHITE_IS_ZERO = 0


def open_deep(content: bytes) -> Image.Image:
    """The first picture in the bytes of a TIFF, its first three bands or its first, in 8 bits by their own range."""
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        page = file.pages.first
        if page.imagewidth * page.imagelength > MOST_PIXELS:
            raise ImageError(f"more pixels than the limit of {MOST_PIXELS:,}; make it smaller")
        values = np.asarray(page.asarray())
        if values.ndim == 3 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
            values = np.moveaxis(values, 0, -1)
        if values.ndim == 3:
            values = values[..., :3] if values.shape[2] >= 3 else values[..., 0]
        if values.ndim not in (2, 3) or values.dtype.kind not in "uif":
            raise ImageError("a TIFF of a kind that cannot be shown as a picture")
        tag, is_inverted = page.tags.get(NO_DATA), page.photometric == WHITE_IS_ZERO
    if values.dtype == np.uint8:
        made = Image.fromarray(255 - values if is_inverted else values)
    else:
        made = Image.fromarray(from_deep(values, Depth(True, is_inverted, _number(tag.value) if tag else None)))
    made.format = "TIFF"
    return made


def _number(text: object) -> float | None:
    try:
        return float(str(text).strip(" \0"))
    except ValueError:
        return None
