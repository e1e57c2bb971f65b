"""Photos as a network takes them, and JPEG files among them in half the processor time.

What takes long is decoding, resizing and copying from one library's memory to another's. A JPEG file is decoded at a
fraction of its size, straight into an array, and torch resizes that with vector instructions where Pillow has none.
Pillow reads everything else, and everything where torch is not loaded.

Shapes: `H W` a decoded picture, `S` the side of the network's square input.
"""

import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from crossatnet.data.decoders import decoders, is_read_here
from crossatnet.data.images import MAX_PIXELS, REDUCING_GAP, UPLOADED, Picture, load_image, prepare
from crossatnet.data.pictures.colours import srgb_transform
from crossatnet.data.pictures.formats import RAW, format_of
from crossatnet.data.pictures.opening import NO_ORIENTATION, Opened, plain_errors, read_bytes

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


def read_photo(source: Picture, size: int, name: str = "") -> NDArray[np.uint8]:
    """A picture of any kind as `prepare(load_image(...), "photo", size)` shapes it: (S, S, 3), `uint8`.

    A JPEG may differ from that by a grey level or two. A large one is decoded at a fraction of its size, both sides
    still at least `REDUCING_GAP` times `size`. Raises `ImageError` as `load_image` does.

    Example:
        >>> from crossatnet.data.photos import read_photo
        >>> photo.save("photo.jpg")
        >>> read_photo("photo.jpg", size=32).shape
        (32, 32, 3)
    """
    return read_photo_in(source, (size,), name)[0]


def read_photo_in(source: Picture, sizes: Sequence[int], name: str = "") -> list[NDArray[np.uint8]]:
    """A picture decoded once and shaped in several sizes; in the first of them it is what `read_photo` gives.

    The others are made of what is decoded for the first: both sides of a large JPEG are then still at least
    `REDUCING_GAP` times that size. What is smaller is enlarged. Raises `ImageError` as `load_image` does.

    Example:
        >>> from crossatnet.data.photos import read_photo_in
        >>> photo.save("photo.jpg")
        >>> [square.shape for square in read_photo_in("photo.jpg", (32, 48))]
        [(32, 32, 3), (48, 48, 3)]
    """
    if isinstance(source, bytes | str | Path):
        name = name or (UPLOADED if isinstance(source, bytes) else str(source))
        with plain_errors(name, MAX_PIXELS):
            source = read_bytes(source, name)
            if not is_read_here(source):
                pixels = np.frombuffer(decoders().ask("photo", source, name=name, sizes=[*sizes])[1], np.uint8)
                squares = np.split(pixels, np.cumsum([3 * size * size for size in sizes[:-1]]))
                return [square.reshape(size, size, 3) for square, size in zip(squares, sizes, strict=True)]
    found = _read_jpeg(source, sizes) if isinstance(source, bytes) else None
    if found is None:
        image = load_image(source, enough=round(REDUCING_GAP * sizes[0]), name=name)
        found = [prepare(image, "photo", size) for size in sizes]
    return found


def _read_jpeg(content: bytes, sizes: Sequence[int]) -> list[NDArray[np.uint8]] | None:
    """The same for the bytes of a plain JPEG file; None for all else, and for damaged ones: `load_image` says why."""
    torch = sys.modules.get("torch")  # not imported for this: a model may do without
    if torch is None:
        return None
    import simplejpeg

    try:
        turned = NO_ORIENTATION
        if format_of(content) == RAW.name:
            from crossatnet.data.pictures.raw import preview

            shown = preview(content)
            content, turned = shown.jpeg, shown.orientation
        if not content.startswith(START_OF_JPEG):
            return None
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as header:
            if header.mode not in ("L", "RGB") or header.width * header.height > MAX_PIXELS:
                return None
            upright = TURNED.get(Opened(header, "JPEG", turned).orientation(), TURNED[1])
            transform = srgb_transform(header.info.get("icc_profile"), header.mode)
            if transform is not None and header.mode != "RGB":
                return None  # a grey profile: Pillow keeps the greys that it is for
            least = REDUCING_GAP * sizes[0]
            scale = next(scale for scale in SCALES if scale == 1 or min(header.size) >= scale * least)
            width, height = (-(-side // scale) for side in header.size)
        pixels = simplejpeg.decode_jpeg(content, "RGB", min_height=height, min_width=width)  # (H, W, 3)
    except Exception:  # damaged bytes make decoders raise nearly anything
        return None
    stacked = torch.from_numpy(pixels[None]).permute(0, 3, 1, 2)  # (1, 3, H, W), colours still together in memory
    squares = []
    for size in sizes:
        square = pixels
        if pixels.shape != (size, size, 3):
            resized = torch.nn.functional.interpolate(stacked, (size, size), mode="bilinear", antialias=True)
            square = resized.permute(0, 2, 3, 1)[0].numpy()  # (S, S, 3)
        if transform is not None:
            square = np.asarray(ImageCms.applyTransform(Image.fromarray(square), transform))  # (S, S, 3)
        squares.append(np.ascontiguousarray(upright(square)))
    return squares
