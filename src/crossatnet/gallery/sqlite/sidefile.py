"""A copy of ids, codes and embeddings beside the gallery, as arrays that are mapped rather than read.

Letters: `N` items, `D` embedding dimension, `B` bytes of a packed code, `R` rows asked for.

SQLite reads a million rows in ten seconds; a mapped file can be used at once. Only the gallery itself is relied on: a
damaged side file is not used, and a side file can be deleted at any time. Its header holds the gallery's generation and
a random token that the gallery holds too. So a side file of another gallery is not used, and neither is one of this
gallery from before an older copy replaced it. Ids and codes are checked against a checksum at opening. Embeddings are
most of the file, and a search needs few of them, so each has a sum of its own, which is checked whenever the embedding
is read.
"""

import json
import os
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from crossatnet.gallery.backend import STORED_FLOAT
from crossatnet.system.documents import parse_json
from crossatnet.system.files import replacing_alone

MAGIC = b"crossatnet side file 1\n"
HEADER_BYTES = 4096
Rows = tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.float16]]  # ids (N,), codes (N, B), embeddings (N, D)


class DamagedError(Exception):
    """A row of the side file is not as it was written; read it from the gallery instead."""


@dataclass(frozen=True)
class Header:
    """The description of a side file in its first bytes. `checksum` is that of ids, codes and sums."""

    token: str
    generation: int
    items: int
    code_bytes: int
    dimension: int
    checksum: int = 0


@dataclass(frozen=True)
class SideFile:
    """A mapped side file: `ids` int64 (N,) ascending, `codes` uint8 (N, B)."""

    header: Header
    ids: NDArray[np.int64]
    codes: NDArray[np.uint8]
    _sums: NDArray[np.uint64]  # (N,)
    _embeddings: NDArray[np.float16]  # (N, D)

    def embeddings(self, rows: NDArray[np.int64]) -> NDArray[np.float16]:
        """The embeddings of these rows: (R,) -> (R, D). Raises `DamagedError` if one is not as it was written."""
        found = self._embeddings[rows]  # (R, D)
        if not np.array_equal(_row_sums(found), self._sums[rows]):
            raise DamagedError
        return found


def path_of(gallery: Path) -> Path:
    """The path of a gallery's side file."""
    return gallery.with_name(gallery.name + "-index")


def read(gallery: Path, token: str, code_bytes: int, dimension: int) -> SideFile | None:
    """Map the gallery's side file; None if it is missing or damaged, or does not have the gallery's present token."""
    try:
        with path_of(gallery).open("rb") as file:
            header = _read_header(file)
            if header is None or (header.token, header.code_bytes, header.dimension) != (token, code_bytes, dimension):
                return None
            places, size = _places(header)
            if os.fstat(file.fileno()).st_size != size:
                return None
            mapped = np.memmap(file, np.uint8, "r") if header.items else np.empty(size, np.uint8)
    except OSError:
        return None
    parts = {name: np.asarray(mapped[start:end]) for name, (start, end) in places.items()}
    if _checksum(parts["ids"], parts["codes"], parts["sums"]) != header.checksum:
        return None
    return SideFile(
        header,
        parts["ids"].view(np.int64),
        parts["codes"].reshape(-1, code_bytes),
        parts["sums"].view(np.uint64),
        parts["embeddings"].view(STORED_FLOAT).reshape(-1, dimension),
    )


def write(gallery: Path, header: Header, batches: Iterable[Rows]) -> bool:
    """Write the side file and replace an older one; False if another process is writing one.

    `batches` hold `header.items` rows in all, ids ascending. Needs memory for one batch. An interrupted run leaves the
    older file in place. Raises `OSError` if the disk is full or the folder cannot be written.
    """
    with replacing_alone(path_of(gallery)) as file:
        if file is None:
            return False
        places, size = _places(header)
        file.truncate(size)
        row, checksums = 0, dict.fromkeys(("ids", "codes", "sums"), 0)
        for ids, codes, embeddings in batches:
            columns = {"ids": ids, "codes": codes, "sums": _row_sums(embeddings), "embeddings": embeddings}
            for name, column in columns.items():
                content = np.ascontiguousarray(column).tobytes()
                file.seek(places[name][0] + row * (len(content) // max(1, len(ids))))
                file.write(content)
                if name in checksums:
                    checksums[name] = zlib.crc32(content, checksums[name])
            row += len(ids)
        if row != header.items:
            raise ValueError(f"{row} rows for a side file of {header.items}")
        file.seek(0)
        file.write(_header_bytes(Header(**{**asdict(header), "checksum": _combined(checksums.values())})))
    return True


def _header_bytes(header: Header) -> bytes:
    content = json.dumps(asdict(header)).encode()
    content = MAGIC + zlib.crc32(content).to_bytes(4, "little") + len(content).to_bytes(4, "little") + content
    return content.ljust(HEADER_BYTES, b"\0")


def _read_header(file: IO[bytes]) -> Header | None:
    content = file.read(HEADER_BYTES)
    if len(content) < HEADER_BYTES or not content.startswith(MAGIC):
        return None
    start = len(MAGIC) + 8
    checksum, length = (int.from_bytes(content[end - 4 : end], "little") for end in (start - 4, start))
    facts = content[start : start + length]
    if zlib.crc32(facts) != checksum:
        return None
    found: dict[str, Any] = parse_json(facts)
    return Header(**found)


def _places(header: Header) -> tuple[dict[str, tuple[int, int]], int]:
    """First and last byte of each array, which starts at a multiple of 64; and the size of the file."""
    widths = {"ids": 8, "codes": header.code_bytes, "sums": 8, "embeddings": 2 * header.dimension}
    places, end = {}, HEADER_BYTES
    for name, width in widths.items():
        start = -(-end // 64) * 64
        end = start + header.items * width
        places[name] = (start, end)
    return places, end


def _checksum(*columns: NDArray[Any]) -> int:
    return _combined(zlib.crc32(column.data) for column in columns)


def _combined(checksums: Iterable[int]) -> int:
    return zlib.crc32(b"".join(checksum.to_bytes(4, "little") for checksum in checksums))


def _row_sums(embeddings: NDArray[np.float16]) -> NDArray[np.uint64]:
    """A weighted sum of each row's words of 8 bytes; each position has its own odd weight: (R, D) -> (R,).

    One changed word always changes the sum, several changed words almost always. It takes microseconds for a shortlist;
    a real checksum would need a loop over its rows.
    """
    missing = -embeddings.shape[1] % 4
    padded = np.pad(embeddings, ((0, 0), (0, missing))) if missing else embeddings
    words = np.ascontiguousarray(padded, STORED_FLOAT).view("<u8")  # (R, ceil(D / 4))
    sums: NDArray[np.uint64] = np.einsum("rw,w->r", words, _weights(words.shape[1]))
    return sums


@cache
def _weights(words: int) -> NDArray[np.uint64]:
    return np.random.default_rng(words).integers(2**63, 2**64, words, dtype=np.uint64) | np.uint64(1)
