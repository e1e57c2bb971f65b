"""How long must the Hamming shortlist be, so that the float re-rank finds .99 of the true nearest?

    python benchmarks/shortlist.py --data PATH/TO/sketchy --items 1e4,1e5,1e6,1e7

For made-up galleries (see `synthetic.py`: equal clusters, and photo-like ones drawn from the statistics of real
embeddings), code lengths, gallery sizes and numbers of hits, the place of every true hit in the Hamming order is
counted. Within a tie an item is expected anywhere. Told is the shortest shortlist with a mean recall of .99, and the
recall at the length that `crossatnet.gallery.shortlist` chooses. Codes: the checkpoint's own hash codes for photo-like
galleries, random hyperplanes for clusters.

Prints a table and writes `benchmarks/results/shortlist.json`.
"""

import argparse
from pathlib import Path
from tempfile import gettempdir
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from crossatnet import CrossATNet
from crossatnet.gallery.shortlist import shortlist_length
from record import machine, write
from synthetic import Clusters, Gallery, PhotoLike, real_embeddings, sizes

BITS = (64, 128, 256, 512)
HITS = (1, 10, 100)
RECALL = 0.99
CHECKPOINT = "crossatnet-open"


class Hasher(Protocol):
    """Embeddings (N, D) -> signs of the bits of their codes, +1 and -1 (N, bits)."""

    def __call__(self, embeddings: NDArray[np.float32], bits: int, /) -> NDArray[np.float32]: ...


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder of Sketchy, for the photo-like galleries")
    parser.add_argument("--items", default="1e4,1e5,1e6", help="sizes of galleries")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--cache", type=Path, default=Path(gettempdir(), "crossatnet-real-embeddings.npz"))
    options = parser.parse_args()
    real = real_embeddings(options.data, CHECKPOINT, options.cache)
    rows: list[dict[str, Any]] = []
    for items in sizes(options.items):
        galleries: list[tuple[Gallery, Hasher]] = [(PhotoLike(items, *real), checkpoint_hasher())]
        galleries.append((Clusters(items), random_hasher()))
        for gallery, hasher in galleries:
            places = {bits: Places(gallery, hasher, bits, options.queries) for bits in BITS}
            for bits, place in places.items():
                rows += [judged(gallery, place, bits, k) for k in HITS]
                show(rows[-len(HITS) :])
    record = {
        "command": f"python benchmarks/shortlist.py --data DATA/{options.data.name} --items {options.items}"
        f" --queries {options.queries}",
        "machine": machine(),
        "checkpoint": CHECKPOINT,
        "queries": options.queries,
        "recall": RECALL,
        "rows": rows,
    }
    write("shortlist", record)


def judged(gallery: Gallery, place: "Places", bits: int, k: int) -> dict[str, Any]:
    """The shortest sufficient shortlist, and what the rule's length gives."""
    length = min(shortlist_length(k, bits, gallery.items), gallery.items)
    return {
        "gallery": gallery.name,
        "items": gallery.items,
        "bits": bits,
        "k": k,
        "needed": place.needed(k),
        "length": length,
        "recall": round(place.recall(length, k), 4),
    }


def show(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        print(
            f"{row['gallery']:11}{row['items']:11,} items {row['bits']:4} bits  k={row['k']:<4}"
            f" needs {row['needed']:8,}; rule {row['length']:7,} gives {row['recall']:.4f}",
            flush=True,
        )


class Places:
    """Where the true nearest items of each query stand in its Hamming order."""

    def __init__(self, gallery: Gallery, hasher: Hasher, bits: int, queries: int) -> None:
        asked = gallery.queries(queries)  # (Q, D)
        signs = hasher(asked, bits)  # (Q, bits)
        counts = np.zeros((queries, bits + 1), np.int64)  # items at each distance
        scores = np.empty((queries, 0), np.float32)
        distances = np.empty((queries, 0), np.int64)
        for block in gallery.blocks():
            found = asked @ block.T  # (Q, n)
            apart = np.rint((bits - signs @ hasher(block, bits).T) / 2).astype(np.int64)  # (Q, n)
            for query in range(queries):
                counts[query] += np.bincount(apart[query], minlength=bits + 1)
            scores, distances = np.hstack([scores, found]), np.hstack([distances, apart])
            best = np.argpartition(-scores, min(max(HITS), scores.shape[1] - 1), axis=1)[:, : max(HITS)]
            scores, distances = np.take_along_axis(scores, best, 1), np.take_along_axis(distances, best, 1)
        order = np.argsort(-scores, axis=1)
        distances = np.take_along_axis(distances, order, axis=1)  # (Q, most hits), nearest first
        nearer = np.cumsum(counts, axis=1)
        self._upto = np.take_along_axis(nearer, distances, axis=1)  # items as near or nearer
        self._ties = np.take_along_axis(counts, distances, axis=1)
        self._items = gallery.items

    def recall(self, length: int, k: int) -> float:
        """The expected share of the true `k` nearest among the first `length` in Hamming order."""
        upto, ties = self._upto[:, :k], self._ties[:, :k]
        return float(np.clip((length - (upto - ties)) / ties, 0, 1).mean())

    def needed(self, k: int) -> int:
        """The shortest list whose recall is `RECALL`."""
        low, high = k, self._items
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.recall(middle, k) >= RECALL else (middle + 1, high)
        return low


def checkpoint_hasher() -> Hasher:
    model = CrossATNet.from_pretrained(CHECKPOINT)

    def signs(embeddings: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
        return np.unpackbits(model.hash(embeddings, bits), axis=1).astype(np.float32) * 2 - 1

    return signs


def random_hasher() -> Hasher:
    def signs(embeddings: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
        planes = np.random.default_rng(bits).standard_normal((embeddings.shape[1], bits))
        planes = np.linalg.qr(planes)[0].astype(np.float32)  # (D, bits), orthonormal: bits tell different things
        return np.where(embeddings @ planes > 0, np.float32(1), np.float32(-1))

    return signs


if __name__ == "__main__":
    main()
