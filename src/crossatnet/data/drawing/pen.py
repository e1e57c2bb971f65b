"""The pen's width: thick strokes of marker and crayon made as thin as a pen's, the grain of crayon closed first.

Letters: `H W` the sides of a picture. Widths are shares of the longer side of the box around all ink.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Grey = NDArray[np.float32]  # (H, W), ink 0..1
Mask = NDArray[np.bool_]  # (H, W)

MARKED = 0.5  # of full ink
THICK = 0.036  # strokes wider than this are thinned
FILLED = 0.12  # what is wider is no stroke but a filled shape
COARSEST = 5.0  # pixels: thinner strokes are too coarse to shave
PEN = 0.02  # to this width, about that of Sketchy's
EDGE = 0.7  # pixels: the blur that gives a thinned stroke soft edges
KEPT = 0.9  # of the ink lies in wide strokes where they are a crayon's
GRAINS = (0.006, 0.01)  # deviations of the blur in which grains run together
EMPTY, FULL = 0.12, 0.35  # of the blurred ink: nothing, and a whole stroke
GRAINY = 0.25  # so much ink is added where gaps between grains are closed; next to none between thin lines
SOLID = 0.9  # of full ink: the mean inside strokes without grain is more


def with_even_pen(ink: Grey) -> Grey:
    """Ink (H, W) with strokes no wider than `THICK`; thinner strokes stay as they are."""
    box, side = _box(ink)
    thin = ink.copy()  # faint ink may lie outside of the box
    thin[box] = _thinned(ink[box], side)
    return thin


def without_grain(ink: Grey) -> Grey:
    """Ink (H, W) whose strokes are solid where crayon, chalk or pencil left grains; as it is where it is solid already.

    Blurred, grains run together to strokes. Where those are wide, have gaps inside and hold nearly all of the ink,
    they are what was meant. Hatching between thin lines is no grain: the lines lie outside of what is wide.
    """
    side = _box(ink)[1]
    for blur in GRAINS:
        deviation = float(max(blur * side, 0.8))
        reach = max(1, round(deviation))
        marked = ink > MARKED
        if eroded(dilated(marked, reach), reach).sum() < (1 + GRAINY) * marked.sum():
            continue
        even = _blurred(ink, deviation)
        core = eroded(even > EMPTY, reach)  # (H, W)
        wide = dilated(core, reach + 1)
        if core.any() and ink[core].mean() < SOLID and (ink * wide).sum() >= KEPT * ink.sum():
            ink = np.clip((even - EMPTY) / (FULL - EMPTY), 0, 1)
    return ink


def _box(ink: Grey) -> tuple[tuple[slice, slice], int]:
    """The box around all strong ink, and its longer side; all of the picture if there is none."""
    marked = ink > MARKED
    rows, columns = np.flatnonzero(marked.any(axis=1)), np.flatnonzero(marked.any(axis=0))
    if not len(rows):
        return np.s_[:, :], max(ink.shape)
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return box, max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1


def _blurred(ink: Grey, deviation: float) -> Grey:
    margin = 3 * max(1, round(deviation))
    padded = Image.fromarray(np.pad(np.rint(255 * ink).astype(np.uint8), margin))
    blurred: Grey = np.asarray(padded.filter(ImageFilter.GaussianBlur(deviation)), np.float32) / np.float32(255)
    return blurred[margin:-margin, margin:-margin]


def _thinned(ink: Grey, side: int) -> Grey:
    """Ink shaved from both sides of its strokes until they are as wide as a pen's, if they are thick.

    A pixel is shaved off at a time. What would vanish then is the middle of a thinner stroke: it is kept, as wide as
    the pen.
    """
    width = stroke_width(ink)
    if not max(THICK * side, COARSEST) < width < FILLED * side:
        return ink
    whole = ink > MARKED
    left, middles = whole, np.zeros_like(whole)
    for step in range(round((width - PEN * side) / 2)):
        smaller = eroded(left, 1, is_square=step % 2 == 0)
        middles |= left & ~dilated(smaller, 1)
        left = smaller
    thin = left | (dilated(middles, max(1, round(PEN * side / 2) - 1)) & whole)
    soft: Grey = np.minimum(_blurred(thin.astype(np.float32), EDGE) * np.float32(1.25), 1)  # white in the middle
    return soft


def stroke_width(ink: Grey) -> float:
    """The width of most strokes, in pixels, from how much is left when a pixel is shaved off on both sides.

    Of strokes of width w and area A that leaves A (1 - 2 / w).
    """
    marked = ink > MARKED
    whole, left = int(marked.sum()), int(eroded(marked, 1).sum())
    return 2 * whole / max(whole - left, 1)


def dilated(mask: Mask, radius: int) -> Mask:
    """Pixels (H, W) with a marked one in the square of 2 radius + 1 about them."""
    return _extreme(mask, radius, np.logical_or)


def eroded(mask: Mask, radius: int, is_square: bool = True) -> Mask:
    """Pixels (H, W) with nothing but marked ones in the square about them, or else in the cross; outside is paper."""
    if is_square:
        return _extreme(mask, radius, np.logical_and)
    padded = np.pad(mask, 1)
    upright = padded[:-2, 1:-1] & padded[2:, 1:-1]
    return mask & upright & padded[1:-1, :-2] & padded[1:-1, 2:]


def _extreme(mask: Mask, radius: int, of: np.ufunc) -> Mask:
    """Windows that double, along both axes."""
    for axis in (0, 1):
        line = np.moveaxis(np.pad(mask, [(radius, radius) if axis == own else (0, 0) for own in (0, 1)]), axis, 0)
        window = 1
        while window < 2 * radius + 1:
            step = min(window, 2 * radius + 1 - window)
            line = of(line[:-step], line[step:])
            window += step
        mask = np.moveaxis(line, 0, axis)
    return mask
