"""All items of one generation of a gallery as arrays, ready to be searched.

Letters: `N` items, `M` changed items, `Q` queries, `S` shortlist, `K` hits, `D` embedding
dimension, `B` bytes of a packed code.

A snapshot never changes, so a writer does not disturb a search; the next snapshot is made from it and the changes. It
is a list of segments: first the mapped side file, if there is one, then what was added or changed since. Segments are
merged so that each is more than twice as long as the next. Removed and changed items are marked in their segments.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossatnet.gallery.backend import NO_ITEM, Nearest
from crossatnet.gallery.shortlist import best_hits, cosines, hamming_nearest, shortlist_length
from crossatnet.gallery.sqlite.sidefile import SideFile

NOTHING = -1  # the generation of an empty snapshot; 0 is that of migrated items
ROWS_AT_ONCE = 256  # so many embeddings fit the processor's cache while they are scored

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Mask = NDArray[np.bool_] | None  # (N,): which rows count; None for all
Masks = list[Mask]  # one for each segment


@dataclass(frozen=True)
class Changes:
    """The changes from an earlier generation to a later one: new or changed items, ascending by id, and removed ids."""

    generation: int
    ids: Ids  # (M,)
    codes: NDArray[np.uint8]  # (M, B)
    embeddings: NDArray[np.float16]  # (M, D)
    removed: Ids


@dataclass(frozen=True)
class Segment:
    """Items: `ids` (N,) ascending, `codes` (N, B), `embeddings` of given rows, and which rows count (None: all)."""

    ids: Ids
    codes: NDArray[np.uint8]
    embeddings: Callable[[Ids], NDArray[np.float16]]
    is_live: Mask = None

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

    def admitted(self, ids: Ids | None) -> Mask:
        """Which rows count; if `ids` is given, only rows with an id among them."""
        if ids is None:
            return self.is_live
        is_admitted = np.zeros(len(self.ids), np.bool_)
        is_admitted[self.rows_of(ids)] = True
        return is_admitted if self.is_live is None else is_admitted & self.is_live

    def live_rows(self) -> Ids:
        """The rows that count."""
        return np.arange(len(self.ids)) if self.is_live is None else np.flatnonzero(self.is_live)


@dataclass(frozen=True)
class Snapshot:
    """The items of one generation. If the first segment is a side file, `side_token` is its token, else empty."""

    generation: int = NOTHING
    segments: tuple[Segment, ...] = ()
    side_token: str = ""

    @staticmethod
    def of_side_file(side: SideFile) -> "Snapshot":
        """The snapshot of the items in a side file."""
        return Snapshot(side.header.generation, (Segment(side.ids, side.codes, side.embeddings),), side.header.token)

    @property
    def in_memory(self) -> int:
        """Number of items that the side file lacks or has in an older state."""
        return sum(len(segment.ids) for segment in self.segments[bool(self.side_token) :])

    def after(self, changes: Changes) -> "Snapshot":
        """The next snapshot: this one with `changes`, which must start at its generation."""
        outdated = np.concatenate([changes.ids, changes.removed])
        segments = [segment.without(outdated) for segment in self.segments]
        if len(changes.ids):
            segments.append(Segment(changes.ids, changes.codes, changes.embeddings.__getitem__))
        while len(segments) - bool(self.side_token) > 1 and 2 * len(segments[-1].ids) >= len(segments[-2].ids):
            segments[-2:] = [_merged(segments[-2:])]
        return replace(self, generation=changes.generation, segments=tuple(segments))

    def masks(self, ids: Ids | None) -> Masks:
        """For each segment, which rows count; if `ids` is given, only rows with an id among them."""
        return [segment.admitted(ids) for segment in self.segments]

    def nearest(self, queries: Floats, packed: NDArray[np.uint8], k: int, masks: Masks) -> Nearest:
        """The `k` best items for queries (Q, D) of unit length with their codes (Q, B); see `Backend.nearest`.

        Only the rows that `masks` mark count. Raises `DamagedError` if the side file turns out to be damaged.
        """
        counts = self._counts(masks)
        length = min(shortlist_length(k, 8 * packed.shape[1], sum(counts)), sum(counts))
        width = min(k, length)
        ids = np.full((len(queries), width), NO_ITEM, np.int64)
        scores = np.full((len(queries), width), -np.inf, np.float32)
        if length:
            for number, shortlist in enumerate(self._shortlists(masks, counts, packed, length)):
                ids[number], scores[number] = best_hits(*self._scored(queries[number], shortlist), k)
        return Nearest(ids, scores)

    def nearest_codes(self, packed: NDArray[np.uint8], k: int, masks: Masks) -> Nearest:
        """The `k` items whose codes differ least from each query's (Q, B), among the rows that `masks` mark.

        Exact; equal distances are ordered by id, as faiss takes the first rows of equal distance, and a segment's rows
        are in the order of ids.
        """
        counts = self._counts(masks)
        length = min(k, sum(counts))
        if not length:
            return Nearest(np.empty((len(packed), 0), np.int64), np.empty((len(packed), 0), np.float32))
        found = [*self._in_segments(masks, counts, packed, length)]
        distances = np.concatenate([each.distances for each in found], axis=1)
        ids = np.concatenate([each.segment.ids[each.rows] for each in found], axis=1)
        best = np.lexsort((ids, distances))[:, :length]  # (Q, K)
        scores = 1 - np.take_along_axis(distances, best, axis=1) / (8 * packed.shape[1])
        return Nearest(np.take_along_axis(ids, best, axis=1), scores.astype(np.float32))

    def _counts(self, masks: Masks) -> list[int]:
        """How many rows of each segment count."""
        return [
            len(segment.ids) if mask is None else int(np.count_nonzero(mask))
            for segment, mask in zip(self.segments, masks, strict=True)
        ]

    def _shortlists(self, masks: Masks, counts: list[int], packed: NDArray[np.uint8], length: int) -> Ids:
        """Row numbers, counted over all segments, of the items nearest in Hamming distance: (Q, B) -> (Q, S)."""
        found = [*self._in_segments(masks, counts, packed, length)]
        if len(found) == 1:
            return found[0].rows + found[0].offset
        distances = np.concatenate([each.distances for each in found], axis=1)
        best = np.argsort(distances, axis=1, kind="stable")[:, :length]
        return np.take_along_axis(np.concatenate([each.rows + each.offset for each in found], axis=1), best, axis=1)

    def _in_segments(
        self, masks: Masks, counts: list[int], packed: NDArray[np.uint8], length: int
    ) -> Iterator["_InSegment"]:
        """The up to `length` items of each segment that are nearest in Hamming distance to codes (Q, B)."""
        offset = 0
        for segment, mask, count in zip(self.segments, masks, counts, strict=True):
            if count:
                nearest = hamming_nearest(segment.codes, mask, packed, min(length, count))
                yield _InSegment(segment, offset, *nearest)
            offset += len(segment.ids)

    def _scored(self, query: Floats, shortlist: Ids) -> tuple[Ids, Floats]:
        """Ids and cosines of the items in a shortlist (S,) for a query (D,), in no special order."""
        ids, scores, start, offset = np.empty_like(shortlist), np.empty(len(shortlist), np.float32), 0, 0
        for segment in self.segments:
            rows = shortlist[(shortlist >= offset) & (shortlist < offset + len(segment.ids))] - offset
            for first in range(0, len(rows), ROWS_AT_ONCE):
                part = rows[first : first + ROWS_AT_ONCE]
                ids[start : start + len(part)] = segment.ids[part]
                scores[start : start + len(part)] = cosines(query, segment.embeddings(part))
                start += len(part)
            offset += len(segment.ids)
        return ids, scores


class _InSegment(NamedTuple):
    """Items of a segment: distances and rows (Q, S), by distance, and the number of rows in all segments before it."""

    segment: Segment
    offset: int
    distances: NDArray[np.int32]
    rows: Ids


def _merged(segments: Iterable[Segment]) -> Segment:
    """One segment in memory, made of the rows of several segments that count."""
    parts = [(segment, segment.live_rows()) for segment in segments]
    ids = np.concatenate([segment.ids[rows] for segment, rows in parts])
    order = np.argsort(ids)
    codes = np.concatenate([segment.codes[rows] for segment, rows in parts])[order]
    embeddings = np.concatenate([segment.embeddings(rows) for segment, rows in parts])[order]
    return Segment(ids[order], codes, embeddings.__getitem__)
