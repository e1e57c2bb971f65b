"""Boxes that are proposed, the part of a photo in a box: by plain loops."""

import math

import numpy as np
from numpy.typing import NDArray

from crossatnet.model.regions import LARGEST_SHARE, LEAST_SIDE, MOST_OVERLAP, MOST_REGIONS, POSSIBLE, SURE, Box


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
            if thingness[row][column] >= POSSIBLE and is_peak(thingness, row, column):
                x, y = (column + 0.5) / width, (row + 0.5) / height
                left, top, right, bottom = (math.exp(min(side[row][column], 0)) for side in distances)
                box = (max(x - left, 0), max(y - top, 0), min(x + right, 1), min(y + bottom, 1))
                candidates.append((thingness[row][column], box))
    found: list[tuple[float, Box]] = []
    for probability, box in sorted(candidates, key=lambda candidate: -candidate[0]):
        is_small = box[2] - box[0] < LEAST_SIDE or box[3] - box[1] < LEAST_SIDE
        if not is_small and not any(overlap(box, other) > MOST_OVERLAP for _, other in found):
            found.append((probability, box))
    kept: list[Box] = []
    is_one_thing = any(likely >= SURE and area(other) > LARGEST_SHARE for likely, other in found)
    for probability, box in found:
        is_sure = probability >= SURE or not is_one_thing
        if area(box) <= LARGEST_SHARE and is_sure and len(kept) < MOST_REGIONS:
            kept.append(box)
    return kept


def cut_out(photo: NDArray[np.uint8], box: Box, side: int) -> NDArray[np.float64]:
    """The part of a photo (H, W, 3) in a box, as (P, P, 3): each pixel a mean under a triangle."""
    height, width = photo.shape[:2]
    down, across = np.zeros((side, height)), np.zeros((side, width))
    for weights, first, last in ((down, box[1] * height, box[3] * height), (across, box[0] * width, box[2] * width)):
        step = (last - first) / side
        for place in range(side):
            centre = first + (place + 0.5) * step
            for pixel in range(weights.shape[1]):
                weights[place, pixel] = max(0.0, 1 - abs(pixel + 0.5 - centre) / max(step, 1.0))
            weights[place] /= weights[place].sum()
    return np.einsum("py,qx,yxc->pqc", down, across, photo.astype(np.float64), optimize=True)
