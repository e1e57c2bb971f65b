"""Photos as a network takes them, and JPEG files among them in half the processor time.

What takes long is decoding, resizing and copying from one library's memory to another's. A JPEG file is decoded at a
fraction of its size, straight into an array, and torch resizes that with vector instructions where Pillow has none.
Pillow reads everything else, and everything where torch is not loaded.

Shapes: `H W` a decoded picture, `S` the side of the network's square input.
"""

import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from crossatnet.data.images import MAX_PIXELS, REDUCING_GAP, Picture, load_image, prepare
from crossatnet.data.pictures.colours import srgb_transform
from crossatnet.data.pictures.opening import MAX_BYTES, Opened

START_OF_JPEG = b"\xff\xd8"
SCALES = (8, 4, 2, 1)  # libjpeg-turbo has others, which it decodes slower than the whole picture
TURNED: dict[
    int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
] = {  # EXIF orientation -> an upright square (S, S, 3), as `images.UPRIGHT` has it
    1: lambda square: square,
    2: lambda square: square[:, ::-1],
    3: lambda square: square[::-1, ::-1],
    4: lambda square: square[::-1],
    5: lambda square: square.transpose(1, 0, 2),
    6: lambda square: square.transpose(1, 0, 2)[:, ::-1],
    7: lambda square: square.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda square: square.transpose(1, 0, 2)[::-1],
}


def read_photo(source: Picture, size: int) -> NDArray[np.uint8]:
    """A picture of any kind as `prepare(load_image(...), "photo", size)` shapes it: (S, S, 3), `uint8`.

    A JPEG may differ from that by a grey level or two. A large one is decoded at a fraction of its size, both sides
    still at least `REDUCING_GAP` times `size`. Raises `ImageError` as `load_image` does.

    Example:
        >>> from crossatnet.data.photos import read_photo
        >>> photo.save("photo.jpg")
        >>> read_photo("photo.jpg", size=32).shape
        (32, 32, 3)
    """
    square = _read_jpeg(source, size)
    if square is None:
        square = prepare(load_image(source, enough=round(REDUCING_GAP * size)), "photo", size)
    return square


def _read_jpeg(source: Picture, size: int) -> NDArray[np.uint8] | None:
    """The same for a plain JPEG file; None for all else, damaged ones included: `load_image` says what is wrong."""
    torch = sys.modules.get("torch")  # not imported for this: a model may do without
    if torch is None or not isinstance(source, bytes | str | Path):
        return None
    import simplejpeg

    try:
        content = source if isinstance(source, bytes) else _content(Path(source))
        if not content.startswith(START_OF_JPEG):
            return None
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as header:
            if header.mode not in ("L", "RGB") or header.width * header.height > MAX_PIXELS:
                return None
            upright = TURNED.get(Opened(header, "JPEG").orientation(), TURNED[1])
            transform = srgb_transform(header.info.get("icc_profile"), header.mode)
            if transform is not None and header.mode != "RGB":
                return None  # a grey profile: Pillow keeps the greys that it is for
            scale = next(scale for scale in SCALES if scale == 1 or min(header.size) >= scale * REDUCING_GAP * size)
            width, height = (-(-side // scale) for side in header.size)
        pixels = simplejpeg.decode_jpeg(content, "RGB", min_height=height, min_width=width)  # (H, W, 3)
    except Exception:  # damaged bytes make decoders raise nearly anything
        return None
    if pixels.shape != (size, size, 3):
        stacked = torch.from_numpy(pixels[None]).permute(0, 3, 1, 2)  # (1, 3, H, W), colours still together in memory
        resized = torch.nn.functional.interpolate(stacked, (size, size), mode="bilinear", antialias=True)
        pixels = resized.permute(0, 2, 3, 1)[0].numpy()  # (S, S, 3)
    if transform is not None:
        pixels = np.asarray(ImageCms.applyTransform(Image.fromarray(pixels), transform))  # (S, S, 3)
    return np.ascontiguousarray(upright(pixels))


def _content(path: Path) -> bytes:
    """The bytes of a JPEG file; nothing where it is none or too large."""
    with path.open("rb") as file:
        if file.read(len(START_OF_JPEG)) != START_OF_JPEG or path.stat().st_size > MAX_BYTES:
            return b""
        file.seek(0)
        return file.read(MAX_BYTES + 1)
