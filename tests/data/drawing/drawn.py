"""Drawings made for tests: a clean one, and what paper, light and desks do to it."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Ink = NDArray[np.float32]  # (H, W), 0..1


def house(side: int = 256, width: float = 0.014) -> Ink:
    """Walls, a roof, a door, a round window and a tree, all by lines of one width, a share of the side."""
    large = side * 4
    image = Image.new("L", (large, large))
    draw, pen = ImageDraw.Draw(image), max(1, round(width * large))

    def line(*points: tuple[float, float]) -> None:
        draw.line([(x * large, y * large) for x, y in points], 255, pen, joint="curve")

    line((0.2, 0.8), (0.2, 0.45), (0.4, 0.22), (0.6, 0.45), (0.6, 0.8), (0.2, 0.8))
    line((0.2, 0.45), (0.6, 0.45))
    line((0.3, 0.8), (0.3, 0.6), (0.4, 0.6), (0.4, 0.8))
    draw.ellipse([value * large for value in (0.45, 0.52, 0.55, 0.62)], outline=255, width=pen)
    draw.ellipse([value * large for value in (0.66, 0.35, 0.82, 0.6)], outline=255, width=pen)
    line((0.74, 0.6), (0.74, 0.8))
    return np.asarray(image.reduce(4), np.float32) / 255


def laid(ink: Ink, paper: float, pen: float) -> Ink:
    """Grey ink on grey paper: (H, W), 0..255."""
    return (1 - ink) * paper + ink * pen


def picture(values: NDArray[np.floating]) -> Image.Image:
    """Values (H, W) or (H, W, 3), 0..255, as an RGB picture."""
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8)).convert("RGB")


def overlap(read: Image.Image, expected: Ink, shift: int = 3) -> float:
    """How alike two drawings are, 0..1, wherever they lie: both are cut to their strokes, which may be off by `shift`.

    The lesser of the shares of either's ink that lies near the other's.
    """
    one, other = (_cut(np.asarray(each) > limit) for each, limit in ((read, 100), (expected, 0.4)))
    near = [np.asarray(_image(each).filter(ImageFilter.MaxFilter(2 * shift + 1))) > 0 for each in (one, other)]
    return float(min((one & near[1]).sum() / one.sum(), (other & near[0]).sum() / other.sum()))


def _cut(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = _image(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    return np.asarray(box.resize((200, 200), Image.Resampling.BOX)) > 90


def _image(mask: NDArray[np.bool_]) -> Image.Image:
    return Image.fromarray((255 * mask).astype(np.uint8))
