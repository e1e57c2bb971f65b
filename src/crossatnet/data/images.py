"""Reading pictures of any origin, safely, and shaping them for a backbone.

Shapes: `H W` a picture, `S` the side of the network's square input.
"""

import io
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crossatnet.data.decoders import decoders, is_read_here
from crossatnet.data.drawing.read import WORKING_SIDE, read_drawing
from crossatnet.data.pictures.decoding import decoded
from crossatnet.data.pictures.opening import (
    Opened,
    check_size,
    in_spite_of_metadata,
    opened,
    plain_errors,
    read_bytes,
)
from crossatnet.system.errors import ImageError

Modality = Literal["photo", "sketch"]
Picture = str | Path | bytes | Image.Image | NDArray[np.uint8]

MAX_PIXELS = 100_000_000
UPLOADED = "the uploaded picture"  # what messages call one that has no path
REDUCING_GAP = 2.0  # a picture this many times larger than asked for is first shrunk by averaging whole blocks
FIT_MARGIN = 0.06  # white left around the strokes by `fit_strokes`, as a share of their longer side


def check_picture(content: bytes, max_pixels: int) -> str:
    """The format of a picture file's bytes, one of `FORMATS`, from its first bytes alone: nothing is decoded.

    Raises `ImageError` for what is no picture, and `TooManyPixelsError` for one of more than `max_pixels`.

    Example:
        >>> from crossatnet.data.images import check_picture
        >>> sketch.save("owl.png")
        >>> check_picture((tmp_path / "owl.png").read_bytes(), max_pixels=10_000)
        'PNG'
    """

    def look(content: bytes) -> str:
        with opened(content, UPLOADED, is_sent=True) as picture:
            check_size(picture.image, UPLOADED, max_pixels)
            return picture.form

    with plain_errors(UPLOADED, max_pixels):
        if not is_read_here(content):
            return str(decoders().ask("check", content, max_pixels=max_pixels)[0])
        return in_spite_of_metadata(content, look)


def load_image(
    source: Picture,
    max_pixels: int = MAX_PIXELS,
    enough: int = 0,
    modality: Modality = "photo",
    name: str = "",
) -> Image.Image:
    """Read one picture as upright RGB on paper.

    Takes a path, the bytes of a file, a PIL image or a `uint8` array (H, W) or (H, W, 3). Orientation tags and colour
    profiles are applied, deep and CMYK pictures are converted, and of an animation the first frame is taken.
    Transparency is laid on white, or, for a sketch of light ink, on black: there it is the paper that the ink stands
    out from. Broken metadata is passed over. Raises `ImageError` for anything missing, too large, damaged or not a
    picture.

    With `enough` a large JPEG may come at a half, a quarter or an eighth of its size, both sides still at least so
    many pixels, or a HEIF photo as its own smaller version, at least half so large: that is many times faster to
    decode. A JPEG of more than `max_pixels` comes smaller too. `name` is what messages call the bytes of a file.

    What is not plain by its outline is read in another process, whose time and memory are bounded; see `decoders`.

    Example:
        >>> import numpy as np
        >>> from crossatnet.data.images import load_image
        >>> grey = np.zeros((20, 30), dtype=np.uint8)
        >>> load_image(grey).size
        (30, 20)
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    is_sketch = modality == "sketch"
    name = name or (UPLOADED if isinstance(source, bytes | Image.Image) else str(source))

    def read(content: bytes) -> Image.Image:
        with opened(content, name) as picture:
            return decoded(picture, name, max_pixels, enough, is_sketch)

    with plain_errors(name, max_pixels):
        if isinstance(source, Image.Image):
            check_size(source, name, max_pixels)
            return decoded(Opened(source, str(source.format)), name, max_pixels, 0, is_sketch)
        content = read_bytes(source, name)
        if is_read_here(content):
            return in_spite_of_metadata(content, read)
        settings = {"max_pixels": max_pixels, "enough": enough, "modality": modality, "name": name}
        size, pixels = decoders().ask("image", content, **settings)
        return Image.frombytes("RGB", (size[0], size[1]), pixels)


def small_jpeg(content: bytes, side: int, quality: int) -> bytes:
    """A JPEG of the picture in a file's bytes, its longer side not above `side` pixels. Raises `ImageError`.

    Example:
        >>> from crossatnet.data.images import load_image, small_jpeg
        >>> photo.save("photo.png")
        >>> load_image(small_jpeg((tmp_path / "photo.png").read_bytes(), 60, 80)).size
        (60, 45)
    """
    if not is_read_here(content):
        return decoders().ask("jpeg", content, side=side, quality=quality)[1]
    image = load_image(content, enough=side)
    image.thumbnail((side, side))
    made = io.BytesIO()
    image.save(made, "JPEG", quality=quality)
    return made.getvalue()


def read_sketch(source: Picture, size: int, fit_strokes: bool = False, name: str = "") -> NDArray[np.uint8]:
    """A picture of a drawing as `prepare` shapes it, (S, S, 3). Raises as that and `load_image` do.

    Example:
        >>> from crossatnet.data.images import read_sketch
        >>> read_sketch(sketch, size=64).shape
        (64, 64, 3)
    """
    if isinstance(source, bytes | str | Path):
        name = name or (UPLOADED if isinstance(source, bytes) else str(source))
        with plain_errors(name, MAX_PIXELS):
            source = read_bytes(source, name)
            if not is_read_here(source):
                settings = {"name": name, "size": size, "fit_strokes": fit_strokes}
                pixels = decoders().ask("sketch", source, **settings)[1]
                return np.frombuffer(pixels, np.uint8).reshape(size, size, 3)
    image = load_image(source, enough=WORKING_SIDE, modality="sketch", name=name)
    return prepare(image, "sketch", size, fit_strokes)


def picture_size(content: bytes) -> tuple[int, int]:
    """Width and height, in pixels, of the picture in a file's bytes once it is upright, without decoding it.

    For bytes that `load_image` has read: others may raise anything. Of a raw file it is the size of its preview.

    Example:
        >>> from crossatnet.data.images import picture_size
        >>> photo.save("photo.jpg")
        >>> picture_size((tmp_path / "photo.jpg").read_bytes())
        (120, 90)
    """

    def look(content: bytes) -> tuple[int, int]:
        with opened(content, UPLOADED) as picture:
            return picture.size

    if not is_read_here(content):
        width, height = decoders().ask("size", content)[0]
        return width, height
    return in_spite_of_metadata(content, look)


def _from_array(array: NDArray[np.uint8]) -> Image.Image:
    grey_or_rgb = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    if array.dtype != np.uint8 or not grey_or_rgb or not array.size:
        raise ImageError(
            f"an array must be uint8 of shape (H, W) or (H, W, 3) and not empty, not {array.dtype} {array.shape}"
        )
    return Image.fromarray(array).convert("RGB")


def prepare(image: Image.Image, modality: Modality, size: int, fit_strokes: bool = False) -> NDArray[np.uint8]:
    """Shape one RGB picture for a backbone: (S, S, 3), `uint8`.

    Both modalities are resized to a square. A sketch is first read by `data.drawing.read`: it becomes white strokes on
    black, which an ImageNet network reads better than black on white. `fit_strokes` cuts it to its strokes, so that a
    small drawing in a corner is seen like a large one. Raises `NothingDrawnError` for a sketch without any.

    Example:
        >>> from crossatnet.data.images import prepare
        >>> pixels = prepare(sketch, "sketch", size=64, fit_strokes=True)
        >>> pixels.shape, int(pixels[0, 0, 0])
        ((64, 64, 3), 0)
    """
    if modality == "sketch":
        image = read_drawing(image)
        if fit_strokes:
            image = cut_to_strokes(image)
        image = image.convert("RGB")
    return np.array(image.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=REDUCING_GAP))


def cut_to_strokes(image: Image.Image) -> Image.Image:
    """Cut a light-on-dark sketch to the square around its strokes, with a margin; an empty one stays as it is.

    Example:
        >>> from crossatnet.data.drawing.read import read_drawing
        >>> from crossatnet.data.images import cut_to_strokes
        >>> cut_to_strokes(read_drawing(sketch)).size
        (45, 45)
    """
    box = image.convert("L").point(lambda value: 255 * (value > 32)).getbbox()
    if box is None:
        return image
    left, top, right, bottom = box
    side = max(right - left, bottom - top)
    side += 2 * max(1, round(side * FIT_MARGIN))
    square = Image.new(image.mode, (side, side))
    square.paste(image.crop(box), ((side - (right - left)) // 2, (side - (bottom - top)) // 2))
    return square
