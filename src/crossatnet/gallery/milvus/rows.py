"""Rows of a gallery on a Milvus server: their ids, what stands in them, and conditions on them. Nothing here asks it.

Letters: `B` bytes of a packed code.
"""

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossatnet.gallery.backend import LARGEST_ID, Facts, Item, Stamp, Where, path_range

FACTS = ("path", "class_name", "content_hash", "size", "mtime_ns", "width", "height", "added")


def id_of(*parts: str) -> int:
    """An id for these texts: 63 bits, so that it is a positive integer of 64."""
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") & LARGEST_ID


def id_ranges(parts: int) -> Iterator[str]:
    """Conditions that part all items into so many sets of about equal size, for ids are hashes."""
    step = (LARGEST_ID + 1) // parts + 1
    for first in range(0, LARGEST_ID, step):
        yield f"id >= {first} and id <= {min(first + step - 1, LARGEST_ID)}"


def row_of(facts: Facts, code: NDArray[np.uint8], added: int) -> dict[str, Any]:
    """A picture as a row: its facts, its packed code (B,), and the second in which it was added, of Unix time."""
    return {
        "id": id_of(facts.path),
        "code": code.tobytes(),
        "embedding_id": id_of(facts.path, facts.stamp.content_hash),
        "path": facts.path,
        "class_name": facts.class_name or "",
        **asdict(facts.stamp),
        "width": facts.width,
        "height": facts.height,
        "added": added,
    }


def stamp_of(row: dict[str, Any]) -> Stamp:
    """The stamp of a row."""
    return Stamp(row["size"], row["mtime_ns"], row["content_hash"])


def item_of(row: dict[str, Any]) -> Item:
    """The item of a row that has all of `FACTS`."""
    facts = Facts(row["path"], row["class_name"] or None, stamp_of(row), row["width"], row["height"])
    return Item(row["id"], facts, datetime.fromtimestamp(row["added"], UTC).isoformat(timespec="seconds"))


def expression(where: Where) -> str:
    """The conditions as Milvus reads them; empty if there are none."""
    conditions: list[str] = []
    if where.class_names:
        conditions.append(f"class_name in {_quoted([*where.class_names])}")
    if where.path_prefix:
        first, end = path_range(where.path_prefix)  # `like` would take % and _ for wildcards
        conditions.append(f"path >= {_quoted(first)} and path < {_quoted(end)}")
    if where.added_since:
        conditions.append(f"added >= {math.ceil(where.added_since.timestamp())}")
    if where.added_before:
        conditions.append(f"added < {math.ceil(where.added_before.timestamp())}")
    return " and ".join(conditions)


def _quoted(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)  # Milvus reads text in quotes as JSON does
