"""Static 8-bit quantisation of the photo graph: which tensors, with which ranges.

Convolutions run in 8 bits, with weights rounded separately for each output channel; so do the sums of residual blocks.
Parts that would lose accuracy stay in floating point: the first convolutions, whose input is almost the picture itself,
and what follows the map (attention, centring, projection, opinion, codes). The head that proposes regions takes the
finer map too, and is rounded but for its convolution of the map. EfficientNet-Lite0 has no squeeze-and-excitation.

The rounded weights are not stored: the graph rounds those of the checkpoint when it is loaded.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from crossatnet.runtime.onnx_model import open_session
from crossatnet.system.errors import UserError

LEVELS = 255  # of an activation, `uint8`
WEIGHT_LEVELS = 127  # on each side of zero, `int8`
LARGEST_BIAS = 2**30  # `int32`, with room for the sum that it is added to
# # Lite0's stem and first block; in 8 bits they would raise the error on seen classes 1.4 times, without gain in speed
FLOAT_CONVOLUTIONS = 3


class Range(NamedTuple):
    """The range of a tensor's values; it always includes zero."""

    low: float
    high: float


def quantised(
    model: onnx.ModelProto,
    weights: bytes,
    pixels: Sequence[NDArray[np.uint8]],
    float_convolutions: int = FLOAT_CONVOLUTIONS,
) -> onnx.ModelProto:
    """A copy of a photo graph in 8 bits, with ranges from pictures (1, S, S, 3) of the training set.

    `weights` are the bytes of the checkpoint's file. The first `float_convolutions` stay in
    floating point. Raises `UserError` for a graph without other convolutions.
    """
    plan = Plan(model, float_convolutions)
    if not plan.convolutions:
        raise UserError("this backbone has no convolutions to round to 8 bits; leave out --int8")
    folded = outputs_of(model, weights, [name for node in plan.convolutions for name in node.input[1:3]], pixels[:1])
    constants = {name: values[0] for name, values in folded.items()}
    ranges = {
        name: Range(min(0.0, *(float(v.min()) for v in values)), max(0.0, *(float(v.max()) for v in values)))
        for name, values in outputs_of(model, weights, plan.activations, pixels, summarised=True).items()
    }
    return Rewriter(plan, constants, ranges).rewritten(model)


class Plan:
    """The convolutions to quantise, and their activations."""

    def __init__(self, model: onnx.ModelProto, float_convolutions: int) -> None:
        nodes = model.graph.node
        given = {output.name for output in model.graph.output}  # the map is among them
        convolutions = [node for node in nodes if node.op_type == "Conv" and node.input[0] not in given]
        self.convolutions = convolutions[float_convolutions:]
        made_by = {name: node for node in nodes for name in node.output}
        quantised = {node.output[0] for node in self.convolutions}
        activations = dict.fromkeys(node.input[0] for node in self.convolutions)
        for node in nodes:  # sums of residual blocks, and their terms
            sums_maps = node.op_type == "Add" and all(name in made_by for name in node.input)
            if sums_maps and any(name in quantised for name in node.input):
                activations |= dict.fromkeys([*node.input, node.output[0]])
        self.activations = [*activations]


def outputs_of(
    model: onnx.ModelProto,
    weights: bytes,
    names: Sequence[str],
    pixels: Sequence[NDArray[np.uint8]],
    summarised: bool = False,
) -> dict[str, list[NDArray[np.float32]]]:
    """The values of tensors in a graph for each picture (1, S, S, 3); `summarised` keeps only the extremes of each."""
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    del opened.graph.output[:]
    opened.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    session = open_session(opened.SerializeToString(), weights, "photo", 1)
    found: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    for picture in pixels:
        for name, values in zip(names, session.run(None, {"pixels": picture}), strict=True):
            found[name].append(np.array([values.min(), values.max()]) if summarised else values)
    return found


class Rewriter:
    """Puts a rounding and its inverse around quantised tensors; ONNX Runtime turns them into 8-bit operators."""

    def __init__(self, plan: Plan, constants: dict[str, NDArray[np.float32]], ranges: dict[str, Range]) -> None:
        self._convolutions = {node.output[0]: node for node in plan.convolutions}
        self._constants, self._ranges = constants, ranges
        self._initialisers: list[TensorProto] = []

    def rewritten(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """The graph in 8 bits; it keeps the names of inputs and outputs."""
        nodes: list[onnx.NodeProto] = []
        outputs = {output.name for output in model.graph.output}
        for node in model.graph.node:
            changed = onnx.NodeProto()
            changed.CopyFrom(node)
            for place, name in enumerate(node.input):
                if name in self._ranges and node.op_type != "Clip":  # a bound and the rounding after it are merged
                    changed.input[place] = f"{name}.rounded"
            if node.output[0] in self._convolutions:
                nodes += self._weights(changed)
            nodes.append(changed)
            for name in node.output:
                if name in self._ranges and name not in outputs:
                    nodes += self._rounding(name, *self._of_activation(name))
        result = onnx.ModelProto()
        result.CopyFrom(model)
        del result.graph.node[:]
        result.graph.node.extend(nodes)
        result.graph.initializer.extend(self._initialisers)
        return result

    def _of_activation(self, name: str) -> tuple[str, str]:
        low, high = self._ranges[name]
        scale = np.float32(max(high - low, 1e-6) / LEVELS)
        return self._constant(f"{name}.scale", scale), self._constant(f"{name}.zero", np.uint8(round(-low / scale)))

    def _weights(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Round the weights and the bias of a convolution; its inputs are renamed in place."""
        _, weight, bias = node.input
        kernel, offset = self._constants[weight], self._constants[bias]
        low, high = self._ranges[node.input[0].removesuffix(".rounded")]
        step = np.float32(max(high - low, 1e-6) / LEVELS)
        scale = np.abs(kernel).reshape(len(kernel), -1).max(1) / WEIGHT_LEVELS  # (outputs,)
        scale = np.maximum(scale, np.abs(offset) / (step * LARGEST_BIAS) + 1e-12).astype(np.float32)
        zeros = np.zeros(len(kernel))
        names = self._constant(f"{weight}.scale", scale), self._constant(f"{weight}.zero", zeros.astype(np.int8))
        rounded_bias = self._constant(f"{bias}.int32", np.rint(offset / (step * scale)).astype(np.int32))
        bias_scale = self._constant(f"{bias}.scale", (step * scale).astype(np.float32))
        bias_zero = self._constant(f"{bias}.zero", zeros.astype(np.int32))
        node.input[1], node.input[2] = f"{weight}.rounded", f"{bias}.rounded"
        return [
            *self._rounding(weight, *names),
            helper.make_node("DequantizeLinear", [rounded_bias, bias_scale, bias_zero], [f"{bias}.rounded"], axis=0),
        ]

    @staticmethod
    def _rounding(name: str, scale: str, zero: str) -> list[onnx.NodeProto]:
        """Round a tensor and undo it, along axis 0 where there are several scales."""
        steps = (("QuantizeLinear", name, f"{name}.bits"), ("DequantizeLinear", f"{name}.bits", f"{name}.rounded"))
        return [helper.make_node(kind, [taken, scale, zero], [given], axis=0) for kind, taken, given in steps]

    def _constant(self, name: str, values: NDArray[np.generic] | np.generic) -> str:
        self._initialisers.append(numpy_helper.from_array(np.asarray(values), name))
        return name
