"""From a drawing to hits in a gallery of a million pictures: one request, warm, and where its time goes.

    python benchmarks/latency.py --items 1e6

A synthetic gallery (`synthetic.Clusters`) is filled as pictures fill one, with codes by the checkpoint's own
hyperplanes. Then drawings of `--queries` kinds, each a list of strokes, are searched for one after another by
`Gallery.search`, after `--warm-up` that are not counted. The parts are timed where they happen:

| part | |
|---|---|
| render | strokes to a picture, and the picture to the network's input |
| network | the sketch's embedding |
| code | its hash code |
| shortlist | Hamming distances to all codes, and the nearest of them |
| re-rank | cosines with the shortlist's embeddings |
| facts | paths and classes of the hits, from SQLite |
| rest | all between them |

Needs 2.5 KB of disk an item in `--scratch`. Prints a table and writes `benchmarks/results/latency.json`.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import onnxruntime

from crossatnet import CrossATNet, Gallery
from crossatnet.data.strokes import Drawing
from crossatnet.gallery import queries
from crossatnet.gallery.sqlite import snapshot
from crossatnet.model.interface import PictureModel
from crossatnet.system.threads import computing_threads
from record import machine, write
from synthetic import fill

PARTS = ("render", "network", "code", "shortlist", "re-rank", "facts")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="crossatnet-open")
    parser.add_argument("--items", default="1e6")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--warm-up", type=int, default=10)
    parser.add_argument("--scratch", type=Path, help="where the gallery is made; the system's temporary folder if not")
    options = parser.parse_args()
    items = int(float(options.items))
    model = CrossATNet.from_pretrained(options.checkpoint)
    with TemporaryDirectory(dir=options.scratch, prefix="crossatnet-") as scratch:
        with Gallery.create(Path(scratch, "made.gallery"), model) as gallery:
            fill(gallery, items)
            gallery.store.flush()
        with Gallery.open(Path(scratch, "made.gallery"), model) as gallery:
            rows = timed(gallery, model, drawings(options.warm_up + options.queries))[options.warm_up :]
    summary = {}
    for part in (*PARTS, "rest", "whole"):
        p50, p95 = np.percentile([row[part] for row in rows], (50, 95))
        summary[part] = {"p50": round(p50, 2), "p95": round(p95, 2)}
    record = {
        "command": f"python benchmarks/latency.py --items {options.items} --queries {options.queries}",
        "machine": machine(),
        "threads": computing_threads(),
        "onnxruntime": onnxruntime.__version__,
        "checkpoint": options.checkpoint,
        "items": items,
        "queries": options.queries,
        "parts_ms": summary,
    }
    for part, figures in summary.items():
        print(f"{part:10} p50 {figures['p50']:7.2f} ms   p95 {figures['p95']:7.2f} ms")
    write("latency", record)


def drawings(count: int) -> list[Drawing]:
    """Drawings of a few wandering strokes each."""
    random = np.random.default_rng(0)
    return [
        tuple(
            np.cumsum(random.normal(0, 6, (40, 2)), axis=0).astype(np.float32) + random.uniform(60, 190, 2)
            for _ in range(5)
        )
        for _ in range(count)
    ]


def timed(gallery: Gallery, model: PictureModel, asked: list[Drawing]) -> list[dict[str, float]]:
    """Milliseconds of each part, and of the whole, for each drawing."""
    spent: dict[str, float] = defaultdict(float)

    def watch(owner: Any, name: str, part: str) -> None:
        function: Callable[..., Any] = getattr(owner, name)

        def watched(*arguments: Any, **options: Any) -> Any:
            begin, before = time.perf_counter(), sum(spent.values())
            try:
                return function(*arguments, **options)
            finally:  # a part within this one counts for itself
                spent[part] += 1000 * (time.perf_counter() - begin) - (sum(spent.values()) - before)

        watches.enter_context(patch.object(owner, name, watched))

    rows = []
    with ExitStack() as watches:
        watch(queries, "render", "render")
        watch(model, "preprocess", "render")
        watch(model, "embed", "network")
        watch(model, "hash", "code")
        watch(snapshot, "nearest_of_all", "shortlist")
        watch(snapshot.Snapshot, "_best", "re-rank")
        watch(gallery.store, "pictures", "facts")
        for query in asked:
            spent.clear()
            begin = time.perf_counter()
            hits = gallery.search(query, k=10)
            whole = 1000 * (time.perf_counter() - begin)
            assert len(hits) == 10
            rows.append({part: spent[part] for part in PARTS} | {"rest": whole - sum(spent.values()), "whole": whole})
    return rows


if __name__ == "__main__":
    main()
