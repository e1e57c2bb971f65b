"""Regions: the boxes against plain loops, the parts against PIL and by hand, and what a network makes of them."""

import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from crossatnet.config import ModelConfig
from crossatnet.data.images import prepare
from crossatnet.model.network import CrossATNet
from crossatnet.model.regions import (
    LARGEST_SHARE,
    LEAST_THINGNESS,
    MOST_OVERLAP,
    MOST_REGIONS,
    SOURCE_SIDE,
    Box,
    cut,
    overlap,
    proposed,
)
from oracles import regions as oracle

SIDE, PART = 96, 64
NOTHING = -9.0  # a logit


# # Boxes


def noise(height: int, width: int, logit: float, distance: float, seed: int) -> NDArray[np.float32]:
    """Proposals (5, h, w) around a logit and a distance in shares of the photo."""
    random = np.random.default_rng(seed)
    logits = logit + 2 * random.normal(size=(1, height, width))
    distances = np.log(distance) + 0.5 * random.normal(size=(4, height, width))
    return np.concatenate([logits, distances]).astype(np.float32)


def test_boxes_are_those_of_a_plain_loop() -> None:
    counts: list[int] = []
    for number, ((height, width), logit, distance) in enumerate(
        itertools.product([(1, 1), (3, 5), (8, 8), (14, 16)], (-6.0, -2.0, 2.0), (0.04, 0.2, 0.6))
    ):
        proposals = noise(height, width, logit, distance, number)
        found, expected = proposed(proposals), oracle.proposed(proposals)
        assert (found.dtype, found.shape) == (np.float32, (len(expected), 4))
        np.testing.assert_allclose(found, np.array(expected).reshape(-1, 4), atol=1e-6)
        counts.append(len(expected))
    assert {0, 1, MOST_REGIONS} < {*counts}
    assert len({*counts}) > 4


def peaks(*things: tuple[int, int, float, float]) -> NDArray[np.float32]:
    """Proposals (5, 20, 20) with things at a row and a column, of a probability and half a side each."""
    proposals = np.full((5, 20, 20), NOTHING, np.float32)
    for row, column, probability, half in things:
        proposals[:, row, column] = [np.log(probability / (1 - probability)), *[np.log(half)] * 4]
    return proposals


def test_only_what_is_likely_enough_is_proposed() -> None:
    proposals = peaks((2, 2, LEAST_THINGNESS + 0.01, 0.1), (12, 12, LEAST_THINGNESS - 0.01, 0.1))
    np.testing.assert_allclose(proposed(proposals), [[0.025, 0.025, 0.225, 0.225]], atol=1e-6)
    assert proposed(peaks()).shape == (0, 4)


def test_the_likeliest_come_first_and_the_last_are_left_out() -> None:
    places = [(row, column) for row in (2, 9, 16) for column in (2, 6, 10, 14)]
    things = [(row, column, 0.4 + 0.04 * number, 0.04) for number, (row, column) in enumerate(places)]
    found = proposed(peaks(*things))
    expected = [((column + 0.5) / 20, (row + 0.5) / 20) for row, column in places[::-1][:MOST_REGIONS]]
    np.testing.assert_allclose((found[:, :2] + found[:, 2:]) / 2, expected, atol=1e-6)


def test_what_is_most_of_a_photo_is_no_part_of_it() -> None:
    half = LARGEST_SHARE**0.5 / 2
    assert len(proposed(peaks((10, 10, 0.9, half + 0.01)))) == 0
    assert len(proposed(peaks((10, 10, 0.9, half - 0.01)))) == 1
    # and it hides no part
    assert len(proposed(peaks((10, 10, 0.9, half + 0.01), (14, 10, 0.5, 0.3)))) == 1


def test_of_two_for_the_same_thing_the_likelier_stays() -> None:
    alike = peaks((10, 10, 0.6, 0.2), (10, 12, 0.8, 0.2))
    np.testing.assert_allclose(proposed(alike), [[0.425, 0.325, 0.825, 0.725]], atol=1e-6)
    apart = peaks((10, 7, 0.6, 0.2), (10, 12, 0.8, 0.2))
    assert len(proposed(apart)) == 2
    boxes = [proposed(peaks((10, column, 0.6, 0.2)))[0] for column in (7, 10, 12)]
    assert overlap(boxes[0], boxes[2]) < MOST_OVERLAP < overlap(boxes[1], boxes[2])


def test_boxes_end_where_the_photo_does() -> None:
    np.testing.assert_allclose(proposed(peaks((0, 19, 0.9, 0.3))), [[0.675, 0, 1, 0.325]], atol=1e-6)


def test_a_thing_too_small_to_see_still_gives_a_part() -> None:
    proposals = peaks((10, 10, 0.9, 0.1))
    proposals[1:] = -30
    parts = cut(np.zeros((SOURCE_SIDE, SOURCE_SIDE, 3), np.uint8), proposed(proposals), PART)
    assert parts.shape == (1, PART, PART, 3)


def test_overlap_is_the_share_of_cells_that_both_have() -> None:
    random = np.random.default_rng(0)
    seen = set()
    for _ in range(200):
        corners = random.integers(0, 8, (2, 2, 2))  # box, corner, axis
        low, high = corners.min(1), corners.max(1) + 1
        cells = [np.zeros((8, 8), bool) for _ in range(2)]
        for number in range(2):
            cells[number][low[number, 1] : high[number, 1], low[number, 0] : high[number, 0]] = True
        one, other = (np.concatenate([low[number], high[number]]) / 8 for number in range(2))
        expected = (cells[0] & cells[1]).sum() / (cells[0] | cells[1]).sum()
        assert overlap(one, other) == pytest.approx(expected)
        assert overlap(one, other) == overlap(other, one)
        assert overlap(one, one) == pytest.approx(1)
        assert overlap(one / 2 + 0.1, other / 2 + 0.1) == pytest.approx(expected)  # moved and scaled alike
        seen.add(round(expected, 6))
    assert 0 in seen
    assert len(seen) > 20
    assert overlap((0, 0, 0.5, 1), (0.5, 0, 1, 1)) == 0  # they touch


# # Parts


def random_photo(side: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "box",
    [(0.25, 0.5, 0.75, 0.875), (0.1, 0.2, 0.55, 0.35), (0.0, 0.0, 0.3, 1.0), (0.7, 0.81, 1.0, 1.0)],
    ids=["aligned", "between pixels", "left edge", "corner"],
)
def test_a_part_is_the_mean_of_its_pixels(box: Box) -> None:
    photo = random_photo(64)
    (part,) = cut(photo, np.array([box], np.float32), 24)
    assert part.shape == (24, 24, 3)
    assert np.abs(part - oracle.cut_out(photo, box, 24)).max() <= 1.01  # it is rounded twice


def test_parts_are_what_pil_crops() -> None:
    photo, edges = random_photo(SOURCE_SIDE, 1), [(64, 128, 192, 384), (0, 0, 128, 512), (256, 384, 512, 512)]
    parts = cut(photo, np.array(edges, np.float32) / SOURCE_SIDE, PART)
    for part, corners in zip(parts, edges, strict=True):
        cropped = Image.fromarray(photo).crop(corners).resize((PART, PART), Image.Resampling.BILINEAR, reducing_gap=2)
        inside = np.s_[4:-4, 4:-4]  # at its edges PIL also looks at what is just outside a box
        np.testing.assert_allclose(part[inside].astype(int), np.asarray(cropped)[inside], atol=2)
    whole = cut(photo, np.array([[0, 0, 1, 1]], np.float32), PART)[0]
    resized = Image.fromarray(photo).resize((PART, PART), Image.Resampling.BILINEAR, reducing_gap=2)
    np.testing.assert_array_equal(whole, np.asarray(resized))


def test_a_part_shows_nothing_of_the_rest() -> None:
    photo = np.zeros((SOURCE_SIDE, SOURCE_SIDE, 3), np.uint8)
    photo[100:200, 300:500] = (10, 200, 30)
    (part,) = cut(photo, np.array([[310, 110, 490, 190]], np.float32) / SOURCE_SIDE, PART)
    assert (part == (10, 200, 30)).all()
    assert cut(photo, np.empty((0, 4), np.float32), PART).shape == (0, PART, PART, 3)


# # A network


def make_network(heads: int = 8, opinion: float = 0.0) -> CrossATNet:
    """With a proposer that sees things in bright noise and none in black."""
    torch.manual_seed(0)
    settings = {"attention_heads": heads, "opinion": opinion, "region_size": PART, "region_penalty": 0.1}
    network = CrossATNet(ModelConfig.model_validate({"image_size": SIDE, **settings})).eval()
    network.backbone.load_imagenet_weights()  # type: ignore[operator]
    network.photo_centre.copy_(torch.randn(320))
    if heads:
        torch.nn.init.normal_(network.pooler.gallery_query)  # type: ignore[arg-type]
    assert network.proposer is not None
    with torch.no_grad():
        network.proposer.numbers.weight *= torch.tensor([2.0, 0.2, 0.2, 0.2, 0.2])[:, None, None, None]
        network.proposer.numbers.bias.copy_(torch.tensor([0.0, *[-2.0] * 4]))
    return network


@pytest.fixture(scope="module", params=[(0, 0.0), (8, 0.0), (8, 0.7)], ids=["mean", "attention", "opinion"])
def network(request: pytest.FixtureRequest) -> CrossATNet:
    return make_network(*request.param)


@pytest.fixture(scope="module")
def photos() -> NDArray[np.uint8]:
    return np.stack([random_photo(SIDE), random_photo(SIDE, 1)])


@pytest.fixture(scope="module")
def larger() -> NDArray[np.uint8]:
    return np.stack([random_photo(SOURCE_SIDE, 2), random_photo(SOURCE_SIDE, 3)])


def test_a_photo_is_shaped_for_both_uses_from_its_own_pixels(network: CrossATNet) -> None:
    photo = Image.fromarray(np.random.default_rng(2).integers(0, 256, (200, 300, 3), dtype=np.uint8))
    pixels, larger = network.preprocess_with_regions(photo)
    np.testing.assert_array_equal(pixels, network.preprocess(photo, "photo"))
    np.testing.assert_array_equal(larger, prepare(photo, "photo", SOURCE_SIDE))


def test_the_whole_stays_as_it_is_to_the_bit(
    network: CrossATNet, photos: NDArray[np.uint8], larger: NDArray[np.uint8]
) -> None:
    whole, _ = network.embed_with_regions(photos, larger)
    np.testing.assert_array_equal(whole, network.embed(photos, "photo"))


def test_a_region_is_embedded_as_a_photo_of_it_is(
    network: CrossATNet, photos: NDArray[np.uint8], larger: NDArray[np.uint8]
) -> None:
    _, regions = network.embed_with_regions(photos, larger)
    with torch.inference_mode():
        proposals = network.proposals(*network.maps(photos, "photo")).numpy()
    assert proposals.shape == (2, 5, SIDE // 16, SIDE // 16)
    for photo, each, numbers in zip(larger, regions, proposals, strict=True):
        np.testing.assert_allclose(each.boxes, np.array(oracle.proposed(numbers)), atol=1e-6)
        assert each.embeddings.shape == (len(each.boxes), network.dimension)
        for box, embedding in zip(each.boxes.tolist(), each.embeddings, strict=True):
            edges = tuple(share * SOURCE_SIDE for share in box)
            part = Image.fromarray(photo).resize((PART, PART), Image.Resampling.BILINEAR, edges, reducing_gap=2)
            np.testing.assert_allclose(embedding, network.embed(np.array(part)[None], "photo")[0], atol=1e-5)
    assert len(regions[0].boxes) * len(regions[1].boxes) > 0
    assert not np.array_equal(regions[0].boxes, regions[1].boxes)


def test_a_photo_that_shows_no_thing_has_no_regions(photos: NDArray[np.uint8], larger: NDArray[np.uint8]) -> None:
    network = make_network()
    found = network.embed_with_regions(photos, larger)[1]
    with torch.inference_mode():
        tops = network.proposals(*network.maps(photos, "photo"))[:, 0].amax((1, 2))
    with torch.no_grad():  # the logit of LEAST_THINGNESS now lies between those of the two
        network.proposer.numbers.bias[0] += np.log(LEAST_THINGNESS / (1 - LEAST_THINGNESS)) - float(tops.mean())  # type: ignore[union-attr]
    looks: list[int] = []
    network.backbone.stem.register_forward_pre_hook(lambda _, given: looks.append(len(given[0])))  # type: ignore[union-attr]
    embeddings, regions = network.embed_with_regions(photos, larger)
    less = int(tops.argmin())
    assert (regions[less].boxes.shape, regions[less].embeddings.shape) == ((0, 4), (0, network.dimension))
    assert looks == [2, len(regions[1 - less].boxes)]
    assert 0 < len(regions[1 - less].boxes) <= len(found[1 - less].boxes)
    np.testing.assert_array_equal(embeddings, network.embed(photos, "photo"))


def test_a_model_has_regions_where_its_settings_say_so() -> None:
    """And galleries of one that has, or finds others, can be searched by another."""
    network = make_network(0)
    assert (network.regions, network.region_penalty) == (True, 0.1)
    plain = CrossATNet(network.config.model_copy(update={"region_size": None, "region_penalty": 0.0})).eval()
    state = network.state_dict()
    plain.load_state_dict({name: tensor for name, tensor in state.items() if not name.startswith("proposer.")})
    assert (plain.regions, plain.region_penalty, plain.proposer) == (False, 0.0, None)
    assert plain.fingerprint == network.fingerprint
    before = network.fingerprint
    with torch.no_grad():
        network.proposer.numbers.weight += 1  # type: ignore[union-attr]
    assert network.fingerprint == before
    with torch.no_grad():
        network.projection.weight += 1
    assert network.fingerprint != before
    assert "64 px" in network.region_settings


@torch.inference_mode()
def test_the_finer_map_is_the_one_before_the_last_that_halves_it(photos: NDArray[np.uint8]) -> None:
    backbone = make_network(0).backbone
    pictures = torch.from_numpy(photos).permute(0, 3, 1, 2)
    assert backbone.finer == (12, 112)
    finer, feature_map = backbone.both(pictures)
    assert (finer.shape, feature_map.shape) == ((2, 112, 6, 6), (2, 320, 3, 3))
    assert torch.equal(finer, backbone.early(pictures, 12))
    assert torch.equal(feature_map, backbone.late(finer, 12))
    assert torch.equal(feature_map, backbone(pictures))
    assert backbone.early(pictures, 13).shape[2:] == (3, 3)
