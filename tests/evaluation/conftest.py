"""A small data set of drawn shapes, its split, and a network whose weights differ from their initial values."""

from pathlib import Path

import pytest
import torch

from crossatnet.config import ModelConfig
from crossatnet.data.catalog import Catalog
from crossatnet.data.layouts import read_catalog
from crossatnet.data.splits import Split, load_split
from crossatnet.model.attention import CrossModalAttention
from crossatnet.model.network import CrossATNet
from crossatnet.training.hash_codes import itq
from tiny_data import write_tiny

LENGTHS = (64, 16, 24)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shapes")
    write_tiny(root, pictures=3)
    return root


@pytest.fixture(scope="module")
def catalog(root: Path) -> Catalog:
    return read_catalog(root, "folder", quiet=True)


@pytest.fixture(scope="module")
def split(root: Path) -> Split:
    return load_split(str(root / "tiny"))


@pytest.fixture(scope="module")
def network() -> CrossATNet:
    """A network whose centres, hyperplanes and attention differ from their initial values; maps of 2 x 2."""
    torch.manual_seed(0)
    network = CrossATNet(ModelConfig(image_size=64, dimension=16, code_lengths=LENGTHS)).eval()
    network.backbone.load_imagenet_weights()
    network.sketch_centre.copy_(torch.randn(320))
    network.photo_centre.copy_(torch.randn(320))
    for bits in LENGTHS:
        network.hashing.set(bits, *itq(torch.randn(100, 16), bits, seed=bits))
    assert isinstance(network.pooler, CrossModalAttention)
    torch.nn.init.normal_(network.pooler.gallery_query)
    torch.nn.init.normal_(network.pooler.sketch_query.weight)
    network.name = "shapes"
    return network
