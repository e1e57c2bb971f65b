"""Feature maps of a frozen backbone, computed once and kept on disk.

Shapes: `N` items, `V` views of each, `C h w` the backbone's map.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crossatnet.config import cache_directory
from crossatnet.data.catalog import Catalog, Item, open_item
from crossatnet.data.images import prepare
from crossatnet.data.prefetch import read_ahead
from crossatnet.data.transforms import augment
from crossatnet.progress import track

RECIPE = 1  # raise it whenever the same settings would give other features, so that stale caches are not used
BATCH = 32
PART = 128  # items a file; a killed extraction goes on after the last whole one

Backbone = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ViewSettings:
    """How pictures become the backbone's input: everything that decides a feature besides the weights."""

    image_size: int
    fit_strokes: bool
    views: int = 1


def extract(
    catalog: Catalog,
    backbone: Backbone,
    fingerprint: str,
    settings: ViewSettings,
    device: torch.device,
    quiet: bool = False,
) -> Tensor:
    """Feature maps (N, V, C, h, w), float16, of every item; view 0 is the plain picture, others are augmented.

    `fingerprint` names the backbone's weights. The result is kept under the cache directory by fingerprint,
    settings and content hashes. A view's randomness depends on the view's number and the content only, so features
    change neither with the order of items nor with the seed of a training run, and runs share them.
    """
    folder = cache_directory() / "features" / _key(catalog, fingerprint, settings)
    folder.mkdir(parents=True, exist_ok=True)
    pictures = list(zip(catalog.items, catalog.hashes, strict=True))
    parts = {folder / f"{start:08d}.npy": pictures[start : start + PART] for start in range(0, len(pictures), PART)}
    missing = [path for path in parts if not path.exists()]
    inputs = read_ahead(lambda path: _read(parts[path], settings), missing)
    progress = track(missing, "extracting features", len(missing), quiet or not missing)
    for path, pixels in zip(progress, inputs, strict=True):
        _save(path, _run(backbone, pixels, device))
    return torch.cat([torch.from_numpy(np.load(path)) for path in parts])


def _key(catalog: Catalog, fingerprint: str, settings: ViewSettings) -> str:
    modalities = [item.modality for item in catalog.items]
    facts = json.dumps([RECIPE, PART, fingerprint, asdict(settings), list(catalog.hashes), modalities])
    return hashlib.sha256(facts.encode()).hexdigest()[:32]


def _read(pictures: Sequence[tuple[Item, str]], settings: ViewSettings) -> NDArray[np.uint8]:
    """The backbone's input (N, V, S, S, 3) for these pictures."""
    return np.stack([_views(item, digest, settings) for item, digest in pictures])


def _views(item: Item, digest: str, settings: ViewSettings) -> NDArray[np.uint8]:
    image = open_item(item)
    views = [image]
    for view in range(1, settings.views):
        seed = hashlib.sha256(f"{view}/{digest}".encode()).digest()
        views.append(augment(image, item.modality, np.random.default_rng(list(seed))))
    return np.stack([prepare(view, item.modality, settings.image_size, settings.fit_strokes) for view in views])


@torch.inference_mode()
def _run(backbone: Backbone, pixels: NDArray[np.uint8], device: torch.device) -> NDArray[np.float16]:
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
