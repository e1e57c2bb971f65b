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
BLOCK = 4_000_000  # values that are scaled at a time


@dataclass(frozen=True)
class Depth:
    """What a file says of values deeper than 8 bits. `no_data` is the value that means none."""

    is_stretched: bool = False  # over their own range, as maps and instruments need it; else 16 bits are 0..65535
    is_inverted: bool = False  # 0 is white
    no_data: float | None = None


def to_rgb(image: Image.Image, is_sketch: bool, depth: Depth | None = None) -> Image.Image:
    """A decoded picture as sRGB, transparency laid on white, or, for a sketch of light ink, on black."""
    transparent = image.info.get("transparency")
    profile = image.info.get("icc_profile")
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image)
        image = Image.fromarray(from_deep(values, depth or Depth(is_stretched=image.mode == "F")))
        if isinstance(transparent, int):
            image.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    elif image.mode in ("RGBa", "La"):
        image = image.convert(image.mode.upper())
    if image.has_transparency_data:
        image = image.convert("RGBA")
        coloured = _in_srgb(image.convert("RGB"), profile)
        coloured.putalpha(image.getchannel("A"))
        is_light = is_sketch and _is_light(coloured)
        paper = Image.new("RGBA", image.size, (*((0, 0, 0) if is_light else PAPER), 255))
        return Image.alpha_composite(paper, coloured).convert("RGB")
    return _in_srgb(image.convert("RGB") if image.mode == "P" else image, profile).convert("RGB")


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
    low, high = plausible_range(values, depth.no_data) if depth.is_stretched else (0.0, 65535.0)
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


def _is_light(image: Image.Image) -> bool:
    """Whether all that is drawn in an RGBA picture is nearly white, and could not be seen on white paper."""
    pixels = np.asarray(image)  # (H, W, 4)
    drawn = pixels[pixels[..., 3] > pixels[..., 3].max() // 2]  # (P, 4)
    return bool(len(drawn) and np.percentile(drawn[:, :3].min(axis=1), DARKEST) > NEARLY_WHITE)
