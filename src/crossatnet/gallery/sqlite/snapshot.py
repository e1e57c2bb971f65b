"""All items of one generation of a gallery as arrays, ready to be searched.

Letters: `N` items, `M` regions, `Q` queries, `S` shortlist, `K` hits, `D` embedding dimension, `B` bytes of a packed
code.

A snapshot never changes, so a writer does not disturb a search; the next snapshot is made from it and the changes. It
is a list of segments: first the mapped side file, if there is one, then what was added or changed since. Segments are
merged so that each is more than twice as long as the next. Removed and changed items are marked in their segments.

Where regions are kept, a shortlist holds items and regions, whichever are nearest by their codes. All of them are
scored. The best items are then scored by all of their regions, so that what a hit says does not depend on the
shortlist.

Where the side file has an index of its codes (see `inverted`), a search that may miss a few hits reads some of its
lists, and all later segments. With conditions or regions, all codes are scanned.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossatnet.gallery.backend import NO_ITEM, Nearest
from crossatnet.gallery.reach import Reach
from crossatnet.gallery.shortlist import (
    SHORTEST_A_HIT,
    all_admitted,
    best_of_each,
    best_places,
    distances_to,
    nearest_of_all,
    penalty_bits,
    rows_admitted,
    shortlist_length,
)
from crossatnet.gallery.sqlite.measures import Cosine, EqualBits, Measure
from crossatnet.gallery.sqlite.regions import HEAD_BYTES
from crossatnet.gallery.sqlite.segment import (
    NOTHING,
    Admitted,
    Changes,
    Ids,
    OfRows,
    Segment,
    by_segment,
    merged,
    starts,
)
from crossatnet.gallery.sqlite.sidefile import SideFile
from crossatnet.system.recall import EXACT

Floats = NDArray[np.float32]
Masks = list[Admitted]  # one for each segment


@dataclass(frozen=True)
class Snapshot:
    """The items of one generation. If the first segment is a side file, `side_token` is its token, else empty."""

    generation: int = NOTHING
    segments: tuple[Segment, ...] = ()
    side_token: str = ""

    @staticmethod
    def of_side_file(side: SideFile) -> "Snapshot":
        """The snapshot of the items in a side file."""
        segment = Segment(side.ids, side.codes, side.embeddings, side.regions, index=side.index)
        return Snapshot(side.header.generation, (segment,), side.header.token)

    @property
    def in_memory(self) -> int:
        """Number of items that the side file lacks or has in an older state."""
        return sum(len(segment.ids) for segment in self.segments[bool(self.side_token) :])

    def after(self, changes: Changes) -> "Snapshot":
        """The next snapshot: this one with `changes`, which must start at its generation."""
        outdated = np.concatenate([changes.ids, changes.removed])
        segments = [segment.without(outdated) for segment in self.segments]
        if len(changes.ids):
            segments.append(Segment(changes.ids, changes.codes, changes.embeddings.__getitem__, changes.regions))
        while len(segments) - bool(self.side_token) > 1 and 2 * len(segments[-1].ids) >= len(segments[-2].ids):
            segments[-2:] = [merged(segments[-2:])]
        return replace(self, generation=changes.generation, segments=tuple(segments))

    def masks(self, ids: Ids | None) -> Masks:
        """For each segment, which rows count; if `ids` is given, only rows with an id among them."""
        return [segment.admitted(ids) for segment in self.segments]

    def nearest(
        self,
        queries: Floats,
        packed: NDArray[np.uint8],
        k: int,
        masks: Masks,
        region_penalty: float = 0.0,
        recall: float = EXACT,
    ) -> Nearest:
        """The `k` best items for queries (Q, D) of unit length with their codes (Q, B); see `Backend.nearest`.

        Only the rows that `masks` mark count; with less than the exact recall they must be all that were not removed.
        Raises `DamagedError` if the side file turns out to be damaged.
        """
        counts = self._counts(masks)
        everything, reach = sum(counts), self._reach(k, recall)
        length = min(reach.length if reach else shortlist_length(k, 8 * packed.shape[1], everything), everything)
        measures = [Cosine(query, region_penalty) for query in queries]
        if reach and reach.lists:
            shortlists = self._listed(masks, counts, packed, Reach(reach.lists, length))
        else:
            shortlists = self._shortlists(masks, packed, k, length, region_penalty)
        return self._best(measures, shortlists, min(k, length))

    def nearest_codes(self, packed: NDArray[np.uint8], k: int, masks: Masks, region_penalty: float = 0.0) -> Nearest:
        """The `k` items whose codes differ least from each query's (Q, B), among the rows that `masks` mark.

        Equal distances are ordered by id, as faiss takes the first rows of equal distance, and a segment's rows are in
        the order of ids. Exact without regions; these are found by the heads of their codes.
        """
        everything = sum(self._counts(masks))
        # an item has fewer than so many regions, so that this many items and regions are of k items at least
        length = min(k * (SHORTEST_A_HIT if self._has_regions else 1), everything)
        measures = [EqualBits(code, penalty_bits(region_penalty, 8 * len(code))) for code in packed]
        return self._best(measures, self._shortlists(masks, packed, k, length, region_penalty), min(k, length))

    @property
    def _has_regions(self) -> bool:
        return any(len(segment.regions) for segment in self.segments)

    def _counts(self, masks: Masks) -> list[int]:
        """How many items of each segment count."""
        return [rows_admitted(segment.ids, mask.items) for segment, mask in zip(self.segments, masks, strict=True)]

    def _reach(self, k: int, recall: float) -> Reach | None:
        """How far a search must look for `k` hits of this recall; None for a search of everything."""
        index = self.segments[0].index if self.segments else None
        return index.tested.reach(k, recall) if index and not self._has_regions else None

    def _listed(
        self, masks: Masks, counts: Sequence[int], packed: NDArray[np.uint8], reach: Reach
    ) -> Iterator[tuple[Ids, Ids]]:
        """As `_shortlists`, but of the first segment only some lists are read; `counts` are those of the masks."""
        index = self.segments[0].index
        assert index is not None, "asked only where there is one"
        own = Reach(reach.lists, min(reach.length, counts[0]))
        later = [segment.codes for segment in self.segments[1:]], [mask.items for mask in masks[1:]]
        for code in packed:
            parts = [index.nearest(code, masks[0].items, own)]
            if any(counts[1:]):
                rows = nearest_of_all(*later, code[None], reach.length)[1][0]
                parts.append(len(self.segments[0].ids) + rows)
            yield np.concatenate(parts), np.empty(0, np.int64)

    def _shortlists(
        self, masks: Masks, packed: NDArray[np.uint8], k: int, length: int, penalty: float
    ) -> Iterator[tuple[Ids, Ids]]:
        """For each code (Q, B) the `length` items or regions that are nearest in Hamming distance: rows of both.

        Regions are found by the heads of their codes, and compared by the whole codes. If all items are asked for, all
        regions come too.
        """
        if not length:
            return
        codes = [segment.codes for segment in self.segments]
        distances, items = nearest_of_all(codes, [mask.items for mask in masks], packed, length)  # (Q, S)
        heads, admitted = [segment.regions.heads for segment in self.segments], [mask.regions for mask in masks]
        total = sum(map(rows_admitted, heads, admitted))
        if not total or length == sum(self._counts(masks)):
            every = all_admitted(heads, admitted)
            yield from ((rows, every) for rows in items)
            return
        candidates = min(shortlist_length(k, 8 * heads[0].shape[1], total), total)
        _, regions = nearest_of_all(heads, admitted, packed[:, :HEAD_BYTES], candidates)  # (Q, C)
        worth = penalty_bits(penalty, 8 * packed.shape[1])
        for code, nearness, rows, others in zip(packed, distances, items, regions, strict=True):
            far = worth + distances_to(code, self._of_regions(others, lambda each, own: each.regions.codes[own]))
            others, far = others[far < nearness[-1]], far[far < nearness[-1]]  # what comes after all items is left out
            best = np.argsort(np.concatenate([nearness, far]), kind="stable")[:length]
            yield rows[best[best < len(rows)]], others[best[best >= len(rows)] - len(rows)]

    def _best(self, measures: Sequence[Measure], shortlists: Iterator[tuple[Ids, Ids]], k: int) -> Nearest:
        """The `k` best items of each shortlist, by one measure each."""
        ids = np.full((len(measures), k), NO_ITEM, np.int64)
        scores = np.full((len(measures), k), -np.inf, np.float32)
        boxes = np.full((len(measures), k, 4), np.nan, np.float32)
        for number, (rows, regions) in enumerate(shortlists):
            measure = measures[number]
            found = self._of_items(rows, measure.of_items)
            if len(regions):
                rows = np.concatenate([rows, self._owners(regions)])
                found = np.concatenate([found, self._of_regions(regions, measure.of_regions)])
                places = best_of_each(rows, found)
                rows, found = rows[places], found[places]
            keys = self._of_items(rows, lambda segment, own: segment.ids[own])
            best = best_places(keys, found, k)
            keys, found = keys[best], found[best]
            if self._has_regions:
                found, framed = self._exact(measure, rows[best])
                best = best_places(keys, found, k)
                keys, found, boxes[number, : len(best)] = keys[best], found[best], framed[best]
            ids[number, : len(keys)], scores[number, : len(keys)] = keys, found
        return Nearest(ids, scores, boxes if self._has_regions else None)

    def _exact(self, measure: Measure, rows: Ids) -> tuple[Floats, Floats]:
        """Scores (K,) of items by all their regions, and the boxes (K, 4) of those that are better than the whole."""
        scores = self._of_items(rows, measure.of_items)
        boxes = np.full((len(rows), 4), np.nan, np.float32)
        for start, segment in zip(starts(len(each.ids) for each in self.segments), self.segments, strict=False):
            places = np.flatnonzero((rows >= start) & (rows < start + len(segment.ids)))
            regions, counts = segment.regions.of(rows[places] - start)
            if not len(regions):
                continue
            of = np.repeat(places, counts)
            found = measure.of_regions(segment, regions)
            best = best_of_each(of, found)
            best = best[found[best] > scores[of[best]]]
            scores[of[best]], boxes[of[best]] = found[best], segment.regions.fractions(regions[best])
        return scores, boxes

    def _owners(self, regions: Ids) -> Ids:
        """The items of regions, both counted over all segments."""
        owners, before = np.empty_like(regions), 0
        for start, segment in zip(starts(len(each.ids) for each in self.segments), self.segments, strict=False):
            places = np.flatnonzero((regions >= before) & (regions < before + len(segment.regions)))
            owners[places] = start + segment.regions.owners[regions[places] - before].astype(np.int64)
            before += len(segment.regions)
        return owners

    def _of_items(self, rows: Ids, function: OfRows) -> NDArray[Any]:
        """What a function gives for items, which are counted over all segments."""
        return by_segment(self.segments, [len(segment.ids) for segment in self.segments], rows, function)

    def _of_regions(self, rows: Ids, function: OfRows) -> NDArray[Any]:
        """The same for regions."""
        return by_segment(self.segments, [len(segment.regions) for segment in self.segments], rows, function)
