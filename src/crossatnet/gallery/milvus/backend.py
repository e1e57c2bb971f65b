"""A gallery on a Milvus server or cluster: the `Backend` for more pictures than one machine can hold.

Letters: `N` items, `Q` queries, `S` shortlist, `K` hits, `D` embedding dimension, `B` bytes of a packed code.

A gallery is one collection, a row for each picture: its code, its embedding and its facts. A search scans the codes, of
a large gallery a part of them (`reach`), and brings the embeddings of its shortlist along, in one call. An item's id is
a hash of its path, so every process that stores the path writes the same row, and a change of a picture is a change of
one row. Where regions are kept, they are rows too (`regions`), written before their picture's row: it says that the
picture is stored.
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossatnet.gallery.backend import (
    EVERYTHING,
    NO_ITEM,
    CodedRegions,
    Description,
    Facts,
    FileState,
    Filter,
    GalleryMissingError,
    MadeWith,
    Nearest,
    Root,
    StoredPicture,
    below,
    check_finite,
)
from crossatnet.gallery.milvus import reach
from crossatnet.gallery.milvus.calls import Address, Connection
from crossatnet.gallery.milvus.collections import create_collection, load_collection, read_made_with
from crossatnet.gallery.milvus.regions import Cosine, EqualBits, nearest_by_regions, stored_regions
from crossatnet.gallery.milvus.rows import (
    FACTS,
    NO_WORDS,
    embeddings_of,
    expression,
    file_state_of,
    id_of,
    id_ranges,
    item_of,
    regions_of,
    row_of,
    whole_of,
)
from crossatnet.gallery.milvus.table import LISTS, LONGEST_SHORTLIST, REGIONS, Table
from crossatnet.gallery.reach import INDEXED, Reach, Tested
from crossatnet.gallery.shortlist import (
    SHORTEST,
    SHORTEST_A_HIT,
    best_hits,
    cosines,
    penalty_bits,
    shortlist_length,
)
from crossatnet.model.regions import MOST_REGIONS
from crossatnet.system.consistency import Consistency
from crossatnet.system.errors import UserError
from crossatnet.system.recall import EXACT, RECALL

LOOK_S = 60.0  # between two looks at what was measured
VALUES_A_CALL = 10_000
# # So many candidates' embeddings are in memory at once: 45 MB as text, 32 MiB as halves, 64 MiB more when compared.
# They are at least those of one query, which are more from about 1e7 items on; with 1e9 items of 512 bits they are
# gigabytes.
RERANK_FLOATS = 16_777_216


class MilvusBackend:
    """One gallery on a Milvus server: the methods of `Backend`, documented there.

    Any number of processes may use it at once. Searches, `len`, `pictures` and `embedding` are as current as the
    consistency says; all else sees what any process has written. Raises `UserError` if the server does not answer for
    long.
    """

    thumbnail_side = 0  # a vector database is not made for pictures

    def __init__(
        self,
        connection: Connection,
        made_with: MadeWith,
        consistency: Consistency = "session",
        recall: float = RECALL,
    ) -> None:
        """Use `open` or `create` instead."""
        self.made_with = made_with
        self._connection = connection
        self._recall = recall
        self._table = Table(connection, connection.address.name, consistency, made_with.regions)
        self._tested: Tested | None = None
        self._next_look = 0.0  # at what was measured

    @classmethod
    def create(cls, address: Address, made_with: MadeWith) -> "MilvusBackend":
        """Make an empty gallery. Raises `UserError` if there is something of that name already."""
        connection = Connection(address)
        try:
            if connection.call("has_collection", address.name):
                raise UserError(f"{address}: exists already; give another name, or index into it")
            create_collection(connection, address.name, made_with)
        except UserError:
            connection.close()
            raise
        return cls(connection, made_with)

    @classmethod
    def open(cls, address: Address, consistency: Consistency = "session", recall: float = RECALL) -> "MilvusBackend":
        """Open a gallery. Raises `GalleryMissingError` if there is none, `UserError` if it is something else."""
        connection = Connection(address)
        try:
            if not connection.call("has_collection", address.name):
                raise GalleryMissingError(
                    f"{address}: no gallery there; make one with `crossatnet index FOLDER --to {address}`"
                )
            made_with = read_made_with(connection, address.name)
            load_collection(connection, address.name, made_with)
        except UserError:
            connection.close()
            raise
        return cls(connection, made_with, consistency, recall)

    @property
    def name(self) -> str:
        """The address, for messages."""
        return str(self._connection.address)

    def close(self) -> None:
        """Close the connection; closing twice does no harm."""
        self._connection.close()

    def __len__(self) -> int:
        """Number of items."""
        return self._table.size()

    # Changes

    def put(
        self,
        pictures: Sequence[Facts],
        packed: NDArray[np.uint8],
        embeddings: NDArray[np.float32],
        thumbnails: Sequence[bytes] = (),
        regions: Sequence[CodedRegions] = (),
    ) -> int:
        """Store a batch, in one call for each `ROWS_A_CALL` pictures or regions; thumbnails are not kept."""
        for each in (embeddings, *(one.embeddings for one in regions)):
            check_finite(each, self.name)
        known = self._rows_of_paths([facts.path for facts in pictures], ["added"])
        now = int(datetime.now(UTC).timestamp())
        rows: dict[int, dict[str, Any]] = {}  # by id: Milvus would store a path twice if a batch holds it twice
        parts: dict[int, list[dict[str, Any]]] = {}
        coded: Sequence[CodedRegions | None] = regions or [None] * len(pictures)
        for facts, code, embedding, one in zip(pictures, packed, embeddings, coded, strict=True):
            added = known[facts.path]["added"] if facts.path in known else now
            row = row_of(facts, code, embedding, added)
            if (other := rows.get(row["id"], row)["path"]) != facts.path:
                raise self._same_id(facts.path, other)
            rows[row["id"]] = whole_of(row) if self.made_with.regions else row
            parts[row["id"]] = regions_of(row, one) if one else []
        if self.made_with.regions:
            counts = {row["id"]: len(parts[row["id"]]) for row in known.values()}
            self._table.delete(stored_regions(self._table, counts))
            self._table.upsert([part for each in parts.values() for part in each], REGIONS)
        self._table.upsert([*rows.values()])
        return len({facts.path for facts in pictures} - known.keys())

    def touch(self, states: Sequence[tuple[str, FileState]]) -> None:
        """Update size and time of stored paths."""
        known = self._rows_of_paths([path for path, _ in states], ["*"])
        rows = {
            path: {**known[path], "code": known[path]["code"][0], "size": state.size, "mtime_ns": state.mtime_ns}
            for path, state in states
            if path in known
        }
        self._table.upsert([*rows.values()])

    def describe(self, descriptions: Sequence[tuple[str, Description]]) -> None:
        """Nothing: what is known of photos is not kept here."""

    def move(self, moves: Sequence[tuple[str, Facts]]) -> None:
        """Nothing: `with_content` never finds a file that moved."""

    def with_content(self, content_hash: str) -> list[str]:
        """None: an id here is a hash of its path, so that every process writes the same row, and cannot move."""
        return []

    def remove(self, paths: Sequence[str]) -> int:
        """Remove these paths."""
        items = [row["id"] for row in self._rows_of_paths(paths, ["id"]).values()]
        parts = stored_regions(self._table, dict.fromkeys(items, 0)) if self.made_with.regions else []
        self._table.delete([*items, *parts])
        return len(items)

    def flush(self) -> None:
        """Let the server write the latest changes out of its log, and index them; a large gallery may be measured.

        Not one with regions, as its searches are exact.
        """
        self._table.maintain("flush")
        if not self.made_with.regions:
            reach.measure(self._table, self.made_with.dimension, self.made_with.code_bits)

    def compact(self) -> None:
        """Let the server free the space of removed rows, in the background."""
        self._table.maintain("compact")

    def roots(self) -> list[Root]:
        """None are remembered: what is kept with a collection cannot be changed once it is made."""
        return []

    def remember(self, root: Root) -> None:
        """Nothing, see `roots`."""

    def forget(self, folder: Path) -> None:
        """Nothing, see `roots`."""

    # # Queries

    def file_states(self, paths: Sequence[str]) -> dict[str, FileState]:
        """The file states of those among `paths` that are stored."""
        known = self._rows_of_paths(paths, ["size", "mtime_ns", "content_hash"])
        return {path: file_state_of(row) for path, row in known.items()}

    def ids(self, paths: Sequence[str]) -> dict[str, int]:
        """The ids of those among `paths` that are stored."""
        return {path: row["id"] for path, row in self._rows_of_paths(paths, ["id"]).items()}

    def paths_under(self, folder: Path | str) -> Iterator[str]:
        """The stored paths `below` a folder or the like, ascending."""
        yield from sorted(self._values("path", Filter(path_prefix=below(folder))))

    def classes(self) -> dict[str | None, int]:
        """The number of items of each class. Reads the class of every item, as Milvus 2.3 cannot count by a field."""
        return dict(Counter(name or None for name in self._values("class_name", EVERYTHING)))

    def folders(self) -> dict[str, int]:
        """The number of items in each folder. Reads the path of every item."""
        return dict(sorted(Counter(str(Path(path).parent) for path in self._values("path", EVERYTHING)).items()))

    def by_words(self, filter: Filter, k: int, offset: int = 0) -> tuple[list[int], list[float]]:
        """Raises `UserError`: a server of this version has no search by words."""
        raise UserError(f"{self.name}: {NO_WORDS}")

    def pictures(self, ids: Sequence[int]) -> dict[int, StoredPicture]:
        """The stored items among `ids`, by id."""
        self._table.catch_up_with_own()
        return {key: item_of(row) for key, row in self._table.rows(ids, FACTS).items()}

    def thumbnail(self, item_id: int) -> bytes | None:
        """None: thumbnails are not kept here."""
        return None

    def embedding(self, item_id: int) -> NDArray[np.float32] | None:
        """The stored embedding (D,) of an item, if there is one."""
        self._table.catch_up_with_own()
        rows = self._table.rows([item_id], ["embedding"])
        return self._embeddings([rows[item_id]["embedding"]])[0].astype(np.float32) if rows else None

    def sample(self, number: int) -> NDArray[np.float32]:
        """Embeddings (N, D) of up to `number` items; their ids are hashes, so the first ones are from all over."""
        rows = self._table.loaded("id >= 0", ["embedding"], limit=number)
        return self._embeddings([row["embedding"] for row in rows]).astype(np.float32)

    def nearest(
        self,
        queries: NDArray[np.float32],
        packed: NDArray[np.uint8],
        k: int,
        filter: Filter = EVERYTHING,
        region_penalty: float = 0.0,
    ) -> Nearest:
        """The `k` nearest items of queries (Q, D) with codes (Q, B), among those that `filter` admits."""
        # # so many items at most: those that the filter admits are not counted, and the count may be out of date
        items = max(self._table.size(), LONGEST_SHORTLIST)
        k = min(k, items)  # k may be larger than the gallery
        if self.made_with.regions:
            measures = [Cosine(query, region_penalty) for query in queries]
            length = shortlist_length(k, self.made_with.code_bits, items)
            at_once = max(1, RERANK_FLOATS // ((1 + MOST_REGIONS) * length * queries.shape[1]))
            return nearest_by_regions(self._table, measures, packed, k, length, expression(filter), at_once)
        near = self._reach(k, items) if filter == EVERYTHING else None
        length = near.length if near else shortlist_length(k, self.made_with.code_bits, items)
        lists = (near and near.lists) or LISTS
        ids = np.full((len(queries), k), NO_ITEM, np.int64)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        part = max(1, RERANK_FLOATS // (length * queries.shape[1]))
        for start in range(0, len(queries), part):
            some = packed[start : start + part]
            shortlists = self._table.nearest(some, length, expression(filter), ["embedding"], lists)
            for number, shortlist in enumerate(shortlists, start):
                found = np.array([hit["id"] for hit in shortlist], np.int64)  # (S,)
                halves = self._embeddings([hit["entity"]["embedding"] for hit in shortlist])  # (S, D)
                best_ids, best_scores = best_hits(found, cosines(queries[number], halves), k)
                ids[number, : len(best_ids)], scores[number, : len(best_ids)] = best_ids, best_scores
        return Nearest(ids, scores)

    def nearest_codes(
        self, packed: NDArray[np.uint8], k: int, filter: Filter = EVERYTHING, region_penalty: float = 0.0
    ) -> Nearest:
        """The `k` items whose codes differ least from each of (Q, B), among those that `filter` admits.

        The server chooses among equally distant items, so more are asked for than are returned.
        """
        self._table.catch_up()
        if self.made_with.regions:
            measures = [EqualBits(code, penalty_bits(region_penalty, self.made_with.code_bits)) for code in packed]
            length = min(max(SHORTEST_A_HIT * k, SHORTEST), LONGEST_SHORTLIST)
            return nearest_by_regions(self._table, measures, packed, k, length, expression(filter), len(packed))
        ids = np.full((len(packed), k), NO_ITEM, np.int64)
        scores = np.full((len(packed), k), -np.inf, np.float32)
        length = min(max(2 * k, SHORTEST), LONGEST_SHORTLIST)
        for number, hits in enumerate(self._table.nearest(packed, length, expression(filter), [])):
            best = sorted(hits, key=lambda hit: (hit["distance"], hit["id"]))[:k]
            ids[number, : len(best)] = [hit["id"] for hit in best]
            scores[number, : len(best)] = [1 - hit["distance"] / (8 * packed.shape[1]) for hit in best]
        return Nearest(ids, scores)

    def _reach(self, k: int, items: int) -> Reach | None:
        """How far a search of the gallery with so many items must look; None where it is exact."""
        if items <= INDEXED or self._recall == EXACT:
            return None
        now = time.monotonic()
        if now >= self._next_look:
            self._tested, self._next_look = reach.read(self._table), now + LOOK_S
        return self._tested.reach(k, self._recall) if self._tested else None

    def _embeddings(self, texts: Sequence[str]) -> NDArray[np.float16]:
        return embeddings_of(texts, self.made_with.dimension)  # (N, D)

    # Rows

    def _rows_of_paths(self, paths: Sequence[str], fields: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The present rows of those among `paths` that are stored, by path."""
        ids = {id_of(path): path for path in paths}
        fields = fields if "*" in fields else ["path", *fields]
        rows: dict[str, dict[str, Any]] = {}
        for row in self._table.latest([*ids], fields):
            if row["path"] != ids[row["id"]]:
                raise self._same_id(ids[row["id"]], row["path"])
            rows[row["path"]] = row
        return rows

    def _values(self, field: str, filter: Filter) -> Iterator[Any]:
        """A field of all items that `filter` admits, in no special order."""
        self._table.catch_up_with_all()
        for ids in id_ranges(1 + self._table.count() // VALUES_A_CALL):
            yield from (row[field] for row in self._table.loaded(expression(filter, ids), [field]))

    def _same_id(self, path: str, other: str) -> UserError:
        """The error for two paths with equal hashes, which is expected once in some billions."""
        return UserError(f"{self.name}: {path} has by chance the id of {other}; rename one of the two and index again")
