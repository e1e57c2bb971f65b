"""A gallery on a Milvus server or cluster: the `Backend` for more pictures than one machine can hold.

Letters: `N` items, `Q` queries, `S` shortlist, `K` hits, `D` embedding dimension, `B` bytes of a packed code.

A gallery is two collections, as Milvus up to 2.3 allows only one vector field in each. NAME holds the codes and facts
of the pictures, and each search scans it. NAME_embeddings holds the embeddings; a search reads those of its shortlist.

An item's id is a hash of its path, so every process that stores the path writes the same row. The key of an embedding
is a hash of path and content. So the embedding under a key never changes, and may be read without waiting for the
latest changes. An embedding is written before the row that points to it and removed after it, so every row has its
embedding. A process that dies in between leaves at most one batch of embeddings that no row points to.
"""

import math
import os
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
    STORED_FLOAT,
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
    check_finite,
)
from crossatnet.gallery.milvus.calls import Address, Connection
from crossatnet.gallery.milvus.collections import (
    CODES,
    EMBEDDINGS,
    create_codes,
    create_embeddings,
    embeddings_name,
    read_made_with,
)
from crossatnet.gallery.milvus.rows import FACTS, NO_WORDS, expression, file_state_of, id_of, id_ranges, item_of, row_of
from crossatnet.gallery.shortlist import SHORTEST, best_hits, cosines, shortlist_length
from crossatnet.system.errors import UserError

LONGEST_SHORTLIST = 16_384  # Milvus's own limit for one search
SURE_SHARE = 0.9  # of that limit: how many items are asked of a range of ids, as the ranges differ a little in size
ROWS_A_CALL, VALUES_A_CALL = 1000, 10_000
# # So many candidates' embeddings are in memory at once: 32 MiB as halves, 64 MiB more while they are compared. They
# are at least those of one query, which are more from about 1e7 items on; with 1e9 items of 512 bits they are
# gigabytes.
RERANK_FLOATS = 16_777_216

# # How current a read must be. Milvus replaces a row by deleting it and adding it again. While another process replaced
# rows, Milvus's own strong query missed rows, or counted too many, in about every fifth measurement. A query of what
# the server has loaded never missed a row. So a strong read here first waits, see `_catch_up`, and then reads what is
# loaded.
STRONG = "Strong"  # all that any process has written; waits for the server's next time tick, every 200 ms
EVENTUAL = "Eventually"  # what the server has loaded


class MilvusBackend:
    """One gallery on a Milvus server: the methods of `Backend`, documented there.

    Any number of processes may use it at once. Raises `UserError` if the server does not answer for long.
    """

    thumbnail_side = 0  # a vector database is not made for pictures

    def __init__(self, connection: Connection, made_with: MadeWith) -> None:
        """Use `open` or `create` instead."""
        self.made_with = made_with
        self._connection = connection
        self._codes = connection.address.name
        self._embeddings = embeddings_name(connection.address)
        self._changes = 0  # by this object
        self._seen = 0  # how many of these every read is sure to include

    @classmethod
    def create(cls, address: Address, made_with: MadeWith) -> "MilvusBackend":
        """Make an empty gallery. Raises `UserError` if there is something of that name already."""
        connection = Connection(address)
        try:
            if connection.call("has_collection", address.name):
                raise UserError(f"{address}: exists already; give another name, or index into it")
            embeddings = embeddings_name(address)
            if not connection.call("has_collection", embeddings):
                create_embeddings(connection, embeddings, made_with)
            elif read_made_with(connection, embeddings, EMBEDDINGS) != made_with:  # not ours, left by an interruption
                raise UserError(f"{address}: {embeddings} exists there already; give another name")
            create_codes(connection, address.name, made_with)  # last: once it exists, the gallery does
        except UserError:
            connection.close()
            raise
        return cls(connection, made_with)

    @classmethod
    def open(cls, address: Address) -> "MilvusBackend":
        """Open a gallery. Raises `GalleryMissingError` if there is none, `UserError` if it is something else."""
        connection = Connection(address)
        try:
            if not connection.call("has_collection", address.name):
                raise GalleryMissingError(
                    f"{address}: no gallery there; make one with `crossatnet index FOLDER --to {address}`"
                )
            made_with = read_made_with(connection, address.name, CODES)
            for collection in (address.name, embeddings_name(address)):
                connection.call("load_collection", collection)
        except UserError:
            connection.close()
            raise
        return cls(connection, made_with)

    @property
    def name(self) -> str:
        """The address, for messages."""
        return str(self._connection.address)

    def close(self) -> None:
        """Close the connection; closing twice does no harm."""
        self._connection.close()

    def __len__(self) -> int:
        """Number of items."""
        return self._count(EVERYTHING, STRONG)

    # Changes

    def put(
        self,
        pictures: Sequence[Facts],
        packed: NDArray[np.uint8],
        embeddings: NDArray[np.float32],
        thumbnails: Sequence[bytes] = (),
        regions: Sequence[CodedRegions] = (),
    ) -> int:
        """Store a batch: its embeddings, then the rows that point to them; thumbnails and regions are not kept."""
        check_finite(embeddings, self.name)
        known = self._rows_of_paths([facts.path for facts in pictures], ["added", "embedding_id"])
        now = int(datetime.now(UTC).timestamp())
        halves = embeddings.astype(STORED_FLOAT)
        rows: dict[int, dict[str, Any]] = {}  # by id: Milvus would store a path twice if a batch holds it twice
        vectors: dict[int, dict[str, Any]] = {}  # the same
        for facts, code, half in zip(pictures, packed, halves, strict=True):
            added = known[facts.path]["added"] if facts.path in known else now
            row = row_of(facts, code, added)
            if (other := rows.get(row["id"], row)["path"]) != facts.path:
                raise self._same_id(facts.path, other)
            rows[row["id"]] = row
            vectors[row["id"]] = {"id": row["embedding_id"], "embedding": half.tobytes()}
        self._upsert(self._embeddings, [*vectors.values()])
        self._upsert(self._codes, [*rows.values()])
        replaced = {row["embedding_id"] for row in known.values()} - {row["embedding_id"] for row in rows.values()}
        self._delete(self._embeddings, [*replaced])
        return len({facts.path for facts in pictures} - known.keys())

    def touch(self, states: Sequence[tuple[str, FileState]]) -> None:
        """Update size and time of stored paths."""
        known = self._rows_of_paths([path for path, _ in states], ["*"])
        rows = {
            path: {**known[path], "code": known[path]["code"][0], "size": state.size, "mtime_ns": state.mtime_ns}
            for path, state in states
            if path in known
        }
        self._upsert(self._codes, [*rows.values()])

    def describe(self, descriptions: Sequence[tuple[str, Description]]) -> None:
        """Nothing: what is known of photos is not kept here."""

    def move(self, moves: Sequence[tuple[str, Facts]]) -> None:
        """Nothing: `with_content` never finds a file that moved."""

    def with_content(self, content_hash: str) -> list[str]:
        """None: an id here is a hash of its path, so that every process writes the same row, and cannot move."""
        return []

    def remove(self, paths: Sequence[str]) -> int:
        """Remove these paths: their rows, then their embeddings."""
        known = self._rows_of_paths(paths, ["embedding_id"])
        self._delete(self._codes, [row["id"] for row in known.values()])
        self._delete(self._embeddings, [row["embedding_id"] for row in known.values()])
        return len(known)

    def flush(self) -> None:
        """Let the server write the latest changes out of its log, and index them."""
        for collection in (self._embeddings, self._codes):
            self._connection.call("flush", collection)

    def compact(self) -> None:
        """Let the server free the space of removed rows, in the background."""
        for collection in (self._embeddings, self._codes):
            self._connection.call("compact", collection)

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

    def paths_under(self, folder: Path) -> Iterator[str]:
        """The stored paths in `folder` (absolute) or below it, ascending."""
        yield from sorted(self._values("path", Filter(path_prefix=str(folder).rstrip(os.sep) + os.sep)))

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
        return {key: item_of(row) for key, row in self._rows(self._codes, ids, FACTS).items()}

    def thumbnail(self, item_id: int) -> bytes | None:
        """None: thumbnails are not kept here."""
        return None

    def embedding(self, item_id: int) -> NDArray[np.float32] | None:
        """The stored embedding (D,) of an item, if there is one."""
        pointers = [row["embedding_id"] for row in self._rows(self._codes, [item_id], ["embedding_id"]).values()]
        rows = self._rows(self._embeddings, pointers, ["embedding"])
        halves = [np.frombuffer(row["embedding"][0], STORED_FLOAT) for row in rows.values()]
        return halves[0].astype(np.float32) if halves else None

    def sample(self, number: int) -> NDArray[np.float32]:
        """Embeddings (N, D) of up to `number` items; their keys are hashes, so the first ones are from all over."""
        rows = self._connection.call(
            "query",
            self._embeddings,
            filter="id >= 0",
            limit=number,
            output_fields=["embedding"],
            consistency_level=EVENTUAL,
        )
        halves = [np.frombuffer(row["embedding"][0], STORED_FLOAT) for row in rows]
        return np.stack(halves).astype(np.float32) if halves else np.empty((0, self.made_with.dimension), np.float32)

    def nearest(
        self,
        queries: NDArray[np.float32],
        packed: NDArray[np.uint8],
        k: int,
        filter: Filter = EVERYTHING,
        region_penalty: float = 0.0,
    ) -> Nearest:
        """The `k` nearest items of queries (Q, D) with codes (Q, B), among those that `filter` admits."""
        # # the count may be out of date; a shortlist that may need all items is rather too long than too short
        admitted = max(self._count(filter, EVENTUAL), LONGEST_SHORTLIST)
        k = min(k, admitted)  # k may be larger than the gallery
        length = shortlist_length(k, self.made_with.code_bits, admitted)
        ids = np.full((len(queries), k), NO_ITEM, np.int64)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        part = max(1, RERANK_FLOATS // (length * queries.shape[1]))
        for start in range(0, len(queries), part):
            shortlists = self._shortlists(packed[start : start + part], length, filter)
            vectors = self._vectors({key: pointer for shortlist in shortlists for key, pointer in shortlist.items()})
            for number, shortlist in enumerate(shortlists, start):
                candidates = {key: vectors[key] for key in shortlist if key in vectors}
                best_ids, best_scores = self._best(queries[number], candidates, k)
                ids[number, : len(best_ids)], scores[number, : len(best_ids)] = best_ids, best_scores
        return Nearest(ids, scores)

    def nearest_codes(
        self, packed: NDArray[np.uint8], k: int, filter: Filter = EVERYTHING, region_penalty: float = 0.0
    ) -> Nearest:
        """The `k` items whose codes differ least from each of (Q, B), among those that `filter` admits.

        The server chooses among equally distant items, so more are asked for than are returned.
        """
        ids = np.full((len(packed), k), NO_ITEM, np.int64)
        scores = np.full((len(packed), k), -np.inf, np.float32)
        length = min(max(2 * k, SHORTEST), LONGEST_SHORTLIST)
        self._catch_up(self._codes)
        for number, hits in enumerate(self._hits(packed, length, expression(filter))):
            best = sorted(hits, key=lambda hit: (hit["distance"], hit["id"]))[:k]
            ids[number, : len(best)] = [hit["id"] for hit in best]
            scores[number, : len(best)] = [1 - hit["distance"] / (8 * packed.shape[1]) for hit in best]
        return Nearest(ids, scores)

    def _shortlists(self, packed: NDArray[np.uint8], length: int, filter: Filter) -> list[dict[int, int]]:
        """For each code (Q, B) the `length` nearest items that `filter` admits: their ids, with their embeddings' keys.

        Every change made before the call counts.
        """
        self._catch_up(self._codes)
        if length <= LONGEST_SHORTLIST:
            return self._search(packed, length, expression(filter))
        shortlists: list[dict[int, int]] = [{} for _ in packed]
        # # each range of ids has about its share of the nearest items
        for ids in id_ranges(math.ceil(length / (LONGEST_SHORTLIST * SURE_SHARE))):
            found = self._search(packed, LONGEST_SHORTLIST, expression(filter, ids))
            for shortlist, part in zip(shortlists, found, strict=True):
                shortlist.update(part)
        return shortlists

    def _search(self, packed: NDArray[np.uint8], length: int, condition: str) -> list[dict[int, int]]:
        answers = self._hits(packed, length, condition)
        return [{hit["id"]: hit["entity"]["embedding_id"] for hit in answer} for answer in answers]

    def _hits(self, packed: NDArray[np.uint8], length: int, condition: str) -> list[list[dict[str, Any]]]:
        answers: list[list[dict[str, Any]]] = self._connection.call(
            "search",
            self._codes,
            data=[code.tobytes() for code in packed],
            anns_field="code",
            filter=condition,
            limit=length,
            search_params={"metric_type": "HAMMING"},
            output_fields=["embedding_id"],
            consistency_level=EVENTUAL,
        )
        return answers

    def _vectors(self, pointers: dict[int, int]) -> dict[int, bytes]:
        """The embeddings of items, by id, from ids with their embeddings' keys; without items removed meanwhile."""
        vectors: dict[int, bytes] = {}
        while pointers:
            rows = self._rows(self._embeddings, [*set(pointers.values())], ["embedding"])
            vectors |= {key: rows[pointer]["embedding"][0] for key, pointer in pointers.items() if pointer in rows}
            # # another process may have replaced pictures since their keys were read: read the new keys
            missing = [key for key, pointer in pointers.items() if pointer not in rows]
            found = self._among(self._codes, missing, ["embedding_id"], STRONG)
            pointers = {row["id"]: row["embedding_id"] for row in found if row["embedding_id"] != pointers[row["id"]]}
        return vectors

    def _best(
        self, query: NDArray[np.float32], candidates: dict[int, bytes], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Ids and cosines of the `k` candidates nearest to a query (D,), best first; fewer if there are no more."""
        ids = np.fromiter(candidates, np.int64, len(candidates))  # (S,)
        halves = np.frombuffer(b"".join(candidates.values()), STORED_FLOAT).reshape(-1, self.made_with.dimension)
        return best_hits(ids, cosines(query, halves), k)

    # Rows

    def _rows_of_paths(self, paths: Sequence[str], fields: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The present rows of those among `paths` that are stored, by path."""
        ids = {id_of(path): path for path in paths}
        fields = fields if "*" in fields else ["path", *fields]
        rows: dict[str, dict[str, Any]] = {}
        for row in self._among(self._codes, [*ids], fields, STRONG):
            if row["path"] != ids[row["id"]]:
                raise self._same_id(ids[row["id"]], row["path"])
            rows[row["path"]] = row
        return rows

    def _rows(self, collection: str, keys: Sequence[int], fields: Sequence[str]) -> dict[int, dict[str, Any]]:
        """The stored rows among `keys`, by key; no waiting if all are loaded and no change of ours can be missing."""
        is_sure = collection == self._embeddings or self._seen == self._changes  # embeddings never change under a key
        rows = {row["id"]: row for row in self._among(collection, keys, fields, EVENTUAL)} if is_sure else {}
        missing = [key for key in keys if key not in rows]
        return rows | {row["id"]: row for row in self._among(collection, missing, fields, STRONG)}

    def _among(
        self, collection: str, keys: Sequence[int], fields: Sequence[str], currency: str
    ) -> Iterator[dict[str, Any]]:
        for start in range(0, len(keys), ROWS_A_CALL):
            yield from self._query(collection, f"id in {[*keys[start : start + ROWS_A_CALL]]}", fields, currency)

    def _values(self, field: str, filter: Filter) -> Iterator[Any]:
        """A field of all items that `filter` admits, in no special order."""
        for ids in id_ranges(1 + len(self) // VALUES_A_CALL):  # counting has waited for what other processes wrote
            condition = expression(filter, ids)
            yield from (row[field] for row in self._query(self._codes, condition, [field], EVENTUAL))

    def _count(self, filter: Filter, currency: str) -> int:
        return int(self._query(self._codes, expression(filter), ["count(*)"], currency)[0]["count(*)"])

    def _query(self, collection: str, condition: str, fields: Sequence[str], currency: str) -> list[dict[str, Any]]:
        if currency == STRONG:
            self._catch_up(collection)
        asked = {"filter": condition, "output_fields": [*fields], "consistency_level": EVENTUAL}
        rows: list[dict[str, Any]] = self._connection.call("query", collection, **asked)
        return rows

    def _catch_up(self, collection: str) -> None:
        """Wait until the server has loaded all that any process has written to a collection so far."""
        changes = self._changes
        nothing = {"filter": f"id == {NO_ITEM}", "output_fields": ["id"]}
        self._connection.call("query", collection, **nothing, consistency_level=STRONG)
        if collection == self._codes:
            self._seen = max(self._seen, changes)

    def _upsert(self, collection: str, rows: Sequence[dict[str, Any]]) -> None:
        for start in range(0, len(rows), ROWS_A_CALL):
            self._connection.call("upsert", collection, [*rows[start : start + ROWS_A_CALL]])
            self._changes += 1

    def _delete(self, collection: str, keys: Sequence[int]) -> None:
        for start in range(0, len(keys), ROWS_A_CALL):
            self._connection.call("delete", collection, ids=[*keys[start : start + ROWS_A_CALL]])
            self._changes += 1

    def _same_id(self, path: str, other: str) -> UserError:
        """The error for two paths with equal hashes, which is expected once in some billions."""
        return UserError(f"{self.name}: {path} has by chance the id of {other}; rename one of the two and index again")
