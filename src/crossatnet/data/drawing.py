"""Reading a drawing as people make them: any picture of one in, clean strokes out, white on black.

Letters: `H W` the sides of a picture, `h w` those of a grid of blocks.

Ink is what differs from the paper around it, whatever the colours are, dark on light or light on dark, whichever
covers more. So a clean drawing comes out as it is. `drawing_sheet` cuts the sheet out of a desk, off bars and frames;
`drawing_lines` removes printed lines; `drawing_spots` removes specks.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crossatnet.data.drawing_lines import without_printed_lines
from crossatnet.data.drawing_sheet import cut_sheet, without_frame
from crossatnet.data.drawing_spots import without_specks
from crossatnet.errors import ImageError

Grey = NDArray[np.float32]  # (H, W), ink 0..1
Pixels = NDArray[np.uint8]  # (H, W, 3)

WORKING_SIDE = 512  # larger pictures are first reduced: twice what a network takes
FLAT_SHARE = 0.7  # of the pixels have the paper's colour where the paper is flat,
FLAT_RANGE = 12  # give or take so many grey levels
BLOCKS = 32  # the longer side of uneven paper is seen as so many blocks, each of one tone
NEIGHBOURS = 2  # blocks on each side whose median a block's tone is: strokes vanish in it
DEVIATIONS = 4.0  # of the paper's noise: what differs less is no ink
HAZE = 0.15  # of full ink: on noisy paper, what is fainter is paper too
FULL_PERCENTILE = 90  # of the ink's strength, which becomes white
FAINTEST = 5 / 255  # what differs less from its paper is not seen


class NothingDrawnError(ImageError):
    """A picture in which there are no strokes."""


class _Ink(NamedTuple):
    """Ink (H, W), 0 paper to about 1, and the noise of the paper: the standard deviation, in the same unit."""

    strength: Grey
    noise: float


def read_drawing(image: Image.Image) -> Image.Image:
    """The strokes of a drawing, white on black (mode L), from an RGB picture of it.

    The longer side is `WORKING_SIDE` at most; what is around the sheet is cut off. What was read already comes out
    the same. Raises `NothingDrawnError` where no stroke is found.
    """
    pixels = cut_sheet(_reduced(image))
    ink = _ink(pixels)
    ink = _Ink(without_frame(without_printed_lines(ink.strength)), ink.noise)
    strokes = _levelled(ink)
    if ink.noise:
        strokes = without_specks(strokes)
    if not strokes.any():
        raise NothingDrawnError("nothing is drawn here that can be read; draw some strokes, darker or thicker")
    return Image.fromarray(np.rint(255 * strokes).astype(np.uint8))


def _reduced(image: Image.Image) -> Pixels:
    """An RGB picture as an array (H, W, 3), its longer side `WORKING_SIDE` at most."""
    scale = WORKING_SIDE / max(image.size)
    if scale < 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.BOX, reducing_gap=1.5)
    return np.asarray(image.convert("RGB"))


def _ink(pixels: Pixels) -> _Ink:
    """How much each pixel differs from the paper there, in its own direction: darker or lighter, whichever is more.

    What is darker is measured as a share of the paper's tone, as light on a sheet multiplies what it shows.
    """
    paper = _paper(pixels)  # (H, W, 3) or (1, 1, 3)
    differs = pixels.astype(np.float32) - paper  # (H, W, 3)
    darker, lighter = -differs.min(axis=2), differs.max(axis=2)  # (H, W)
    floor = DEVIATIONS * max(_deviation(differs), 0.5)
    dark, light = (float((side[side > floor] ** 2).sum()) for side in (darker, lighter))
    if light > dark:
        strength = np.maximum(lighter, 0) / 255
    else:
        strength = np.maximum((-differs / np.maximum(paper, 24)).max(axis=2), 0)
    return _Ink(strength, _deviation(strength))


def _paper(pixels: Pixels) -> Grey:
    """The paper's colour: one for the whole picture where it is flat, (1, 1, 3), else one for every pixel (H, W, 3)."""
    coarse = (pixels >> 3).astype(np.int32)
    codes = (coarse[..., 0] << 10) | (coarse[..., 1] << 5) | coarse[..., 2]
    common = np.bincount(codes.ravel(), minlength=1).argmax()
    usual = np.median(pixels[codes == common], axis=0)  # (3,)
    near = (abs(pixels - usual) <= FLAT_RANGE).all(axis=2)
    if near.mean() >= FLAT_SHARE:
        return np.median(pixels[near], axis=0).astype(np.float32)[None, None]
    return _uneven_paper(pixels)


def _uneven_paper(pixels: Pixels) -> Grey:
    """The tone of uneven paper at every pixel, (H, W, 3): the median of its block, and of the blocks around that."""
    height, width = pixels.shape[:2]
    side = max(2, -(-max(height, width) // BLOCKS))
    down, across = -(-height // side), -(-width // side)
    padded = np.pad(pixels, ((0, down * side - height), (0, across * side - width), (0, 0)), mode="edge")
    blocks = padded.reshape(down, side, across, side, 3).transpose(0, 2, 4, 1, 3).reshape(down, across, 3, -1)
    tones = np.median(blocks, axis=3)  # (h, w, 3)
    reach = np.pad(tones, ((NEIGHBOURS, NEIGHBOURS), (NEIGHBOURS, NEIGHBOURS), (0, 0)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(reach, (2 * NEIGHBOURS + 1,) * 2, axis=(0, 1))
    tones = np.median(windows, axis=(3, 4)).astype(np.float32)  # (h, w, 3)
    smooth = [
        np.asarray(Image.fromarray(tones[..., channel]).resize((across * side, down * side), Image.Resampling.BILINEAR))
        for channel in range(3)
    ]
    return np.stack(smooth, axis=2)[:height, :width]


def _deviation(values: NDArray[np.float32]) -> float:
    """The standard deviation of noise, robust to ink: 1.4826 times the median of what differs from 0."""
    return 1.4826 * float(np.median(abs(values)))


def _levelled(ink: _Ink) -> Grey:
    """Ink stretched from the paper's noise to the strength of most strokes: (H, W), 0..1, all 0 if there is no ink."""
    least = max(DEVIATIONS * ink.noise, FAINTEST)
    strong = ink.strength[ink.strength > max(least, 0.3 * float(ink.strength.max()))]
    if not len(strong):
        return np.zeros_like(ink.strength)
    full = float(np.percentile(strong, FULL_PERCENTILE))
    empty = max(DEVIATIONS * ink.noise, HAZE * full) if ink.noise else 0.0
    return np.clip((ink.strength - empty) / max(full - empty, 1e-6), 0, 1)
