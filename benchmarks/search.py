"""How fast is a gallery of a hundred thousand, a million, ten million pictures, and how much does it find?

    python benchmarks/search.py --items 1e5,1e6,1e7

Synthetic galleries: 512-dimensional embeddings in clusters (`synthetic.Clusters`), codes of 64, 256 and 512 bits by
random hyperplanes. A gallery is filled as pictures fill one, then opened and searched by a process of its own, one
query at a time on one thread: `Gallery.search_embeddings`, from the embedding to the paths found. Beside it stand, on
one thread too, faiss's exact search of float32 embeddings (`IndexFlatIP`) and NumPy's (`@` and `argpartition`), each
in a process of its own. Recall is counted against an exact search of the stored embeddings.

Exact search of 1e7 items would need 20 GB of memory: above `--exact-items` (1e6) its time is that of so many items,
multiplied, and marked so. Opening is timed to the end of the first search, with the files in the system's cache and
after they were thrown out of it. Memory: what the process holds itself, and with mapped pages of the side file.

Needs 2.5 KB of disk an item in `--scratch`. Prints a table and puts its rows into `benchmarks/results/search.json`.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from crossatnet.data.images import Modality, Picture
from crossatnet.gallery import Gallery
from crossatnet.gallery.shortlist import shortlist_length
from synthetic import Clusters, fill

RESULTS = Path(__file__).parent / "results" / "search.json"
HITS = (10, 100)
WARM_UP = 5  # searches that are not timed

Floats = NDArray[np.float32]


class Planes:
    """What a gallery asks of a model, where embeddings come from elsewhere: codes by random hyperplanes."""

    source = ""
    name = "random hyperplanes"
    dimension = 512
    has_attention = False

    def __init__(self, bits: int) -> None:
        self.code_bits = bits
        self.fingerprint = f"{bits:064x}"
        planes = np.random.default_rng(bits).standard_normal((self.dimension, bits))
        self._planes = np.linalg.qr(planes)[0].astype(np.float32)  # (D, bits)

    def hash(self, embeddings: Floats) -> NDArray[np.uint8]:
        return np.packbits(embeddings @ self._planes > 0, axis=1)

    def preprocess(self, picture: Picture, modality: Modality) -> NDArray[np.uint8]:
        raise NotImplementedError("only embeddings are searched for here")

    def embed(self, pixels: NDArray[np.uint8], modality: Modality) -> Floats:
        raise NotImplementedError("only embeddings are searched for here")

    def guide(self, sketch: NDArray[np.uint8], photos: NDArray[np.uint8]) -> tuple[Floats, Floats]:
        raise NotImplementedError("only embeddings are searched for here")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", default="1e5,1e6,1e7", help="sizes of galleries")
    parser.add_argument("--bits", default="64,256,512", help="lengths of hash codes")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--exact-items", type=float, default=1e6, help="most items that exact searches are timed on")
    parser.add_argument("--scratch", type=Path, help="where galleries are made; the system's temporary folder if not")
    parser.add_argument("--run", nargs=3, metavar=("METHOD", "ITEMS", "PLACE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        method, items, place = options.run
        print(json.dumps(METHODS[method](int(items), Path(place), options.queries)))
        return
    command = f"python benchmarks/search.py --items {options.items} --bits {options.bits} --queries {options.queries}"
    for items in (int(float(size)) for size in options.items.split(",")):
        truth = exact_hits(items, options.queries)  # (Q, most hits)
        exact = {}
        timed = min(items, int(options.exact_items))
        for method in ("faiss exact", "numpy exact"):
            exact[method] = measured(method, timed, Path(), options.queries) | {"timed_items": timed}
            exact[method] |= {f"{p}_ms": exact[method][f"{p}_ms"] * items / timed for p in ("p50", "p95")}
        for bits in map(int, options.bits.split(",")):
            with TemporaryDirectory(dir=options.scratch, prefix="crossatnet-") as scratch:
                made = made_gallery(Path(scratch, "made.gallery"), items, bits)
                found = measured("two-stage", items, Path(scratch, "made.gallery"), options.queries)
            row = judged(items, bits, truth, found, exact) | made
            show(row)
            keep(row | {"command": command, "queries": options.queries})


def keep(row: dict[str, Any]) -> None:
    """Put a row into the results, in place of an older one of its kind; rows made otherwise are dropped."""
    facts = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "faiss": faiss.__version__,
        "numpy": np.__version__,
        "data": "synthetic: 512-dimensional embeddings in clusters",
    }
    before = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    rows = before["rows"] if all(before.get(name) == fact for name, fact in facts.items()) else []
    rows = [each for each in rows if (each["items"], each["bits"]) != (row["items"], row["bits"])] + [row]
    rows.sort(key=lambda each: (each["items"], each["bits"]))
    commands = dict.fromkeys(each["command"] for each in rows)
    record = {"command": "; ".join(commands), **facts, "rows": rows}
    RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def exact_hits(items: int, queries: int) -> NDArray[np.int64]:
    """Ids of the true nearest of each query, by float32 products of the embeddings as they are stored."""
    gallery, most = Clusters(items), max(HITS)
    asked = gallery.queries(queries)
    scores, ids = np.empty((queries, 0), np.float32), np.empty((queries, 0), np.int64)
    start = 1  # ids count from 1
    for block in gallery.blocks():
        rows = stored(block)
        scores = np.hstack([scores, asked @ rows.T])
        ids = np.hstack([ids, np.tile(np.arange(start, start + len(rows)), (queries, 1))])
        best = np.argsort(-scores, axis=1, kind="stable")[:, :most]
        scores, ids = np.take_along_axis(scores, best, 1), np.take_along_axis(ids, best, 1)
        start += len(rows)
    return ids


def stored(embeddings: Floats) -> Floats:
    """Embeddings as a gallery gives them back: in half precision, brought to unit length again."""
    halves = embeddings.astype(np.float16).astype(np.float32)
    halves /= np.linalg.norm(halves, axis=1, keepdims=True)
    return halves


def made_gallery(path: Path, items: int, bits: int) -> dict[str, Any]:
    """Make the gallery; how long storing and the side file took, and how large they are."""
    begin = time.perf_counter()
    with Gallery.create(path, Planes(bits)) as gallery:
        fill(gallery, items)
        filled = time.perf_counter()
        gallery.store.flush()
    settled = time.perf_counter()
    sizes = {file.name.removeprefix("made.gallery") or "sqlite": file.stat().st_size for file in path.parent.iterdir()}
    return {"fill_s": round(filled - begin, 1), "settle_s": round(settled - filled, 1), "bytes": sizes}


def measured(method: str, items: int, place: Path, queries: int) -> dict[str, Any]:
    """What one method found and took, in a process of its own."""
    command = [sys.executable, __file__, "--queries", str(queries), "--run", method, str(items), str(place)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    result: dict[str, Any] = json.loads(found)
    return result


def two_stage(items: int, path: Path, queries: int) -> dict[str, Any]:
    asked, model = Clusters(items).queries(queries), Planes(code_bits(path))
    opening = {}
    for state in ("cold", "warm"):
        if state == "cold":
            for file in path.parent.iterdir():
                throw_out_of_cache(file)
        begin = time.perf_counter()
        with Gallery.open(path, model) as gallery:
            gallery.search_embeddings(asked[:1])
        opening[f"opening_{state}_s"] = time.perf_counter() - begin
    with Gallery.open(path, model) as gallery:
        timed: dict[str, Any] = {"hits": {}}
        for k in HITS:
            hits, seconds = each(lambda query, k=k: gallery.search_embeddings(query[None], k)[0], asked)
            timed |= {f"p50_ms_k{k}": percentile(seconds, 50), f"p95_ms_k{k}": percentile(seconds, 95)}
            timed["hits"][str(k)] = [[hit.id for hit in row] for row in hits]
    return {**opening, **timed, **memory()}


def code_bits(path: Path) -> int:
    with Gallery.open(path) as gallery:
        return gallery.store.made_with.code_bits


def faiss_exact(items: int, _: Path, queries: int) -> dict[str, Any]:
    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(Planes.dimension)
    for block in Clusters(items).blocks():
        index.add(stored(block))
    _, seconds = each(lambda query: index.search(query[None], HITS[0]), Clusters(items).queries(queries))
    return {"p50_ms": percentile(seconds, 50), "p95_ms": percentile(seconds, 95), **memory()}


def numpy_exact(items: int, _: Path, queries: int) -> dict[str, Any]:
    rows, start = np.empty((items, Planes.dimension), np.float32), 0
    for block in Clusters(items).blocks():
        rows[start : start + len(block)] = stored(block)
        start += len(block)

    def search(query: Floats) -> NDArray[np.int64]:
        scores = rows @ query
        best = np.argpartition(-scores, HITS[0])[: HITS[0]]
        return best[np.argsort(-scores[best])]

    _, seconds = each(search, Clusters(items).queries(queries))
    return {"p50_ms": percentile(seconds, 50), "p95_ms": percentile(seconds, 95), **memory()}


METHODS: dict[str, Callable[[int, Path, int], dict[str, Any]]] = {
    "two-stage": two_stage,
    "faiss exact": faiss_exact,
    "numpy exact": numpy_exact,
}


def each(search: Callable[[Floats], Any], queries: Floats) -> tuple[list[Any], list[float]]:
    """What a search gives for every query, and the seconds of those after the first few."""
    found, seconds = [], []
    for query in queries:
        begin = time.perf_counter()
        found.append(search(query))
        seconds.append(time.perf_counter() - begin)
    return found, seconds[min(WARM_UP, len(seconds) - 1) :]


def percentile(seconds: list[float], percent: int) -> float:
    return float(np.percentile(seconds, percent)) * 1000


def memory() -> dict[str, int]:
    """MiB: the peak with mapped pages, and what is the process's own now, where the system tells."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    own = [int(line.split()[1]) for line in lines if line.startswith("RssAnon")]
    return {"peak_mib": round(peak), **({"own_mib": round(own[0] / 1024)} if own else {})}


def throw_out_of_cache(file: Path) -> None:
    if hasattr(os, "posix_fadvise"):
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def judged(
    items: int, bits: int, truth: NDArray[np.int64], found: dict[str, Any], exact: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """One row: recall against the truth, and how many times faster than each exact search."""
    hits = found.pop("hits")
    row: dict[str, Any] = {"items": items, "bits": bits}
    for k in HITS:
        right = [len(set(ids) & set(true)) / k for ids, true in zip(hits[str(k)], truth[:, :k].tolist(), strict=True)]
        row |= {f"shortlist_k{k}": min(shortlist_length(k, bits, items), items), f"recall_k{k}": float(np.mean(right))}
    ours = found[f"p50_ms_k{HITS[0]}"]
    ratios = {f"faster_than_{name.split()[0]}": part["p50_ms"] / ours for name, part in exact.items()}
    return {**row, **found, **ratios, "exact": exact}


def show(row: dict[str, Any]) -> None:
    print(f"{row['items']:,} items, {row['bits']} bits")
    for k in HITS:
        print(
            f"  two-stage, k={k:<4}{row[f'p50_ms_k{k}']:9.2f} ms p50 {row[f'p95_ms_k{k}']:9.2f} ms p95"
            f"  recall@{k} {row[f'recall_k{k}']:.4f} (shortlist {row[f'shortlist_k{k}']:,})"
        )
    for name, part in row["exact"].items():
        note = "" if part["timed_items"] == row["items"] else f", from {part['timed_items']:,} items"
        print(
            f"  {name:17}{part['p50_ms']:9.2f} ms p50 {part['p95_ms']:9.2f} ms p95"
            f"  {row[f'faster_than_{name.split()[0]}']:.1f} times slower{note}, {part['peak_mib']:,} MiB"
        )
    print(
        f"  opening {row['opening_warm_s']:.2f} s, cold {row['opening_cold_s']:.2f} s; filled in {row['fill_s']:.0f} s"
    )
    print(f"  memory {row.get('own_mib', 0):,} MiB own, {row['peak_mib']:,} MiB with mapped pages", flush=True)


if __name__ == "__main__":
    main()
