"""Views of pictures for training: maps of the backbone's frozen units, computed once and kept, or fresh pictures.

Shapes: `N` items, `V` views of each, `B` batch, `S` side of the input, `C h w` the map after the frozen units.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crossatnet.config import cache_directory
from crossatnet.data.catalog import Catalog, Item, open_item
from crossatnet.data.hands import vary
from crossatnet.data.images import prepare
from crossatnet.data.prefetch import read_ahead
from crossatnet.progress import track

RECIPE = 3  # raise it whenever the same settings would give other features, so that stale caches are not used
BATCH = 32
PART = 32  # pictures at a time; a killed extraction goes on after the last whole part


@dataclass(frozen=True)
class ViewSettings:
    """How pictures become training's input: everything that decides a map besides the weights."""

    image_size: int
    fit_strokes: bool
    views: int
    units: int  # of the backbone, its first ones, that make the map
    precision: str = "32-true"  # of the computation
    hands: float = 0.0  # share of the augmented versions that are drawn, or taken, in another way


@dataclass(frozen=True)
class LivePictures:
    """Pictures that are read and augmented anew every time."""

    items: Sequence[Item]
    settings: ViewSettings

    def __getitem__(self, rows: Sequence[int]) -> "LivePictures":
        return LivePictures([self.items[row] for row in rows], self.settings)

    def read(self, numbers: Sequence[int], seeds: Sequence[int | None]) -> Tensor:
        """The pictures with these numbers, each augmented by its seed or plain without one: (B, 3, S, S), `uint8`."""
        with ThreadPoolExecutor() as pool:
            pixels = list(pool.map(self._one, numbers, seeds))
        return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)

    def _one(self, number: int, seed: int | None) -> NDArray[np.uint8]:
        item = self.items[number]
        image = open_item(item)
        if seed is not None:
            image = vary(image, item.modality, np.random.default_rng(seed), self.settings.hands)
        return prepare(image, item.modality, self.settings.image_size, self.settings.fit_strokes)


class LiveViews(NamedTuple):
    """A training source (see `batches.Source`) that decodes and augments when a picture is drawn."""

    pictures: LivePictures
    label: Tensor  # (N,)
    origin: Tensor  # (N,)

    def draw(self, picked: Tensor, generator: torch.Generator) -> Tensor:
        seeds = torch.randint(2**62, picked.shape, generator=generator)
        return self.pictures.read(picked.tolist(), seeds.tolist())  # (B, 3, S, S)

    def plain(self, picked: Tensor) -> Tensor:
        return self.pictures.read(picked.tolist(), [None] * len(picked))  # (B, 3, S, S)


def extract(
    catalog: Catalog,
    backbone: Callable[[Tensor], Tensor],
    fingerprint: str,
    settings: ViewSettings,
    device: torch.device,
    quiet: bool = False,
) -> Tensor:
    """Maps (N, V, C, h, w), float16, of every item; view 0 is the plain picture, others are augmented.

    `backbone` stands for the first `settings.units` units of one, and `fingerprint` for its weights. A picture's maps
    are kept in a file of the cache directory by fingerprint, settings and content hash. A view's randomness depends on
    its number and the content only, so features change neither with the order of items nor with the seed of a training
    run, and all runs and splits share them.
    """
    folder = cache_directory() / "features" / _key(fingerprint, settings)
    folder.mkdir(parents=True, exist_ok=True)
    pictures = [
        _Picture(item, digest, folder / f"{digest}-{item.modality}.npy")
        for item, digest in zip(catalog.items, catalog.hashes, strict=True)
    ]
    missing = [picture for picture in pictures if not picture.path.exists()]
    parts = [missing[start : start + PART] for start in range(0, len(missing), PART)]
    inputs = read_ahead(lambda part: np.stack([_views(picture, settings) for picture in part]), parts)
    progress = track(parts, "extracting features", len(parts), quiet or not parts)
    for part, pixels in zip(progress, inputs, strict=True):
        for picture, maps in zip(part, _run(backbone, pixels, device), strict=True):
            _save(picture.path, maps)
    first = np.load(pictures[0].path)
    maps = torch.empty((len(pictures), *first.shape), dtype=torch.float16)
    for row, picture in enumerate(pictures):
        maps[row] = torch.from_numpy(np.load(picture.path))
    return maps


class _Picture(NamedTuple):
    item: Item
    digest: str  # of the contents
    path: Path  # of its maps


def _key(fingerprint: str, settings: ViewSettings) -> str:
    facts = json.dumps([RECIPE, fingerprint, asdict(settings)])
    return hashlib.sha256(facts.encode()).hexdigest()[:32]


def _views(picture: _Picture, settings: ViewSettings) -> NDArray[np.uint8]:
    """The backbone's input (V, S, S, 3) for one picture."""
    item, digest, _ = picture
    image = open_item(item)
    views = [image]
    for view in range(1, settings.views):
        seed = hashlib.sha256(f"{view}/{digest}".encode()).digest()
        views.append(vary(image, item.modality, np.random.default_rng(list(seed)), settings.hands))
    return np.stack([prepare(view, item.modality, settings.image_size, settings.fit_strokes) for view in views])


@torch.inference_mode()
def _run(backbone: Callable[[Tensor], Tensor], pixels: NDArray[np.uint8], device: torch.device) -> NDArray[np.float16]:
    items, views = pixels.shape[:2]
    flat = torch.from_numpy(pixels).flatten(0, 1).permute(0, 3, 1, 2)  # (N * V, 3, S, S)
    maps = torch.cat([backbone(batch.to(device)).half().cpu() for batch in torch.split(flat, BATCH)])
    result: NDArray[np.float16] = maps.reshape(items, views, *maps.shape[1:]).numpy()  # (N, V, C, h, w)
    return result


def _save(path: Path, maps: NDArray[np.float16]) -> None:
    """Write under another name first: a file that has the final name is always whole."""
    unfinished = path.with_suffix(f".{os.getpid()}.unfinished")
    with unfinished.open("wb") as file:
        np.save(file, maps)
    unfinished.replace(path)
