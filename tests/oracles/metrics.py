"""Retrieval metrics as loops, one query and one rank at a time."""

import math
from collections.abc import Sequence


def cosine(first: Sequence[float], second: Sequence[float]) -> float:
    dot = sum(a * b for a, b in zip(first, second, strict=True))
    return dot / (math.sqrt(sum(a * a for a in first)) * math.sqrt(sum(b * b for b in second)))


def ranking(query: Sequence[float], gallery: Sequence[Sequence[float]]) -> list[int]:
    """Gallery indices, most similar first; `sorted` is stable, so equal ones keep their order."""
    similarity = [cosine(query, item) for item in gallery]
    return sorted(range(len(gallery)), key=lambda index: -similarity[index])


def average_precision(relevant: Sequence[bool]) -> float:
    """Mean of the precision at each relevant rank."""
    found, precisions = 0, []
    for rank, is_relevant in enumerate(relevant, start=1):
        if is_relevant:
            found += 1
            precisions.append(found / rank)
    return sum(precisions) / len(precisions)


def precision_at(relevant: Sequence[bool], k: int) -> float:
    found = 0
    for rank, is_relevant in enumerate(relevant, start=1):
        if is_relevant and rank <= k:
            found += 1
    return found / k
