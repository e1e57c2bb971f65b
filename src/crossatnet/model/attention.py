"""Attention over the positions of a backbone's map: from a map to one feature vector.

Shapes: `B` batch, `C` channels, `h w` map height and width, `P` = h * w positions, `M` heads, `E` channels of a key.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from crossatnet.system.errors import UserError

KEY_CHANNELS = 64


class Pooled(NamedTuple):
    """A pooler's feature of each map, and its attention."""

    feature: Tensor  # (B, C)
    attention: Tensor  # (B, M, h, w); every head sums to 1 over the map


class MeanPooler(nn.Module):
    """Mean pooling: every position counts the same, for any sketch. The attention map is uniform.

    Example:
        >>> import torch
        >>> from crossatnet.model.attention import MeanPooler
        >>> pooled = MeanPooler()(torch.ones(2, 8, 3, 3))
        >>> pooled.feature.shape, pooled.attention.shape
        (torch.Size([2, 8]), torch.Size([2, 1, 3, 3]))
    """

    def forward(self, feature_map: Tensor, sketch: Tensor | None = None) -> Pooled:
        batch, _, height, width = feature_map.shape
        uniform = feature_map.new_full((batch, 1, height, width), 1 / (height * width))
        return Pooled(feature_map.mean((2, 3)), uniform)


class CrossModalAttention(nn.Module):
    r"""Multi-head attention over a map's positions, with one query for each head.

    $a_{mp} = \mathrm{softmax}_p(q_m \cdot k_{mp} / \sqrt{E})$ and $f_m = \sum_p a_{mp} v_{mp}$, with keys $k$ linear in
    the map and values $v$ the map's own channels, $C / M$ of them a head (Vaswani et al.
    2017).

    There are two queries $q$; all else is shared:
    - the gallery's: learned, so that a picture is embedded alone, before any query is known;
    - the sketch's: linear in the pooled feature of a sketch, so that the sketch guides the attention over the photo
    (the cross-modal attention of the paper's abstract).

    Both start at zero, which gives a uniform map, that is mean pooling.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        if channels % heads:
            raise UserError(f"model.attention_heads is {heads}: it must divide the backbone's {channels} channels")
        self.heads = heads
        self.key = nn.Linear(channels, heads * KEY_CHANNELS, bias=False)
        self.gallery_query = nn.Parameter(torch.zeros(1, heads, KEY_CHANNELS))
        self.sketch_query = nn.Linear(channels, heads * KEY_CHANNELS, bias=False)
        nn.init.zeros_(self.sketch_query.weight)

    def forward(self, feature_map: Tensor, sketch: Tensor | None = None) -> Pooled:
        """Pool maps (B, C, h, w), alone or guided by a sketch's centred feature: (B, C), or (1, C) for all.

        Example:
            >>> import torch
            >>> from crossatnet.model.attention import CrossModalAttention
            >>> attention = CrossModalAttention(channels=8, heads=2)
            >>> maps = torch.randn(3, 8, 4, 4)
            >>> alone, guided = attention(maps), attention(maps, torch.randn(1, 8))
            >>> alone.feature.shape, guided.attention.shape
            (torch.Size([3, 8]), torch.Size([3, 2, 4, 4]))
        """
        batch, _, height, width = feature_map.shape
        positions = feature_map.flatten(2).transpose(1, 2)  # (B, P, C)
        keys = self.key(positions).unflatten(2, (self.heads, -1))  # (B, P, M, E)
        query = self.gallery_query if sketch is None else self.sketch_query(sketch).unflatten(1, (self.heads, -1))
        logits = torch.einsum("bpme,bme->bmp", keys, query.expand(batch, -1, -1)) * KEY_CHANNELS**-0.5
        attention = logits.softmax(2)  # (B, M, P)
        values = positions.unflatten(2, (self.heads, -1))  # (B, P, M, C / M)
        feature = torch.einsum("bmp,bpmc->bmc", attention, values).flatten(1)  # (B, C)
        return Pooled(feature, attention.unflatten(2, (height, width)))


def make_pooler(channels: int, heads: int) -> MeanPooler | CrossModalAttention:
    """Attention with this many heads, or mean pooling for 0.

    Example:
        >>> from crossatnet.model.attention import make_pooler
        >>> type(make_pooler(8, heads=2)).__name__, type(make_pooler(8, heads=0)).__name__
        ('CrossModalAttention', 'MeanPooler')
    """
    return CrossModalAttention(channels, heads) if heads else MeanPooler()
