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


def tied_relevance(distances: Sequence[float], relevant: Sequence[bool]) -> list[list[bool]]:
    """Relevance of the items of each tie, nearest tie first."""
    return [
        [is_relevant for other, is_relevant in zip(distances, relevant, strict=True) if other == distance]
        for distance in sorted(set(distances))
    ]


def orders_within_ties(distances: Sequence[float], relevant: Sequence[bool]) -> Iterator[list[bool]]:
    """Relevance of every ranking that agrees with the distances: all orders of each tie, combined."""
    ties = tied_relevance(distances, relevant)
    for orders in itertools.product(*(itertools.permutations(tie) for tie in ties)):
        yield list(itertools.chain(*orders))


def tie_averaged_average_precision(distances: Sequence[float], relevant: Sequence[bool]) -> float:
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


def tie_averaged_precision_at(distances: Sequence[float], relevant: Sequence[bool], k: int) -> float:
    """One rank at a time: each of the first k is a hit with the share of hits in its tie."""
    chances = [sum(tie) / len(tie) for tie in tied_relevance(distances, relevant) for _ in tie]
    return sum(chances[:k]) / k


def values(ranking: Sequence[bool], at: Sequence[int]) -> dict[str, float]:
    """Every definition of one ranking without ties but those that only ties tell apart."""
    most = sum(ranking)
    found = {
        "mAP@all": average_precision(ranking),
        "R-precision": precision_at(ranking, most),
        "mAP@all (VOC)": interpolated_average_precision(ranking),
    }
    for k in at:
        found[f"P@{k}"] = precision_at(ranking, k)
        found[f"P@{k} (min(k, R))"] = precision_at(ranking, k) * k / min(k, most)
        for name in ("hits", "min(k, R)", "R"):
            found[f"mAP@{k} ({name})"] = average_precision_at(ranking, k, name)
    return found


def tied_values(distances: Sequence[float], relevant: Sequence[bool], at: Sequence[int]) -> dict[str, float]:
    """Every definition of a ranking with ties: means over all its orders, those that ties change, ties taken whole."""
    orders = list(orders_within_ties(distances, relevant))
    each = [values(order, at) for order in orders]
    found = {name: sum(one[name] for one in each) / len(each) for name in each[0]}
    precisions = [one["mAP@all"] for one in each]
    return found | {
        "mAP@all (optimistic)": max(precisions),
        "mAP@all (pessimistic)": min(precisions),
        "mAP@all (scikit-learn)": whole_tie_average_precision(distances, relevant, interpolated=False),
        "mAP@all (VOC)": whole_tie_average_precision(distances, relevant, interpolated=True),
    }


def whole_tie_average_precision(distances: Sequence[float], relevant: Sequence[bool], interpolated: bool) -> float:
    """The mean over relevant items of the precision where their tie ends; interpolated, the best there or later."""
    total, ends = 0.0, sorted(set(distances))
    for distance, is_relevant in zip(distances, relevant, strict=True):
        if is_relevant:
            later = [end for end in ends if end >= distance] if interpolated else [distance]
            total += max(precision_within(distances, relevant, end) for end in later)
    return total / sum(relevant)


def precision_within(distances: Sequence[float], relevant: Sequence[bool], radius: float) -> float:
    within = [is_hit for distance, is_hit in zip(distances, relevant, strict=True) if distance <= radius]
    return sum(within) / len(within)


def radius_precision(distances: Sequence[float], relevant: Sequence[bool], recall: float) -> float:
    """The best precision within any Hamming radius that finds at least this share of the relevant items."""
    best = 0.0
    for radius in set(distances):
        within = [is_hit for distance, is_hit in zip(distances, relevant, strict=True) if distance <= radius]
        if sum(within) / sum(relevant) >= recall - 1e-12:
            best = max(best, sum(within) / len(within))
    return best
