"""The collection of a gallery on a Milvus server: its rows, written, and read as currently as was chosen.

Letters: `Q` queries, `B` bytes of a packed code.

Where a gallery keeps regions, their rows are in a partition of their own. All that reads looks at the pictures alone,
unless another partition is named.

Milvus replaces a row by deleting it and adding it again. While another process replaced rows, Milvus's own reads of a
chosen moment missed rows, or counted too many, in about every fifth measurement. A read of what the server has loaded
never missed a row. So each read here first catches up, which asks for nothing and may wait, and then takes what is
loaded.
"""

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossatnet.gallery.backend import NO_ITEM
from crossatnet.gallery.milvus.calls import Connection
from crossatnet.gallery.milvus.rows import id_ranges
from crossatnet.system.consistency import Consistency

ROWS_A_CALL = 1000
LISTS = 128  # of each segment's codes; a search that reads all is exact
LONGEST_SHORTLIST = 16_384  # Milvus's own limit for one search
SURE_SHARE = 0.9  # of that limit: how many rows are asked of a range of ids, as the ranges differ a little in size
UNLISTED = 1024  # Milvus makes no lists of a segment with fewer rows
WHOLES, REGIONS, BOTH = "_default", "regions", ""  # partitions; the first is Milvus's own
LOOK_S = 1.0  # between two looks at what other processes wrote

# # Milvus's levels
STRONG = "Strong"  # all that any process has written; waits for the server's next time tick, every 200 ms
SESSION = "Session"  # all that this process has stored: pymilvus keeps the time of its last write, but not of a removal
BOUNDED = "Bounded"  # all that is older than the server's `common.gracefulTime`, 5 s; nearly always loaded already
LOADED = "Eventually"  # what is loaded

# # By this process, a mark of its own for each write: by server and collection, and the level that shows it. Milvus 2.3
# does not say when it removed something.
_LAST_WRITE: dict[tuple[str, str, str], object] = {}


class Table:
    """A collection. Any number of threads and processes may use it at once."""

    def __init__(self, connection: Connection, name: str, consistency: Consistency, has_regions: bool = False) -> None:
        """The collection of a name, which is there."""
        self.name = name
        self._connection = connection
        self._consistency = consistency
        self._has_regions = has_regions
        self._server = f"{connection.address.host}:{connection.address.port}"
        self._seen: dict[str, object] = {}  # the last writes that every read is sure to include, by their level
        self._next_look = 0.0
        self._size: int | None = None  # as counted after the last look

    def catch_up(self) -> None:
        """Wait until the server has loaded what the consistency promises; seldom any time, unless it is strong."""
        if self._consistency == "strong":
            self.catch_up_with_all()
            return
        if self._consistency == "session":
            self.catch_up_with_own()
        now = time.monotonic()
        if now >= self._next_look:
            self._wait_for(BOUNDED)
            self._next_look, self._size = now + LOOK_S, None

    def catch_up_with_own(self) -> None:
        """Wait until all is loaded that this process has written; no time if nothing was written since."""
        written = self._written()
        if written[STRONG] is not self._seen.get(STRONG):
            self.catch_up_with_all()
        elif written[SESSION] is not self._seen.get(SESSION):
            self._wait_for(SESSION)
            self._seen, self._size = written, None

    def catch_up_with_all(self) -> None:
        """Wait until all is loaded that any process has written so far."""
        written = self._written()
        self._wait_for(STRONG)
        self._seen, self._size = written, None

    def size(self) -> int:
        """The number of pictures, after catching up; counted once for each time there was something to catch up."""
        self.catch_up()
        size = self._size  # another thread may forget it meanwhile
        if size is None:
            size = self._size = self.count()
        return size

    def count(self) -> int:
        """The number of pictures that are loaded."""
        return int(self.loaded("", ["count(*)"])[0]["count(*)"])

    def loaded(
        self, condition: str, fields: Sequence[str], partition: str = WHOLES, **more: Any
    ) -> list[dict[str, Any]]:
        """The loaded rows that meet a condition."""
        asked = {"filter": condition, "output_fields": [*fields], "consistency_level": LOADED, **more}
        rows: list[dict[str, Any]] = self._connection.call("query", self.name, **asked, **self._within(partition))
        return rows

    def rows(self, keys: Sequence[int], fields: Sequence[str]) -> dict[int, dict[str, Any]]:
        """The loaded rows among `keys`, by key. Where one is missing, it waits for all that any process has written."""
        rows = {row["id"]: row for row in self.among(keys, fields)}
        missing = [key for key in keys if key not in rows]
        return rows | {row["id"]: row for row in self.latest(missing, fields)}

    def latest(self, keys: Sequence[int], fields: Sequence[str]) -> Iterator[dict[str, Any]]:
        """The rows among `keys` after all that any process has written."""
        if keys:
            self.catch_up_with_all()
        yield from self.among(keys, fields)

    def among(self, keys: Sequence[int], fields: Sequence[str], partition: str = WHOLES) -> Iterator[dict[str, Any]]:
        """The loaded rows among `keys`."""
        for start in range(0, len(keys), ROWS_A_CALL):
            yield from self.loaded(f"id in {[*keys[start : start + ROWS_A_CALL]]}", fields, partition)

    def nearest(
        self,
        packed: NDArray[np.uint8],
        length: int,
        condition: str,
        fields: Sequence[str],
        lists: int = LISTS,
        partition: str = WHOLES,
    ) -> list[list[dict[str, Any]]]:
        """For each code (Q, B) the `length` nearest of the loaded rows that meet a condition, in so many lists.

        Those of several searches, where there must be several, are in no order together, and may be a few more.
        """
        if length <= LONGEST_SHORTLIST:
            return self._nearest(packed, length, condition, fields, lists, partition)
        answers: list[list[dict[str, Any]]] = [[] for _ in packed]
        # each range of ids has about its share of the nearest rows
        for ids in id_ranges(math.ceil(length / (LONGEST_SHORTLIST * SURE_SHARE))):
            both = f"{ids} and {condition}" if condition else ids
            found = self._nearest(packed, LONGEST_SHORTLIST, both, fields, lists, partition)
            for answer, part in zip(answers, found, strict=True):
                answer += part
        return answers

    def _nearest(
        self, packed: NDArray[np.uint8], length: int, condition: str, fields: Sequence[str], lists: int, partition: str
    ) -> list[list[dict[str, Any]]]:
        answers: list[list[dict[str, Any]]] = self._connection.call(
            "search",
            self.name,
            data=[code.tobytes() for code in packed],
            anns_field="code",
            filter=condition,
            limit=length,
            search_params={"metric_type": "HAMMING", "params": {"nprobe": lists}},
            output_fields=[*fields],
            consistency_level=LOADED,
            **self._within(partition),
        )
        return answers

    def upsert(self, rows: Sequence[dict[str, Any]], partition: str = WHOLES) -> None:
        """Store rows, each in place of the one of its key."""
        place = {"partition_name": partition} if self._has_regions else {}
        for start in range(0, len(rows), ROWS_A_CALL):
            self._connection.call("upsert", self.name, [*rows[start : start + ROWS_A_CALL]], **place)
            _LAST_WRITE[self._server, self.name, SESSION] = object()

    def delete(self, keys: Sequence[int]) -> None:
        """Remove rows by their keys, of any partition."""
        for start in range(0, len(keys), ROWS_A_CALL):
            self._connection.call("delete", self.name, ids=[*keys[start : start + ROWS_A_CALL]])
            _LAST_WRITE[self._server, self.name, STRONG] = object()

    def maintain(self, method: str) -> None:
        """Let the server `flush` or `compact` the collection."""
        self._connection.call(method, self.name)

    def is_indexed(self) -> bool:
        """Whether the server searches all that it has stored by lists, but for what is too little or comes in."""
        if self._connection.call("describe_index", self.name, "code")["pending_index_rows"]:
            return False
        segments = self._connection.call("list_loaded_segments", self.name)
        settled = [one for one in segments if one.state_name == "Sealed" and one.num_rows >= UNLISTED]
        return all(one.index_name for one in settled)

    def keep(self, name: str, text: str) -> None:
        """Keep a text with the collection."""
        self._connection.call("alter_collection_properties", self.name, properties={name: text})

    def kept(self, name: str) -> str | None:
        """A text that was kept with the collection."""
        text: str | None = self._connection.call("describe_collection", self.name)["properties"].get(name)
        return text

    def _within(self, partition: str) -> dict[str, list[str]]:
        """What says to a read that it looks at one partition."""
        return {"partition_names": [partition]} if self._has_regions and partition != BOTH else {}

    def _written(self) -> dict[str, object]:
        """The last writes of this process, by the level that shows them."""
        return {level: _LAST_WRITE.get((self._server, self.name, level)) for level in (SESSION, STRONG)}

    def _wait_for(self, level: str) -> None:
        nothing = {"filter": f"id == {NO_ITEM}", "output_fields": ["id"]}
        self._connection.call("query", self.name, **nothing, consistency_level=level)
