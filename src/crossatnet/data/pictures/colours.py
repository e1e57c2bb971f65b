"""The pixels of a decoded picture as sRGB of 8 bits on paper, whatever colours, depth and transparency it has.

Shapes: `H W` a picture, `P` pixels.
"""

import io
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

PAPER = (255, 255, 255)
DARKEST, NEARLY_WHITE = 3, 200  # percentile of what is drawn on transparency, and the grey level it is light above
SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}  # a picture's mode -> the colours its profile must be of
PROFILE_BYTES = 4_000_000  # a printer's has 2 MB
VISIBLE = 2  # grey levels: a profile that changes no colour by more is sRGB itself
SAMPLES = 250_000  # pixels that give the range of a deep picture
NO_DATA = (-9999.0, -99999.0, -32768.0, -32767.0)  # what maps and instruments write where they measured nothing
FAR = 1000.0  # times the range of all other values: what lies so far outside is no measurement either
WHITE_OF_16, USED = 65535.0, 0.25  # 16 bits are taken as they are if values reach above this share of them
BLOCK = 4_000_000  # values that are scaled at a time
BAND = 1_000_000  # pixels that are converted at a time


@dataclass(frozen=True)
class Depth:
    """What a file says of values deeper than 8 bits. `no_data` is the value that means none."""

    is_stretched: bool = False  # over their own range, as maps and instruments need it
    is_inverted: bool = False  # 0 is white
    no_data: float | None = None


def to_rgb(image: Image.Image, is_sketch: bool, depth: Depth | None = None) -> Image.Image:
    """A decoded picture as sRGB, transparency laid on white, or, for a sketch of light ink, on black.

    A large one is converted band by band, so that it is in memory once as it was decoded and once as sRGB.
    """
    if image.mode.startswith(("I", "F")):
        transparent = image.info.get("transparency")
        values = np.asarray(image)
        image = Image.fromarray(from_deep(values, depth or Depth(is_stretched=image.mode == "F")))
        if isinstance(transparent, int):
            image.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
        del values
    bands = [
        (0, top, image.width, min(top + rows, image.height))
        for rows in (_rows(image),)
        for top in range(0, image.height, rows)
    ]
    paper = (0, 0, 0) if is_sketch and _is_light(image, bands) else PAPER
    if len(bands) == 1:
        return _band_to_rgb(image, paper)
    made = Image.new("RGB", image.size)
    for band in bands:
        made.paste(_band_to_rgb(_crop(image, band), paper), band[:2])
    return made


def _band_to_rgb(image: Image.Image, paper: tuple[int, int, int]) -> Image.Image:
    profile = image.info.get("icc_profile")
    if image.mode in ("RGBa", "La"):
        image = image.convert(image.mode.upper())
    if image.has_transparency_data:
        coloured = _coloured(image)
        return Image.alpha_composite(Image.new("RGBA", image.size, (*paper, 255)), coloured).convert("RGB")
    return _in_srgb(image.convert("RGB") if image.mode == "P" else image, profile).convert("RGB")


def _coloured(image: Image.Image) -> Image.Image:
    """A picture with transparency as sRGB with alpha."""
    profile = image.info.get("icc_profile")
    image = image.convert("RGBA")
    coloured = _in_srgb(image.convert("RGB"), profile)
    coloured.putalpha(image.getchannel("A"))
    return coloured


def _rows(image: Image.Image) -> int:
    return max(1, BAND // max(1, image.width))


def _crop(image: Image.Image, band: tuple[int, int, int, int]) -> Image.Image:
    if band == (0, 0, *image.size):
        return image
    return image.crop(band)


def srgb_transform(profile: object, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The conversion of a picture of this mode from its colour profile to sRGB.

    None where there is nothing to convert: no profile, a broken one, one of other colours, or sRGB itself.

    Example:
        >>> from crossatnet.data.pictures.colours import srgb_transform
        >>> srgb_transform(b"no profile", "RGB") is None
        True
    """
    if not isinstance(profile, bytes) or not 0 < len(profile) <= PROFILE_BYTES or mode not in SPACES:
        return None
    return _transform(profile, mode)


@lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    with suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != SPACES[mode]:
            return None
        made = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
        if mode != "RGB":
            return made
        colours = np.array([*product(range(0, 256, 51), repeat=3)], dtype=np.uint8)[None]  # (1, 216, 3)
        converted = np.asarray(ImageCms.applyTransform(Image.fromarray(colours), made)).astype(int)
        return made if np.abs(converted - colours).max() > VISIBLE else None
    return None


def _in_srgb(image: Image.Image, profile: object) -> Image.Image:
    transform = srgb_transform(profile, image.mode)
    if transform is None:
        return image
    converted = ImageCms.applyTransform(image, transform)
    return image if converted is None else converted


def from_deep(values: NDArray[Any], depth: Depth) -> NDArray[np.uint8]:
    """Greys of any number type (H, W) as 8 bits (H, W); what is no number takes the lowest.

    Example:
        >>> import numpy as np
        >>> from crossatnet.data.pictures.colours import Depth, from_deep
        >>> from_deep(np.array([[0.5, 1.0, -3.4e38, np.nan, 1.5]]), Depth(is_stretched=True)).tolist()
        [[0, 128, 0, 0, 255]]
    """
    low, high = plausible_range(values, depth.no_data) if depth.is_stretched else (0.0, WHITE_OF_16)
    if values.dtype.kind == "u" and values.dtype.itemsize == 2 and high > USED * WHITE_OF_16:
        low, high = 0.0, WHITE_OF_16
    scale = 255.0 / (high - low) if high > low else 0.0
    made = np.empty(values.shape, dtype=np.uint8)
    rows = max(1, BLOCK // max(1, values[0].size))
    for start in range(0, len(values), rows):
        block = values[start : start + rows].astype(np.float64)
        grey = np.clip((np.nan_to_num(block, nan=low, posinf=high, neginf=low) - low) * scale, 0, 255)
        made[start : start + rows] = np.rint(255 - grey if depth.is_inverted else grey)
    return made


def plausible_range(values: NDArray[Any], no_data: float | None = None) -> tuple[float, float]:
    """The lowest and the highest of the finite values that are measurements; (0, 0) where there is none.

    Example:
        >>> import numpy as np
        >>> from crossatnet.data.pictures.colours import plausible_range
        >>> plausible_range(np.array([-9999.0, 310.0, 420.0, np.inf]))
        (310.0, 420.0)
    """
    sample = values.reshape(-1)[:: max(1, values.size // SAMPLES)].astype(np.float64)
    found = np.unique(sample[np.isfinite(sample)])
    if no_data is not None:
        found = found[~np.isclose(found, no_data)]
    while len(found) > 2:  # two values are black and white, whatever they are
        if found[0] in NO_DATA or found[1] - found[0] > FAR * (found[-1] - found[1]):
            found = found[1:]
        elif found[-1] - found[-2] > FAR * (found[-2] - found[0]):
            found = found[:-1]
        elif len(found) > 3 and min(found[1] - found[0], found[-1] - found[-2]) > FAR * (found[-2] - found[1]):
            found = found[1:-1]  # one at each end, of which each hides the other
        else:
            break
    return (float(found[0]), float(found[-1])) if len(found) else (0.0, 0.0)


def _is_light(image: Image.Image, bands: list[tuple[int, int, int, int]]) -> bool:
    """Whether all that is drawn in a picture with transparency is nearly white, and could not be seen on paper."""
    if not image.has_transparency_data and image.mode not in ("RGBa", "La"):
        return False
    counts = np.zeros((256, 256), np.int64)  # pixels of each alpha, and of each darkest colour
    for band in bands:
        part = _crop(image, band)
        part = part.convert(part.mode.upper()) if part.mode in ("RGBa", "La") else part
        pixels = np.asarray(_coloured(part))  # (H, W, 4)
        pairs = pixels[..., 3].astype(np.int64) * 256 + pixels[..., :3].min(axis=2)  # (H, W)
        counts += np.bincount(pairs.reshape(-1), minlength=65_536).reshape(256, 256)
    most = int(np.flatnonzero(counts.any(axis=1))[-1])
    drawn = counts[most // 2 + 1 :].sum(axis=0).cumsum()  # (256,)
    if not drawn[-1]:
        return False
    place = (drawn[-1] - 1) * DARKEST / 100  # between two pixels in order of brightness, as NumPy's percentile has it
    low, high = (
        int(np.searchsorted(drawn, at, side="right")) for at in (int(place), min(int(place) + 1, drawn[-1] - 1))
    )
    return bool(low + (high - low) * (place - int(place)) > NEARLY_WHITE)
