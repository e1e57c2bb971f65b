"""Some items of a gallery as arrays, with their regions: a part of a snapshot.

Letters: `N` items, `M` regions, `P` changed items, `C` rows asked for, `D` embedding dimension, `B` bytes of a packed
code.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossatnet.gallery.sqlite.inverted import Inverted
from crossatnet.gallery.sqlite.regions import RegionTable, joined_tables

NOTHING = -1  # the generation of an empty snapshot; 0 is that of migrated items

Ids = NDArray[np.int64]
Mask = NDArray[np.bool_] | None  # which rows count; None for all
OfRows = Callable[["Segment", Ids], NDArray[Any]]


class Admitted(NamedTuple):
    """Which items (N,) and which regions (M,) of a segment count."""

    items: Mask
    regions: Mask


@dataclass(frozen=True)
class Changes:
    """The changes from an earlier generation to a later one: new or changed items, ascending by id, and removed ids."""

    generation: int
    ids: Ids  # (P,)
    codes: NDArray[np.uint8]  # (P, B)
    embeddings: NDArray[np.float16]  # (P, D)
    regions: RegionTable
    removed: Ids


@dataclass(frozen=True)
class Segment:
    """Items: `ids` (N,) ascending, `codes` (N, B), `embeddings` and `regions` of given rows, and which rows count.

    A large one has an index of its codes.
    """

    ids: Ids
    codes: NDArray[np.uint8]
    embeddings: Callable[[Ids], NDArray[np.float16]]
    regions: RegionTable
    is_live: Mask = None
    index: Inverted | None = None

    def without(self, ids: Ids) -> "Segment":
        """The same segment with these ids marked as removed; ids that it does not hold are ignored."""
        rows = self.rows_of(ids)
        if not len(rows):
            return self
        is_live = np.ones(len(self.ids), np.bool_) if self.is_live is None else self.is_live.copy()
        is_live[rows] = False
        return replace(self, is_live=is_live)

    def rows_of(self, ids: Ids) -> Ids:
        """The rows of those among `ids` that the segment holds."""
        rows = np.searchsorted(self.ids, ids)
        held = rows < len(self.ids)
        held[held] = self.ids[rows[held]] == ids[held]
        return rows[held]

    def admitted(self, ids: Ids | None) -> Admitted:
        """Which rows count; if `ids` is given, only rows with an id among them."""
        is_admitted = self.is_live
        if ids is not None:
            is_admitted = np.zeros(len(self.ids), np.bool_)
            is_admitted[self.rows_of(ids)] = True
            is_admitted &= True if self.is_live is None else self.is_live
        return Admitted(is_admitted, None if is_admitted is None else is_admitted[self.regions.owners])

    def live_rows(self) -> Ids:
        """The rows that count."""
        return np.arange(len(self.ids)) if self.is_live is None else np.flatnonzero(self.is_live)


def merged(segments: Sequence[Segment]) -> Segment:
    """One segment in memory, made of the rows of several segments that count."""
    parts = [(segment, segment.live_rows()) for segment in segments]
    ids = np.concatenate([segment.ids[rows] for segment, rows in parts])
    order = np.argsort(ids)
    codes = np.concatenate([segment.codes[rows] for segment, rows in parts])[order]
    embeddings = np.concatenate([segment.embeddings(rows) for segment, rows in parts])[order]
    first = starts(len(rows) for _, rows in parts)
    tables = [segment.regions.taken(rows).moved_by(start) for (segment, rows), start in zip(parts, first, strict=False)]
    return Segment(ids[order], codes, embeddings.__getitem__, joined_tables(tables).taken(order))


def starts(sizes: Iterable[int]) -> Iterator[int]:
    """Where each of several arrays begins when one comes after another, and where the last ends."""
    return accumulate(sizes, initial=0)


def by_segment(segments: Sequence[Segment], sizes: Sequence[int], rows: Ids, function: OfRows) -> NDArray[Any]:
    """What a function gives for rows (C,), which are counted over segments of these sizes: (C, ...)."""
    if len(segments) == 1:
        return function(segments[0], rows)
    parts = [
        (places := np.flatnonzero((rows >= start) & (rows < start + size)), function(segment, rows[places] - start))
        for segment, size, start in zip(segments, sizes, starts(sizes), strict=False)
    ]
    found = np.concatenate([values for _, values in parts])
    return found[np.argsort(np.concatenate([places for places, _ in parts]), kind="stable")]
