"""Poolers: from a backbone's map to one feature vector.

Shapes: `B` batch, `C` channels, `h w` map height and width.
"""

from torch import Tensor, nn


class MeanPooler(nn.Module):
    """The gallery pooler in its first form: every position of the map counts alike.

    Attention with a uniform map; it sees one picture alone, so a gallery can be embedded ahead of any query.
    """

    def forward(self, feature_map: Tensor) -> Tensor:
        return feature_map.mean((2, 3))  # (B, C)
