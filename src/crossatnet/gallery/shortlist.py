"""The two steps of a search as functions of arrays: the Hamming shortlist and the cosine re-rank.

Letters: `N` items, `Q` queries, `S` shortlist, `K` hits, `C` candidates among the regions, `V` vectors of pictures and
regions, `D` embedding dimension, `B` bytes of a packed code.
"""

import math
from collections.abc import Sequence, Sized

import faiss
import numpy as np
from numpy.typing import NDArray

# About twice what `benchmarks/shortlist.py` measured. Embeddings of real pictures fill few dimensions, so a larger
# gallery is denser, and the shortlist must be a share of it. Each row: smallest number of code bits, share of the items
# for up to 10 hits, and the power of the number of hits with which it grows. Shorter codes order items more coarsely.
SHORTLIST_RULE = ((512, 0.0022, 1.0), (256, 0.0035, 0.85), (128, 0.008, 0.7), (0, 0.06, 0.5))
SHORTEST, SHORTEST_A_HIT = 1000, 10  # re-ranking so few takes milliseconds
COUNTER_BYTES = 268_435_456  # at most, for faiss to count with, for any number of queries
Mask = NDArray[np.bool_] | None  # which rows count; None for all
SPARSE = 0.5  # if a smaller share of the items is admitted, their codes are copied together first


def shortlist_length(k: int, code_bits: int, items: int) -> int:
    """How many candidates the Hamming step hands to the float re-rank for `k` hits, by `SHORTLIST_RULE`.

    With so many, the recall against an exact search stays above .99 on galleries like those measured. The number may be
    larger than the gallery.

    Example:
        >>> from crossatnet.gallery.shortlist import shortlist_length
        >>> shortlist_length(k=10, code_bits=512, items=1_000_000)
        2200
    """
    share, power = next(rule[1:] for rule in SHORTLIST_RULE if code_bits >= rule[0])
    wanted: float = share * items * (max(k, 10) / 10) ** power
    return max(math.ceil(wanted), SHORTEST, SHORTEST_A_HIT * k)


def hamming_nearest(
    codes: NDArray[np.uint8], is_admitted: NDArray[np.bool_] | None, queries: NDArray[np.uint8], length: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The `length` codes (N, B) nearest to each query (Q, B) in Hamming distance: distances and rows, both (Q, S).

    Rows are ordered by distance. Only rows that `is_admitted` (N,) marks count; without it all do. `length` must not be
    larger than their number.

    Example:
        >>> import numpy as np
        >>> from crossatnet.gallery.shortlist import hamming_nearest
        >>> codes = np.array([[0b1111], [0b1000], [0]], dtype=np.uint8)
        >>> distances, rows = hamming_nearest(codes, None, np.array([[0]], dtype=np.uint8), length=2)
        >>> distances.tolist(), rows.tolist()
        ([[0, 1]], [[2, 1]])
    """
    if is_admitted is None:
        return _count_nearest(codes, queries, length)
    admitted = int(np.count_nonzero(is_admitted))
    if admitted < SPARSE * len(codes):
        rows = np.flatnonzero(is_admitted)
        distances, found = _count_nearest(codes[rows], queries, length)
        return distances, rows[found]
    asked = min(2 * length, length + len(codes) - admitted)  # the second number is always enough
    while True:
        distances, found = _count_nearest(codes, queries, asked)  # (Q, asked)
        passes = is_admitted[found]
        if (passes.sum(axis=1) >= length).all():
            break
        asked = min(2 * asked, length + len(codes) - admitted)
    first = np.argsort(~passes, axis=1, kind="stable")[:, :length]  # (Q, S): the admitted rows, in their order
    return np.take_along_axis(distances, first, axis=1), np.take_along_axis(found, first, axis=1)


def nearest_of_all(
    codes: Sequence[NDArray[np.uint8]], masks: Sequence[Mask], queries: NDArray[np.uint8], length: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """What `hamming_nearest` finds in each of several arrays of codes, whose rows are counted one after another.

    Nothing is cut off after they are joined, as equal distances of different arrays are in no order that says more.

    Example:
        >>> import numpy as np
        >>> from crossatnet.gallery.shortlist import nearest_of_all
        >>> codes = [np.array([[0b1111], [0b1000]], dtype=np.uint8), np.array([[0b1]], dtype=np.uint8)]
        >>> distances, rows = nearest_of_all(codes, [None, None], np.array([[0]], dtype=np.uint8), length=2)
        >>> distances.tolist(), rows.tolist()
        ([[1, 1, 4]], [[1, 2, 0]])
    """
    found, start = [], 0
    for part, mask in zip(codes, masks, strict=True):
        if admitted := rows_admitted(part, mask):
            distances, rows = hamming_nearest(part, mask, queries, min(length, admitted))
            found.append((distances, rows + start))
        start += len(part)
    distances, rows = (np.concatenate(each, axis=1) for each in zip(*found, strict=True))
    if len(found) > 1:
        best = np.argsort(distances, axis=1, kind="stable")
        distances, rows = np.take_along_axis(distances, best, axis=1), np.take_along_axis(rows, best, axis=1)
    return distances, rows


def rows_admitted(rows: Sized, mask: Mask) -> int:
    """How many of the rows count that a mask marks; all if it is None.

    Example:
        >>> import numpy as np
        >>> from crossatnet.gallery.shortlist import rows_admitted
        >>> rows_admitted("abc", None), rows_admitted("abc", np.array([True, False, True]))
        (3, 2)
    """
    return len(rows) if mask is None else int(np.count_nonzero(mask))


def all_admitted(tables: Sequence[Sized], masks: Sequence[Mask]) -> NDArray[np.int64]:
    """The rows that masks mark, of several tables, counted one after another.

    Example:
        >>> import numpy as np
        >>> from crossatnet.gallery.shortlist import all_admitted
        >>> all_admitted(["ab", "cd"], [None, np.array([False, True])]).tolist()
        [0, 1, 3]
    """
    marked = [np.ones(len(rows), np.bool_) if mask is None else mask for rows, mask in zip(tables, masks, strict=True)]
    return np.flatnonzero(np.concatenate(marked))


def _count_nearest(
    codes: NDArray[np.uint8], queries: NDArray[np.uint8], length: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """faiss's exact search by counting distances, on one thread; a search by a heap takes up to four times as long."""
    faiss.omp_set_num_threads(1)  # OpenMP keeps this number for each thread, so the searching thread sets it
    part = max(1, COUNTER_BYTES // (8 * (8 * codes.shape[1] + 1) * length))
    found = [
        faiss.knn_hamming(np.ascontiguousarray(queries[start : start + part]), codes, length, variant="mc")
        for start in range(0, len(queries), part)
    ]
    return np.concatenate([distances for distances, _ in found]), np.concatenate([rows for _, rows in found])


def unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows scaled to length 1, for queries that may have any length.

    Example:
        >>> import numpy as np
        >>> from crossatnet.gallery.shortlist import unit_rows
        >>> unit_rows(np.array([[3.0, 4.0]], dtype=np.float32)).round(2).tolist()
        [[0.6000000238418579, 0.800000011920929]]
    """
    lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows))[:, None]
    return np.asarray(rows / np.maximum(lengths, np.finfo(np.float32).tiny), dtype=np.float32)


def cosines(query: NDArray[np.float32], embeddings: NDArray[np.float16]) -> NDArray[np.float32]:
    """Cosines (S,) between a query (D,) of unit length and embeddings (S, D), whose length half precision has changed.

    Equal embeddings get equal cosines at every position. BLAS is faster, but its rounding depends on the position.

    Example:
        >>> import numpy as np
        >>> from crossatnet.gallery.shortlist import cosines
        >>> cosines(np.array([1, 0], dtype=np.float32), np.eye(2, dtype=np.float16)).tolist()
        [1.0, 0.0]
    """
    rows = widened(embeddings)  # (S, D)
    lengths = np.sqrt(np.einsum("sd,sd->s", rows, rows))
    return np.asarray(np.einsum("sd,d->s", rows, query) / np.maximum(lengths, np.finfo(np.float32).tiny))


def widened(halves: NDArray[np.float16]) -> NDArray[np.float32]:
    """Finite half precision as single, exact like `astype` in a sixth of its time, which was most of a re-rank's.

    The exponent and the fraction are moved to where single precision has them; the product sets the exponent right.

    Example:
        >>> import numpy as np
        >>> from crossatnet.gallery.shortlist import widened
        >>> widened(np.array([0.5, -2], dtype=np.float16)).tolist()
        [0.5, -2.0]
    """
    bits = np.ascontiguousarray(halves).view(np.int16).astype(np.int32)
    bits <<= 13
    bits &= np.int32(-0x70002000)  # 0x8fffe000: the sign, which was copied to the left, stays in the first bit only
    floats: NDArray[np.float32] = bits.view(np.float32)
    floats *= np.float32(2.0**112)  # the exponent's offsets differ by so much: 127 - 15
    return floats


def best_hits(
    ids: NDArray[np.int64], scores: NDArray[np.float32], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The `k` candidates of the highest score: ids and scores (S,) -> (K,), best first, equal scores by id.

    Example:
        >>> import numpy as np
        >>> from crossatnet.gallery.shortlist import best_hits
        >>> ids, scores = best_hits(np.array([7, 8, 9]), np.array([0.5, 1, 0.25], dtype=np.float32), k=2)
        >>> ids.tolist(), scores.tolist()
        ([8, 7], [1.0, 0.5])
    """
    best = best_places(ids, scores, k)
    return ids[best], scores[best]


def best_places(ids: NDArray[np.int64], scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Where the `k` candidates (S,) of the highest score are, best first, equal scores by id.

    Example:
        >>> import numpy as np
        >>> from crossatnet.gallery.shortlist import best_places
        >>> best_places(np.array([7, 8, 9]), np.array([0.5, 1, 0.25], dtype=np.float32), k=2).tolist()
        [1, 0]
    """
    places = np.arange(len(scores))
    if k < len(scores):
        places = np.flatnonzero(scores >= np.partition(scores, -k)[-k])  # with all that tie with the last
    return places[np.lexsort((ids[places], -scores[places]))[:k]]


def penalty_bits(penalty: float, bits: int) -> int:
    """By how many of so many bits a code may differ less when its cosine is less by `penalty`.

    The bits of two embeddings at an angle differ with a chance of angle / pi (Charikar, 2002), which near a right angle
    grows by 1 / pi for each unit that the cosine loses, and faster elsewhere. So no region is ranked too low by this.

    Example:
        >>> from crossatnet.gallery.shortlist import penalty_bits
        >>> penalty_bits(0.05, 512)
        8
    """
    return round(penalty * bits / math.pi)


def distances_to(query: NDArray[np.uint8], codes: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Hamming distances (C,) of codes (C, B) from a query's (B,).

    Example:
        >>> import numpy as np
        >>> from crossatnet.gallery.shortlist import distances_to
        >>> distances_to(np.array([0], dtype=np.uint8), np.array([[0b1011], [0]], dtype=np.uint8)).tolist()
        [3, 0]
    """
    distances = np.empty(len(codes), np.int32)
    both = np.ascontiguousarray(query), np.ascontiguousarray(codes)
    pointers = *map(faiss.swig_ptr, both), 1, len(codes), len(query), faiss.swig_ptr(distances)
    faiss.hammings(*pointers)  # type: ignore[attr-defined] # what SWIG made has no types
    return distances


def best_of_each(rows: NDArray[np.int64], scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Where each of the rows (V,), which may come several times, has its highest score.

    Example:
        >>> import numpy as np
        >>> from crossatnet.gallery.shortlist import best_of_each
        >>> best_of_each(np.array([7, 3, 7]), np.array([0.5, 0.25, 1], dtype=np.float32)).tolist()
        [1, 2]
    """
    order = np.lexsort((scores, rows))
    is_last = np.append(np.diff(rows[order]) != 0, True)[: len(rows)]
    return np.asarray(order[is_last])
