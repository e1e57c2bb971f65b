"""The plain pictures of training's sources, as a network embeds and pools them.

Shapes: `N` items, `B` batch, `C h w` the backbone's map, `D` the shared space.
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
from crossatnet.training.batches import Source
from crossatnet.training.start import best_device, passed_units

Sources = Mapping[Modality, Source]
EMBEDDED_AT_ONCE = 128  # pictures


def training_embeddings(network: CrossATNet, config: Config, sources: Sources) -> tuple[Tensor, Tensor]:
    """Embeddings (N, D) of the plain pictures of both modalities and their labels (N,); the network ends on the CPU."""
    network.to(best_device())
    passed = passed_units(network, config)
    embeddings = torch.cat([torch.from_numpy(embed(network, sources[m], m, passed)) for m in MODALITIES])  # (N, D)
    network.cpu()
    return embeddings, torch.cat([sources[modality].label for modality in MODALITIES])


@torch.inference_mode()
def embed(network: CrossATNet, source: Source, modality: Modality, passed_units: int) -> NDArray[np.float32]:
    """The plain pictures of a source -> embeddings (N, D)."""
    blocks = [network.embed_map(plain, modality).cpu() for plain in plain_maps(network, source, modality, passed_units)]
    return torch.cat(blocks).numpy()


@torch.inference_mode()
def pooled_mean(network: CrossATNet, source: Source, modality: Modality, passed_units: int) -> Tensor:
    """Mean pooled feature (C,) of the plain pictures of a source."""
    maps = plain_maps(network, source, modality, passed_units)
    return torch.cat([network.mean_pooler(plain).feature for plain in maps]).mean(0)


def plain_maps(network: CrossATNet, source: Source, modality: Modality, passed_units: int) -> Iterator[Tensor]:
    """The backbone's maps (B, C, h, w) of the plain pictures of a source, in order."""
    for picked in torch.arange(len(source.label)).split(EMBEDDED_AT_ONCE):
        yield network.encoder(modality).late(source.plain(picked).to(network.device), passed_units)
