"""Class prototypes: one unit vector of the shared space for each class seen in training.

Prototypes are the classifier weights of both modalities and the latent targets. They belong to training: a checkpoint
does not keep them, and retrieval does not need them.

Shapes: `K` classes, `V` a class vector, `D` the shared space.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

HIDDEN = 512


class FreePrototypes(nn.Module):
    """Prototypes that are parameters of their own, knowing nothing of what the classes mean.

    Example:
        >>> from crossatnet.training.prototypes import FreePrototypes
        >>> FreePrototypes(classes=3, dimension=8)().shape
        torch.Size([3, 8])
    """

    def __init__(self, classes: int, dimension: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, dimension) * dimension**-0.5)

    def forward(self) -> Tensor:
        return functional.normalize(self.weight, dim=1)  # (K, D)


class GraphPrototypes(nn.Module):
    r"""Prototypes by a two-layer graph convolution over the seen classes' semantics (the abstract's graph CNN).

    $P = \hat A\, \mathrm{ReLU}(\hat A X W_1)\, W_2 + O$ with class vectors $X$ and the normalised adjacency $\hat A$
    (Kipf and Welling 2017, eq. 9), rows scaled to unit length. $O$ is each class's own offset, zero at the start
    (ours): without it neighbours in the graph can hardly be kept apart.

    Example:
        >>> import torch
        >>> from crossatnet.semantics import class_graph, class_vectors
        >>> from crossatnet.training.prototypes import GraphPrototypes
        >>> names = ["zebra", "horse", "teapot"]
        >>> vectors = class_vectors(names)
        >>> graph = class_graph(names, vectors, "tree", neighbours=1)
        >>> GraphPrototypes(torch.from_numpy(vectors), torch.from_numpy(graph), dimension=8)().shape
        torch.Size([3, 8])
    """

    vectors: Tensor
    adjacency: Tensor

    def __init__(self, vectors: Tensor, adjacency: Tensor, dimension: int) -> None:
        """Class vectors (K, V) and their graph (K, K), normalised, self-loops included."""
        super().__init__()
        if adjacency.shape != (len(vectors), len(vectors)):
            raise ValueError(f"{len(vectors)} class vectors need a square graph of as many, not {adjacency.shape}")
        self.register_buffer("vectors", vectors)
        self.register_buffer("adjacency", adjacency)
        self.first = nn.Linear(vectors.shape[1], HIDDEN, bias=False)
        self.second = nn.Linear(HIDDEN, dimension, bias=False)
        self.offset = nn.Parameter(torch.zeros(len(vectors), dimension))

    def forward(self) -> Tensor:
        hidden = functional.relu(self.adjacency @ self.first(self.vectors))  # (K, HIDDEN)
        return functional.normalize(self.adjacency @ self.second(hidden) + self.offset, dim=1)  # (K, D)
