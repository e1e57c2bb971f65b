"""The interface of all backbones: networks from pictures to a feature map, as a chain of units that can be cut.

Shapes: `B` batch, `C` channels, `H W` picture height and width, `h w` map height and width, `F i j` channels, height
and width of a finer map.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from crossatnet.system.errors import UserError


class Backbone(nn.Module, ABC):
    """Pictures, `uint8` or float in 0..255, shape (B, 3, H, W), to a float map (B, C, h, w).

    A backbone normalises its own input, so callers need not know the statistics of its pretraining. It is a chain of
    units that can be cut between any two: training freezes the units before the cut, keeps their output (`early`) and
    runs only the units after it (`late`).
    """

    channels: int  # the map's C
    statistics: tuple[list[float], list[float]]  # mean and deviation of each colour, for values in 0..255
    config: dict[str, Any] | None = None  # the settings that `make_backbone` needs besides the name

    @abstractmethod
    def chain(self) -> Sequence[nn.Module]:
        """The chain, first to last: the first unit takes pictures, the last one gives the map."""

    @property
    def depth(self) -> int:
        """Number of units."""
        return len(self.chain())

    @property
    def finer(self) -> tuple[int, int]:
        """The number of units that give the map before the last one that halves it, and its channels F.

        It shows small things better. A backbone without such a map has its last one there.
        """
        return self.depth, self.channels

    def forward(self, pictures: Tensor) -> Tensor:
        return self.both(pictures)[1]

    def both(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """The finer map (B, F, i, j) and the map (B, C, h, w)."""
        units, _ = self.finer
        finer = self.early(pictures, units)
        return finer, self.late(finer, units)

    def early(self, pictures: Tensor, units: int) -> Tensor:
        """The output of the first `units` units; the pictures themselves for 0, the whole map for `depth`."""
        self._check(units)
        return self._run(pictures, 0, units)

    def late(self, x: Tensor, units: int) -> Tensor:
        """The map (B, C, h, w) from the output of the first `units` units, as `early` gives it."""
        self._check(units)
        return self._run(x, units, self.depth)

    def _check(self, units: int) -> None:
        if not 0 <= units <= self.depth:
            raise UserError(f"this backbone is cut after 0 to {self.depth} units, not {units}")

    def _run(self, x: Tensor, start: int, stop: int) -> Tensor:
        # # This memory order is two to five times faster on a CPU; a map read from a cache does not have it.
        x = x.contiguous(memory_format=torch.channels_last)
        for unit in self.chain()[start:stop]:
            x = unit(x)
        return x
