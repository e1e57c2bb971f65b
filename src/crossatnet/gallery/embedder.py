"""What a gallery needs of a model. Any model that embeds pictures can fill and search a gallery.

Letters: `N` pictures, `S` side of the network's input, `D` embedding dimension, `M` attention heads,
`h w` the backbone's map.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from crossatnet.data.images import Modality, Picture


class Embedder(Protocol):
    """The part of `CrossATNet` that a gallery uses."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of weights and configuration: equal for two models that give equal embeddings."""

    @property
    def source(self) -> str:
        """Packaged name or absolute folder the model was loaded from; empty if it was never saved."""

    @property
    def name(self) -> str:
        """The model's name in messages."""

    @property
    def dimension(self) -> int:
        """`D`, the length of an embedding."""

    @property
    def code_bits(self) -> int:
        """Length of a hash code in bits, a multiple of 8."""

    @property
    def has_attention(self) -> bool:
        """Whether `guide` can be called."""

    @property
    def batch_size(self) -> int:
        """The number of pictures at a time with which `embed` is fastest, called by several threads."""

    def preprocess(self, picture: Picture, modality: Modality, /) -> NDArray[np.uint8]:
        """One picture as the network's input, (S, S, 3). Raises `ImageError` if it cannot be read."""

    def embed(self, pixels: NDArray[np.uint8], modality: Modality, /) -> NDArray[np.float32]:
        """Pixels (N, S, S, 3) to L2-normalised embeddings (N, D); called from several threads at once."""

    def guide(
        self, sketch: NDArray[np.uint8], photos: NDArray[np.uint8], /
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What a sketch (S, S, 3) sees in photos (N, S, S, 3): cosines (N,) and attention maps (N, M, h, w)."""

    def hash(self, embeddings: NDArray[np.float32], /) -> NDArray[np.uint8]:
        """Embeddings (N, D) to packed codes (N, code_bits // 8)."""
