"""A small head that proposes where things are in a photo, from the maps that the backbone made of the whole.

Which things makes no difference: it learns from composed scenes (`training.scenes`) what a thing looks like that stands
out from what is around it.

Shapes: `B` photos, `C h w` the backbone's map, `F i j` its finer map.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from crossatnet.model.backbones.base import Backbone
from crossatnet.model.backbones.efficientnet import NormalisedConv2d

WIDTH = 96  # channels inside
BLOCKS = 2
EXPAND, KERNEL = 2, 5
RARE = -4.0  # the logit of a thing at the start, as most positions are no thing's centre
SMALL = -2.0  # the logarithm of a distance at the start
MOMENTUM = 0.1  # of batch normalisation; the backbone's .01 would keep the start's statistics for hundreds of steps


class Proposer(nn.Module):
    """Two maps of photos, (B, F, i, j) and (B, C, h, w), to proposals: five numbers for each position, (B, 5, i, j).

    The first is the logit that a thing's centre lies there, the others the logarithms of the distances from the
    position to the thing's four sides, in shares of the photo: left, top, right, bottom (as FCOS of Tian et al. 2019;
    the centres are those of CenterNet, Zhou et al. 2019). `model.regions.proposed` makes boxes of them.

    Example:
        >>> import torch
        >>> from crossatnet.model.backbones.efficientnet import EfficientNetLite0
        >>> from crossatnet.model.proposals import Proposer
        >>> proposer = Proposer(EfficientNetLite0()).eval()
        >>> proposer(torch.randn(2, 112, 16, 16), torch.randn(2, 320, 8, 8)).shape
        torch.Size([2, 5, 16, 16])
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.finer = NormalisedConv2d(backbone.finer[1], WIDTH, 1)
        self.coarser = NormalisedConv2d(backbone.channels, WIDTH, 1)
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))
        self.numbers = nn.Conv2d(WIDTH, 5, 1)
        for norm in (module for module in self.modules() if isinstance(module, nn.BatchNorm2d)):
            norm.momentum = MOMENTUM
        self.numbers.bias = nn.Parameter(torch.tensor([RARE, *[SMALL] * 4]))

    def forward(self, finer: Tensor, coarser: Tensor) -> Tensor:
        enlarged = functional.interpolate(self.coarser(coarser), size=finer.shape[2:], mode="nearest")
        proposals: Tensor = self.numbers(self.blocks(functional.relu6(self.finer(finer) + enlarged)))
        return proposals


class Block(nn.Module):
    """Expand, look around, reduce, and add to what was (an inverted residual of Sandler et al. 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = NormalisedConv2d(WIDTH, EXPAND * WIDTH, 1)
        self.around = NormalisedConv2d(EXPAND * WIDTH, EXPAND * WIDTH, KERNEL, groups=EXPAND * WIDTH)
        self.reduce = NormalisedConv2d(EXPAND * WIDTH, WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        seen = functional.relu6(self.around(functional.relu6(self.expand(x))))
        added: Tensor = x + self.reduce(seen)
        return added
