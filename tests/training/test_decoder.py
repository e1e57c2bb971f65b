"""The two decoders of cross-reconstruction."""

import pytest
import torch
from torch import Tensor

from crossatnet.data.images import Modality
from crossatnet.training.decoder import CrossDecoder

DIMENSION, CHANNELS = 4, 6
each_target = pytest.mark.parametrize("target", ["sketch", "photo"])


def embeddings(seed: int = 0) -> Tensor:
    return torch.randn(5, DIMENSION, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def decoder() -> CrossDecoder:
    torch.manual_seed(0)
    return CrossDecoder(DIMENSION, CHANNELS)


@each_target
def test_gives_a_feature_for_each_embedding(decoder: CrossDecoder, target: Modality) -> None:
    features = decoder(embeddings(), target)
    assert features.shape == (5, CHANNELS)
    assert features.std() > 0
    torch.testing.assert_close(decoder(embeddings()[[3]], target), features[[3]])


@each_target
def test_is_a_rectified_layer_and_a_linear_one(decoder: CrossDecoder, target: Modality) -> None:
    first, _, second = decoder.to_sketch if target == "sketch" else decoder.to_photo
    hidden = (embeddings() @ first.weight.T + first.bias).clamp(min=0)
    torch.testing.assert_close(decoder(embeddings(), target), hidden @ second.weight.T + second.bias)


@each_target
def test_each_direction_learns_alone(decoder: CrossDecoder, target: Modality) -> None:
    embedding = embeddings().requires_grad_()
    decoder(embedding, target).square().sum().backward()
    learning = {name.split(".")[0] for name, weight in decoder.named_parameters() if weight.grad is not None}
    assert learning == {f"to_{target}"}
    assert all(weight.grad.norm() > 0 for weight in decoder.get_submodule(f"to_{target}").parameters())
    assert embedding.grad is not None
    assert embedding.grad.norm() > 0


@each_target
def test_changing_one_direction_leaves_the_other(decoder: CrossDecoder, target: Modality) -> None:
    other: Modality = "photo" if target == "sketch" else "sketch"
    before, untouched = decoder(embeddings(), target), decoder(embeddings(), other)
    assert not torch.allclose(before, untouched)  # they start apart
    with torch.no_grad():
        for weight in decoder.get_submodule(f"to_{target}").parameters():
            weight.add_(0.1)
    assert torch.equal(decoder(embeddings(), other), untouched)
    assert not torch.allclose(decoder(embeddings(), target), before)
