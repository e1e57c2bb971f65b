"""Divides codes into lists of codes near each other: centres by k-means in two levels, and which is nearest to a code.

Letters: `N` codes, `L` lists, `A` branches, `B` bytes of a code.

Codes are divided among A tops, and the codes of each top among A centres, so that L = A^2. A code is compared with the
tops, and with the centres of the nearest few of them, not with all.
"""

import math

import faiss
import numpy as np
from numpy.typing import NDArray

from crossatnet.system.threads import computing_threads

BRANCHES = 4.0  # times N^(1/4): about 16 sqrt(N) lists, of 200 codes where there are 1e7
GROWTH = 1.2  # of the branches wanted, or its inverse, after which there are too few or too many
SAMPLED = 32  # codes for each centre that is looked for
ROUNDS = 6  # later ones move few codes
TOPS_TRIED = 16  # with fewer, more codes miss their nearest centre, and more lists must be read
AT_ONCE = 100_000  # codes

Codes = NDArray[np.uint8]
Numbers = NDArray[np.int32]


def lists_for(items: int, before: int = 0) -> int:
    """How many lists so many items want; as many as `before`, if that is still about right.

    Example:
        >>> from crossatnet.gallery.sqlite.clustering import lists_for
        >>> lists_for(10_000_000), lists_for(12_000_000, before=50_625)
        (50625, 50625)
    """
    branches = max(1, round(BRANCHES * items**0.25))
    is_right = 1 / GROWTH <= math.isqrt(before) / branches <= GROWTH
    return before if is_right else branches**2


def trained(codes: Codes, lists: int) -> Codes:
    """The centres of so many lists, a square number: codes (N, B) -> (L, B), those of one top after another's.

    Example:
        >>> import numpy as np
        >>> from crossatnet.gallery.sqlite.clustering import trained
        >>> codes = np.repeat(np.array([0, 255], np.uint8), 50)[:, None]
        >>> set(trained(codes, lists=16).ravel().tolist()) == {0, 255}
        True
    """
    faiss.omp_set_num_threads(computing_threads())
    random, branches = np.random.default_rng(len(codes)), math.isqrt(lists)
    chosen = random.choice(len(codes), min(len(codes), SAMPLED * lists), replace=False)
    sample = codes[np.sort(chosen)]  # in order, as they lie on the disk
    random.shuffle(sample)
    tops = _centres(sample[: SAMPLED * branches], branches, random)
    of = _nearest(sample, tops, 1)[1][:, 0]
    parts = [sample[of == top] for top in range(branches)]
    parts = [part if len(part) else top[None] for part, top in zip(parts, tops, strict=True)]
    return np.concatenate([_centres(part, branches, random) for part in parts])


def assigned(codes: Codes, centres: Codes) -> Numbers:
    """The number of each code's list, that of its nearest centre as a rule: codes (N, B), centres (L, B) -> (N,).

    Example:
        >>> import numpy as np
        >>> from crossatnet.gallery.sqlite.clustering import assigned
        >>> centres = np.array([[0], [1], [255], [254]], np.uint8)
        >>> assigned(np.array([[255], [1]], np.uint8), centres).tolist()
        [2, 1]
    """
    faiss.omp_set_num_threads(computing_threads())
    branches = math.isqrt(len(centres))
    leaves = centres.reshape(branches, branches, -1)  # (A, A, B)
    ones = np.unpackbits(leaves, axis=2).sum(axis=1, dtype=np.int32)  # (A, 8 B)
    tops = np.packbits(2 * ones > branches, axis=1)
    parts = [codes[start : start + AT_ONCE] for start in range(0, len(codes), AT_ONCE)]
    return np.concatenate([np.empty(0, np.int32), *(_assigned(part, tops, leaves) for part in parts)])


def _centres(codes: Codes, count: int, random: np.random.Generator) -> Codes:
    """Centres (count, B) of codes (N, B) by k-means: a bit of a centre is the one that most of its codes have."""
    centres = codes[random.choice(len(codes), count, replace=len(codes) < count)]
    bits = np.unpackbits(codes, axis=1)  # (N, 8 B)
    for _ in range(ROUNDS):
        of = _nearest(codes, centres, 1)[1][:, 0]
        counts = np.bincount(of, minlength=count)
        filled = np.flatnonzero(counts)
        begins = np.cumsum(counts)[filled] - counts[filled]
        ones = np.add.reduceat(bits[np.argsort(of, kind="stable")], begins, axis=0, dtype=np.int32)
        centres[filled] = np.packbits(2 * ones > counts[filled, None], axis=1)
    return centres


def _assigned(codes: Codes, tops: Codes, leaves: NDArray[np.uint8]) -> Numbers:
    """The same for codes (N, B), tops (A, B) and the centres of each (A, A, B)."""
    tried = min(TOPS_TRIED, len(tops))
    near = _nearest(codes, tops, tried)[1].ravel()  # (N * tried,)
    order = np.argsort(near, kind="stable")
    ends = np.searchsorted(near[order], np.arange(len(tops) + 1))
    least, numbers = np.full(len(codes), np.iinfo(np.int32).max, np.int32), np.empty(len(codes), np.int32)
    for top in range(len(tops)):
        mine = order[ends[top] : ends[top + 1]] // tried
        if len(mine):
            distances, leaf = (found[:, 0] for found in _nearest(codes[mine], leaves[top], 1))
            nearer = distances < least[mine]
            least[mine[nearer]] = distances[nearer]
            numbers[mine[nearer]] = top * len(tops) + leaf[nearer]
    return numbers


def _nearest(codes: Codes, centres: Codes, count: int) -> tuple[Numbers, NDArray[np.int64]]:
    """The `count` centres nearest to each code (N, B): distances and numbers."""
    distances, numbers = faiss.knn_hamming(np.ascontiguousarray(codes), np.ascontiguousarray(centres), count)
    return distances, numbers
