"""How long does a search take in a gallery in a file, and in one on a Milvus server of the same machine?

    python benchmarks/milvus.py --items 1e4,1e5 --regions 0,2

Synthetic clusters with codes of 512 bits, as in `search.py`. The same items go into both galleries, and the same
queries ask both, one at a time. With `--regions` there is a pair of galleries for each number of regions that an item
has, around other centres. The server is asked at session and at strong consistency. It is that of
`tests/gallery/milvus_server.py`, behind two bridges in Python that a server of your own would not have. A strong search
waits for its next time tick, 200 ms apart by its own settings. For a while after a large gallery was written, the
server's own work on it takes the same cores, so it is asked at once and again when it has come to rest. Processor time
is that of this process and of the server's together, for each search: other work on the machine changes it less than
the time on the clock.

Needs the extra `dev`, on Linux. Prints a table and writes `benchmarks/results/milvus.json`.
"""

import argparse
import itertools
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from crossatnet.gallery import Gallery
from crossatnet.system.consistency import Consistency
from measure import percentile_ms
from record import machine, read, write
from regions import PlanesOfParts
from serve_process import cpu_seconds, with_children
from synthetic import Clusters, fill, sizes
from tables import rendered

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from gallery.milvus_server import MilvusServer

BITS, HITS, WARM_UP = 512, 10, 5
WAYS: dict[str, Consistency] = {
    "milvus, session, just written": "session",
    "file": "session",
    "milvus, session": "session",
    "milvus, strong": "strong",
}
AT_REST, LOOK_S, LONGEST_REST_S = 0.08, 30.0, 300.0  # cores that a server without work takes, over so many seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", default="1e4,1e5", help="sizes of galleries")
    parser.add_argument("--regions", default="0", help="regions of each item")
    parser.add_argument("--queries", type=int, default=100)
    options = parser.parse_args()
    rows = []
    with TemporaryDirectory(prefix="crossatnet-") as scratch:
        server = MilvusServer(Path(scratch))
        try:
            server.start()
            for items, regions in itertools.product(sizes(options.items), sizes(options.regions)):
                places = {"file": str(Path(scratch, f"{items}_{regions}.gallery"))}
                places["milvus"] = f"milvus://127.0.0.1:{server.port}/items_{items}_{regions}"
                filled = {where: fill_it(place, items, regions) for where, place in places.items()}
                measured = {}
                for where, consistency in WAYS.items():
                    place = places[where.partition(",")[0]]
                    measured[where] = measure(place, consistency, items, options.queries, server.pid)
                    if where.endswith("just written"):
                        rested = let_rest(server.pid)
                expected = measured["file"]["hits"]
                for where, found in measured.items():
                    hits = found.pop("hits")
                    same = float(np.mean([mine == their for mine, their in zip(hits, expected, strict=True)]))
                    rows.append(
                        {"items": items, "regions": regions, "where": where}
                        | {"fill_s": filled[where.partition(",")[0]], **found, "same_top_10": same, "rested_s": rested}
                    )
        finally:
            server.close()
    command = f"python benchmarks/milvus.py --items {options.items} --regions {options.regions}"
    record = {
        "command": f"{command} --queries {options.queries}",
        "machine": machine(),
        "data": "synthetic: 512-dimensional embeddings in clusters",
        "queries": options.queries,
        "rows": rows,
    }
    write("milvus", record)
    print(rendered("milvus", read("milvus")))


def fill_it(place: str, items: int, regions: int) -> float:
    """Make a gallery; the seconds that took."""
    begin = time.perf_counter()
    with Gallery.create(place, PlanesOfParts(BITS), regions=regions > 0) as gallery:
        fill(gallery, items, at_once=5000, regions=regions)
        gallery.store.flush()
    return round(time.perf_counter() - begin, 1)


def let_rest(server: int) -> float:
    """Wait until the server takes hardly any processor time; the seconds that took."""
    begin = time.monotonic()
    while time.monotonic() - begin < LONGEST_REST_S:
        before = cpu_seconds(with_children(server))
        time.sleep(LOOK_S)
        if cpu_seconds(with_children(server)) - before < AT_REST * LOOK_S:
            return round(time.monotonic() - begin, 1)
    raise SystemExit(f"the server had no rest within {LONGEST_REST_S:g} s")


def measure(place: str, consistency: Consistency, items: int, queries: int, server: int) -> dict[str, Any]:
    """Ask a gallery, and say how long that took; with the paths found, those of equal score by path."""
    with Gallery.open(place, PlanesOfParts(BITS), consistency=consistency) as gallery:
        took, hits, cpu = [], [], []
        for query in Clusters(items).queries(queries + WARM_UP):
            cpu.append(time.process_time() + cpu_seconds(with_children(server)))
            begin = time.perf_counter()
            found = gallery.search_embeddings(query[None], HITS)[0]
            took.append(time.perf_counter() - begin)
            hits.append(sorted((-hit.score, hit.path) for hit in found))
        cpu.append(time.process_time() + cpu_seconds(with_children(server)))
    figures = {f"p{p}_ms": percentile_ms(took[WARM_UP:], p) for p in (50, 95)}
    return figures | {"cpu_ms": 1000 * (cpu[-1] - cpu[WARM_UP]) / queries, "hits": hits[WARM_UP:]}


if __name__ == "__main__":
    main()
