"""The preview inside a camera's raw file, by the library rawpy."""

import io
from dataclasses import dataclass

import numpy as np
import rawpy
from PIL import Image

from crossatnet.system.errors import ImageError

ORIENTATION_OF_FLIP = {3: 3, 5: 8, 6: 6}  # as LibRaw turns a picture -> as EXIF says it
LEAST_SIDE = 200  # pixels: a smaller preview is a thumbnail, and the picture itself is developed
MOST_PIXELS = 200_000_000  # that are developed, at half their sides


@dataclass(frozen=True)
class Preview:
    """A preview that may not be decoded yet, and the EXIF orientation of the photo where it has none of its own.

    `jpeg` is the preview's file, empty where it is not one.
    """

    image: Image.Image
    orientation: int
    jpeg: bytes = b""


def preview(content: bytes) -> Preview:
    """The largest preview in the bytes of a raw file; where there is none, the photo developed at half its size."""
    with rawpy.imread(io.BytesIO(content)) as raw:
        orientation = ORIENTATION_OF_FLIP.get(raw.sizes.flip, 1)
        try:
            thumb = raw.extract_thumb()
        except (rawpy.LibRawNoThumbnailError, rawpy.LibRawUnsupportedThumbnailError):
            thumb = None
        if thumb is not None:
            image = _image(thumb)
            if min(image.size) >= LEAST_SIDE:
                return Preview(image, orientation, thumb.data if isinstance(thumb.data, bytes) else b"")
        if raw.sizes.width * raw.sizes.height > MOST_PIXELS:
            raise ImageError(f"a raw photo of more than {MOST_PIXELS:,} pixels without a preview; export it as JPEG")
        return Preview(Image.fromarray(raw.postprocess(half_size=True, use_camera_wb=True)), 1)


def _image(thumb: rawpy.Thumbnail) -> Image.Image:
    if isinstance(thumb.data, bytes):
        return Image.open(io.BytesIO(thumb.data), formats=("JPEG",))
    return Image.fromarray(np.asarray(thumb.data))
