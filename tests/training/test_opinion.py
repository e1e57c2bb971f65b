"""Adding an opinion to a trained network."""

import copy

import pytest
import torch

from crossatnet.config import OPINION, ModelConfig
from crossatnet.model.interface import MODALITIES
from crossatnet.model.network import CrossATNet
from crossatnet.model.opinion import Opinion
from crossatnet.training.opinion import add_opinion, principal


@pytest.fixture(scope="module")
def network() -> CrossATNet:
    torch.manual_seed(1)
    network = CrossATNet(ModelConfig(image_size=64, dimension=280, code_lengths=(32,))).eval()
    network.photo_centre.copy_(torch.rand(320))
    return network


@torch.inference_mode()
def test_embeddings_told_are_those_of_the_network(network: CrossATNet) -> None:
    maps = {modality: 3 * torch.randn(40, 320, 3, 3) for modality in MODALITIES}
    label, before = torch.arange(80) % 8, copy.deepcopy(network.state_dict())
    opinion = Opinion()
    opinion.classifier.load_imagenet_weights()
    roots = {modality: opinion.roots(maps[modality]) for modality in MODALITIES}
    learnt = torch.cat([network.embed_map(maps[modality], modality) for modality in MODALITIES])
    made, embeddings = add_opinion(network, 0.5, learnt, roots, label)
    assert made.projection.out_features == 280 - OPINION
    own = torch.cat([made.embed_map(maps[modality], modality) for modality in MODALITIES])
    torch.testing.assert_close(embeddings, own, atol=2e-4, rtol=0)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])  # the network that was given stays as it was


def test_principal_directions_keep_as_much_as_any_can() -> None:
    rows = torch.randn(50, 12) * torch.arange(1, 13)
    directions = principal(rows, 4)
    torch.testing.assert_close(directions @ directions.T, torch.eye(4), rtol=0, atol=1e-5)
    kept = (rows @ directions.T).square().sum()
    singular = torch.linalg.svdvals(rows.double())
    torch.testing.assert_close(kept.double(), singular[:4].square().sum(), rtol=1e-5, atol=0)
