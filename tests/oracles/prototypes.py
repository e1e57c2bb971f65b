"""Graph convolution as loops over plain numbers."""

import math

from oracles.losses import Rows, dot


def propagate(adjacency: Rows, rows: Rows) -> list[list[float]]:
    """What every class takes from its neighbours: the sum of their rows, each times the weight of the edge."""
    return [[dot(edges, column) for column in zip(*rows, strict=True)] for edges in adjacency]


def transform(weight: Rows, rows: Rows) -> list[list[float]]:
    return [[dot(unit, row) for unit in weight] for row in rows]


def unit(row: list[float]) -> list[float]:
    return [value / math.sqrt(dot(row, row)) for value in row]


def graph_prototypes(vectors: Rows, adjacency: Rows, first: Rows, second: Rows, offset: Rows) -> list[list[float]]:
    hidden = transform(first, propagate(adjacency, vectors))
    rectified = [[max(0.0, value) for value in row] for row in hidden]
    shared = propagate(adjacency, transform(second, rectified))
    return [unit([a + b for a, b in zip(row, own, strict=True)]) for row, own in zip(shared, offset, strict=True)]
