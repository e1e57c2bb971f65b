"""Class prototypes: one unit vector of the shared space for each class seen in training.

Shapes: `K` classes, `D` the shared space.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class FreePrototypes(nn.Module):
    """Prototypes that are parameters of their own: the classifier weights of both modalities.

    They belong to training: a checkpoint does not keep them, and retrieval does not need them.
    """

    def __init__(self, classes: int, dimension: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, dimension) * dimension**-0.5)

    def forward(self) -> Tensor:
        return functional.normalize(self.weight, dim=1)  # (K, D)
