"""The pixels of a decoded picture as RGB of 8 bits on paper, whatever colours, depth and transparency it has.

Shapes: `H W` a picture, `P` pixels that are drawn.
"""

import numpy as np
from PIL import Image

PAPER = (255, 255, 255)
DARKEST, NEARLY_WHITE = 3, 200  # percentile of what is drawn on transparency, and the grey level it is light above


def to_rgb(image: Image.Image, is_sketch: bool) -> Image.Image:
    """A decoded picture as RGB, transparency laid on white, or, for a sketch of light ink, on black."""
    if image.mode.startswith(("I", "F")):  # 16-bit and float greys: spread what is there over 0..255
        values = np.asarray(image, dtype=np.float64)
        low, high = (0.0, 65535.0) if image.mode.startswith("I") else (float(values.min()), float(values.max()))
        scaled = (values - low) / max(high - low, 1e-9) * 255.0
        image = Image.fromarray(np.clip(scaled, 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        is_light = is_sketch and _is_light(image)
        paper = Image.new("RGBA", image.size, (*((0, 0, 0) if is_light else PAPER), 255))
        image = Image.alpha_composite(paper, image)
    return image.convert("RGB")


def _is_light(image: Image.Image) -> bool:
    """Whether all that is drawn in an RGBA picture is nearly white, and could not be seen on white paper."""
    pixels = np.asarray(image)  # (H, W, 4)
    drawn = pixels[pixels[..., 3] > pixels[..., 3].max() // 2]  # (P, 4)
    return bool(len(drawn) and np.percentile(drawn[:, :3].min(axis=1), DARKEST) > NEARLY_WHITE)
