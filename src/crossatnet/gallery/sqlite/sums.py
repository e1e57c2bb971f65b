"""The checksum of a row of `items`: two halves of 32 bits, of its codes and embeddings, and of its facts.

Codes and embeddings are checked when they are read for searches, the facts when a hit is shown; each needs only its
half. Rows that an older version wrote have none and count as whole.
"""

import sqlite3
import zlib
from collections.abc import Sequence

from crossatnet.gallery.sqlite.columns import FACTS

SEAL = f"UPDATE items SET checksum = row_sum(id, added, {FACTS}, code, embedding, regions) WHERE path = ?"
SEAL_FACTS = f"UPDATE items SET checksum = with_facts(checksum, id, added, {FACTS}) WHERE path = ?"
HALF = 1 << 32


def vectors_sum(key: int, code: bytes, embedding: bytes, regions: bytes = b"") -> int:
    """The half of an item's code and embedding, and of its regions if it has some.

    Example:
        >>> from crossatnet.gallery.sqlite.sums import vectors_sum
        >>> vectors_sum(1, b"code", b"embedding") == vectors_sum(2, b"code", b"embedding")
        False
    """
    return zlib.crc32(regions, zlib.crc32(embedding, zlib.crc32(code, key & 0xFFFFFFFF)))


def facts_sum(key: int, added: object, facts: Sequence[object]) -> int:
    """The half of an item's facts, in the order of `columns.FACTS`."""
    return zlib.crc32(repr((key, added, *facts)).encode("utf-8", "surrogatepass"))


def joined(vectors: int, facts: int) -> int:
    """Both halves as SQLite's signed integer."""
    return (vectors << 32 | facts) - (1 << 63)


def halves(checksum: int) -> tuple[int, int]:
    """The halves of a stored checksum: of codes and embeddings, and of the facts."""
    return divmod(checksum + (1 << 63), HALF)


def add_functions(connection: sqlite3.Connection) -> None:
    """Let SQLite's statements make checksums of the rows as they are stored."""
    connection.create_function("row_sum", -1, _row_sum, deterministic=True)
    connection.create_function("with_facts", -1, _with_facts, deterministic=True)


def _row_sum(key: int, added: object, *rest: object) -> int:
    *facts, code, embedding, regions = rest
    assert isinstance(code, bytes)
    assert isinstance(embedding, bytes)
    assert isinstance(regions, bytes | None)
    return joined(vectors_sum(key, code, embedding, regions or b""), facts_sum(key, added, facts))


def _with_facts(checksum: int | None, key: int, added: object, *facts: object) -> int | None:
    if checksum is None:  # of an older version: what is in the row is not known to be whole
        return None
    return joined(halves(checksum)[0], facts_sum(key, added, facts))
