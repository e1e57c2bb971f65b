"""Attention as loops over plain numbers."""

from collections.abc import Sequence

from oracles.losses import Rows, dot, softmax

Map = Sequence[Rows]  # a number for each of (C, h, w)


def attend(feature_map: Map, key: Rows, query: Rows) -> tuple[list[float], list[list[list[float]]]]:
    """Feature (C,) and attention (M, h, w) of one map (C, h, w), by key weights (M * E, C) and a query (M, E)."""
    channels, height, width = len(feature_map), len(feature_map[0]), len(feature_map[0][0])
    positions = [[plane[row][column] for plane in feature_map] for row in range(height) for column in range(width)]
    heads, size = len(query), len(query[0])
    feature, attention = [0.0] * channels, []
    for head in range(heads):
        weights = key[head * size : (head + 1) * size]
        keys = [[dot(row, position) for row in weights] for position in positions]
        seen = softmax([dot(query[head], each) / size**0.5 for each in keys], 1.0)
        share = channels // heads
        for channel in range(head * share, (head + 1) * share):
            feature[channel] = sum(much * position[channel] for much, position in zip(seen, positions, strict=True))
        attention.append([seen[row * width : (row + 1) * width] for row in range(height)])
    return feature, attention


def linear(weight: Rows, vector: Sequence[float], heads: int) -> list[list[float]]:
    """A query (M, E) of a sketch's feature (C,), by weights (M * E, C)."""
    flat = [dot(row, vector) for row in weight]
    size = len(flat) // heads
    return [flat[head * size : (head + 1) * size] for head in range(heads)]
