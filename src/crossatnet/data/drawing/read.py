"""Reading a drawing as people make them: any picture of one in, clean strokes out, white on black.

Letters: `C` colours, 1 or 3, `H W` the sides of a picture, `h w` those of a grid of blocks.

Ink is what differs from the paper around it, whatever the colours are, dark on light or light on dark, whichever
covers more. So a clean drawing comes out as it is. `drawing_sheet` cuts the sheet out of a desk, off bars and frames;
`drawing_lines` removes printed lines; `drawing_spots` removes specks.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crossatnet.data.drawing.lines import without_printed_lines
from crossatnet.data.drawing.pen import with_even_pen, without_grain
from crossatnet.data.drawing.sheet import cut_sheet, without_frame
from crossatnet.data.drawing.spots import without_specks
from crossatnet.system.errors import ImageError

Grey = NDArray[np.float32]  # (H, W), ink 0..1
Planes = NDArray[np.uint8]  # (C, H, W): colours first, for NumPy is slow along a short last axis

WORKING_SIDE = 512  # larger pictures are first reduced: twice what a network takes
CLEAN_SHARE = 0.5  # of the pixels have exactly the paper's colour in a picture that no camera made
FLAT_SHARE, FLAT_RANGE = 0.7, 12  # and nearly that colour where a camera saw even light
BLOCKS = 32  # the longer side of uneven paper is seen as so many blocks, each of one tone
SHADED_BLOCKS = 0.03  # of the blocks have another tone than the paper where light is not even
NEIGHBOURS = 2  # blocks on each side whose median a block's tone is: strokes vanish in it
DARKEST_PAPER = 24  # grey levels; what is darker shows noise only
DEVIATIONS = 4.0  # of the paper's noise: what differs less is no ink
CLEAR = 7.0  # times the paper's noise: strokes differ from it by more
HAZE = 0.15  # of full ink: on noisy paper, what is fainter is paper too
STRONG = 0.3  # of the strongest: ink whose strength counts
FULL_PERCENTILE = 97  # of the strength of ink, which becomes white
FAINTEST = 5 / 255  # what differs less from its paper is not seen
SAMPLES = 16_384  # pixels that give a median


class NothingDrawnError(ImageError):
    """A picture in which there are no strokes."""


class _Ink(NamedTuple):
    """Ink (H, W), 0 paper to about 1, and the noise of the paper: the standard deviation, in the same unit."""

    strength: Grey
    noise: float


class _Paper(NamedTuple):
    """The paper's tone, (C, 1, 1) for one or (C, H, W), and whether it is exact, as no camera sees it."""

    tone: Grey
    is_clean: bool


def read_drawing(image: Image.Image) -> Image.Image:
    """The strokes of a drawing, white on black (mode L), from an RGB picture of it.

    The longer side is `WORKING_SIDE` at most; what is around the sheet is cut off. What was read already comes out
    the same. Raises `NothingDrawnError` where no stroke is found.
    """
    ink = _ink(_planes(cut_sheet(_reduced(image))))
    ink = _Ink(without_frame(without_printed_lines(ink.strength)), ink.noise)
    strokes = _levelled(ink)
    if ink.noise:
        strokes = without_specks(without_grain(strokes))
    strokes = with_even_pen(strokes)
    if not strokes.any():
        raise NothingDrawnError("nothing is drawn here that can be read; draw some strokes, darker or thicker")
    return Image.fromarray(np.rint(255 * strokes).astype(np.uint8))


def _reduced(image: Image.Image) -> Image.Image:
    """An RGB or grey picture, its longer side `WORKING_SIDE` at most."""
    scale = WORKING_SIDE / max(image.size)
    if scale < 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.BOX, reducing_gap=1.5)
    return image if image.mode == "L" else image.convert("RGB")


def _planes(image: Image.Image) -> Planes:
    """A picture's colours (C, H, W): one where all three are equal."""
    if image.mode == "L":
        return np.asarray(image)[None]
    planes = np.stack([np.asarray(band) for band in image.split()])
    return planes[:1] if (planes[0] == planes[1]).all() and (planes[0] == planes[2]).all() else planes


def _ink(planes: Planes) -> _Ink:
    """How much each pixel differs from the paper there, in its own direction: darker or lighter, whichever is more.

    What is darker is measured as a share of the paper's tone, as light on a sheet multiplies what it shows.
    """
    paper = _paper(planes)
    differs = planes.astype(np.float32) - paper.tone  # (C, H, W)
    darker, lighter = -differs.min(axis=0), differs.max(axis=0)  # (H, W)
    floor = DEVIATIONS * max(_deviation(differs[0]), 0.5)
    dark, light = (float((side[side > floor] ** 2).sum()) for side in (darker, lighter))
    if light > dark:
        strength = lighter / 255
    elif len(planes) == 1:
        strength = darker / np.maximum(paper.tone[0], DARKEST_PAPER)
    else:
        strength = (-differs / np.maximum(paper.tone, DARKEST_PAPER)).max(axis=0)
    noise = 0.0 if paper.is_clean else _deviation(strength)
    return _Ink(np.maximum(strength, 0), noise)


def _paper(planes: Planes) -> _Paper:
    """The paper's tone: one for the whole picture where that is clean or evenly lit, else one for every pixel."""
    coarse = (planes[:, ::2, ::2] >> 3).astype(np.int32)  # (C, H / 2, W / 2)
    codes = coarse[0] if len(planes) == 1 else (coarse[0] << 10) | (coarse[1] << 5) | coarse[2]
    common = codes == np.bincount(codes.ravel()).argmax()
    usual = np.median(planes[:, ::2, ::2][:, common], axis=1).astype(np.float32)[:, None, None]  # (C, 1, 1)
    differs = abs(planes - usual).max(axis=0)  # (H, W)
    if (differs == 0).mean() >= CLEAN_SHARE:
        return _Paper(usual, True)
    tones = _block_tones(planes)  # (C, h, w)
    shaded = (abs(tones - usual).max(axis=0) > FLAT_RANGE).mean()
    if shaded <= SHADED_BLOCKS and (differs <= FLAT_RANGE).mean() >= FLAT_SHARE:
        return _Paper(usual, False)
    return _Paper(_smooth(tones, planes.shape[1:]), False)


def _block_side(shape: tuple[int, ...]) -> int:
    return max(2, -(-max(shape) // BLOCKS))


def _block_tones(planes: Planes) -> Grey:
    """The median of every second row of each block of pixels: (C, h, w)."""
    count, height, width = planes.shape
    side = _block_side((height, width))
    down, across = -(-height // side), -(-width // side)
    padded = np.pad(planes, ((0, 0), (0, down * side - height), (0, across * side - width)), mode="edge")
    blocks = (
        padded.reshape(count, down, side, across, side).swapaxes(2, 3)[..., ::2, :].reshape(count, down, across, -1)
    )
    middle = blocks.shape[-1] // 2
    return np.partition(blocks, middle, axis=-1)[..., middle].astype(np.float32)


def _smooth(tones: Grey, shape: tuple[int, ...]) -> Grey:
    """Tones (C, h, w) of blocks, each the median of those about it, spread over the pixels: (C, H, W)."""
    around = np.pad(tones, ((0, 0), (NEIGHBOURS, NEIGHBOURS), (NEIGHBOURS, NEIGHBOURS)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(around, (2 * NEIGHBOURS + 1,) * 2, axis=(1, 2))
    tones = np.median(windows, axis=(3, 4)).astype(np.float32)
    size = (tones.shape[2] * _block_side(shape), tones.shape[1] * _block_side(shape))
    spread = [np.asarray(Image.fromarray(tone).resize(size, Image.Resampling.BILINEAR)) for tone in tones]
    return np.stack(spread)[:, : shape[0], : shape[1]]


def _deviation(values: Grey) -> float:
    """The standard deviation of noise, robust to ink: 1.4826 times the median distance from the median."""
    some = values.ravel()[:: max(1, values.size // SAMPLES)]
    return 1.4826 * float(np.median(abs(some - np.median(some))))


def _levelled(ink: _Ink) -> Grey:
    """Ink stretched from the paper's noise to the strength of most strokes: (H, W), 0..1, all 0 if there is no ink."""
    least = max(DEVIATIONS * ink.noise, FAINTEST)
    strong = ink.strength[ink.strength > max(least, STRONG * float(ink.strength.max()))]
    if not len(strong):
        return np.zeros_like(ink.strength)
    full = float(np.percentile(strong, FULL_PERCENTILE))
    if full < CLEAR * ink.noise:
        return np.zeros_like(ink.strength)
    empty = max(DEVIATIONS * ink.noise, HAZE * full) if ink.noise else 0.0
    levelled: Grey = np.clip((ink.strength - empty) / max(full - empty, 1e-6), 0, 1)
    return levelled
