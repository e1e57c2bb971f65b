"""The decoder of cross-reconstruction: from a picture's embedding to what the other modality's feature would be.

Shapes: `B` batch, `C` channels of a pooled feature, `D` the shared space.
"""

from torch import Tensor, nn

from crossatnet.data.images import Modality

HIDDEN = 512


class CrossDecoder(nn.Module):
    """One small network a direction (the sibling paper's decoders).

    It belongs to training: a checkpoint does not keep it.
    """

    def __init__(self, dimension: int, channels: int) -> None:
        super().__init__()
        self.to_sketch = self._network(dimension, channels)
        self.to_photo = self._network(dimension, channels)

    def forward(self, embedding: Tensor, target: Modality) -> Tensor:
        """Embeddings (B, D) of one modality -> pooled features (B, C) of the other, `target`.

        Example:
            >>> import torch
            >>> from crossatnet.training.decoder import CrossDecoder
            >>> CrossDecoder(dimension=8, channels=20)(torch.randn(3, 8), "photo").shape
            torch.Size([3, 20])
        """
        decoded: Tensor = (self.to_sketch if target == "sketch" else self.to_photo)(embedding)
        return decoded

    @staticmethod
    def _network(dimension: int, channels: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(dimension, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, channels))
