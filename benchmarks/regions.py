"""What do regions cost a gallery? The same search beside galleries that keep none.

    python benchmarks/regions.py --items 1e6 --regions 0,2,4

Synthetic galleries as in `search.py`, of 512 bits, each item with so many regions around other centres. All are opened
in one process, and every query goes to each of them in turn, on one thread, so that whatever else the machine does
falls on all alike. Recall is counted against an exact search: an item's score is its cosine, or its best region's less
a penalty. Opening and memory are measured in a process for each gallery.

Needs 2.5 KB of disk an item, and as much for each of its regions, in `--scratch`. Prints a table and writes
`benchmarks/results/regions.json`.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossatnet.gallery import Gallery
from measure import percentile_ms
from record import machine, write
from search import WARM_UP, memory, stored, throw_out_of_cache
from synthetic import BLOCK, Clusters, Planes, fill, regions_of, sizes

BITS, HITS, PENALTY = 512, (10, 100), 0.05

Floats = NDArray[np.float32]


class PlanesOfParts(Planes):
    """Codes by random hyperplanes, for a gallery with regions."""

    regions = True
    region_penalty = PENALTY
    region_settings = "made up"

    def preprocess_with_regions(self, photo: Any) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        raise NotImplementedError("only embeddings are searched for here")

    def embed_with_regions(self, pixels: NDArray[np.uint8], full: Any) -> tuple[Floats, list[Any]]:
        raise NotImplementedError("only embeddings are searched for here")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", default="1e6", help="sizes of galleries")
    parser.add_argument("--regions", default="0,2,4", help="regions of each item, 0 first")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--scratch", type=Path, help="where galleries are made; the system's temporary folder if not")
    parser.add_argument("--run", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        what, items, *places = options.run
        answer = opened(Path(places[0])) if what == "opening" else raced(int(items), places, options.queries)
        print(json.dumps(answer))
        return
    rows: list[dict[str, Any]] = []
    for items in sizes(options.items):
        with TemporaryDirectory(dir=options.scratch, prefix="crossatnet-") as scratch:
            counts = [int(count) for count in options.regions.split(",")]
            places = {count: Path(scratch, str(count), "made.gallery") for count in counts}
            made = {count: made_gallery(place, items, count) for count, place in places.items()}
            opening = {count: measured("opening", items, [place], 1) for count, place in places.items()}
            times = measured("race", items, [*places.values()], options.queries)
        for count, raced_times in zip(counts, times["times"], strict=True):
            hits = raced_times.pop("hits")
            recall = recalled(hits, exact_hits(items, count, options.queries))
            rows.append({"items": items, "regions": count, **recall, **raced_times, **opening[count], **made[count]})
            show(rows[-1], rows[-1 - counts.index(count)])
    command = f"python benchmarks/regions.py --items {options.items} --regions {options.regions}"
    command += f" --queries {options.queries}"
    facts = {"machine": machine(), "bits": BITS, "penalty": PENALTY, "queries": options.queries}
    write("regions", {"command": command, **facts, "rows": rows})


def made_gallery(path: Path, items: int, regions: int) -> dict[str, Any]:
    """Make a gallery: how long that took, and how large its files are."""
    path.parent.mkdir()
    begin = time.process_time()
    with Gallery.create(path, PlanesOfParts(BITS), regions=regions > 0) as gallery:
        fill(gallery, items, regions=regions)
        filled = time.process_time()
        gallery.store.flush()
    sizes = {file.name.removeprefix("made.gallery") or "sqlite": file.stat().st_size for file in path.parent.iterdir()}
    return {"fill_cpu_s": filled - begin, "settle_cpu_s": time.process_time() - filled, "bytes": sizes}


def measured(what: str, items: int, places: list[Path], queries: int) -> dict[str, Any]:
    """What a process of its own found and took."""
    command = [sys.executable, __file__, "--queries", str(queries), "--run", what, str(items), *map(str, places)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    result: dict[str, Any] = json.loads(found)
    return result


def opened(path: Path) -> dict[str, Any]:
    """Opening to the end of the first search, cold and warm, and the memory that this takes."""
    asked, taken = Clusters(1000).queries(1), {}
    for state in ("cold", "warm"):
        if state == "cold":
            for file in path.parent.iterdir():
                throw_out_of_cache(file)
        begin = time.perf_counter()
        with Gallery.open(path, PlanesOfParts(BITS)) as gallery:
            gallery.search_embeddings(asked)
        taken[f"opening_{state}_s"] = time.perf_counter() - begin
    return taken | memory()


def raced(items: int, places: list[str], queries: int) -> dict[str, Any]:
    """Every query to every gallery in turn: seconds, processor seconds and hits."""
    asked = Clusters(items).queries(queries)
    with ExitStack() as stack:
        galleries = [stack.enter_context(Gallery.open(place, PlanesOfParts(BITS))) for place in places]
        times: list[dict[str, Any]] = [{"hits": {}} for _ in galleries]
        for k in HITS:
            walls: list[list[float]] = [[] for _ in galleries]
            busy: list[list[float]] = [[] for _ in galleries]
            found: list[list[list[int]]] = [[] for _ in galleries]
            for query in asked:
                for number, gallery in enumerate(galleries):
                    begin, started = time.perf_counter(), time.thread_time()
                    hits = gallery.search_embeddings(query[None], k)[0]
                    busy[number].append(time.thread_time() - started)
                    walls[number].append(time.perf_counter() - begin)
                    found[number].append([hit.id for hit in hits])
            for number, each in enumerate(times):
                each |= {f"p50_ms_k{k}": percentile_ms(walls[number][WARM_UP:], 50)}
                each |= {f"cpu_p50_ms_k{k}": percentile_ms(busy[number][WARM_UP:], 50)}
                each["hits"][str(k)] = found[number]
    return {"times": times}


def exact_hits(items: int, regions: int, queries: int) -> NDArray[np.int64]:
    """Ids of the true best of each query (Q, most hits), by float32 products of embeddings as they are stored."""
    asked, most = Clusters(items).queries(queries), max(HITS)
    scores, ids = np.empty((queries, 0), np.float32), np.empty((queries, 0), np.int64)
    start = 0
    for block in Clusters(items).blocks():
        found = asked @ stored(block).T  # (Q, block)
        for first in range(0, len(block) if regions else 0, 10_000):  # in the batches that `fill` draws them in
            count = min(10_000, len(block) - first)
            parts = regions_of(start + first, count, regions, Planes.dimension, items)
            of_parts = (asked @ stored(parts.reshape(-1, Planes.dimension)).T).reshape(queries, count, regions).max(2)
            part = slice(first, first + count)
            found[:, part] = np.maximum(found[:, part], of_parts - PENALTY)
        scores = np.hstack([scores, found])
        ids = np.hstack([ids, np.tile(np.arange(start + 1, start + 1 + len(block)), (queries, 1))])
        best = np.argsort(-scores, axis=1, kind="stable")[:, :most]
        scores, ids = np.take_along_axis(scores, best, 1), np.take_along_axis(ids, best, 1)
        start += len(block)
    assert BLOCK % 10_000 == 0
    return ids


def recalled(hits: dict[str, list[list[int]]], truth: NDArray[np.int64]) -> dict[str, float]:
    found = {}
    for k in HITS:
        right = [len(set(ids) & set(true)) / k for ids, true in zip(hits[str(k)], truth[:, :k].tolist(), strict=True)]
        found[f"recall_k{k}"] = float(np.mean(right))
    return found


def show(row: dict[str, Any], without: dict[str, Any]) -> None:
    print(f"{row['items']:,} items with {row['regions']} regions each")
    for k in HITS:
        ratios = (row[name] / without[name] for name in (f"p50_ms_k{k}", f"cpu_p50_ms_k{k}"))
        print(
            f"  k={k:<4} {row[f'p50_ms_k{k}']:8.2f} ms p50, {row[f'cpu_p50_ms_k{k}']:8.2f} ms of processor time;"
            f" {' and '.join(f'{ratio:.2f}' for ratio in ratios)} times; recall {row[f'recall_k{k}']:.4f}"
        )
    print(
        f"  opening {row['opening_warm_s']:.2f} s, cold {row['opening_cold_s']:.2f} s; memory {row.get('own_mib', 0)}"
        f" MiB own, {row['peak_mib']} MiB with mapped pages; filled in {row['fill_cpu_s']:.0f} s of processor time,"
        f" settled in {row['settle_cpu_s']:.0f} s;",
        ", ".join(f"{name} {size / 1e6:,.0f} MB" for name, size in row["bytes"].items()),
        flush=True,
    )


if __name__ == "__main__":
    main()
