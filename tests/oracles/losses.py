"""Losses as loops over plain numbers."""

import math
from collections.abc import Sequence

Rows = Sequence[Sequence[float]]


def dot(first: Sequence[float], second: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(first, second, strict=True))


def classification(embedding: Rows, prototypes: Rows, label: Sequence[int], temperature: float) -> float:
    total = 0.0
    for row, right in zip(embedding, label, strict=True):
        weights = [math.exp(dot(row, prototype) / temperature) for prototype in prototypes]
        total -= math.log(weights[right] / sum(weights))
    return total / len(label)


def one_way_triplet(anchors: Rows, others: Rows, label: Sequence[int], margin: float) -> float:
    """Every anchor against its least similar positive and its most similar negative; no negative counts 0."""
    total = 0.0
    for anchor, own in zip(anchors, label, strict=True):
        positives = [dot(anchor, other) for other, its in zip(others, label, strict=True) if its == own]
        negatives = [dot(anchor, other) for other, its in zip(others, label, strict=True) if its != own]
        if negatives:
            total += max(0.0, margin + max(negatives) - min(positives))
    return total / len(label)


def cross_modal_triplet(sketch: Rows, photo: Rows, label: Sequence[int], margin: float) -> float:
    return one_way_triplet(sketch, photo, label, margin) + one_way_triplet(photo, sketch, label, margin)
