"""How far an approximate search must look: how many lists it reads, and how long its shortlist is.

Letters: `T` tests, `H` hits of a test, `N` items, `B` bytes of a packed code.

Both depend on the pictures, so they are measured on a gallery's own: some items are searched for exactly, and of each
hit is kept how many lists must be read to meet it, and at which place of the shortlist it was. A drawing's code is
farther from photos than a photo's own is, so a part of the bits of these queries is flipped.
"""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossatnet.gallery.shortlist import SHORTEST_A_HIT

TESTED_HITS = 100
LONGEST_TESTED = 20_000  # shortlist of a test, which reads so many embeddings from all over the disk
FLIPPED = 0.1  # of a test's bits
INDEXED = 2_000_000  # items: an exact search of so many takes 10 ms; of more not all codes are read
# What a search takes, in units of the time for one code when all are scanned: a code of some lists, an item re-ranked.
IN_LISTS, RERANKED = 5, 600


class Reach(NamedTuple):
    """How far a search looks: it reads so many lists, 0 for all codes, for a shortlist of this length."""

    lists: int
    length: int


@dataclass(frozen=True)
class Tested:
    """What tests said of an index of so many lists over N items."""

    tests: NDArray[np.int32]  # (T, H, 2): of each hit, how many lists were nearer than its own, and its place
    lists: int
    items: int
    _reaches: dict[tuple[int, float], Reach | None] = field(default_factory=dict, compare=False)

    def reach(self, k: int, recall: float) -> Reach | None:
        """The cheapest reach with this recall among the exact search's `k` hits; None if only that search has it.

        Recall is the mean over the tests, as if one more had found nothing, less its standard error.

        Example:
            >>> import numpy as np
            >>> from crossatnet.gallery.reach import Tested
            >>> tests = np.zeros((400, 100, 2), np.int32)
            >>> tests[..., 0], tests[..., 1] = 3, np.arange(100)
            >>> Tested(tests, lists=1000, items=10_000_000).reach(k=10, recall=0.9)
            Reach(lists=4, length=100)
        """
        if (k, recall) not in self._reaches:
            self._reaches[k, recall] = self._cheapest(k, recall) if k <= self.tests.shape[1] else None
        return self._reaches[k, recall]

    def _cheapest(self, k: int, recall: float) -> Reach | None:
        lists, places = np.moveaxis(self.tests[:, :k], 2, 0)  # (T, k) each
        best, least = None, math.inf
        for count in _ladder(1, self.lists):
            place = np.where(lists < count, places, LONGEST_TESTED)  # (T, k)
            is_all = count == self.lists  # then no list is read: a scan of all codes is faster
            read = self.items * (1 if is_all else IN_LISTS * count / self.lists)
            for length in _ladder(SHORTEST_A_HIT * k, LONGEST_TESTED // 2):
                cost = self.lists + read + RERANKED * length
                if cost < least and _surely((place < length).mean(axis=1)) >= recall:
                    best, least = Reach(0 if is_all else count, length), cost
        return best


def asked_as_drawings(codes: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Codes (T, B) with `FLIPPED` of their bits flipped by chance.

    Example:
        >>> import numpy as np
        >>> from crossatnet.gallery.reach import asked_as_drawings
        >>> asked = asked_as_drawings(np.zeros((1, 1000), np.uint8), np.random.default_rng(0))
        >>> round(float(np.unpackbits(asked).mean()), 1)
        0.1
    """
    bits = np.unpackbits(codes, axis=1)
    return np.packbits(bits ^ (random.random(bits.shape) < FLIPPED), axis=1)


def _ladder(first: int, last: int) -> list[int]:
    """Whole numbers from the first to the last, each up to a fifth more than the one before."""
    if first >= last:
        return [last]
    steps = np.geomspace(first, last, 2 + math.ceil(math.log(last / first, 1.2)))
    return sorted({round(float(step)) for step in steps})


def _surely(recalls: NDArray[np.float64]) -> float:
    """The mean of tests' recalls (T,), as if one more had found nothing, less its standard error."""
    known = np.append(recalls, 0.0)
    return float(known.mean() - known.std() / math.sqrt(len(known)))
