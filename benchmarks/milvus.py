"""How long does a search take in a gallery in a file, and in one on a Milvus server of the same machine?

    python benchmarks/milvus.py --items 1e4,1e5

Synthetic clusters with codes of 512 bits, as in `search.py`. The same items go into both galleries, and the same
queries ask both, one at a time. The server is `tests/gallery/milvus_server.py`'s, behind two bridges in Python that a
server of your own would not have; it waits for its next time tick in each search, 200 ms apart by its own settings.

Needs the extra `dev`, on Linux. Prints a table and writes `benchmarks/results/milvus.json`.
"""

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from crossatnet.gallery import Gallery
from search import Planes, percentile
from synthetic import Clusters, fill
from tables import milvus_table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from gallery.milvus_server import MilvusServer

RESULTS = Path(__file__).parent / "results" / "milvus.json"
BITS, HITS, WARM_UP = 512, 10, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", default="1e4,1e5", help="sizes of galleries")
    parser.add_argument("--queries", type=int, default=100)
    options = parser.parse_args()
    rows = []
    with TemporaryDirectory(prefix="crossatnet-") as scratch:
        server = MilvusServer(Path(scratch))
        try:
            server.start()
            for items in (int(float(size)) for size in options.items.split(",")):
                places = {"file": str(Path(scratch, f"{items}.gallery"))}
                places["milvus"] = f"milvus://127.0.0.1:{server.port}/items_{items}"
                measured = {where: measure(place, items, options.queries) for where, place in places.items()}
                hits = [measured[where].pop("hits") for where in places]
                same = float(np.mean([mine == their for mine, their in zip(*hits, strict=True)]))
                rows.append({"items": items, "same_top_10": same, **measured})
        finally:
            server.close()
    record = {
        "command": f"python benchmarks/milvus.py --items {options.items} --queries {options.queries}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "data": "synthetic: 512-dimensional embeddings in clusters",
        "queries": options.queries,
        "rows": rows,
    }
    RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(milvus_table(record))


def measure(place: str, items: int, queries: int) -> dict[str, Any]:
    """Fill a gallery, ask it, and say how long both took; with the paths found, those of equal score by path."""
    with Gallery.create(place, Planes(BITS)) as gallery:
        begin = time.perf_counter()
        fill(gallery, items, at_once=5000)
        gallery.store.flush()
        seconds = time.perf_counter() - begin
        took, hits = [], []
        for query in Clusters(items).queries(queries + WARM_UP):
            begin = time.perf_counter()
            found = gallery.search_embeddings(query[None], HITS)[0]
            took.append(time.perf_counter() - begin)
            hits.append(sorted((-hit.score, hit.path) for hit in found))
    figures = {f"p{p}_ms": percentile(took[WARM_UP:], p) for p in (50, 95)}
    return {"fill_s": round(seconds, 1), **figures, "hits": hits[WARM_UP:]}


if __name__ == "__main__":
    main()
