"""Regions of pictures as the gallery's file has them, and as arrays that are searched.

Letters: `N` items, `M` regions of all of them, `R` regions of one, `C` regions asked for, `D` embedding dimension, `B`
bytes of a packed code, `H` bytes of its head.

In the file each item has its regions in one column, a record each: box, code, embedding. To search, the regions of all
items are columns. A scan of all codes would take as long as one of so many items, so only their heads are scanned, the
first bits of the codes; see `snapshot`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from crossatnet.gallery.backend import STORED_FLOAT, CodedRegions, MadeWith, box_bytes, box_fractions
from crossatnet.model.regions import MOST_REGIONS

HEAD_BYTES = 16  # of a code: what is scanned of every region

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class RegionTable:
    """The regions of N items, in the order of their items' rows."""

    owners: NDArray[np.int32]  # (M,), ascending: the row of the item that each is a part of
    boxes: NDArray[np.uint8]  # (M, 4), as `box_bytes` makes them
    codes: NDArray[np.uint8]  # (M, B)
    heads: NDArray[np.uint8]  # (M, H), the first bytes of the codes
    embeddings: Callable[[Ids], NDArray[np.float16]]  # of some regions: (C,) -> (C, D)

    def __len__(self) -> int:
        return len(self.owners)

    def moved_by(self, rows: int) -> "RegionTable":
        """The same, where so many items come before."""
        return replace(self, owners=self.owners + np.int32(rows))

    def of(self, rows: Ids) -> tuple[Ids, Ids]:
        """The regions of some items, one item after another, and how many each has."""
        wanted = rows.astype(self.owners.dtype)  # of another type, NumPy would convert all owners
        first, end = np.searchsorted(self.owners, wanted, "left"), np.searchsorted(self.owners, wanted, "right")
        counts = end - first
        return np.repeat(end - np.cumsum(counts), counts) + np.arange(counts.sum()), counts

    def taken(self, rows: Ids) -> "RegionTable":
        """The regions of these items alone, whose rows are now counted in the order given."""
        chosen, counts = self.of(rows)
        owners, embeddings = np.repeat(np.arange(len(rows), dtype=np.int32), counts), self.embeddings(chosen)
        return RegionTable(owners, self.boxes[chosen], self.codes[chosen], self.heads[chosen], embeddings.__getitem__)

    def fractions(self, chosen: Ids) -> NDArray[np.float32]:
        """The boxes (C, 4) of some regions as fractions of their pictures."""
        return box_fractions(self.boxes[chosen])


def record(made_with: MadeWith) -> np.dtype[np.void]:
    """A region in the gallery's file."""
    fields = [
        ("box", "u1", (4,)),
        ("code", "u1", (made_with.code_bits // 8,)),
        ("embedding", STORED_FLOAT, (made_with.dimension,)),
    ]
    return np.dtype(fields)


def records_of(regions: Sequence[CodedRegions], made_with: MadeWith) -> list[bytes]:
    """The regions of each picture as its column has them."""
    made = []
    for one in regions:
        rows = np.empty(len(one.boxes), record(made_with))
        rows["box"] = box_bytes(one.boxes)
        rows["code"], rows["embedding"] = one.packed, one.embeddings
        made.append(rows.tobytes())
    return made


def regions_fault(column: object, made_with: MadeWith) -> str:
    """What is wrong with the column of an item's regions; "" for nothing."""
    if column is None:
        return ""
    size = record(made_with).itemsize
    is_whole = isinstance(column, bytes) and len(column) % size == 0 and len(column) <= MOST_REGIONS * size
    return "" if is_whole else "its regions are not some"


def table_of(columns: Sequence[bytes | None], made_with: MadeWith) -> RegionTable:
    """The columns of items, in their order, as a table."""
    kind = record(made_with)
    rows = np.frombuffer(b"".join(column or b"" for column in columns), kind)
    counts = [len(column or b"") // kind.itemsize for column in columns]
    owners = np.repeat(np.arange(len(columns), dtype=np.int32), np.array(counts, np.int64))
    boxes, codes, embeddings = (np.ascontiguousarray(rows[name]) for name in ("box", "code", "embedding"))
    return RegionTable(owners, boxes, codes, heads_of(codes), embeddings.__getitem__)


def heads_of(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The heads (M, H) of codes (M, B)."""
    return np.ascontiguousarray(codes[:, :HEAD_BYTES])


def joined_tables(tables: Sequence[RegionTable]) -> RegionTable:
    """The regions of several tables as one in memory, in the order of the rows of their items."""
    owners = np.concatenate([table.owners for table in tables])
    order = np.argsort(owners, kind="stable")
    parts = [(table, np.arange(len(table))) for table in tables]
    embeddings = np.concatenate([table.embeddings(everything) for table, everything in parts])[order]
    boxes, codes, heads = (
        np.concatenate([getattr(table, name) for table in tables])[order] for name in ("boxes", "codes", "heads")
    )
    return RegionTable(owners[order], boxes, codes, heads, embeddings.__getitem__)
