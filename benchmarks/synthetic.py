"""Made-up galleries of any size for benchmarks: embeddings in clusters, drawn a block at a time.

Letters: `N` items, `Q` queries, `D` embedding dimension, `C` clusters.

`Clusters` are equal balls around random centres. `PhotoLike` are drawn from what real photos and sketches look like in
the shared space of a shipped checkpoint: centres of new classes from the spread of the real classes' means, items and
queries around them from the spread within real classes, queries moved as sketches are moved against photos. Both are
synthetic, and every result made with them says so.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import crossatnet
from crossatnet.data.images import Modality, Picture
from crossatnet.gallery.backend import CodedRegions, Facts, FileState

BLOCK = 50_000  # items drawn at once
ITEMS_A_CLUSTER = 200
BOXES = np.array([[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1], [0.5, 0.5, 1, 1]] * 2, np.float32)
CLUSTER_COSINE = 0.8  # between an item and its ball's centre; .78 between Sketchy's photos and their class's mean

Floats = NDArray[np.float32]


class Gallery(ABC):
    """`items` embeddings (N, D) of unit length, the same whenever they are drawn anew."""

    name: str
    dimension: int

    def __init__(self, items: int) -> None:
        self.items = items
        self.clusters = max(10, items // ITEMS_A_CLUSTER)

    def blocks(self, first: int = 0, end: int = 0) -> Iterator[Floats]:
        """The items, in blocks; or others of their kind, from `first`, where a block begins, to `end`."""
        end = end or self.items
        for start in range(first, end, BLOCK):
            random = np.random.default_rng([1, start // BLOCK])
            yield unit(self._around(random, min(BLOCK, end - start), "photo"))

    def queries(self, count: int) -> Floats:
        """Queries (Q, D) of unit length around the same centres."""
        return unit(self._around(np.random.default_rng(2), count, "sketch"))

    @abstractmethod
    def _around(self, random: np.random.Generator, count: int, modality: str) -> Floats:
        """`count` embeddings, not of unit length yet, around centres drawn by chance."""


class Clusters(Gallery):
    """Balls around random centres: nothing in a ball is nearer for a reason, which is hard on short codes."""

    name = "clusters"

    def __init__(self, items: int, dimension: int = 512) -> None:
        super().__init__(items)
        self.dimension = dimension
        self._centres = unit(np.random.default_rng(0).standard_normal((self.clusters, dimension), dtype=np.float32))

    def _around(self, random: np.random.Generator, count: int, modality: str) -> Floats:
        noise = random.standard_normal((count, self.dimension), dtype=np.float32)
        noise *= np.sqrt((1 / CLUSTER_COSINE**2 - 1) / self.dimension)
        return self._centres[random.integers(0, self.clusters, count)] + noise


class PhotoLike(Gallery):
    """Drawn from the means and spreads of real embeddings; `photos` and `sketches` (n, D) with their classes."""

    name = "photo-like"

    def __init__(self, items: int, photos: Floats, photo_class: list[str], sketches: Floats, sketch_class: list[str]):
        super().__init__(items)
        self.dimension = photos.shape[1]
        means, spread = _by_class(photos, photo_class)
        sketch_means, sketch_spread = _by_class(sketches, sketch_class)
        self._within = {"photo": spread, "sketch": sketch_spread}
        self._moved = {"photo": np.zeros(self.dimension, np.float32), "sketch": (sketch_means - means).mean(axis=0)}
        centres = np.random.default_rng(0).standard_normal((self.clusters, len(means)), dtype=np.float32)
        self._centres = means.mean(axis=0) + centres @ _spread(means)

    def _around(self, random: np.random.Generator, count: int, modality: str) -> Floats:
        spread = self._within[modality]
        noise = random.standard_normal((count, len(spread)), dtype=np.float32) @ spread  # (count, D)
        return self._centres[random.integers(0, self.clusters, count)] + self._moved[modality] + noise


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


def sizes(given: str) -> list[int]:
    """Sizes of galleries, given such as 1e4,1e5."""
    return [int(float(size)) for size in given.split(",")]


def fill(place: crossatnet.Gallery, items: int, at_once: int = 10_000, regions: int = 0) -> None:
    """Put `items` of `Clusters` into a gallery, under the codes its model gives them and paths that do not exist.

    With `regions` each gets so many, around other centres.
    """
    number = 0
    for block in Clusters(items, place.store.made_with.dimension).blocks():
        for part in np.split(block, range(at_once, len(block), at_once)):
            facts = [
                Facts(f"/pictures/{n % 100:02}/{n:08}.jpg", f"class {n % 100}", FileState(1, 1, f"{n:064x}"), 640, 480)
                for n in range(number, number + len(part))
            ]
            parts = regions_of(number, len(part), regions, place.store.made_with.dimension, items) if regions else []
            coded = [CodedRegions(BOXES[:regions], place.model.hash(each), each) for each in parts]
            place.store.put(facts, place.model.hash(part), part, regions=coded)
            number += len(part)


def regions_of(first: int, count: int, regions: int, dimension: int, items: int) -> Floats:
    """The regions (count, regions, D) of the items from number `first` on: around the centres of a gallery's items."""
    random = np.random.default_rng([3, first])
    rows = unit(Clusters(items, dimension)._around(random, count * regions, "photo"))
    return rows.reshape(count, regions, dimension)


def unit(rows: Floats) -> Floats:
    """Rows of length 1."""
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def real_embeddings(root: Path, checkpoint: str, cache: Path) -> tuple[Floats, list[str], Floats, list[str]]:
    """Photos and sketches of a Sketchy folder embedded by a checkpoint, kept in a file: as `PhotoLike` takes them."""
    if not cache.exists():
        from crossatnet.data.layouts import read_catalog

        catalog, model = read_catalog(root, "sketchy"), crossatnet.CrossATNet.from_pretrained(checkpoint)
        found: dict[str, NDArray[np.generic]] = {}
        for modality in ("photo", "sketch"):
            items = [item for item in catalog.items if item.modality == modality]
            found[modality] = model.encode([item.path for item in items], modality)
            found[f"{modality}_class"] = np.array([item.class_name for item in items])
        cache.parent.mkdir(parents=True, exist_ok=True)
        np.savez(cache, **found)
    with np.load(cache) as kept:
        return kept["photo"], kept["photo_class"].tolist(), kept["sketch"], kept["sketch_class"].tolist()


def _by_class(embeddings: Floats, labels: list[str]) -> tuple[Floats, Floats]:
    """The mean of every class, in alphabetical order, and the spread of embeddings around their class's mean."""
    names, index = np.unique(labels, return_inverse=True)
    means = np.stack([embeddings[index == number].mean(axis=0) for number in range(len(names))])
    return means, _spread(embeddings - means[index])


def _spread(rows: Floats) -> Floats:
    """A matrix that turns standard normal numbers into rows with the covariance of these: (n, D) -> (min(n, D), D)."""
    centred = rows - rows.mean(axis=0)
    _, singular, directions = np.linalg.svd(centred, full_matrices=False)
    return np.asarray(singular[:, None] * directions / np.sqrt(len(rows)), dtype=np.float32)
