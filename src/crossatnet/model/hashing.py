"""Hash codes: embeddings as packed bits.

Shapes: `B` batch, `D` the shared space.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class SignHash(nn.Module):
    """One bit for each dimension: is the embedding above the training set's mean there?

    The mean is fitted on training embeddings of both modalities, so that bits are balanced.
    """

    mean: Tensor

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dimension))

    def fit(self, embeddings: Tensor) -> None:
        """Set the thresholds from training embeddings (N, D)."""
        self.mean.copy_(embeddings.mean(0))

    def forward(self, embeddings: Tensor) -> Tensor:
        return embeddings > self.mean  # (B, D), bool


def pack(bits: Tensor) -> NDArray[np.uint8]:
    """(B, bits) of bool -> (B, bits / 8) packed, the first bit highest; `numpy.unpackbits` is the inverse."""
    return np.packbits(bits.cpu().numpy(), axis=1)
