"""What proposals are worth beside the things that are there: by plain loops over numbers."""

import math

from crossatnet.model.regions import Box

Numbers = list[list[list[float]]]
"""Of one scene, (5, H, W)."""


def giou(one: Box, other: Box) -> float:
    width = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    union = areas[0] + areas[1] - width * height
    hull = (max(one[2], other[2]) - min(one[0], other[0])) * (max(one[3], other[3]) - min(one[1], other[1]))
    return width * height / union - (hull - union) / hull


def nearness(box: Box, height: int, width: int) -> list[list[float]]:
    """(H, W): e to the minus square distance from the centre, in quarters of a side that is one position at least."""
    deviations = max(box[2] - box[0], 1 / width) / 4, max(box[3] - box[1], 1 / height) / 4
    centre = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    rows = []
    for row in range(height):
        down = ((row + 0.5) / height - centre[1]) / deviations[1]
        across = [((column + 0.5) / width - centre[0]) / deviations[0] for column in range(width)]
        rows.append([math.exp(-(one**2) - down**2) for one in across])
    return rows


def box_at(numbers: Numbers, row: int, column: int) -> Box:
    height, width = len(numbers[0]), len(numbers[0][0])
    x, y = (column + 0.5) / width, (row + 0.5) / height
    left, top, right, bottom = (min(max(math.exp(side[row][column]), 1e-3), 2) for side in numbers[1:])
    return x - left, y - top, x + right, y + bottom


def covers(box: Box, height: int, width: int) -> list[list[bool]]:
    """(H, W): whether the centre of a position is in the box, grown by a tenth of its sides and half a position."""
    more, higher = 0.1 * (box[2] - box[0]) + 0.5 / width, 0.1 * (box[3] - box[1]) + 0.5 / height
    return [
        [
            box[0] - more <= (column + 0.5) / width <= box[2] + more
            and box[1] - higher <= (row + 0.5) / height <= box[3] + higher
            for column in range(width)
        ]
        for row in range(height)
    ]


def loss(scenes: list[Numbers], things: list[tuple[int, Box]], complete: list[bool]) -> float:
    """Of the proposals of scenes and the boxes of the things in them, each with its scene's number.

    In a scene that is not complete, three tenths count of what is proposed far from its things.
    """
    height, width = len(scenes[0][0]), len(scenes[0][0][0])
    near = [nearness(box, height, width) for _, box in things]
    centres, sides = 0.0, 0.0
    for number, numbers in enumerate(scenes):
        parts = [covers(box, height, width) for scene, box in things if scene == number]
        for row in range(height):
            for column in range(width):
                probability = 1 / (1 + math.exp(-numbers[0][row][column]))
                wanted = 0.0
                for (scene, _), rows in zip(things, near, strict=True):
                    if scene == number:
                        wanted = max(wanted, rows[row][column] / max(map(max, rows)))
                if wanted >= 0.999:
                    centres -= (1 - probability) ** 2 * math.log(probability)
                else:
                    counts = 1 if complete[number] or any(part[row][column] for part in parts) else 0.3
                    centres -= counts * (1 - wanted) ** 4 * probability**2 * math.log(1 - probability)
    for (scene, box), rows in zip(things, near, strict=True):
        total = sum(map(sum, rows))
        for row in range(height):
            for column in range(width):
                wrong = 1 - giou(box_at(scenes[scene], row, column), box)
                sides += rows[row][column] / total * wrong / len(things)
    return centres / max(1, len(things)) + sides
