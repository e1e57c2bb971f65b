"""Regions against loops over crops of the map, and the choice among windows against one by hand."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from crossatnet.config import ModelConfig
from crossatnet.model.network import CrossATNet
from crossatnet.model.regions import ALIKE, MOST_REGIONS, chosen, masks, starts, windows
from oracles.regions import chosen_one_by_one

SIDE = 160  # a map of 5 x 5


def make_network(heads: int, opinion: float) -> CrossATNet:
    torch.manual_seed(0)
    network = CrossATNet(ModelConfig(attention_heads=heads, opinion=opinion, region_penalty=0.1)).eval()
    network.backbone.load_imagenet_weights()  # type: ignore[operator]
    network.photo_centre.copy_(torch.randn(320))
    if heads:
        torch.nn.init.normal_(network.pooler.gallery_query)  # type: ignore[arg-type]
    if network.opinion is not None:
        network.opinion.photo_mean.copy_(torch.rand(1000) / 30)
    return network


@pytest.fixture(scope="module", params=[(0, 0.0), (8, 0.0), (8, 0.7)], ids=["mean", "attention", "opinion"])
def network(request: pytest.FixtureRequest) -> CrossATNet:
    return make_network(*request.param)


@pytest.fixture(scope="module")
def photos() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)


def test_a_window_is_embedded_as_its_crop_of_the_map_is(network: CrossATNet, photos: NDArray[np.uint8]) -> None:
    maps = network.map(photos, "photo")
    with torch.inference_mode():
        given = network.embed_windows(maps, torch.from_numpy(masks(5, 5)))
        for number, (left, top, right, bottom) in enumerate(windows(5, 5)):
            alone = network.embed_map(maps[:, :, top:bottom, left:right], "photo")
            torch.testing.assert_close(given[:, number], alone, atol=1e-5, rtol=0)
    assert given.shape == (2, len(windows(5, 5)), 512)


def test_the_whole_stays_as_it_is_to_the_bit(network: CrossATNet, photos: NDArray[np.uint8]) -> None:
    whole, regions = network.embed_with_regions(photos)
    np.testing.assert_array_equal(whole, network.embed(photos, "photo"))
    assert [len(each.boxes) for each in regions] == [len(each.embeddings) for each in regions]
    for each in regions:
        np.testing.assert_allclose(np.linalg.norm(each.embeddings, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 7), (7, 7), (8, 8), (16, 16)])
def test_windows_reach_every_position_and_lie_inside(height: int, width: int) -> None:
    found = windows(height, width)
    assert masks(height, width).any(0).all()
    assert len({*map(tuple, found.tolist())}) == len(found)
    left, top, right, bottom = found.T
    assert (left >= 0).all() and (top >= 0).all() and (right <= width).all() and (bottom <= height).all()
    for mask, box in zip(masks(height, width).reshape(-1, height, width), found, strict=True):
        rows, columns = np.nonzero(mask)
        assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == tuple(box)


def test_starts_leave_no_gap() -> None:
    assert starts(8, 2) == [0, 1, 2, 3, 4, 5, 6]
    assert starts(8, 8) == [0]
    assert starts(7, 4) == [0, 2, 3]


def test_the_choice_is_that_of_a_plain_loop() -> None:
    random = np.random.default_rng(1)
    for spread in (0.3, 1.0, 3.0):
        rows = 1 + spread * random.normal(size=(len(windows(7, 7)) + 1, 16)).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        regions, expected = chosen(rows[0], rows[1:], 7, 7), chosen_one_by_one(rows[0], rows[1:])
        np.testing.assert_array_equal(regions.embeddings, rows[1:][expected])
        np.testing.assert_allclose(regions.boxes, windows(7, 7)[expected] / 7, atol=1e-6)
        assert len(expected) <= MOST_REGIONS


def test_what_is_like_the_whole_is_no_region() -> None:
    rows = np.eye(4, dtype=np.float32)[[0] * len(windows(7, 7))]
    assert len(chosen(rows[0], rows, 7, 7).boxes) == 0
    rows[5] = [ALIKE - 0.01, (1 - (ALIKE - 0.01) ** 2) ** 0.5, 0, 0]
    np.testing.assert_array_equal(chosen(rows[0], rows, 7, 7).embeddings, rows[5:6])


def test_a_model_has_regions_where_its_settings_say_so() -> None:
    network = make_network(0, 0.0)
    assert (network.regions, network.region_penalty) == (True, 0.1)
    plain = CrossATNet(network.config.model_copy(update={"region_penalty": None})).eval()
    plain.load_state_dict(network.state_dict())
    assert (plain.regions, plain.region_penalty) == (False, 0.0)
    assert plain.fingerprint == network.fingerprint  # a gallery of the one can be searched by the other
