"""Retrieval metrics as loops, one query and one rank at a time."""

import itertools
import math
from collections.abc import Iterator, Sequence


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


def hamming(first: Sequence[int], second: Sequence[int]) -> int:
    """Bits in which two packed codes differ."""
    return sum((a ^ b).bit_count() for a, b in zip(first, second, strict=True))


def tied_relevance(distances: Sequence[int], relevant: Sequence[bool]) -> list[list[bool]]:
    """Relevance of the items of each tie, nearest tie first."""
    return [
        [is_relevant for other, is_relevant in zip(distances, relevant, strict=True) if other == distance]
        for distance in sorted(set(distances))
    ]


def orders_within_ties(distances: Sequence[int], relevant: Sequence[bool]) -> Iterator[list[bool]]:
    """Relevance of every ranking that agrees with the distances: all orders of each tie, combined."""
    ties = tied_relevance(distances, relevant)
    for orders in itertools.product(*(itertools.permutations(tie) for tie in ties)):
        yield list(itertools.chain(*orders))


def tie_averaged_average_precision(distances: Sequence[int], relevant: Sequence[bool]) -> float:
    """McSherry and Najork (2008), one rank at a time: is it a hit, and if so, how many are expected up to it."""
    total, items_before, hits_before = 0.0, 0, 0
    for tie in tied_relevance(distances, relevant):
        items, hits = len(tie), sum(tie)
        for place in range(1, items + 1):
            others = (place - 1) * (hits - 1) / (items - 1) if items > 1 else 0.0
            total += (hits / items) * (hits_before + others + 1) / (items_before + place)
        items_before += items
        hits_before += hits
    return total / hits_before


def tie_averaged_precision_at(distances: Sequence[int], relevant: Sequence[bool], k: int) -> float:
    """One rank at a time: each of the first k is a hit with the share of hits in its tie."""
    chances = [sum(tie) / len(tie) for tie in tied_relevance(distances, relevant) for _ in tie]
    return sum(chances[:k]) / k
