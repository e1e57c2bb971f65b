"""Retrieval metrics as loops, one query and one rank at a time."""

import itertools
import math
from collections.abc import Iterator, Sequence


def cosine(first: Sequence[float], second: Sequence[float]) -> float:
    dot = sum(a * b for a, b in zip(first, second, strict=True))
    return dot / (math.sqrt(sum(a * a for a in first)) * math.sqrt(sum(b * b for b in second)))


def euclidean(first: Sequence[float], second: Sequence[float]) -> float:
    return math.sqrt(sum((a - b) ** 2 for a, b in zip(first, second, strict=True)))


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


def average_precision_at(relevant: Sequence[bool], k: int, denominator: str) -> float:
    """Sum of the precision at each hit among the first k, divided by what `denominator` names."""
    total = sum(precision_at(relevant, rank) for rank in range(1, min(k, len(relevant)) + 1) if relevant[rank - 1])
    hits, most = sum(relevant[:k]), sum(relevant)
    divisor = {"hits": hits, "min(k, R)": min(k, most), "R": most}[denominator]
    return total / divisor if divisor else 0.0


def interpolated_precision(relevant: Sequence[bool], recall: float) -> float:
    """The best precision at any rank where at least this share of the relevant items is found."""
    return max(
        precision_at(relevant, rank)
        for rank in range(1, len(relevant) + 1)
        if sum(relevant[:rank]) / sum(relevant) >= recall - 1e-12
    )


def interpolated_average_precision(relevant: Sequence[bool]) -> float:
    """Area under the interpolated curve, a step at every hit, as PASCAL VOC computes it since 2010."""
    most = sum(relevant)
    return sum(interpolated_precision(relevant, found / most) / most for found in range(1, most + 1))


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


def radius_precision(distances: Sequence[int], relevant: Sequence[bool], recall: float) -> float:
    """The best precision within any Hamming radius that finds at least this share of the relevant items."""
    best = 0.0
    for radius in set(distances):
        within = [is_hit for distance, is_hit in zip(distances, relevant, strict=True) if distance <= radius]
        if sum(within) / sum(relevant) >= recall - 1e-12:
            best = max(best, sum(within) / len(within))
    return best
