"""Views of pictures for training: maps of the backbone's frozen units, computed once and kept, or fresh pictures.

Shapes: `N` items, `V` views of each, `B` batch, `S` side of the input, `C h w` the map after the frozen units.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from crossatnet.config import cache_directory
from crossatnet.data.catalog import Catalog, Item, open_item
from crossatnet.data.drawing.read import NothingDrawnError
from crossatnet.data.hands import vary
from crossatnet.data.images import prepare
from crossatnet.data.prefetch import read_ahead
from crossatnet.system.files import replacing
from crossatnet.system.progress import track
from crossatnet.system.threads import reading_threads
from crossatnet.training.batches import ALL, NONE

RECIPE = 4  # raise it whenever the same settings would give other features, so that stale caches are not used
VIEWS_AT_ONCE = 32  # through the backbone
PICTURES_AT_ONCE = 32  # a killed extraction goes on after the last whole part


@dataclass(frozen=True)
class ViewSettings:
    """How pictures become training's input: everything that decides a map besides the weights."""

    image_size: int
    fit_strokes: bool
    views: int
    units: int  # of the backbone, its first ones, that make the map
    precision: str = "32-true"  # of the computation
    hands: float = 0.0  # share of the augmented versions that are drawn, or taken, in another way
    mirror: bool = True  # half of the augmented versions


@dataclass(frozen=True)
class LivePictures:
    """Pictures that are read and augmented again every time."""

    items: Sequence[Item]
    settings: ViewSettings

    def __getitem__(self, rows: Sequence[int]) -> "LivePictures":
        return LivePictures([self.items[row] for row in rows], self.settings)

    def read(self, numbers: Sequence[int], seeds: Sequence[int | None]) -> Tensor:
        """The pictures with these numbers, each augmented by its seed or plain without one: (B, 3, S, S), `uint8`."""
        with ThreadPoolExecutor(reading_threads()) as pool:
            pixels = list(pool.map(self._one, numbers, seeds))
        return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)

    def _one(self, number: int, seed: int | None) -> NDArray[np.uint8]:
        item = self.items[number]
        image = open_item(item)
        if seed is None:
            return _prepared(image, image, item, self.settings)
        view = vary(image, item.modality, np.random.default_rng(seed), self.settings.hands, self.settings.mirror)
        return _prepared(view, image, item, self.settings)


class LiveViews(NamedTuple):
    """A training source (see `batches.Source`) that decodes and augments when a picture is drawn."""

    pictures: LivePictures
    label: Tensor  # (N,)
    origin: Tensor  # (N,)
    instance: Tensor = NONE  # (N,)

    def draw(self, picked: Tensor, generator: torch.Generator, own: Tensor | slice = ALL) -> Tensor:
        seeds = torch.randint(2**62, picked.shape, generator=generator)
        return self.pictures.read(picked[own].tolist(), seeds[own].tolist())  # (B, 3, S, S)

    def plain(self, picked: Tensor) -> Tensor:
        return self.pictures.read(picked.tolist(), [None] * len(picked))  # (B, 3, S, S)


@dataclass(frozen=True)
class MappedMaps:
    """Maps (N, V, C, h, w) in a file that all processes of a machine map into memory: it is there once for them all.

    Example:
        >>> import torch
        >>> from crossatnet.training.features import MappedMaps
        >>> maps = torch.randn(6, 2, 8, 3, 3).half()
        >>> mapped = MappedMaps.write(tmp_path / "maps.npy", maps)[[5, 1]]
        >>> torch.equal(mapped.read(torch.tensor([1]), torch.tensor([0])), maps[[1], 0].float())
        True
    """

    path: Path
    rows: NDArray[np.int64]  # of the file
    views: int

    @classmethod
    def write(cls, path: Path, maps: Tensor) -> "MappedMaps":
        """Write a file of these maps."""
        with replacing(path) as file:
            np.save(file, maps.numpy())
        return cls(path, np.arange(len(maps)), maps.shape[1])

    def __getitem__(self, rows: Sequence[int]) -> "MappedMaps":
        return MappedMaps(self.path, self.rows[rows], self.views)

    def read(self, picked: Tensor, views: Tensor) -> Tensor:
        """One view of each picture with these numbers (B,): (B, C, h, w)."""
        maps = np.load(self.path, mmap_mode="r")
        return torch.from_numpy(maps[self.rows[picked.numpy()], views.numpy()]).float()


class MappedViews(NamedTuple):
    """A training source (see `batches.Source`) of maps in a file."""

    maps: MappedMaps
    label: Tensor  # (N,)
    origin: Tensor  # (N,)
    instance: Tensor = NONE  # (N,)

    def draw(self, picked: Tensor, generator: torch.Generator, own: Tensor | slice = ALL) -> Tensor:
        views = torch.randint(self.maps.views, picked.shape, generator=generator)
        return self.maps.read(picked[own], views[own])  # (B, C, h, w)

    def plain(self, picked: Tensor) -> Tensor:
        return self.maps.read(picked, torch.zeros_like(picked))  # (B, C, h, w)


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
        _Picture(item, content_hash, folder / f"{content_hash}-{item.modality}.npy")
        for item, content_hash in zip(catalog.items, catalog.hashes, strict=True)
    ]
    missing = [picture for picture in pictures if not picture.path.exists()]
    parts = [missing[start : start + PICTURES_AT_ONCE] for start in range(0, len(missing), PICTURES_AT_ONCE)]
    inputs = read_ahead(lambda part: np.stack([_views(picture, settings) for picture in part]), parts)
    progress = track(parts, "extracting features", len(parts), quiet or not parts)
    for part, pixels in zip(progress, inputs, strict=True):
        for picture, maps in zip(part, _run(backbone, pixels, device), strict=True):
            with replacing(picture.path) as file:
                np.save(file, maps)
    first = np.load(pictures[0].path)
    maps = torch.empty((len(pictures), *first.shape), dtype=torch.float16)
    for row, picture in enumerate(pictures):
        maps[row] = torch.from_numpy(np.load(picture.path))
    return maps


class _Picture(NamedTuple):
    item: Item
    content_hash: str  # of the contents
    path: Path  # of its maps


def _key(fingerprint: str, settings: ViewSettings) -> str:
    known = asdict(settings)
    if settings.mirror:  # as before there was a choice, so that caches of then are found
        del known["mirror"]
    facts = json.dumps([RECIPE, fingerprint, known])
    return hashlib.sha256(facts.encode()).hexdigest()[:32]


def _views(picture: _Picture, settings: ViewSettings) -> NDArray[np.uint8]:
    """The backbone's input (V, S, S, 3) for one picture."""
    item, content_hash, _ = picture
    image = open_item(item)
    views = [image]
    for view in range(1, settings.views):
        seed = hashlib.sha256(f"{view}/{content_hash}".encode()).digest()
        views.append(vary(image, item.modality, np.random.default_rng(list(seed)), settings.hands, settings.mirror))
    return np.stack([_prepared(view, image, item, settings) for view in views])


def _prepared(view: Image.Image, plain: Image.Image, item: Item, settings: ViewSettings) -> NDArray[np.uint8]:
    """A view as the backbone takes it, (S, S, 3); the plain picture in place of a view that has lost all strokes."""
    try:
        return prepare(view, item.modality, settings.image_size, settings.fit_strokes)
    except NothingDrawnError:
        return prepare(plain, item.modality, settings.image_size, settings.fit_strokes)


@torch.inference_mode()
def _run(backbone: Callable[[Tensor], Tensor], pixels: NDArray[np.uint8], device: torch.device) -> NDArray[np.float16]:
    items, views = pixels.shape[:2]
    flat = torch.from_numpy(pixels).flatten(0, 1).permute(0, 3, 1, 2)  # (N * V, 3, S, S)
    maps = torch.cat([backbone(batch.to(device)).half().cpu() for batch in torch.split(flat, VIEWS_AT_ONCE)])
    result: NDArray[np.float16] = maps.reshape(items, views, *maps.shape[1:]).numpy()  # (N, V, C, h, w)
    return result
