"""Ruled and squared paper: printed lines found and removed, strokes that cross them kept.

Letters: `H W` the sides of a picture, `T` strips that it is cut into, `L` lines.
"""

import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.float32]  # (H, W), ink 0..1

STRIPS = 32  # a line is sought in so many upright strips of the picture: one strip is narrow beside a line's tilt
STEEPEST = 0.12  # rise of a line over the picture's width, as a share of the width
STRIPS_MET = 0.75  # of the strips show a printed line: it goes from edge to edge
OUTER = 3  # strips at each edge, one of which must show it
LINES_LEAST = 4  # fewer are no ruling
EVEN = 0.7  # of the gaps between lines are even
GAP_RANGE = 0.2  # of the usual gap, up or down, counts as even
CLOSEST, THICKEST = 6, 4  # pixels between two lines, and half the thickness of one
LEAST_SEEN = 0.05  # of the picture's width must show a line
FAINTEST_LINE = 0.025  # of full ink, seen in a strip
STANDS_OUT = 1.6  # ink so many times as strong as the line is a stroke that crosses it


def without_printed_lines(ink: Grey) -> Grey:
    """Ink (H, W) without the lines of ruled or squared paper; as it is where none are found."""
    level, upright = printed_lines(ink), printed_lines(ink.T)
    if level is None and upright is None:
        return ink
    if level is None:
        level = printed_lines(ink, least=1)  # a margin
    if upright is None:
        upright = printed_lines(ink.T, least=1)
    ink = ink if level is None else _without(ink, level)
    return ink if upright is None else _without(ink.T, upright).T


def printed_lines(ink: Grey, least: int = LINES_LEAST) -> NDArray[np.float64] | None:
    """Where printed lines run that lie about level: (L, T), rows, at the middle of each strip. None if there are none.

    Of every strip those rows are marked that are darker than the rows about them. A line is where marks in most strips
    lie in a row, straight, all with one tilt; a ruling is at least `least` such lines with even gaps.
    """
    height, width = ink.shape
    if height < 64 or width < 64:
        return None
    marks = _marks(ink)  # (T, H)
    if (marks.sum(axis=1) >= least).mean() < STRIPS_MET:  # settles most drawings at once
        return None
    tilts = np.arange(-STEEPEST * width, STEEPEST * width + 1, 2.0)
    middle = (np.arange(STRIPS) + 0.5) / STRIPS - 0.5  # (T,)
    met = np.stack([_met(marks, np.round(tilt * middle).astype(int)) for tilt in tilts])  # (tilts, H)
    strength = (np.clip(met - STRIPS_MET + 0.1, 0, None) ** 2).sum(axis=1)
    best = int(strength.argmax())
    rows = _peaks(met[best])
    if len(rows) < least or (least > 1 and not _are_even(rows)):
        return None
    found: NDArray[np.float64] = _continued(rows, height, abs(tilts[best]) / 2)[:, None] + tilts[best] * middle
    return found


def _continued(rows: NDArray[np.float64], height: int, beyond: float) -> NDArray[np.float64]:
    """Lines of a ruling and those that follow in its gaps, up to `beyond` the picture, whose tilt brings them in."""
    if len(rows) < LINES_LEAST:
        return rows
    gap = float(np.median(np.diff(rows)))
    above, below = np.arange(rows[0] - gap, -beyond, -gap), np.arange(rows[-1] + gap, height + beyond, gap)
    return np.concatenate([above, rows, below])


def _marks(ink: Grey) -> NDArray[np.bool_]:
    """Of each strip the rows that are darker than those about them: (T, H)."""
    width = ink.shape[1]
    edges = np.linspace(0, width, STRIPS + 1).astype(int)
    profile = np.add.reduceat(np.minimum(ink, 0.5), edges[:-1], axis=1) / np.diff(edges)  # (H, T)
    profile = (profile - np.median(profile, axis=0)).T  # (T, H)
    noise = 1.4826 * np.median(abs(profile), axis=1, keepdims=True)
    padded = np.pad(profile, ((0, 0), (2, 2)), mode="edge")
    about = np.minimum(padded[:, :-4], padded[:, 4:])  # (T, H), two rows away on both sides
    is_peak = (profile >= padded[:, 1:-3]) & (profile >= padded[:, 3:-1])
    return (
        is_peak
        & (profile - about > np.maximum(2.5 * noise, FAINTEST_LINE) * 0.5)
        & (profile > np.maximum(2.5 * noise, FAINTEST_LINE))
    )


def _met(marks: NDArray[np.bool_], shift: NDArray[np.int64]) -> NDArray[np.float64]:
    """The share of strips with a mark on the line that crosses the middle at each row, 0 if it ends early: (H,)."""
    height = marks.shape[1]
    near = marks.copy()
    near[:, 1:] |= marks[:, :-1]
    near[:, :-1] |= marks[:, 1:]
    rows = np.arange(height) + shift[:, None]  # (T, H)
    inside = (rows >= 0) & (rows < height)
    hit = np.take_along_axis(near, np.clip(rows, 0, height - 1), axis=1) & inside
    seen = hit | ~inside
    to_the_edges = seen[:OUTER].any(axis=0) & seen[-OUTER:].any(axis=0)  # (H,)
    share: NDArray[np.float64] = hit.sum(axis=0) / np.maximum(inside.sum(axis=0), STRIPS / 2) * to_the_edges
    return share


def _peaks(met: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of lines: the middle of each run of rows that most strips show."""
    over = np.flatnonzero(met >= STRIPS_MET)
    if not len(over):
        return np.zeros(0)
    runs = np.split(over, np.flatnonzero(np.diff(over) > 2) + 1)
    return np.array([run[met[run] == met[run].max()].mean() for run in runs])


def _are_even(rows: NDArray[np.float64]) -> bool:
    gaps = np.diff(rows)
    usual = np.median(gaps)
    return bool(usual >= CLOSEST and (abs(gaps - usual) <= max(GAP_RANGE * usual, 2)).mean() >= EVEN)


def _without(ink: Grey, lines: NDArray[np.float64]) -> Grey:
    """Ink (H, W) less lines (L, T) that lie about level.

    On a line's own pixels ink stays if it is much stronger than the line, or if there is ink on both sides of it.
    """
    height, width = ink.shape
    columns = np.arange(width)
    middles = (np.arange(STRIPS) + 0.5) * width / STRIPS - 0.5
    cleaned = ink.copy()
    reach = np.arange(-THICKEST - 3, THICKEST + 4)
    for line in lines:
        centre = np.interp(columns, middles, line) + _slope_outside(columns, middles, line)
        centre = _followed(ink, np.round(centre).astype(int))
        inside = np.flatnonzero((centre >= 0) & (centre < height))
        if len(inside) < LEAST_SEEN * width:
            continue
        rows = np.clip(centre[inside] + reach[:, None], 0, height - 1)  # (2 THICKEST + 7, columns inside)
        around = ink[rows, inside]
        level = np.median(around, axis=1)  # the line's own, for it covers most columns
        thick = _thickness(level)
        if thick is None:
            continue
        first, last = thick
        own = around[first:last]  # (thickness, columns inside)
        limit = STANDS_OUT * level.max() + 0.05
        bridge = np.minimum(_widest(around[max(first - 2, 0) : first]), _widest(around[last : last + 2]))  # (W,)
        kept = np.where(own > limit, own, np.minimum(own, bridge))
        cleaned[rows[first:last], inside] = kept
    return cleaned


def _slope_outside(
    columns: NDArray[np.int64], middles: NDArray[np.float64], line: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What a straight line rises by beyond the middles of the outermost strips: (W,)."""
    slope = (line[-1] - line[0]) / (middles[-1] - middles[0])
    beyond: NDArray[np.float64] = slope * (columns - np.clip(columns, middles[0], middles[-1]))
    return beyond


def _followed(ink: Grey, centre: NDArray[np.int64]) -> NDArray[np.int64]:
    """A line's rows (W,) moved, piece by piece, to where the ink is strongest within two rows."""
    height, width = ink.shape
    shifts = np.arange(-2, 3)
    sampled = np.minimum(ink[np.clip(centre + shifts[:, None], 0, height - 1), np.arange(width)], 0.5)  # (5, W)
    pieces = np.array_split(np.arange(width), STRIPS)
    best = [int(sampled[:, piece].mean(axis=1).argmax()) for piece in pieces]
    moved = np.interp(np.arange(width), [piece.mean() for piece in pieces], shifts[best])
    followed: NDArray[np.int64] = centre + np.round(moved).astype(int)
    return followed


def _thickness(level: Grey) -> tuple[int, int] | None:
    """First and last (exclusive) of the rows about a line's centre that the line covers; None if it is not there."""
    centre = len(level) // 2
    low = np.minimum(level[:2].min(), level[-2:].min())
    strong = level - low > max(0.25 * float(level[centre] - low), 0.01)
    if not strong[centre]:
        return None
    first = centre - int(np.argmin(strong[centre::-1]))
    last = centre + int(np.argmin(strong[centre:]))
    if strong[centre::-1].all() or strong[centre:].all():
        return None
    return max(first, 2), min(last + 1, len(level) - 2)


def _widest(rows: Grey) -> Grey:
    """The strongest ink of some rows (R, W) at each column and those beside it: (W,)."""
    most = np.pad(rows.max(axis=0), 1, mode="edge")
    strongest: Grey = np.maximum(np.maximum(most[:-2], most[1:-1]), most[2:])
    return strongest
