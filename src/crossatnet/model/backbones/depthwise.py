"""Convolutions with TensorFlow's padding, and depthwise convolutions with fast bfloat16 gradients on a CPU.

Shapes: `B` batch, `C` channels, `H W` input height and width, `h w` map height and width, `k` side of the kernel.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv2d_weight


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's "same" padding: the output has ceil(input / stride) positions.

    The padding of an even side at stride 2 is uneven (more on the right), which `nn.Conv2d` cannot express.
    """

    def forward(self, x: Tensor) -> Tensor:
        return self.convolve(x, self.weight, None)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The convolution with these weights instead of its own."""
        sides = zip(x.shape[2:], self.kernel_size, self.stride, strict=True)
        totals = [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side, kernel, stride in sides]
        if any(total % 2 for total in totals):
            before_and_after = [(total // 2, total - total // 2) for total in totals]
            x = functional.pad(x, [*before_and_after[1], *before_and_after[0]])  # `pad` wants the last axis first
            totals = [0, 0]
        padding = [total // 2 for total in totals]  # the convolution pads evenly itself: one copy of the map less
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
    the input's gradient is a convolution: the output's gradient, spread out by the stride, with the kernel turned by
    180 degrees. The gradient of a larger kernel is put together from gradients of 3 x 3 kernels, each computed on a
    shifted part of the input.
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
        """Gradient of the output (B, C, h', w') -> gradients of x, weight and bias, and None for stride and padding."""
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
    """Gradient (B, C, h, w) of the output -> gradient of the input, of the shape given, (B, C, H, W)."""
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
    """Gradient (B, C, h, w) of the output -> gradient of the kernels (C, 1, k, k)."""
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
