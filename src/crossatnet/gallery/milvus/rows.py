"""Rows of a gallery on a Milvus server: their ids, fields and conditions. Nothing here calls the server.

Letters: `N` items, `R` regions, `B` bytes of a packed code, `D` embedding dimension.
"""

import base64
import hashlib
import json
import math
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossatnet.gallery.backend import (
    LARGEST_ID,
    STORED_FLOAT,
    CodedRegions,
    Facts,
    FileState,
    Filter,
    StoredPicture,
    box_bytes,
    box_fractions,
    path_range,
)
from crossatnet.model.regions import MOST_REGIONS
from crossatnet.system.errors import UserError

NO_WORDS = (
    "a gallery on a Milvus server is not searched by words, tags, dates taken or names of folders: that server has no"
    " full-text search, and the fields of its collections are fixed; leave them out, or search a gallery in a file"
)
FACTS = ("path", "class_name", "content_hash", "size", "mtime_ns", "width", "height", "added")


def id_of(path: str) -> int:
    """An id for a path: 63 bits, so that it is a positive integer of 64."""
    hashed = hashlib.sha256(path.encode()).digest()
    return int.from_bytes(hashed[:8], "big") & LARGEST_ID


def region_ids(item: int) -> list[int]:
    """The ids that the regions of an item have, as many as it may have: hashes of what is no path."""
    return [id_of(f"{item} {number}") for number in range(MOST_REGIONS)]


def id_ranges(parts: int) -> Iterator[str]:
    """Conditions that divide all items into so many sets. They are of about equal size, as ids are hashes."""
    step = (LARGEST_ID + 1) // parts + 1
    for first in range(0, LARGEST_ID, step):
        yield f"id >= {first} and id <= {min(first + step - 1, LARGEST_ID)}"


def embedding_letters(dimension: int) -> int:
    """The length of the text that holds an embedding."""
    return 4 * math.ceil(STORED_FLOAT.itemsize * dimension / 3)


def embedding_text(embedding: NDArray[np.floating]) -> str:
    """The text that holds an embedding (D,)."""
    return base64.b64encode(embedding.astype(STORED_FLOAT).tobytes()).decode()


def embeddings_of(texts: Collection[str], dimension: int) -> NDArray[np.float16]:
    """The embeddings (N, D) that texts hold."""
    halves = b"".join(base64.b64decode(text) for text in texts)
    return np.frombuffer(halves, STORED_FLOAT).reshape(-1, dimension)


def row_of(facts: Facts, code: NDArray[np.uint8], embedding: NDArray[np.floating], added: int) -> dict[str, Any]:
    """A picture as a row: its facts, its packed code (B,), its embedding (D,), when it was added in Unix time."""
    return {
        "id": id_of(facts.path),
        "code": code.tobytes(),
        "embedding": embedding_text(embedding),
        "path": facts.path,
        "class_name": facts.class_name or "",
        "content_hash": facts.file.content_hash,
        "size": facts.file.size,
        "mtime_ns": facts.file.mtime_ns,
        "width": facts.width,
        "height": facts.height,
        "added": added,
    }


def whole_of(row: dict[str, Any]) -> dict[str, Any]:
    """The row of a picture, in a gallery that keeps regions: it is the whole of itself, and has no box."""
    return {**row, "whole": row["id"], "box": 0}


def regions_of(row: dict[str, Any], regions: CodedRegions) -> list[dict[str, Any]]:
    """The regions of a picture as rows, with its own facts: what admits the picture admits them.

    They count only beside a row of the picture with the same content, so that half a `put` changes nothing.
    """
    columns = zip(region_ids(row["id"]), box_bytes(regions.boxes), regions.packed, regions.embeddings, strict=False)
    return [
        {
            **row,
            "id": key,
            "code": code.tobytes(),
            "embedding": embedding_text(embedding),
            "whole": row["id"],
            "box": int.from_bytes(box.tobytes(), "big"),
        }
        for key, box, code, embedding in columns
    ]


def boxes_of(rows: Sequence[dict[str, Any]]) -> NDArray[np.float32]:
    """The boxes (R, 4) of regions, as fractions of their pictures."""
    stored = b"".join(row["box"].to_bytes(4, "big") for row in rows)
    return box_fractions(np.frombuffer(stored, np.uint8).reshape(-1, 4))


def file_state_of(row: dict[str, Any]) -> FileState:
    """The file state in a row."""
    return FileState(row["size"], row["mtime_ns"], row["content_hash"])


def item_of(row: dict[str, Any]) -> StoredPicture:
    """The stored picture of a row that has all of `FACTS`."""
    facts = Facts(row["path"], row["class_name"] or None, file_state_of(row), row["width"], row["height"])
    return StoredPicture(row["id"], facts, datetime.fromtimestamp(row["added"], UTC).isoformat(timespec="seconds"))


def expression(filter: Filter, *others: str) -> str:
    """The conditions, `others` first, as Milvus reads them; empty if there are none.

    Raises `UserError` for conditions on what is not kept on a server.
    """
    if filter.asks_what_is_known:
        raise UserError(NO_WORDS)
    conditions = [*others]
    if filter.class_names:
        conditions.append(f"class_name in {_quoted([*filter.class_names])}")
    if filter.path_prefix:
        first, end = path_range(filter.path_prefix)  # `like` would take % and _ for wildcards
        conditions.append(f"path >= {_quoted(first)} and path < {_quoted(end)}")
    if filter.added_since:
        conditions.append(f"added >= {math.ceil(filter.added_since.timestamp())}")
    if filter.added_before:
        conditions.append(f"added < {math.ceil(filter.added_before.timestamp())}")
    return " and ".join(conditions)


def _quoted(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)  # Milvus reads text in quotes as JSON does
