"""Pictures on a Milvus server found by their regions.

Letters: `Q` queries, `K` hits of a query, `C` candidates, `V` rows compared, `D` embedding dimension, `B` bytes of a
packed code.

A search takes a shortlist of the pictures and one of all regions. The best of both are then scored by all their
regions, so that what a hit says does not depend on the shortlists, as in a file. Regions whose picture is not stored,
or is stored with another content, are what a killed process left, or one that is at work; they count for nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from crossatnet.gallery.backend import NO_ITEM, Nearest
from crossatnet.gallery.milvus.rows import boxes_of, embeddings_of, region_ids
from crossatnet.gallery.milvus.table import BOTH, REGIONS, Table
from crossatnet.gallery.shortlist import best_of_each, best_places, cosines, distances_to
from crossatnet.model.regions import MOST_REGIONS

Floats = NDArray[np.float32]
Row = dict[str, Any]


class Measure(Protocol):
    """Scores of rows for a query, higher for what is nearer; those of regions are less by a penalty."""

    compares: ClassVar[str]  # a field of a row
    brought: ClassVar[tuple[str, ...]]  # the fields that it needs of what a shortlist holds

    def of_hits(self, hits: Sequence[Row], are_regions: bool) -> Floats:
        """The scores (V,) of what a shortlist holds."""

    def of_rows(self, rows: Sequence[Row], are_regions: bool) -> Floats:
        """The scores (V,) of rows."""


@dataclass(frozen=True)
class Cosine:
    """The cosine with a query (D,) of unit length."""

    query: Floats
    penalty: float
    compares: ClassVar[str] = "embedding"
    brought: ClassVar[tuple[str, ...]] = ("embedding",)

    def of_hits(self, hits: Sequence[Row], are_regions: bool) -> Floats:
        """The cosines (V,) of what a shortlist holds."""
        return self.of_rows([hit["entity"] for hit in hits], are_regions)

    def of_rows(self, rows: Sequence[Row], are_regions: bool) -> Floats:
        """The cosines (V,) of rows."""
        halves = embeddings_of([row["embedding"] for row in rows], len(self.query))  # (V, D)
        return cosines(self.query, halves) - np.float32(self.penalty if are_regions else 0)


@dataclass(frozen=True)
class EqualBits:
    """The share of a query's code (B,) that is equal, as if regions differed in `penalty` bits more."""

    code: NDArray[np.uint8]
    penalty: int
    compares: ClassVar[str] = "code"
    brought: ClassVar[tuple[str, ...]] = ()

    def of_hits(self, hits: Sequence[Row], are_regions: bool) -> Floats:
        """The shares (V,) of what a shortlist holds."""
        return self._shares(np.array([hit["distance"] for hit in hits]), are_regions)

    def of_rows(self, rows: Sequence[Row], are_regions: bool) -> Floats:
        """The shares (V,) of rows."""
        codes = np.frombuffer(b"".join(row["code"][0] for row in rows), np.uint8).reshape(-1, len(self.code))
        return self._shares(distances_to(self.code, codes), are_regions)

    def _shares(self, distances: NDArray[Any], are_regions: bool) -> Floats:
        differing = distances + (self.penalty if are_regions else 0)
        return np.asarray(1 - differing / (8 * len(self.code)), np.float32)


class _Ranked(NamedTuple):
    """Items, best first, equal scores by id; `boxes` where it is known by what they were found."""

    ids: NDArray[np.int64]  # (C,)
    scores: Floats  # (C,)
    boxes: Floats | None = None  # (C, 4)


def nearest_by_regions(
    table: Table,
    measures: Sequence[Measure],
    packed: NDArray[np.uint8],
    k: int,
    length: int,
    condition: str,
    at_once: int,
) -> Nearest:
    """The `k` best items for queries with codes (Q, B), by a measure each, among those that meet a condition.

    The shortlists hold `length` pictures and as many regions. If these are all pictures, all regions come too, and the
    search is exact. So many queries `at_once` are asked, so that their candidates fit into memory.
    """
    ids = np.full((len(packed), k), NO_ITEM, np.int64)
    scores = np.full((len(packed), k), -np.inf, np.float32)
    boxes = np.full((len(packed), k, 4), np.nan, np.float32)
    for start in range(0, len(packed), at_once):
        part = slice(start, start + at_once)
        candidates = _candidates(table, measures[part], packed[part], length, condition)
        for number, best in enumerate(_best(table, measures[part], candidates, k), start):
            count = len(best.ids)
            ids[number, :count], scores[number, :count], boxes[number, :count] = best
    return Nearest(ids, scores, boxes)


def stored_regions(table: Table, counts: dict[int, int]) -> list[int]:
    """The ids of the regions of items that are stored beyond their first ones, of which there are so many `counts`."""
    keys = [key for item, count in counts.items() for key in region_ids(item)[count:]]
    return [row["id"] for row in table.among(keys, ["id"], REGIONS)]


def _candidates(
    table: Table, measures: Sequence[Measure], packed: NDArray[np.uint8], length: int, condition: str
) -> list[_Ranked]:
    """What the shortlists of each query hold, by the best that they show of each item."""
    fields = measures[0].brought
    wholes = table.nearest(packed, length + 1, condition, fields)
    are_all = any(len(hits) <= length for hits in wholes)
    regions = table.nearest(
        packed, MOST_REGIONS * length if are_all else length, condition, ["whole", *fields], partition=REGIONS
    )
    found = []
    for measure, own, others in zip(measures, wholes, regions, strict=True):
        items = np.array([hit["id"] for hit in own] + [hit["entity"]["whole"] for hit in others], np.int64)  # (V,)
        scores = np.concatenate([measure.of_hits(own, False), measure.of_hits(others, True)])
        best = best_of_each(items, scores)
        best = best[best_places(items[best], scores[best], len(best))]
        found.append(_Ranked(items[best], scores[best]))
    return found


def _best(table: Table, measures: Sequence[Measure], candidates: Sequence[_Ranked], k: int) -> list[_Ranked]:
    """The `k` best of the candidates of each query, by all of their regions.

    A candidate is at least as good as its shortlist shows. Only regions that count for nothing may make it worse, or
    none at all; then more candidates are looked at, until none that is left can be better.
    """
    best = list(candidates)
    looked_at, unsure = k, [*range(len(candidates))]
    while unsure:
        near = [candidates[number].ids[:looked_at] for number in unsure]
        stored = _stored(table, np.unique(np.concatenate(near)).tolist(), measures[0].compares)
        for number, ids in zip(unsure, near, strict=True):
            best[number] = _ranked(measures[number], [stored[key] for key in ids.tolist() if key in stored], k)
        unsure = [number for number in unsure if _is_unsure(best[number], candidates[number].scores[looked_at:], k)]
        looked_at *= 2
    return best


def _is_unsure(best: _Ranked, others: Floats, k: int) -> bool:
    """Whether one of the other candidates, best first, may belong to the `k` best."""
    return len(others) > 0 and (len(best.ids) < k or bool(others[0] > best.scores[-1]))


def _stored(table: Table, items: Sequence[int], compares: str) -> dict[int, list[Row]]:
    """The rows of those among `items` that are stored, by id: the picture, then its regions."""
    fields = ["id", "whole", "box", "content_hash", compares]
    keys = [key for item in items for key in (item, *region_ids(item))]
    rows = {row["id"]: row for row in table.among(keys, fields, BOTH)}
    found = {}
    for item in items:
        if (picture := rows.get(item)) is not None:
            mark = item, picture["content_hash"]
            regions = [rows[key] for key in region_ids(item) if key in rows]
            found[item] = [picture, *(row for row in regions if (row["whole"], row["content_hash"]) == mark)]
    return found


def _ranked(measure: Measure, pictures: Sequence[list[Row]], k: int) -> _Ranked:
    """The `k` best of pictures, each with its regions."""
    ids = np.array([rows[0]["id"] for rows in pictures], np.int64)  # (C,)
    scores = measure.of_rows([rows[0] for rows in pictures], False)
    boxes = np.full((len(pictures), 4), np.nan, np.float32)
    regions = [row for rows in pictures for row in rows[1:]]
    owners = np.repeat(np.arange(len(pictures)), [len(rows) - 1 for rows in pictures])  # (V,)
    found = measure.of_rows(regions, True)
    better = best_of_each(owners, found)
    better = better[found[better] > scores[owners[better]]]
    scores[owners[better]], boxes[owners[better]] = found[better], boxes_of(regions)[better]
    best = best_places(ids, scores, k)
    return _Ranked(ids[best], scores[best], boxes[best])
