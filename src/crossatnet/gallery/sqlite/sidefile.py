"""A copy of ids, codes, embeddings and regions beside the gallery, as arrays that are mapped rather than read.

Letters: `N` items, `M` regions, `L` lists, `D` embedding dimension, `B` bytes of a packed code, `R` rows asked for.

SQLite reads a million rows in ten seconds; a mapped file can be used at once. Only the gallery itself is relied on: a
damaged side file is not used, and a side file can be deleted at any time. Its header holds the gallery's generation and
a random token that the gallery holds too. So a side file of another gallery is not used, and neither is one of this
gallery from before an older copy replaced it. All but embeddings is checked against a checksum at opening. They are
most of the file, and a search needs few of them, so each has a sum of its own, which is checked whenever the embedding
is read. That of a large gallery holds an index of its codes too, see `inverted`.
"""

import json
import os
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from crossatnet.gallery.backend import STORED_FLOAT
from crossatnet.gallery.reach import TESTED_HITS
from crossatnet.gallery.sqlite.inverted import TESTS, Inverted, build
from crossatnet.gallery.sqlite.regions import HEAD_BYTES, RegionTable
from crossatnet.system.documents import parse_json
from crossatnet.system.files import replacing_alone

MAGIC = b"crossatnet side file 1\n"
HEADER_BYTES = 4096
UNCHECKED = ("embeddings", "region_embeddings")  # at opening
NONE = np.empty(0, np.uint8)
# The parts of an index in the file
OF_INDEX = {"centres": "centres", "list_starts": "starts", "listed": "rows", "listed_codes": "codes", "tests": "tests"}
Places = dict[str, tuple[int, int]]
Rows = tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.float16], RegionTable]
"""Ids (N,), codes (N, B), embeddings (N, D), and the regions of these items."""


class DamagedError(Exception):
    """A row of the side file is not as it was written; read it from the gallery instead."""


@dataclass(frozen=True)
class Header:
    """The description of a side file in its first bytes. `checksum` is that of all parts but embeddings.

    `lists` are those of its index, a square number, 0 for none; `first_read` is described there.
    """

    token: str
    generation: int
    items: int
    code_bytes: int
    dimension: int
    checksum: int = 0
    regions: int = 0
    lists: int = 0
    first_read: int = 0


@dataclass(frozen=True)
class SideFile:
    """A mapped side file: `ids` int64 (N,) ascending, `codes` uint8 (N, B)."""

    header: Header
    ids: NDArray[np.int64]
    codes: NDArray[np.uint8]
    embeddings: "Checked"  # of items
    regions: RegionTable
    index: Inverted | None


@dataclass(frozen=True)
class Checked:
    """Mapped embeddings (N, D) and their sums (N,)."""

    _embeddings: NDArray[np.float16]
    _sums: NDArray[np.uint64]

    def __call__(self, rows: NDArray[np.int64]) -> NDArray[np.float16]:
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
    if _combined(zlib.crc32(part.data) for name, part in parts.items() if name not in UNCHECKED) != header.checksum:
        return None
    items, regions = (
        Checked(
            parts.get(f"{of}embeddings", NONE).view(STORED_FLOAT).reshape(-1, dimension),
            parts.get(f"{of}sums", NONE).view(np.uint64),
        )
        for of in ("", "region_")
    )
    table = RegionTable(
        parts.get("owners", NONE).view(np.int32),
        parts.get("boxes", NONE).reshape(-1, 4),
        parts.get("region_codes", NONE).reshape(-1, code_bytes),
        parts.get("heads", NONE).reshape(-1, min(HEAD_BYTES, code_bytes)),
        regions,
    )
    ids, codes = parts["ids"].view(np.int64), parts["codes"].reshape(-1, code_bytes)
    return SideFile(header, ids, codes, items, table, _index(header, parts) if header.lists else None)


def write(gallery: Path, header: Header, batches: Iterable[Rows], before: SideFile | None = None) -> bool:
    """Write the side file and replace an older one; False if another process is writing one.

    `batches` hold `header.items` rows in all, ids ascending. Needs memory for one batch, and for an index that of its
    codes and some 20 bytes an item. In which list of an older file's index a code is, is not worked out again. An
    interrupted run leaves the older file in place. Raises `OSError` if the disk is full or the folder cannot be
    written.
    """
    with replacing_alone(path_of(gallery)) as file:
        if file is None:
            return False
        places, size = _places(header)
        file.truncate(size)
        row, ends = 0, {name: start for name, (start, _) in places.items()}
        checksums = {name: 0 for name in places if name not in UNCHECKED}

        def append(columns: dict[str, NDArray[Any]]) -> None:
            for name, column in columns.items():
                if name not in places:  # of regions, if there is none
                    continue
                content = np.ascontiguousarray(column).reshape(-1).view(np.uint8).data
                file.seek(ends[name])
                file.write(content)
                ends[name] += len(content)
                if name in checksums:
                    checksums[name] = zlib.crc32(content, checksums[name])

        for rows in batches:
            append(_columns(rows, row))
            row += len(rows[0])
        if header.lists and row == header.items:
            file.flush()
            index = _built(header, np.memmap(file, np.uint8, "r"), places, before)
            append({name: getattr(index, column) for name, column in OF_INDEX.items()})
            header = replace(header, first_read=index.first_read)
        if any(ends[name] != end for name, (_, end) in places.items()):
            raise ValueError(f"{row} rows for a side file of {header.items}")
        file.seek(0)
        file.write(_header_bytes(replace(header, checksum=_combined(checksums.values()))))
    return True


def _built(header: Header, mapped: NDArray[np.uint8], places: Places, before: SideFile | None) -> Inverted:
    """The index of the codes and embeddings that are written so far."""
    ids, codes, embeddings = (np.asarray(mapped[slice(*places[name])]) for name in ("ids", "codes", "embeddings"))
    codes = codes.reshape(-1, header.code_bytes)
    halves = embeddings.view(STORED_FLOAT).reshape(-1, header.dimension)
    earlier = None
    if before is not None and before.index is not None and before.header.lists == header.lists:
        earlier = before.index, _lists_before(before, before.index, ids.view(np.int64), codes)
    return build(codes, halves.__getitem__, header.lists, earlier)


def _lists_before(
    before: SideFile, index: Inverted, ids: NDArray[np.int64], codes: NDArray[np.uint8]
) -> NDArray[np.int32]:
    """In which list of an older side file each item (N,) is; -1 for one that is not, or has another code there."""
    rows = np.searchsorted(before.ids, ids)
    held = rows < len(before.ids)
    held[held] = before.ids[rows[held]] == ids[held]
    held[held] = (before.codes[rows[held]] == codes[held]).all(axis=1)
    lists = np.full(len(ids), -1, np.int32)
    lists[held] = index.list_of()[rows[held]]
    return lists


def _index(header: Header, parts: dict[str, NDArray[np.uint8]]) -> Inverted:
    centres, codes = (parts[name].reshape(-1, header.code_bytes) for name in ("centres", "listed_codes"))
    tests = parts["tests"].view(np.int32).reshape(-1, TESTED_HITS, 2)
    return Inverted(
        centres, parts["list_starts"].view(np.int64), parts["listed"].view(np.int32), codes, tests, header.first_read
    )


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


def _places(header: Header) -> tuple[Places, int]:
    """First and last byte of each array, which starts at a multiple of 64; and the size of the file."""
    of_items = {"ids": 8, "codes": header.code_bytes, "sums": 8, "embeddings": 2 * header.dimension}
    of_regions = {"owners": 4, "boxes": 4, "heads": min(HEAD_BYTES, header.code_bytes)}
    of_regions |= {f"region_{name}": width for name, width in of_items.items() if name != "ids"}
    sizes = {name: header.items * width for name, width in of_items.items()}
    sizes |= {name: header.regions * width for name, width in of_regions.items()} if header.regions else {}
    sizes |= _index_sizes(header) if header.lists else {}
    places, end = {}, HEADER_BYTES
    for name, size in sizes.items():
        start = -(-end // 64) * 64
        end = start + size
        places[name] = (start, end)
    return places, end


def _index_sizes(header: Header) -> dict[str, int]:
    codes, tests = header.items * header.code_bytes, min(TESTS, header.items) * TESTED_HITS * 8
    sizes = {"centres": header.lists * header.code_bytes, "list_starts": 8 * (header.lists + 1)}
    return sizes | {"listed": 4 * header.items, "listed_codes": codes, "tests": tests}


def _columns(rows: Rows, before: int) -> dict[str, NDArray[Any]]:
    """The parts of a batch, which comes after so many items."""
    ids, codes, embeddings, regions = rows
    of_regions = regions.embeddings(np.arange(len(regions)))
    return {
        **{"ids": ids, "codes": codes, "sums": _row_sums(embeddings), "embeddings": embeddings},
        **{"owners": regions.owners + np.int32(before), "boxes": regions.boxes, "heads": regions.heads},
        **{"region_codes": regions.codes, "region_sums": _row_sums(of_regions), "region_embeddings": of_regions},
    }


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
