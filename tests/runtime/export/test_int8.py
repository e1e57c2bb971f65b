"""Rounding to 8 bits against a simple version that is easy to check."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from crossatnet.runtime.export.int8 import LARGEST_BIAS, Plan, quantised
from crossatnet.runtime.onnx_model import open_session
from crossatnet.system.errors import UserError

RANDOM = np.random.default_rng(0)
FIRST, FIRST_BIAS = RANDOM.normal(0, 0.02, (6, 3)).astype(np.float32), RANDOM.normal(0, 1, 6).astype(np.float32)
SECOND, SECOND_BIAS = RANDOM.normal(0, 1, (5, 6)).astype(np.float32), RANDOM.normal(0, 1, 5).astype(np.float32)
PIXELS = [RANDOM.integers(0, 256, (1, 4, 4, 3), dtype=np.uint8) for _ in range(4)]


def graph(second: np.ndarray = SECOND, second_bias: np.ndarray = SECOND_BIAS) -> onnx.ModelProto:
    """Two convolutions of 1 x 1 with ReLU6 between them: (B, 4, 4, 3) -> (B, 5, 4, 4)."""
    nodes = [
        helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["values", "first", "first_bias"], ["hidden"]),
        helper.make_node("Clip", ["hidden", "zero", "six"], ["bounded"]),
        helper.make_node("Conv", ["bounded", "second", "second_bias"], ["map"]),
    ]
    constants = {
        "first": FIRST[:, :, None, None],
        "first_bias": FIRST_BIAS,
        "second": second[:, :, None, None],
        "second_bias": second_bias,
        "zero": np.float32(0),
        "six": np.float32(6),
    }
    made = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["pictures", 4, 4, 3])],
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def bounded(pixels: np.ndarray) -> np.ndarray:
    """The input of the second convolution, (16, 6)."""
    return np.clip(pixels.reshape(-1, 3).astype(np.float32) @ FIRST.T + FIRST_BIAS, 0, 6)


def by_hand(pixels: np.ndarray, highest: float) -> np.ndarray:
    """The second convolution with input and weights on their grids, (16, 5)."""
    step = highest / 255
    rounded = np.clip(np.rint(bounded(pixels) / step), 0, 255) * step
    scale = np.abs(SECOND).max(1, keepdims=True) / 127
    return rounded @ (np.rint(SECOND / scale) * scale).T + SECOND_BIAS


def run(model: onnx.ModelProto, pixels: np.ndarray) -> np.ndarray:
    given = open_session(model.SerializeToString(), b"", "two", 1).run(None, {"pixels": pixels})[0]  # (1, 5, 4, 4)
    return given[0].reshape(5, 16).T


def test_weights_and_activations_lie_on_their_grids() -> None:
    rounded = quantised(graph(), b"", PIXELS, float_convolutions=1)
    highest = max(float(bounded(pixels).max()) for pixels in PIXELS)
    for pixels in PIXELS:
        exact = bounded(pixels) @ SECOND.T + SECOND_BIAS
        np.testing.assert_allclose(run(graph(), pixels), exact, atol=1e-4)
        np.testing.assert_allclose(run(rounded, pixels), by_hand(pixels, highest), atol=2e-3)
        assert 1e-3 < np.abs(run(rounded, pixels) - exact).max() < 0.2


def test_what_stays_in_floating_point_is_not_touched() -> None:
    with pytest.raises(UserError, match="no convolutions to round"):
        quantised(graph(), b"", PIXELS, float_convolutions=2)
    plan = Plan(graph(), 1)
    assert [node.output[0] for node in plan.convolutions] == ["map"]
    assert plan.activations == ["bounded"]


@pytest.mark.parametrize("bias", [1e6, -1e6])
def test_a_dead_channel_with_a_large_bias_does_not_overflow(bias: float) -> None:
    dead, large = SECOND.copy(), SECOND_BIAS.copy()
    dead[2], large[2] = 0, bias
    rounded = quantised(graph(dead, large), b"", PIXELS, float_convolutions=1)
    given = run(rounded, PIXELS[0])
    np.testing.assert_allclose(given[:, 2], bias, rtol=1e-4)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in rounded.graph.initializer}
    assert np.abs(stored["second_bias.int32"].astype(np.int64)).max() <= LARGEST_BIAS
