"""Boxes that are proposed, the part of a photo in a box: by plain loops."""

import math

import numpy as np
from numpy.typing import NDArray

from crossatnet.model.regions import LARGEST_SHARE, LEAST_THINGNESS, MOST_OVERLAP, MOST_REGIONS, Box


def area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def overlap(one: Box, other: Box) -> float:
    """The intersection over the union of two boxes."""
    shared = (max(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), min(one[3], other[3]))
    if shared[0] >= shared[2] or shared[1] >= shared[3]:
        return 0.0
    return area(shared) / (area(one) + area(other) - area(shared))


def is_peak(thingness: list[list[float]], row: int, column: int) -> bool:
    """Whether none of the eight positions around is likelier."""
    for y in range(max(row - 1, 0), min(row + 2, len(thingness))):
        for x in range(max(column - 1, 0), min(column + 2, len(thingness[0]))):
            if thingness[y][x] > thingness[row][column]:
                return False
    return True


def proposed(proposals: NDArray[np.float32]) -> list[Box]:
    """The boxes of proposals (5, h, w), the likeliest first."""
    logits, *distances = proposals.tolist()
    height, width = len(logits), len(logits[0])
    thingness = [[1 / (1 + math.exp(-logit)) for logit in row] for row in logits]
    candidates: list[tuple[float, Box]] = []
    for row in range(height):
        for column in range(width):
            if thingness[row][column] >= LEAST_THINGNESS and is_peak(thingness, row, column):
                x, y = (column + 0.5) / width, (row + 0.5) / height
                left, top, right, bottom = (math.exp(min(side[row][column], 0)) for side in distances)
                box = (max(x - left, 0), max(y - top, 0), min(x + right, 1), min(y + bottom, 1))
                candidates.append((thingness[row][column], box))
    kept: list[Box] = []
    for _, box in sorted(candidates, key=lambda candidate: -candidate[0]):
        if len(kept) == MOST_REGIONS:
            break
        if area(box) <= LARGEST_SHARE and not any(overlap(box, other) > MOST_OVERLAP for other in kept):
            kept.append(box)
    return kept


def cut_out(photo: NDArray[np.uint8], box: Box, side: int) -> NDArray[np.float64]:
    """The part of a photo (L, L, 3) in a box, as (P, P, 3): each pixel a mean under a triangle."""
    length = len(photo)
    down, across = np.zeros((side, length)), np.zeros((side, length))
    for weights, first, last in ((down, box[1] * length, box[3] * length), (across, box[0] * length, box[2] * length)):
        step = (last - first) / side
        for place in range(side):
            centre = first + (place + 0.5) * step
            for pixel in range(length):
                weights[place, pixel] = max(0.0, 1 - abs(pixel + 0.5 - centre) / max(step, 1.0))
            weights[place] /= weights[place].sum()
    return np.einsum("py,qx,yxc->pqc", down, across, photo.astype(np.float64), optimize=True)
