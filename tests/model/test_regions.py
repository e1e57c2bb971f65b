"""Regions: the boxes against plain loops, the parts against PIL and by hand, and what a network makes of them."""

import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from crossatnet.config import ModelConfig
from crossatnet.model.network import CrossATNet
from crossatnet.model.regions import (
    LARGEST_SHARE,
    LEAST_SIDE,
    MOST_LIKENESS,
    MOST_OVERLAP,
    MOST_REGIONS,
    POSSIBLE,
    SURE,
    Box,
    Regions,
    cut,
    distinct,
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
    proposals = peaks((2, 2, POSSIBLE + 0.01, 0.1), (12, 12, POSSIBLE - 0.01, 0.1))
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


def test_in_a_photo_of_one_thing_only_what_is_sure_is_another() -> None:
    whole, near, far = (10, 10, 0.9, 0.45), (3, 3, SURE - 0.01, 0.1), (16, 16, SURE + 0.01, 0.1)
    np.testing.assert_allclose(proposed(peaks(whole, near, far)), proposed(peaks(far)))
    assert len(proposed(peaks(near, far))) == 2
    unsure = (10, 10, SURE - 0.01, 0.45)
    assert len(proposed(peaks(unsure, near, far))) == 2


def test_of_two_for_the_same_thing_the_likelier_stays() -> None:
    alike = peaks((10, 10, 0.6, 0.2), (10, 12, 0.8, 0.2))
    np.testing.assert_allclose(proposed(alike), [[0.425, 0.325, 0.825, 0.725]], atol=1e-6)
    apart = peaks((10, 7, 0.6, 0.2), (10, 12, 0.8, 0.2))
    assert len(proposed(apart)) == 2
    boxes = [proposed(peaks((10, column, 0.6, 0.2)))[0] for column in (7, 10, 12)]
    assert overlap(boxes[0], boxes[2]) < MOST_OVERLAP < overlap(boxes[1], boxes[2])


def test_boxes_end_where_the_photo_does() -> None:
    np.testing.assert_allclose(proposed(peaks((0, 19, 0.9, 0.3))), [[0.675, 0, 1, 0.325]], atol=1e-6)


def test_what_is_too_small_is_no_part_and_hides_none() -> None:
    small = (10, 10, 0.9, 0.45 * LEAST_SIDE)
    assert len(proposed(peaks(small))) == 0
    assert len(proposed(peaks((10, 10, 0.9, 0.55 * LEAST_SIDE)))) == 1
    proposals = peaks((10, 10, 0.9, 0.1))
    proposals[1, 10, 10] = proposals[3, 10, 10] = -30  # high, but not wide
    assert len(proposed(proposals)) == 0
    corner = peaks((0, 0, 0.9, 0.01))  # it ends at the photo's edge, but is cut nowhere
    assert len(proposed(corner)) == 0
    tall = peaks(small)
    tall[1:, 12, 10], tall[0, 12, 10] = np.log(0.6 * LEAST_SIDE), 0
    np.testing.assert_allclose(proposed(tall), [[0.495, 0.595, 0.555, 0.655]], atol=1e-6)


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


FULL = (400, 512)  # height and width of photos that parts are cut from


def random_photo(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "box",
    [(0.25, 0.5, 0.75, 0.875), (0.1, 0.2, 0.55, 0.35), (0.0, 0.0, 0.3, 1.0), (0.7, 0.81, 1.0, 1.0)],
    ids=["aligned", "between pixels", "left edge", "corner"],
)
def test_a_part_is_the_mean_of_its_pixels(box: Box) -> None:
    photo = random_photo(64, 50)
    (part,) = cut(photo, np.array([box], np.float32), 24)
    assert part.shape == (24, 24, 3)
    assert np.abs(part - oracle.cut_out(photo, box, 24)).max() <= 1.01  # it is rounded twice


def test_parts_are_what_pil_crops() -> None:
    photo, edges = random_photo(*FULL, 1), [(64, 100, 192, 356), (0, 0, 128, 400), (256, 272, 512, 400)]
    parts = cut(photo, np.array(edges, np.float32) / (512, 400, 512, 400), PART)
    for part, corners in zip(parts, edges, strict=True):
        cropped = Image.fromarray(photo).crop(corners).resize((PART, PART), Image.Resampling.BILINEAR, reducing_gap=2)
        inside = np.s_[4:-4, 4:-4]  # at its edges PIL also looks at what is just outside a box
        np.testing.assert_allclose(part[inside].astype(int), np.asarray(cropped)[inside], atol=2)
    whole = cut(photo, np.array([[0, 0, 1, 1]], np.float32), PART)[0]
    resized = Image.fromarray(photo).resize((PART, PART), Image.Resampling.BILINEAR, reducing_gap=2)
    np.testing.assert_array_equal(whole, np.asarray(resized))


def test_a_part_shows_nothing_of_the_rest() -> None:
    photo = np.zeros((*FULL, 3), np.uint8)
    photo[100:200, 300:500] = (10, 200, 30)
    (part,) = cut(photo, np.array([[310, 110, 490, 190]], np.float32) / (512, 400, 512, 400), PART)
    assert (part == (10, 200, 30)).all()
    assert cut(photo, np.empty((0, 4), np.float32), PART).shape == (0, PART, PART, 3)
    assert cut(random_photo(1, 3), np.array([[0.2, 0.1, 0.4, 0.9]], np.float32), PART).shape == (1, PART, PART, 3)


def test_what_is_like_the_whole_is_left_out() -> None:
    random, whole = np.random.default_rng(0), np.eye(1, 8, dtype=np.float32)[0]
    embeddings = whole + 0.3 * random.normal(size=(20, 8)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    regions = Regions(random.random((20, 4)).astype(np.float32), embeddings)
    kept = [row for row in range(20) if embeddings[row, 0] < MOST_LIKENESS]
    assert 0 < len(kept) < 20
    found = distinct(whole, regions)
    np.testing.assert_array_equal(found.boxes, regions.boxes[kept])
    np.testing.assert_array_equal(found.embeddings, embeddings[kept])


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
    return np.stack([random_photo(SIDE, SIDE), random_photo(SIDE, SIDE, 1)])


@pytest.fixture(scope="module")
def full() -> list[NDArray[np.uint8]]:
    return [random_photo(*FULL, 2), random_photo(90, 120, 3)]


def test_a_photo_is_shaped_for_both_uses_from_its_own_pixels(network: CrossATNet) -> None:
    photo = Image.fromarray(random_photo(200, 300, 2))
    pixels, full = network.preprocess_with_regions(photo)
    np.testing.assert_array_equal(pixels, network.preprocess(photo, "photo"))
    np.testing.assert_array_equal(full, np.asarray(photo))


def test_the_whole_stays_as_it_is_to_the_bit(
    network: CrossATNet, photos: NDArray[np.uint8], full: list[NDArray[np.uint8]]
) -> None:
    whole, _ = network.embed_with_regions(photos, full)
    np.testing.assert_array_equal(whole, network.embed(photos, "photo"))


def test_a_region_is_embedded_as_a_photo_of_it_is(
    network: CrossATNet, photos: NDArray[np.uint8], full: list[NDArray[np.uint8]]
) -> None:
    wholes, regions = network.embed_with_regions(photos, full)
    with torch.inference_mode():
        proposals = network.proposals(*network.maps(photos, "photo")).numpy()
    assert proposals.shape == (2, 5, SIDE // 16, SIDE // 16)
    for photo, each, whole, numbers in zip(full, regions, wholes, proposals, strict=True):
        expected = []
        for box in oracle.proposed(numbers):
            edges = tuple(share * side for share, side in zip(box, photo.shape[1::-1] * 2, strict=True))
            part = Image.fromarray(photo).resize((PART, PART), Image.Resampling.BILINEAR, edges, reducing_gap=2)
            embedding = network.embed(np.array(part)[None], "photo")[0]
            if embedding @ whole < MOST_LIKENESS:
                expected.append((box, embedding))
        np.testing.assert_allclose(each.boxes, [box for box, _ in expected], atol=1e-6)
        # an edge that moves by a millionth may round a pixel otherwise
        np.testing.assert_allclose(each.embeddings, [embedding for _, embedding in expected], atol=1e-3)
    assert len(regions[0].boxes) * len(regions[1].boxes) > 0
    assert not np.array_equal(regions[0].boxes, regions[1].boxes)


def test_a_photo_that_shows_no_thing_has_no_regions(
    photos: NDArray[np.uint8], full: list[NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = make_network()
    with torch.inference_mode():
        tops = network.proposals(*network.maps(photos, "photo"))[:, 0].amax((1, 2))
    assert network.proposer is not None
    with torch.no_grad():  # the logit of what is possible now lies between those of the two
        network.proposer.numbers.bias[0] += np.log(POSSIBLE / (1 - POSSIBLE)) - float(tops.mean())
    looks: list[int] = []
    network.backbone.chain()[0].register_forward_pre_hook(lambda _, given: looks.append(len(given[0])))
    embeddings, regions = network.embed_with_regions(photos, full)
    less = int(tops.argmin())
    assert (regions[less].boxes.shape, regions[less].embeddings.shape) == ((0, 4), (0, network.dimension))
    assert looks[0] == 2
    assert len(looks) == 2  # nothing is cut from it
    np.testing.assert_array_equal(embeddings, network.embed(photos, "photo"))
    monkeypatch.setattr("crossatnet.model.regions.MOST_LIKENESS", -1.0)
    for each in network.embed_with_regions(photos, full)[1]:
        assert (each.boxes.shape, each.embeddings.shape) == ((0, 4), (0, network.dimension))


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
