"""How fast is an approximate search of ten million pictures, and how much does it find of what the exact one finds?

    python benchmarks/inverted.py --data PATH/TO/sketchy --items 1e5,1e6,1e7

Photo-like galleries, drawn from the statistics of real embeddings, with the checkpoint's own hash codes; and equal
clusters, whose codes are harder to divide into lists (`synthetic.py`). Measured is the layer that searches: a side file
is made, read and searched by the gallery's own classes, one query at a time on one thread. SQLite's part, what is
stored of ten hits, is in `search.py`. Every size has an index here, though a gallery makes one only of more than
`reach.INDEXED` items. Pages of the file are in the system's cache: the exact search, which comes first, reads them.

For each recall asked for: the reach that the index's tests chose, the share of the exact search's ten hits that it
finds, with queries that are no items, and its times. Then a fifth of the items is removed and as many are added, and
all is measured again, before the side file is written again and after. For the exact search: the shortest shortlist
that holds .99 of the ten nearest by cosine.

With `--simulate`, a search is timed on an index of so many random codes: the same share of the lists is read as in the
gallery, and as many embeddings of the gallery as its shortlist has.

Needs 2.4 KB of disk an item in `--scratch`. Puts its rows into `benchmarks/results/inverted.json` and prints the table.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossatnet import CrossATNet
from crossatnet.gallery.backend import STORED_FLOAT, MadeWith
from crossatnet.gallery.reach import Reach
from crossatnet.gallery.shortlist import cosines, distances_to, shortlist_length
from crossatnet.gallery.sqlite import sidefile
from crossatnet.gallery.sqlite.clustering import lists_for
from crossatnet.gallery.sqlite.inverted import Inverted
from crossatnet.gallery.sqlite.regions import RegionTable, table_of
from crossatnet.gallery.sqlite.segment import Changes
from crossatnet.gallery.sqlite.sidefile import Header, SideFile
from crossatnet.gallery.sqlite.snapshot import Snapshot
from crossatnet.system.recall import EXACT
from measure import peak_mib, percentile_ms
from record import machine, read, today, write
from search import each, stored
from synthetic import BLOCK, Clusters, Gallery, PhotoLike, Planes, real_embeddings, sizes
from tables import rendered

CHECKPOINT = "crossatnet-open"
RECALLS = (0.95, 0.99)
K = 10
CHANGED = 5  # every so many-th item is removed
TOKEN = "benchmark"

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]


@dataclass
class Asked:
    """Queries (Q, D), their codes (Q, B), and the best of the items seen so far by exact cosines (Q, K)."""

    queries: Floats
    codes: Codes
    scores: Floats
    ids: NDArray[np.int64]

    def look_at(self, first: int, block: Floats) -> None:
        """Look at items, whose ids count on from the first."""
        self.scores = np.hstack([self.scores, self.queries @ stored(block).T])
        self.ids = np.hstack([self.ids, np.tile(np.arange(first, first + len(block)), (len(self.ids), 1))])
        best = np.argpartition(-self.scores, K - 1, axis=1)[:, :K]
        self.scores, self.ids = np.take_along_axis(self.scores, best, 1), np.take_along_axis(self.ids, best, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder of Sketchy, for the photo-like galleries")
    parser.add_argument("--items", default="1e5,1e6,1e7", help="sizes of galleries")
    parser.add_argument("--galleries", default="photo-like,clusters", help="kinds of galleries")
    parser.add_argument("--bits", type=int, default=256)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--simulate", type=float, default=0, help="items")
    parser.add_argument("--scratch", type=Path, help="where side files are made; the system's temporary folder if not")
    parser.add_argument("--cache", type=Path, default=Path(gettempdir(), "crossatnet-real-embeddings.npz"))
    options = parser.parse_args()
    for name in options.galleries.split(","):
        for items in sizes(options.items):
            real = real_embeddings(options.data, CHECKPOINT, options.cache)
            source = PhotoLike(items, *real) if name == PhotoLike.name else Clusters(items)
            with TemporaryDirectory(dir=options.scratch, prefix="crossatnet-") as scratch:
                row, side = measured(source, options.bits, options.queries, Path(scratch, "made.gallery"))
                if options.simulate:
                    row["simulated"] = simulation(side, int(options.simulate), row["before"])
            command = (
                f"python benchmarks/inverted.py --data DATA/{options.data.name} --galleries {name} --items {items:.0e}"
                f" --queries {options.queries}" + (f" --simulate {options.simulate:.0e}" if options.simulate else "")
            )
            keep(row | {"command": command.replace("e+0", "e"), "queries": options.queries})
    print(rendered("inverted", read("inverted")))


def keep(row: dict[str, Any]) -> None:
    """Put a row into the results, in place of an older one of its kind; rows of another machine are dropped."""
    before = read("inverted")
    rows = before["rows"] if before.get("machine") == machine() else []
    what = ("gallery", "items", "bits")
    rows = [old for old in rows if any(old[name] != row[name] for name in what)] + [row]
    rows.sort(key=lambda each: (each["gallery"] != PhotoLike.name, each["items"], each["bits"]))
    commands = "; ".join(dict.fromkeys(old["command"] for old in rows))
    write("inverted", {"command": commands, "machine": machine(), "rows": rows})


def hasher(source: Gallery, bits: int) -> Callable[[Floats], Codes]:
    """The checkpoint's hash codes for photo-like embeddings, random hyperplanes for others."""
    if source.name != PhotoLike.name:
        return Planes(bits).hash
    model = CrossATNet.from_pretrained(CHECKPOINT, runtime="onnx")
    return lambda embeddings: model.hash(embeddings, bits)


def measured(source: Gallery, bits: int, queries: int, place: Path) -> tuple[dict[str, Any], SideFile]:
    """The row of a gallery, and its last side file."""
    hashed, drawn = hasher(source, bits), source.queries(queries)
    asked = Asked(drawn, hashed(drawn), np.empty((queries, 0), np.float32), np.empty((queries, 0), np.int64))
    row: dict[str, Any] = {
        "gallery": source.name,
        "items": source.items,
        "bits": bits,
        "date": today(),
        "load": os.getloadavg()[0],
    }
    header = Header(TOKEN, 1, source.items, bits // 8, source.dimension, lists=lists_for(source.items))
    side, row["index_s"] = written(place, header, items_of(source, hashed, asked))
    assert side.index is not None
    row |= {"lists": len(side.index.centres), "peak_mib": round(peak_mib())}
    row["index_bytes"] = sum(part.nbytes for part in (side.index.centres, side.index.rows, side.index.codes))
    row["rule"] = shortlist_length(K, bits, source.items)
    row["needed"] = needed(side, asked)
    snapshot = Snapshot.of_side_file(side)
    row["before"] = found(snapshot, asked)
    added = changes(source, hashed)
    churned = snapshot.after(added)
    row["unwritten"] = found(churned, asked)
    again = Header(
        TOKEN, 2, source.items, bits // 8, source.dimension, lists=lists_for(source.items, len(side.index.centres))
    )
    side, row["again_s"] = written(place, again, rows_of(side, added), side)
    row["after"] = found(Snapshot.of_side_file(side), asked)
    print(row, flush=True)
    return row, side


def written(
    place: Path, header: Header, batches: Iterator[sidefile.Rows], before: SideFile | None = None
) -> tuple[SideFile, float]:
    """A side file, read again, and how long its index took, with what was still to be written to the disk."""
    last = time.perf_counter()

    def timed() -> Iterator[sidefile.Rows]:
        nonlocal last
        yield from batches
        os.sync()
        last = time.perf_counter()

    assert sidefile.write(place, header, timed(), before)
    seconds = time.perf_counter() - last
    side = sidefile.read(place, TOKEN, header.code_bytes, header.dimension)
    assert side is not None
    return side, round(seconds, 1)


def no_regions(items: int, dimension: int, code_bytes: int) -> RegionTable:
    return table_of([None] * items, MadeWith("", "", "", dimension, 8 * code_bytes))


def items_of(source: Gallery, hashed: Callable[[Floats], Codes], asked: Asked) -> Iterator[sidefile.Rows]:
    """The items for a side file; the exact search looks at them on the way."""
    start = 0
    for block in source.blocks():
        codes = hashed(block)
        asked.look_at(start, block)
        yield (
            np.arange(start, start + len(block)),
            codes,
            block.astype(STORED_FLOAT),
            no_regions(len(block), *block.shape[1:], codes.shape[1]),
        )
        start += len(block)


def changes(source: Gallery, hashed: Callable[[Floats], Codes]) -> Changes:
    """A fifth of the items removed, and as many of the same kind added."""
    count = source.items // CHANGED
    blocks = [*source.blocks(source.items, source.items + count)]
    codes, halves = (
        np.concatenate([hashed(block) for block in blocks]),
        np.concatenate([block.astype(STORED_FLOAT) for block in blocks]),
    )
    regions = no_regions(count, source.dimension, codes.shape[1])
    return Changes(
        2, np.arange(source.items, source.items + count), codes, halves, regions, np.arange(0, source.items, CHANGED)
    )


def rows_of(side: SideFile, added: Changes) -> Iterator[sidefile.Rows]:
    """What a side file and changes hold together."""
    for start in range(0, len(side.ids), BLOCK):
        rows = np.setdiff1d(np.arange(start, min(start + BLOCK, len(side.ids))), added.removed, assume_unique=True)
        yield (
            side.ids[rows],
            side.codes[rows],
            side.embeddings(rows),
            no_regions(len(rows), side.header.dimension, side.header.code_bytes),
        )
    yield added.ids, added.codes, added.embeddings, added.regions


def needed(side: SideFile, asked: Asked) -> int:
    """The shortest shortlist of an exact search that holds .99 of the nearest by cosine, with those of one distance."""
    places = []
    for code, ids in zip(asked.codes, asked.ids, strict=True):
        distances = distances_to(code, side.codes)
        counts = np.cumsum(np.bincount(distances, minlength=8 * len(code) + 1))
        places.append(counts[distances[ids]])
    return int(np.sort(np.concatenate(places))[int(np.ceil(0.99 * asked.ids.size)) - 1])


def found(snapshot: Snapshot, asked: Asked) -> dict[str, Any]:
    """What the exact search takes, and for each recall what is read, found and taken."""
    masks = snapshot.masks(None)

    def search(number: int, recall: float) -> NDArray[np.int64]:
        row = slice(number, number + 1)
        return snapshot.nearest(asked.queries[row], asked.codes[row], K, masks, 0.0, recall).ids[0]

    numbers = range(len(asked.queries))
    exact, seconds = each(lambda number: search(number, EXACT), numbers)
    result: dict[str, Any] = {"exact_p50_ms": percentile_ms(seconds, 50)}
    index = snapshot.segments[0].index
    assert index is not None
    for recall in RECALLS:
        hits, seconds = each(lambda number, recall=recall: search(number, recall), numbers)
        shares = [len(set(ours.tolist()) & set(true.tolist())) / K for ours, true in zip(hits, exact, strict=True)]
        reach = index.tested.reach(K, recall)
        result[str(recall)] = {
            "reach": reach,
            "recall": float(np.mean(shares)),
            "p50_ms": percentile_ms(seconds, 50),
            "p95_ms": percentile_ms(seconds, 95),
        }
    return result


def simulation(side: SideFile, items: int, before: dict[str, Any]) -> dict[str, Any]:
    """What it takes to read the same share of an index of so many random codes, and to re-rank the same shortlist."""
    assert side.index is not None
    random, lists = np.random.default_rng(0), lists_for(items)
    width = side.header.code_bytes
    centres, codes = (
        np.frombuffer(random.bytes(count * width), np.uint8).reshape(count, width) for count in (lists, items)
    )
    starts = np.linspace(0, items, lists + 1).astype(np.int64)
    index = Inverted(centres, starts, np.arange(items, dtype=np.int32), codes, np.empty((0, 0, 2), np.int32), 0)
    result: dict[str, Any] = {"items": items, "lists": lists}
    for recall in RECALLS:
        read, length = before[str(recall)]["reach"]
        reach = Reach(round(read * lists / len(side.index.centres)), length)
        rows = np.sort(random.choice(len(side.ids), (100, reach.length)))

        def search(number: int, reach: Reach = reach, rows: NDArray[np.int64] = rows) -> None:
            index.nearest(centres[number], None, reach)
            cosines(np.ones(side.header.dimension, np.float32), side.embeddings(rows[number]))

        result[str(recall)] = {"reach": reach, "p50_ms": percentile_ms(each(search, range(len(rows)))[1], 50)}
    return result


if __name__ == "__main__":
    main()
