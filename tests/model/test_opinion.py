"""The opinion of the ImageNet classifier in embeddings: against loops, in torch and in ONNX."""

import math

import numpy as np
import pytest
import torch

from crossatnet.config import OPINION, ModelConfig
from crossatnet.model.network import CrossATNet
from crossatnet.model.opinion import Opinion, joined
from crossatnet.runtime.export.graphs import GuidedPhoto, Photo, Sketch

WEIGHT = 0.6


@pytest.fixture(scope="module")
def network() -> CrossATNet:
    """A network of random weights with an opinion, also on small pictures."""
    torch.manual_seed(0)
    config = ModelConfig(
        image_size=64, photo_size=96, dimension=288, opinion=WEIGHT, code_lengths=(32,), mirror_sketches=True
    )
    made = CrossATNet(config).eval()
    assert made.opinion is not None
    for modality in ("sketch", "photo"):
        made.opinion.get_buffer(f"{modality}_mean").copy_(torch.rand(1000) * 0.05)
    return made


def test_an_opinion_is_the_centred_root_of_probabilities(network: CrossATNet) -> None:
    opinion = network.opinion
    assert opinion is not None
    feature_map = torch.randn(2, 320, 3, 3)
    found = opinion(feature_map, "photo")
    for row, logits in zip(found, opinion.classifier(feature_map).tolist(), strict=True):
        exponentials = [math.exp(value - max(logits)) for value in logits]
        roots = [(value / sum(exponentials)) ** 0.5 for value in exponentials]
        assert sum(root * root for root in roots) == pytest.approx(1)
        centred = torch.tensor(roots) - opinion.photo_mean
        expected = opinion.directions.weight @ (centred / centred.norm())
        torch.testing.assert_close(row, expected / expected.norm(), atol=1e-5, rtol=1e-4)


def test_modalities_are_centred_apart() -> None:
    opinion = Opinion()
    opinion.sketch_mean.fill_(0.03)
    feature_map = torch.randn(2, 320, 2, 2)
    assert not torch.allclose(opinion(feature_map, "sketch"), opinion(feature_map, "photo"))


def test_the_cosine_weighs_what_was_learnt_and_the_opinion() -> None:
    rows = [torch.nn.functional.normalize(torch.randn(3, size), dim=1) for size in (5, 5, 7, 7)]
    one, other = joined(rows[0], rows[2], WEIGHT), joined(rows[1], rows[3], WEIGHT)
    expected = ((rows[0] * rows[1]).sum(1) + WEIGHT**2 * (rows[2] * rows[3]).sum(1)) / (1 + WEIGHT**2)
    torch.testing.assert_close((one * other).sum(1), expected)
    torch.testing.assert_close(one.norm(dim=1), torch.ones(3))


@torch.inference_mode()
def test_a_part_of_an_embedding_is_the_opinion(network: CrossATNet) -> None:
    feature_map = 3 * torch.randn(2, 320, 3, 3)
    embeddings = network.embed_map(feature_map, "photo")
    assert embeddings.shape == (2, 288)
    assert network.projection.out_features == 288 - OPINION
    scale = (1 + WEIGHT**2) ** 0.5
    learnt = network.embed_pooled(network.pool(feature_map, "photo").feature, "photo")
    torch.testing.assert_close(embeddings[:, :32], learnt / scale)
    assert network.opinion is not None
    torch.testing.assert_close(embeddings[:, 32:], WEIGHT * network.opinion(feature_map, "photo") / scale)


@torch.inference_mode()
def test_the_exported_parts_compute_the_same(network: CrossATNet) -> None:
    random = np.random.default_rng(1)
    sketch = random.integers(256, size=(1, 64, 64, 3), dtype=np.uint8)
    photos = random.integers(256, size=(3, 96, 96, 3), dtype=np.uint8)
    embedding, _, guiding = Sketch(network)(torch.from_numpy(sketch))
    np.testing.assert_allclose(embedding.numpy(), network.embed(sketch, "sketch"), atol=1e-5)
    shown, _, feature_map = Photo(network)(torch.from_numpy(photos))
    np.testing.assert_allclose(shown.numpy(), network.embed(photos, "photo"), atol=1e-5)
    similarity, attention = GuidedPhoto(network)(guiding, feature_map)
    expected = network.guide(sketch[0], photos)
    np.testing.assert_allclose(similarity.numpy(), expected.similarity, atol=1e-5)
    np.testing.assert_allclose(attention.numpy(), expected.attention, atol=1e-5)


def test_a_network_without_an_opinion_has_the_fingerprint_it_had() -> None:
    """Galleries made before there were opinions, or regions, are bound to it."""
    config = ModelConfig(image_size=64, dimension=16, code_lengths=(16,))
    network = CrossATNet(config)
    assert '"opinion"' in config.model_dump_json()
    from crossatnet.model.network import fingerprint_of

    assert network.fingerprint == fingerprint_of(
        network, config.model_dump_json(exclude={"opinion", "region_size", "region_penalty"})
    )


@pytest.mark.parametrize("changes", [{"dimension": 256}, {"backbone": "somewhere/else"}])
def test_an_opinion_needs_room_and_a_classifier(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="opinion needs the backbone efficientnet-lite0"):
        ModelConfig(opinion=0.5, **changes)  # type: ignore[arg-type]
