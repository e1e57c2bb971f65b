"""Strokes as points closely spaced, so that distances can be checked one by one."""

import math
from collections.abc import Sequence
from itertools import pairwise

Point = Sequence[float]

SAMPLE = 1.0  # units between two points of `samples`, at most


def samples(line: Sequence[Point]) -> list[tuple[float, float]]:
    """Points on a line, `SAMPLE` units apart or less."""
    found = [(float(line[0][0]), float(line[0][1]))]
    for (x0, y0), (x1, y1) in pairwise(line):
        pieces = max(1, math.ceil(math.dist((x0, y0), (x1, y1)) / SAMPLE))
        found += [(x0 + (x1 - x0) * piece / pieces, y0 + (y1 - y0) * piece / pieces) for piece in range(1, pieces + 1)]
    return found


def nearest(point: Point, others: Sequence[Point]) -> float:
    """Distance from a point to the nearest of others."""
    return min((math.dist(point, other) for other in others), default=math.inf)


def distance_to_segment(point: Point, start: Point, end: Point) -> float:
    """Distance from a point to a segment: to one of its ends, or to where the perpendicular falls between them."""
    length = math.dist(start, end)
    if length == 0:
        return math.dist(point, start)
    along = sum((point[axis] - start[axis]) * (end[axis] - start[axis]) for axis in (0, 1)) / length
    if along <= 0 or along >= length:
        return min(math.dist(point, start), math.dist(point, end))
    foot = [start[axis] + (end[axis] - start[axis]) * along / length for axis in (0, 1)]
    return math.dist(point, foot)


def simplified(line: Sequence[Point], tolerance: float) -> list[tuple[float, float]]:
    """Ramer-Douglas-Peucker by its definition: split at the farthest point for as long as one is too far."""
    points = [(float(x), float(y)) for x, y in line]
    if len(points) < 3:
        return points
    away = [distance_to_segment(point, points[0], points[-1]) for point in points]
    farthest = max(range(1, len(points) - 1), key=lambda index: away[index])
    if away[farthest] <= tolerance:
        return [points[0], points[-1]]
    return simplified(points[: farthest + 1], tolerance)[:-1] + simplified(points[farthest:], tolerance)
