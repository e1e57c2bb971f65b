"""Reading pictures of any origin, safely, and shaping them for a backbone.

Shapes: `H W` a picture, `S` the side of the network's square input.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from crossatnet.data.drawing.read import read_drawing
from crossatnet.system.errors import ImageError

Modality = Literal["photo", "sketch"]
Picture = str | Path | bytes | Image.Image | NDArray[np.uint8]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")  # nothing else is decoded: fewer parsers face untrusted bytes
MAX_PIXELS = 100_000_000
MAX_BYTES = 200_000_000
UPLOADED = "the uploaded picture"  # what messages call one that has no path
PAPER = (255, 255, 255)
UPRIGHT = {  # EXIF orientation -> what undoes it
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
REDUCING_GAP = 2.0  # a picture this many times larger than asked for is first shrunk by averaging whole blocks
DARKEST, NEARLY_WHITE = 3, 200  # percentile of what is drawn on transparency, and the grey level it is light above
FIT_MARGIN = 0.06  # white left around the strokes by `fit_strokes`, as a share of their longer side


class TooManyPixelsError(ImageError):
    """A picture with more pixels than are allowed."""


def check_picture(content: bytes, max_pixels: int) -> str:
    """The format of a picture file's bytes, one of `FORMATS`, from its first bytes alone: nothing is decoded.

    Raises `ImageError` for what is no picture, and `TooManyPixelsError` for one of more than `max_pixels`.

    Example:
        >>> from crossatnet.data.images import check_picture
        >>> sketch.save("owl.png")
        >>> check_picture((tmp_path / "owl.png").read_bytes(), max_pixels=10_000)
        'PNG'
    """
    with _plain_errors(UPLOADED, max_pixels), Image.open(io.BytesIO(content), formats=FORMATS) as image:
        _check_size(image, UPLOADED, max_pixels)
        return str(image.format)


def load_image(
    source: Picture, max_pixels: int = MAX_PIXELS, enough: int = 0, modality: Modality = "photo"
) -> Image.Image:
    """Read one picture as upright RGB on paper.

    Takes a path, the bytes of a file, a PIL image or a `uint8` array (H, W) or (H, W, 3). Orientation tags are
    applied, 16-bit and CMYK pictures are converted, and of an animation the first frame is taken. Transparency is
    laid on white, or, for a sketch of light ink, on black: there it is the paper that the ink stands out from. Raises
    `ImageError` for anything missing, too large, damaged or not a picture.

    With `enough` a large JPEG may come at a half, a quarter or an eighth of its size, both sides still at least so
    many pixels: that is several times faster to decode.

    Example:
        >>> import numpy as np
        >>> from crossatnet.data.images import load_image
        >>> grey = np.zeros((20, 30), dtype=np.uint8)
        >>> load_image(grey).size
        (30, 20)
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    name = UPLOADED if isinstance(source, bytes | Image.Image) else str(source)
    with _plain_errors(name, max_pixels):
        if isinstance(source, Image.Image):
            _check_size(source, name, max_pixels)
            return _to_rgb(source, modality)
        if not isinstance(source, bytes) and Path(source).stat().st_size > MAX_BYTES:
            raise ImageError(f"{name}: larger than {MAX_BYTES // 1_000_000} MB; make it smaller")
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
            _check_size(image, name, max_pixels)
            if enough:
                image.draft(None, (enough, enough))
            return _to_rgb(image, modality)


@contextmanager
def _plain_errors(name: str, max_pixels: int) -> Iterator[None]:
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


def picture_size(content: bytes) -> tuple[int, int]:
    """Width and height, in pixels, of the picture in a file's bytes once it is upright, without decoding it.

    For bytes that `load_image` has read: others may raise anything.

    Example:
        >>> from crossatnet.data.images import picture_size
        >>> photo.save("photo.jpg")
        >>> picture_size((tmp_path / "photo.jpg").read_bytes())
        (120, 90)
    """
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        on_its_side = image.format != "TIFF" and image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
        return (image.height, image.width) if on_its_side else image.size  # Pillow opens a TIFF upright


def _check_size(image: Image.Image, name: str, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        size = f"{image.width} x {image.height}"
        raise TooManyPixelsError(f"{name}: {size} pixels, more than the limit of {max_pixels:,}; make it smaller")


def _from_array(array: NDArray[np.uint8]) -> Image.Image:
    grey_or_rgb = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    if array.dtype != np.uint8 or not grey_or_rgb or not array.size:
        raise ImageError(
            f"an array must be uint8 of shape (H, W) or (H, W, 3) and not empty, not {array.dtype} {array.shape}"
        )
    return Image.fromarray(array).convert("RGB")


def _to_rgb(image: Image.Image, modality: Modality) -> Image.Image:
    image.load()
    turn = UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    if turn is not None:  # ImageOps.exif_transpose also writes the tags again, and fails on those it cannot write
        image = image.transpose(turn)
    if image.mode.startswith(("I", "F")):  # 16-bit and float greys: spread what is there over 0..255
        values = np.asarray(image, dtype=np.float64)
        low, high = (0.0, 65535.0) if image.mode.startswith("I") else (float(values.min()), float(values.max()))
        scaled = (values - low) / max(high - low, 1e-9) * 255.0
        image = Image.fromarray(np.clip(scaled, 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        is_light = modality == "sketch" and _is_light(image)
        paper = Image.new("RGBA", image.size, (*((0, 0, 0) if is_light else PAPER), 255))
        image = Image.alpha_composite(paper, image)
    return image.convert("RGB")


def _is_light(image: Image.Image) -> bool:
    """Whether all that is drawn in an RGBA picture is nearly white, and could not be seen on white paper."""
    pixels = np.asarray(image)  # (H, W, 4)
    drawn = pixels[pixels[..., 3] > pixels[..., 3].max() // 2]  # (P, 4)
    return bool(len(drawn) and np.percentile(drawn[:, :3].min(axis=1), DARKEST) > NEARLY_WHITE)


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
