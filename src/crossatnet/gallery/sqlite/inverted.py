"""An inverted index of codes: lists of codes near each other, so that a search of a large gallery reads few of them.

Letters: `N` items, `L` lists, `S` shortlist, `T` tests, `H` hits of a test, `D` embedding dimension, `B` bytes of a
packed code, `C` codes in some lists.

Each code is in the list of its nearest centre (an inverted file: Jégou et al., 2011), and a search reads the lists
whose centres are nearest to its query. `clustering` finds the centres. How many lists must be read, and how long the
shortlist must be, is measured, see `crossatnet.gallery.reach`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from crossatnet.gallery.reach import LONGEST_TESTED, TESTED_HITS, Reach, Tested, asked_as_drawings
from crossatnet.gallery.shortlist import (
    Mask,
    best_places,
    cosines,
    distances_to,
    hamming_nearest,
    shortlist_length,
    unit_rows,
)
from crossatnet.gallery.sqlite.clustering import assigned, trained
from crossatnet.system.recall import RECALL

TESTS = 400
USUAL_HITS = 10
DRIFT, DRIFT_LISTS = 2, 16  # so many times as many lists, and so many more, are too many

Ids = NDArray[np.int64]
Codes = NDArray[np.uint8]
Embeddings = Callable[[Ids], NDArray[np.float16]]


@dataclass(frozen=True)
class Inverted:
    """The lists of N items, one after another, with a copy of their codes in this order."""

    centres: Codes  # (L, B)
    starts: Ids  # (L + 1,): where each list begins; at the end N
    rows: NDArray[np.int32]  # (N,), ascending in each list
    codes: Codes  # (N, B)
    tests: NDArray[np.int32]  # (T, H, 2), see `Tested`
    first_read: int  # lists that a usual search read when the centres were found

    @cached_property
    def tested(self) -> Tested:
        """How far a search must look."""
        return Tested(self.tests, len(self.centres), len(self.rows))

    def usual_lists(self) -> int:
        """How many lists a usual search reads; all, if only an exact one finds enough."""
        reach = self.tested.reach(USUAL_HITS, RECALL)
        return (reach and reach.lists) or len(self.centres)

    def nearest(self, code: Codes, is_live: Mask, reach: Reach) -> Ids:
        """The rows (S,) whose codes are nearest to a code (B,), of equally near ones the first; only those that count.

        Where the lists hold fewer than the reach wants, more are read; there must be as many as that.
        """
        count = min(reach.lists, len(self.centres))
        while True:
            lists = hamming_nearest(self.centres, None, code[None], count)[1][0]
            found = self._among(lists, code, is_live, reach.length)
            if len(found) == reach.length or count == len(self.centres):
                return found
            count = min(2 * count, len(self.centres))

    def list_of(self) -> NDArray[np.int32]:
        """The number of each row's list, (N,)."""
        numbers = np.empty(len(self.rows), np.int32)
        numbers[self.rows] = np.repeat(np.arange(len(self.centres), dtype=np.int32), np.diff(self.starts))
        return numbers

    def _among(self, lists: Ids, code: Codes, is_live: Mask, length: int) -> Ids:
        """The `length` nearest rows of these lists that count; all, if there are fewer."""
        begins, ends = self.starts[lists], self.starts[lists + 1]
        parts = [self.codes[begin:end] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]
        distances = distances_to(code, np.concatenate(parts))  # (C,)
        upto = np.cumsum(ends - begins)
        wanted = length if is_live is None else 2 * length
        while True:
            near = _smallest(distances, wanted)
            part = np.searchsorted(upto, near, "right")  # the list of each
            rows = self.rows[near - upto[part] + ends[part]].astype(np.int64)
            if is_live is not None:
                near, rows = near[is_live[rows]], rows[is_live[rows]]
            if len(rows) >= length or wanted >= len(distances):
                nearest: Ids = rows[np.lexsort((rows, distances[near]))[:length]]
                return nearest
            wanted *= 2


def build(
    codes: Codes, embeddings: Embeddings, lists: int, before: tuple[Inverted, NDArray[np.int32]] | None = None
) -> Inverted:
    """An index of codes (N, B) of so many lists, a square number, with its tests.

    `before` is an earlier index with as many lists, and the number (N,) of the list in which each code is there, -1 for
    a new one: then only new codes are put into lists. If a usual search must now read many more lists than when the
    centres were found, the codes have drifted, and centres are found again.

    Example:
        >>> import numpy as np
        >>> from crossatnet.gallery.sqlite.inverted import build
        >>> codes, embeddings = np.arange(64, dtype=np.uint8)[:, None], np.eye(64, dtype=np.float16)
        >>> index = build(codes, embeddings.__getitem__, lists=4)
        >>> len(index.centres), np.sort(index.rows).tolist() == [*range(64)]
        (4, True)
    """
    if before is not None:
        index, list_of = before
        is_new = list_of < 0
        list_of[is_new] = assigned(codes[is_new], index.centres)
        built = _tested(codes, embeddings, index.centres, list_of, index.first_read)
        if built.usual_lists() <= DRIFT * built.first_read + DRIFT_LISTS:
            return built
    centres = trained(codes, lists)
    built = _tested(codes, embeddings, centres, assigned(codes, centres), 0)
    return replace(built, first_read=built.usual_lists())


def _tested(
    codes: Codes, embeddings: Embeddings, centres: Codes, list_of: NDArray[np.int32], first_read: int
) -> Inverted:
    rows = np.argsort(list_of, kind="stable").astype(np.int32)
    starts = np.searchsorted(list_of[rows], np.arange(len(centres) + 1))
    tests = _tests(codes, embeddings, centres, list_of)
    return Inverted(centres, starts, rows, codes[rows], tests, first_read)


def _tests(codes: Codes, embeddings: Embeddings, centres: Codes, list_of: NDArray[np.int32]) -> NDArray[np.int32]:
    """Where the exact search finds the hits of items that are queries, (T, H, 2), see `Tested`.

    Hits that a small gallery lacks are at the first places.
    """
    random = np.random.default_rng(len(codes))
    rows = np.sort(random.choice(len(codes), min(TESTS, len(codes)), replace=False))
    asked = asked_as_drawings(codes[rows], random)  # (T, B)
    queries = unit_rows(embeddings(rows).astype(np.float32))  # (T, D)
    length = min(shortlist_length(TESTED_HITS, 8 * codes.shape[1], len(codes)), LONGEST_TESTED, len(codes))
    found = np.zeros((len(rows), TESTED_HITS, 2), np.int32)
    for number, row in enumerate(rows):
        shortlist = hamming_nearest(codes, None, asked[number : number + 1], length)[1][0]
        best = best_places(shortlist, cosines(queries[number], embeddings(shortlist)), TESTED_HITS + 1)
        best = best[shortlist[best] != row][:TESTED_HITS]  # an item is no hit of its own
        places = np.empty(len(centres), np.int32)  # of the lists, the nearest first
        places[np.argsort(distances_to(asked[number], centres), kind="stable")] = np.arange(len(centres))
        found[number, : len(best)] = np.stack([places[list_of[shortlist[best]]], best], axis=1)
    return found


def _smallest(values: NDArray[np.int32], count: int) -> Ids:
    """Where the `count` smallest values are, with all that tie with the last."""
    if count >= len(values):
        return np.arange(len(values))
    return np.flatnonzero(values <= np.partition(values, count - 1)[count - 1])
