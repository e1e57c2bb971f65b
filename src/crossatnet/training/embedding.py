"""The plain pictures of training's sources, as a network embeds and pools them.

Shapes: `N` items, `B` batch, `C h w` the backbone's map, `D` the shared space, `K` ImageNet classes.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crossatnet.config import Config
from crossatnet.data.images import Modality
from crossatnet.model.interface import MODALITIES
from crossatnet.model.network import CrossATNet
from crossatnet.model.opinion import Opinion
from crossatnet.training.batches import Source
from crossatnet.training.start import best_device, passed_units

Sources = Mapping[Modality, Source]
EMBEDDED_AT_ONCE = 128  # pictures
FITTED = 8192  # pictures of a modality, spread evenly, that centring, whitening and hash codes are fitted to at most


def training_embeddings(network: CrossATNet, config: Config, sources: Sources) -> tuple[Tensor, Tensor]:
    """Embeddings (N, D) of plain pictures of both modalities and their labels (N,); the network ends on the CPU.

    At most `FITTED` pictures of a modality are embedded.
    """
    network.to(best_device())
    passed = passed_units(network, config)
    rows = {modality: spread(sources[modality]) for modality in MODALITIES}
    embeddings = [torch.from_numpy(embed(network, sources[m], m, passed, rows[m])) for m in MODALITIES]
    network.cpu()
    return torch.cat(embeddings), torch.cat([sources[modality].label[rows[modality]] for modality in MODALITIES])


def training_opinions(network: CrossATNet, config: Config, sources: Sources) -> dict[Modality, Tensor]:
    """Square roots of the probabilities (N, K) of ImageNet's classes, of the pictures of `training_embeddings`."""
    opinion = Opinion().to(best_device())
    opinion.classifier.load_imagenet_weights()
    network.to(best_device())
    passed = passed_units(network, config)
    roots = {}
    for modality in MODALITIES:
        maps = plain_maps(network, sources[modality], modality, passed, spread(sources[modality]))
        with torch.inference_mode():
            roots[modality] = torch.cat([opinion.roots(plain).cpu() for plain in maps])
    network.cpu()
    return roots


def spread(source: Source) -> Tensor:
    """The rows (N,) of a source's pictures, or `FITTED` of them, spread evenly."""
    count = len(source.label)
    return torch.arange(count) if count <= FITTED else torch.linspace(0, count - 1, FITTED).long()


@torch.inference_mode()
def embed(
    network: CrossATNet, source: Source, modality: Modality, passed_units: int, rows: Tensor | None = None
) -> NDArray[np.float32]:
    """The plain pictures of a source, or those of these rows (N,) -> embeddings (N, D)."""
    maps = plain_maps(network, source, modality, passed_units, rows)
    return torch.cat([network.embed_map(plain, modality).cpu() for plain in maps]).numpy()


@torch.inference_mode()
def pooled_mean(network: CrossATNet, source: Source, modality: Modality, passed_units: int) -> Tensor:
    """Mean pooled feature (C,) of the plain pictures of a source, or of `FITTED` of them."""
    maps = plain_maps(network, source, modality, passed_units, spread(source))
    return torch.cat([network.mean_pooler(plain).feature for plain in maps]).mean(0).cpu()


def plain_maps(
    network: CrossATNet, source: Source, modality: Modality, passed_units: int, rows: Tensor | None = None
) -> Iterator[Tensor]:
    """The backbone's maps (B, C, h, w) of the plain pictures of a source, or those of these rows (N,), in order."""
    for picked in (torch.arange(len(source.label)) if rows is None else rows).split(EMBEDDED_AT_ONCE):
        yield network.encoder(modality).late(source.plain(picked).to(network.device), passed_units)
