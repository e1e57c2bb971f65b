"""Photos as a network takes them, and JPEG files among them in half the processor time.

What takes long is decoding, resizing and copying from one library's memory to another's. A JPEG file is decoded at a
fraction of its size, straight into an array, and torch resizes that with vector instructions where Pillow has none.
Pillow reads everything else, and everything where torch is not loaded.

Shapes: `H W` an upright picture as decoded, `S` the side of the network's square input.
"""

import io
import math
import sys
from collections.abc import Callable
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
FULL_PIXELS = 1_000_000  # of a picture that parts are cut from
SCALES = (8, 4, 2, 1)  # libjpeg-turbo has others, which it decodes slower than the whole picture
TURNED: dict[
    int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
] = {  # EXIF orientation -> an upright picture (H, W, 3), as `images.UPRIGHT` has it
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
    return read_arrays(source, size, name, in_full=False)[0]


def read_photo_in_full(source: Picture, size: int, name: str = "") -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A picture as `read_photo` gives it, (S, S, 3), and as it was decoded for that, (H, W, 3), to cut parts from it.

    The latter has at most `FULL_PIXELS` pixels. Raises `ImageError` as `load_image` does.

    Example:
        >>> from crossatnet.data.photos import read_photo_in_full
        >>> photo.save("photo.jpg")
        >>> [pixels.shape for pixels in read_photo_in_full("photo.jpg", 32)]
        [(32, 32, 3), (90, 120, 3)]
    """
    square, full = read_arrays(source, size, name, in_full=True)
    return square, full


def read_arrays(source: Picture, size: int, name: str, in_full: bool) -> list[NDArray[np.uint8]]:
    """What `read_photo` gives and, only if it is asked for, as it takes time, what `read_photo_in_full` adds to that.

    Example:
        >>> from crossatnet.data.photos import read_arrays
        >>> photo.save("photo.jpg")
        >>> [pixels.shape for pixels in read_arrays("photo.jpg", 32, "photo.jpg", in_full=False)]
        [(32, 32, 3)]
    """
    if isinstance(source, bytes | str | Path):
        name = name or (UPLOADED if isinstance(source, bytes) else str(source))
        with plain_errors(name, MAX_PIXELS):
            source = read_bytes(source, name)
            if not is_read_here(source):
                shapes, made = decoders().ask("photo", source, name=name, size=size, in_full=in_full)
                ends = np.cumsum([math.prod(shape) for shape in shapes[:-1]])
                arrays = np.split(np.frombuffer(made, np.uint8), ends)
                return [array.reshape(shape) for array, shape in zip(arrays, shapes, strict=True)]
    found = _read_jpeg(source, size, in_full) if isinstance(source, bytes) else None
    if found is None:
        image = load_image(source, enough=round(REDUCING_GAP * size), name=name)
        found = [prepare(image, "photo", size), *([_bounded(np.asarray(image))] if in_full else [])]
    return found


def _bounded(full: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture (H, W, 3) of at most `FULL_PIXELS`, made smaller by a whole number."""
    height, width = full.shape[:2]
    if height * width <= FULL_PIXELS:
        return full
    return np.asarray(Image.fromarray(full).reduce(math.ceil(math.sqrt(height * width / FULL_PIXELS))))


def _read_jpeg(content: bytes, size: int, in_full: bool) -> list[NDArray[np.uint8]] | None:
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
            least = REDUCING_GAP * size
            scale = next(scale for scale in SCALES if scale == 1 or min(header.size) >= scale * least)
            width, height = (-(-side // scale) for side in header.size)
        pixels = simplejpeg.decode_jpeg(content, "RGB", min_height=height, min_width=width)  # (H, W, 3)
    except Exception:  # damaged bytes make decoders raise nearly anything
        return None
    square = pixels
    if pixels.shape != (size, size, 3):
        stacked = torch.from_numpy(pixels[None]).permute(0, 3, 1, 2)  # (1, 3, H, W), colours still together in memory
        resized = torch.nn.functional.interpolate(stacked, (size, size), mode="bilinear", antialias=True)
        square = resized.permute(0, 2, 3, 1)[0].numpy()  # (S, S, 3)
    arrays = [square, *([_bounded(pixels)] if in_full else [])]
    if transform is not None:
        arrays = [np.asarray(ImageCms.applyTransform(Image.fromarray(each), transform)) for each in arrays]
    return [np.ascontiguousarray(upright(each)) for each in arrays]
