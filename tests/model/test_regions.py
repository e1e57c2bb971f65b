"""Regions against loops over crops of the map, and the choice among windows against one by hand."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from crossatnet.config import ModelConfig
from crossatnet.data.images import prepare
from crossatnet.model.network import CrossATNet
from crossatnet.model.regions import LEAST_CLARITY, LEAST_GAIN, MOST_REGIONS, chosen, masks, starts, windows
from oracles.regions import chosen_one_by_one

SIDE, LARGER = 96, 160  # the latter gives a map of 5 x 5


def make_network(heads: int, opinion: float) -> CrossATNet:
    torch.manual_seed(0)
    config = ModelConfig(attention_heads=heads, opinion=opinion, region_size=LARGER, region_penalty=0.1)
    network = CrossATNet(config).eval()
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


@pytest.fixture(scope="module")
def larger() -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (2, LARGER, LARGER, 3), dtype=np.uint8)


def test_a_window_is_embedded_as_its_crop_of_the_map_is(network: CrossATNet, larger: NDArray[np.uint8]) -> None:
    with torch.inference_mode():
        maps = network.map(larger, "photo")
        given, clarity = network.embed_windows(maps, torch.from_numpy(masks(5, 5)))
        for number, (left, top, right, bottom) in enumerate(windows(5, 5)):
            alone = network.embed_map(maps[:, :, top:bottom, left:right], "photo")
            torch.testing.assert_close(given[:, number], alone, atol=1e-5, rtol=0)
            if network.opinion is None:
                assert clarity[:, number].tolist() == [1, 1]
            else:
                probabilities = network.opinion.roots(maps[:, :, top:bottom, left:right]).square()
                torch.testing.assert_close(clarity[:, number], probabilities.amax(1))
    assert given.shape == (2, len(windows(5, 5)), 512)


def test_a_photo_is_shaped_for_both_looks_from_its_own_pixels(network: CrossATNet) -> None:
    photo = Image.fromarray(np.random.default_rng(2).integers(0, 256, (200, 300, 3), dtype=np.uint8))
    pixels, larger = network.preprocess_with_regions(photo)
    np.testing.assert_array_equal(pixels, network.preprocess(photo, "photo"))
    np.testing.assert_array_equal(larger, prepare(photo, "photo", LARGER))


def test_the_whole_stays_as_it_is_to_the_bit(
    network: CrossATNet, photos: NDArray[np.uint8], larger: NDArray[np.uint8]
) -> None:
    whole, regions = network.embed_with_regions(photos, larger)
    np.testing.assert_array_equal(whole, network.embed(photos, "photo"))
    assert [len(each.boxes) for each in regions] == [len(each.embeddings) for each in regions]
    for each in regions:
        np.testing.assert_allclose(np.linalg.norm(each.embeddings, axis=1), 1, atol=1e-5)


def test_the_clarity_of_a_whole_is_its_highest_probability(network: CrossATNet, photos: NDArray[np.uint8]) -> None:
    maps = network.map(photos, "photo")
    with torch.inference_mode():
        embeddings, clarity = network.embed_whole(maps)
        assert torch.equal(embeddings, network.embed_map(maps, "photo"))
        expected = torch.ones(2) if network.opinion is None else network.opinion.classifier(maps).softmax(1).amax(1)
    torch.testing.assert_close(clarity, expected)


def test_a_photo_that_clearly_shows_one_thing_is_not_looked_at_again(
    photos: NDArray[np.uint8], larger: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crossatnet.model.regions.LEAST_CLARITY", 0.0)  # in noise nothing is clear
    network = make_network(8, 0.7)
    _, expected = network.embed_with_regions(photos, larger)
    with torch.inference_mode():
        clarity = network.embed_whole(network.map(photos, "photo"))[1]
    clearer = int(clarity.argmax())
    network.config = network.config.model_copy(update={"region_clarity": float(clarity.mean())})
    looks: list[int] = []
    network.backbone.register_forward_pre_hook(lambda _, given: looks.append(len(given[0])))
    embeddings, regions = network.embed_with_regions(photos, larger)
    assert looks == [2, 1]
    np.testing.assert_array_equal(embeddings, network.embed(photos, "photo"))
    assert [len(regions[clearer].boxes), *regions[clearer].embeddings.shape] == [0, 0, 512]
    np.testing.assert_array_equal(regions[1 - clearer].boxes, expected[1 - clearer].boxes)
    np.testing.assert_allclose(regions[1 - clearer].embeddings, expected[1 - clearer].embeddings, atol=1e-5)
    assert len(expected[clearer].boxes) * len(expected[1 - clearer].boxes) > 0
    network.config = network.config.model_copy(update={"region_clarity": 0.0})
    assert [len(each.boxes) for each in network.embed_with_regions(photos, larger)[1]] == [0, 0]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 7), (7, 7), (8, 8), (16, 16)])
def test_windows_reach_every_position_and_lie_inside(height: int, width: int) -> None:
    found = windows(height, width)
    assert masks(height, width).any(0).all()
    assert len({*map(tuple, found.tolist())}) == len(found)
    assert (found >= 0).all()
    assert (found[:, 2:] <= (width, height)).all()
    for mask, box in zip(masks(height, width).reshape(-1, height, width), found, strict=True):
        rows, columns = np.nonzero(mask)
        assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == tuple(box)


def test_starts_go_from_end_to_end() -> None:
    assert starts(8, 2) == [0, 1, 2, 3, 4, 5, 6]
    assert starts(8, 8) == [0]
    assert starts(7, 4) == [0, 2, 3]
    assert starts(12, 4) == [0, 2, 4, 6, 8]


def test_the_choice_is_that_of_a_plain_loop() -> None:
    random = np.random.default_rng(1)
    counts = []
    for spread in (0.2, 0.5, 3.0):
        rows = (1 + spread * random.normal(size=(len(windows(5, 5)) + 1, 16))).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        clarity = (LEAST_CLARITY + random.random(len(rows) - 1)).astype(np.float32)
        regions, expected = chosen(rows[0], rows[1:], clarity, 5, 5), chosen_one_by_one(rows[0], rows[1:], clarity)
        np.testing.assert_array_equal(regions.embeddings, rows[1:][expected])
        np.testing.assert_allclose(regions.boxes, windows(5, 5)[expected] / 5, atol=1e-6)
        counts.append(len(expected))
    assert (counts[0], counts[-1]) == (0, MOST_REGIONS)
    assert 0 < counts[1] < MOST_REGIONS


def test_what_shows_nothing_clearly_is_no_region() -> None:
    rows = np.eye(8, dtype=np.float32)[[0, 0, 1, 2]]
    clarity = np.array([0.9, 0.9, 0.11, 0.09], dtype=np.float32)
    np.testing.assert_array_equal(chosen(rows[0], rows, clarity, 2, 2).embeddings, rows[2:3])


def test_what_is_like_the_whole_is_no_region() -> None:
    rows = np.eye(4, dtype=np.float32)[[0] * len(windows(7, 7))]
    clear = np.ones(len(rows), dtype=np.float32)
    assert len(chosen(rows[0], rows, clear, 7, 7).boxes) == 0
    rows[5] = [0, 1, 0, 0]
    clear[5] = 1.1 * LEAST_GAIN * len(rows)  # at a cosine of 0 with the whole, all of its clarity is gained
    np.testing.assert_array_equal(chosen(rows[0], rows, clear, 7, 7).embeddings, rows[5:6])
    clear[5] = 0.9 * LEAST_GAIN * len(rows)
    assert len(chosen(rows[0], rows, clear, 7, 7).boxes) == 0


def test_a_model_has_regions_where_its_settings_say_so() -> None:
    network = make_network(0, 0.0)
    assert (network.regions, network.region_penalty) == (True, 0.1)
    plain = CrossATNet(network.config.model_copy(update={"region_size": None, "region_penalty": 0.0})).eval()
    plain.load_state_dict(network.state_dict())
    assert (plain.regions, plain.region_penalty) == (False, 0.0)
    assert plain.fingerprint == network.fingerprint  # a gallery of the one can be searched by the other
