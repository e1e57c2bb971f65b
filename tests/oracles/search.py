"""Search as anyone would write it: one item after another."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def hamming(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> int:
    """Number of bits in which two packed codes differ."""
    return sum((int(a) ^ int(b)).bit_count() for a, b in zip(first, second, strict=True))


def nearest(
    ids: Sequence[int], embeddings: Sequence[NDArray[np.float16]], query: NDArray[np.float32], k: int
) -> list[tuple[int, float]]:
    """(id, cosine) of the `k` best items, equal cosines by id."""
    scored = []
    for number, half in zip(ids, embeddings, strict=True):
        row = half.astype(np.float64)
        scored.append((number, float(row @ query) / float(np.linalg.norm(row) * np.linalg.norm(query))))
    return sorted(scored, key=lambda pair: (-pair[1], pair[0]))[:k]


def nearest_by_parts(
    ids: Sequence[int],
    wholes: Sequence[NDArray[np.float16]],
    parts: Sequence[Sequence[NDArray[np.float16]]],
    query: NDArray[np.float32],
    k: int,
    penalty: float,
) -> list[tuple[int, float, int | None]]:
    """(id, score, part) of the `k` best items: by the whole (part None), or by a part that is better all the same."""
    found = []
    for number, whole, others in zip(ids, wholes, parts, strict=True):
        (_, score), best = nearest([0], [whole], query, 1)[0], None
        for place, (_, cosine) in enumerate(nearest([0], [other], query, 1)[0] for other in others):
            if cosine - penalty > score:
                score, best = cosine - penalty, place
        found.append((number, score, best))
    return sorted(found, key=lambda each: (-each[1], each[0]))[:k]


def nearest_codes(
    ids: Sequence[int], codes: Sequence[NDArray[np.uint8]], query: NDArray[np.uint8], k: int
) -> list[tuple[int, float]]:
    """(id, share of equal bits) of the `k` items whose codes differ least, equal distances by id."""
    scored = [(number, 1 - hamming(code, query) / (8 * len(query))) for number, code in zip(ids, codes, strict=True)]
    return sorted(scored, key=lambda pair: (-pair[1], pair[0]))[:k]
