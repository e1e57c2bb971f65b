"""How near items and regions of a segment are to a query: by cosines, or by equal bits of codes.

Letters: `C` items or regions asked for, `D` embedding dimension, `B` bytes of a packed code.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from crossatnet.gallery.shortlist import cosines, distances_to
from crossatnet.gallery.sqlite.segment import Ids, Segment

ROWS_AT_ONCE = 256  # so many embeddings fit the processor's cache while they are scored

Floats = NDArray[np.float32]


class Measure(Protocol):
    """Scores of rows of a segment, higher for what is nearer."""

    def of_items(self, segment: Segment, rows: Ids) -> Floats:
        """The scores (C,) of items."""

    def of_regions(self, segment: Segment, rows: Ids) -> Floats:
        """The scores (C,) of regions, less their penalty."""


@dataclass(frozen=True)
class Cosine:
    """The cosine with a query (D,) of unit length, of regions less a penalty."""

    query: Floats
    penalty: float

    def of_items(self, segment: Segment, rows: Ids) -> Floats:
        """The cosines (C,) of items."""
        return self._scores(segment.embeddings, rows)

    def of_regions(self, segment: Segment, rows: Ids) -> Floats:
        """The cosines (C,) of regions, less the penalty."""
        return self._scores(segment.regions.embeddings, rows) - np.float32(self.penalty)

    def _scores(self, embeddings: Callable[[Ids], NDArray[np.float16]], rows: Ids) -> Floats:
        scores = np.empty(len(rows), np.float32)
        for start in range(0, len(rows), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            scores[part] = cosines(self.query, embeddings(rows[part]))
        return scores


@dataclass(frozen=True)
class EqualBits:
    """The share of a query's code (B,) that is equal, as if regions differed in `penalty` bits more."""

    code: NDArray[np.uint8]
    penalty: int

    def of_items(self, segment: Segment, rows: Ids) -> Floats:
        """The shares (C,) of items."""
        return self._scores(segment.codes[rows], 0)

    def of_regions(self, segment: Segment, rows: Ids) -> Floats:
        """The shares (C,) of regions."""
        return self._scores(segment.regions.codes[rows], self.penalty)

    def _scores(self, codes: NDArray[np.uint8], penalty: int) -> Floats:
        distances = distances_to(self.code, codes) + penalty
        return (1 - distances / (8 * len(self.code))).astype(np.float32)
