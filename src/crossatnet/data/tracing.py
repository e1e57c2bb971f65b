"""From pixels to strokes: lines are thinned to one pixel and walked along.

Shapes: `H W` a picture, `P` the points of one stroke, each (x, y) with y growing downwards, in pixels.
"""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

NEIGHBOURS = ((0, -1), (1, -1), (1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1))  # x and y, around a pixel in turn
MOST_PASSES = 40  # each takes a pixel off both sides of a line


def thin(ink: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Lines of one pixel in the middle of inked ones (H, W), by Zhang and Suen, CACM 1984.

    A line thicker than 80 pixels stays thicker than one.
    """
    image = np.pad(ink, 1).astype(np.uint8)
    for _ in range(MOST_PASSES):
        before = int(image.sum())
        for table in DELETED:
            code = np.zeros(ink.shape, dtype=np.uint8)
            for bit, (x, y) in enumerate(NEIGHBOURS):
                code |= image[1 + y : 1 + y + ink.shape[0], 1 + x : 1 + x + ink.shape[1]] << bit
            image[1:-1, 1:-1] &= ~table[code] & 1
        if int(image.sum()) == before:
            break
    return image[1:-1, 1:-1].astype(bool)


def _tables() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """For both halves of a pass: whether a pixel goes, by the bits of its neighbours."""
    tables = np.zeros((2, 256), dtype=np.uint8)
    for code in range(256):
        around = [code >> bit & 1 for bit in range(8)]
        north, _, east, _, south, _, west, _ = around
        rises = sum(around[bit] < around[(bit + 1) % 8] for bit in range(8))
        if 2 <= sum(around) <= 6 and rises == 1:
            tables[0, code] = not (north and east and south) and not (east and south and west)
            tables[1, code] = not (north and east and west) and not (north and south and west)
    return tables[0], tables[1]


DELETED = _tables()


def trace(lines: NDArray[np.bool_]) -> list[NDArray[np.float32]]:
    """Walk along lines of one pixel (H, W): strokes (P, 2).

    A walk goes both ways from where it starts, as straight ahead as the ink goes, and stops where all is walked. A
    corner pixel that it cuts counts as walked. One that stops beside a walked line is joined to it.
    """
    stride = lines.shape[1] + 2
    ink = np.flatnonzero(np.pad(lines, 1)).tolist()
    everything, left = frozenset(ink), set(ink)
    steps = [y * stride + x for x, y in NEIGHBOURS]
    strokes = []
    for start in ink:
        if start not in left:
            continue
        left.remove(start)
        ways = [_walk(start, steps, left), _walk(start, steps, left)]
        walk = [*reversed(ways[1]), start, *ways[0]]
        own = {*walk[:3], *walk[-3:]}
        for end, place in ((walk[0], 0), (walk[-1], len(walk))):
            touched = next((end + step for step in steps if end + step in everything and end + step not in own), None)
            if touched is not None and not any(end + step in left for step in steps):
                walk.insert(place if place == 0 else len(walk), touched)
        points = np.array(walk)
        strokes.append(np.stack([points % stride - 1, points // stride - 1], axis=1).astype(np.float32))
    return strokes


def _walk(here: int, steps: list[int], left: set[int]) -> list[int]:
    """The pixels after `here`, which are taken out of those left."""
    walk: list[int] = []
    heading = -1
    while True:
        best, least = -1, 99
        for turn in range(8):
            if here + steps[turn] in left:
                bend = min((turn - heading) % 8, (heading - turn) % 8) if heading >= 0 else 0
                cost = 2 * bend + turn % 2  # the straightest, and of two alike the one beside, not across
                if cost < least:
                    best, least = turn, cost
        if best < 0:
            return walk
        for turn in (best - 1, (best + 1) % 8):  # beside both pixels of this step
            left.discard(here + steps[turn])
        here += steps[best]
        heading = best
        left.discard(here)
        walk.append(here)


def resampled(stroke: NDArray[np.float32], step: float, random: Generator | None = None) -> NDArray[np.float32]:
    """Points about `step` apart along a stroke (P, 2), both ends kept; with `random` unevenly so."""
    offsets = stroke[1:] - stroke[:-1]
    lengths = np.hypot(offsets[:, 0], offsets[:, 1])
    along = np.concatenate([[0.0], np.cumsum(lengths)])  # (P,)
    count = max(1, round(along[-1] / step))
    marks = np.linspace(0, along[-1], count + 1)
    if random is not None and count > 1:
        marks[1:-1] += random.uniform(-0.4, 0.4, count - 1) * along[-1] / count
    return np.stack([np.interp(marks, along, stroke[:, axis]) for axis in (0, 1)], axis=1).astype(np.float32)
