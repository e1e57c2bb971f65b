"""How the proposer is fitted: its loss against plain loops, what it learns, and what stays as it was."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from crossatnet.config import ModelConfig, TrainConfig
from crossatnet.data.catalog import Item
from crossatnet.data.images import prepare
from crossatnet.model import proposals as head
from crossatnet.model.network import CrossATNet
from crossatnet.model.proposals import Proposer
from crossatnet.model.regions import Box, overlap, proposed
from crossatnet.training import proposals as fitting
from crossatnet.training.proposals import (
    Known,
    boxes_of,
    covered,
    fit_proposer,
    fit_to_maps,
    giou,
    nearness,
    proposal_loss,
    scene_maps,
)
from crossatnet.training.scenes import compose
from crossatnet.training.things import things_in
from oracles import proposals as oracle
from tiny_data import SEEN, draw

HEIGHT, WIDTH = 4, 5


def random_boxes(count: int, seed: int, least: float = 0.02) -> list[Box]:
    random = np.random.default_rng(seed)
    corners = random.uniform(0, 1 - least, (count, 2))
    sides = least + random.uniform(0, 1, (count, 2)) * (1 - least - corners)
    return [tuple(row) for row in np.hstack([corners, corners + sides]).tolist()]


def random_proposals(scenes: int, seed: int) -> Tensor:
    proposals = torch.randn(scenes, 5, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(seed))
    proposals[:, 1:] -= 1.5
    return proposals


# # The loss


def test_giou_is_that_of_a_plain_loop() -> None:
    ones, others = random_boxes(60, 0), random_boxes(60, 1)
    found = giou(torch.tensor(ones), torch.tensor(others))
    expected = [oracle.giou(*pair) for pair in zip(ones, others, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert min(expected) < -0.5
    assert max(expected) > 0.1
    torch.testing.assert_close(giou(torch.tensor(others), torch.tensor(ones)), found)
    torch.testing.assert_close(giou(torch.tensor(ones), torch.tensor(ones)), torch.ones(60))


def test_giou_falls_the_farther_two_boxes_are_apart() -> None:
    one = torch.tensor([[0.0, 0.0, 0.2, 0.2]]).expand(4, -1)
    moved = one + torch.tensor([0.1, 0.3, 0.5, 0.8])[:, None] * torch.tensor([1, 0, 1, 0])
    assert (giou(one, moved).diff() < -0.05).all()


def test_giou_has_the_gradients_of_finite_differences() -> None:
    ones, others = (torch.tensor(random_boxes(8, seed, 0.1), dtype=torch.float64) for seed in (2, 3))
    assert torch.autograd.gradcheck(giou, (ones.requires_grad_(), others.requires_grad_()))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (4, 5), (12, 7)])
def test_nearness_is_that_of_a_plain_loop(height: int, width: int) -> None:
    boxes = random_boxes(20, 0, 0.005)  # some are smaller than a position
    found = nearness(torch.tensor(boxes), height, width)
    assert found.shape == (20, height, width)
    np.testing.assert_allclose(found, [oracle.nearness(box, height, width) for box in boxes], atol=1e-5)
    assert (found.amax((1, 2)) > 1e-4).all()
    assert found.max() <= 1


@pytest.mark.parametrize(("height", "width"), [(1, 1), (4, 5), (12, 7)])
def test_a_box_covers_what_a_plain_loop_says(height: int, width: int) -> None:
    boxes = random_boxes(20, 1, 0.01)
    expected = [oracle.covers(box, height, width) for box in boxes]
    assert covered(torch.tensor(boxes), height, width).tolist() == expected


def test_positions_propose_what_a_plain_loop_says() -> None:
    proposals = random_proposals(2, 0)
    proposals[0, 1:, 0, 0] = torch.tensor([-20.0, 20.0, 0.0, -3.0])  # too small, too large
    found = boxes_of(proposals)
    assert found.shape == (2, 4, HEIGHT, WIDTH)
    for number, numbers in enumerate(proposals.tolist()):
        for row in range(HEIGHT):
            for column in range(WIDTH):
                np.testing.assert_allclose(
                    found[number, :, row, column], oracle.box_at(numbers, row, column), atol=1e-5
                )


THINGS = [(2, 0, 0, 2, 2), (0,), ()]  # the scene of each thing; one scene of three shows none


@pytest.mark.parametrize("scenes", THINGS, ids=["five", "one", "none"])
def test_the_loss_is_that_of_plain_loops(scenes: tuple[int, ...]) -> None:
    for seed in range(3):
        proposals, boxes = random_proposals(3, seed), random_boxes(len(scenes), seed)
        things = torch.tensor(scenes).long(), torch.tensor(boxes).reshape(-1, 4)
        costs = []
        for complete in ([True] * 3, [False] * 3, [seed == 0, seed == 1, True]):
            costs.append(float(proposal_loss(proposals, *things, torch.tensor(complete))))
            expected = oracle.loss(proposals.tolist(), [*zip(scenes, boxes, strict=True)], complete)
            assert costs[-1] == pytest.approx(expected, rel=1e-4)
        assert costs[0] > costs[1]  # what may be another thing costs less


def test_the_loss_has_the_gradients_of_finite_differences() -> None:
    scenes, boxes, step = (1, 0, 1), random_boxes(3, 5, 0.2), 1e-5
    proposals = random_proposals(2, 7).requires_grad_()
    proposal_loss(proposals, torch.tensor(scenes), torch.tensor(boxes), torch.tensor([True, False])).backward()
    things = [*zip(scenes, boxes, strict=True)]
    expected = torch.zeros_like(proposals)
    for place in np.ndindex(*proposals.shape):
        moved = []
        for sign in (-1, 1):
            changed = proposals.detach().double()
            changed[place] += sign * step
            moved.append(oracle.loss(changed.tolist(), things, [True, False]))
        expected[place] = (moved[1] - moved[0]) / (2 * step)
    assert proposals.grad is not None
    torch.testing.assert_close(proposals.grad, expected, atol=1e-4, rtol=1e-3)
    assert (expected.abs().amax((0, 2, 3)) > 1e-2).all()  # of each of the five numbers


def test_a_perfect_proposal_costs_next_to_nothing() -> None:
    box = (0.2, 0.25, 0.4, 0.5)  # around the centre of row 1, column 1
    proposals = torch.full((1, 5, HEIGHT, WIDTH), -9.0)
    proposals[0, 0, 1, 1] = 9
    for row in range(HEIGHT):  # each position proposes the thing, as far as it lies inside
        for column in range(WIDTH):
            x, y = (column + 0.5) / WIDTH, (row + 0.5) / HEIGHT
            sides = torch.tensor([x - box[0], y - box[1], box[2] - x, box[3] - y])
            proposals[0, 1:, row, column] = sides.clamp_min(1e-3).log()
    things = torch.tensor([0]), torch.tensor([box]), torch.tensor([True])
    perfect = proposal_loss(proposals, *things)
    assert perfect < 0.05
    proposals[0, 0] = proposals[0, 0].roll(1, 1)
    assert proposal_loss(proposals, *things) > perfect + 5


def test_a_mirrored_scene_costs_the_same() -> None:
    proposals, boxes = random_proposals(2, 1), torch.tensor(random_boxes(3, 1))
    scenes = torch.tensor([0, 1, 1])
    mirrored = proposals.flip(3)[:, [0, 3, 2, 1, 4]]  # left and right change places
    turned = torch.stack([1 - boxes[:, 2], boxes[:, 1], 1 - boxes[:, 0], boxes[:, 3]], dim=1)
    complete = torch.tensor([True, False])
    expected = proposal_loss(proposals, scenes, boxes, complete)
    torch.testing.assert_close(proposal_loss(mirrored, scenes, turned, complete), expected)


# # Learning


CHANNELS, CELLS = 4, 12


def blobs(count: int, seed: int) -> tuple[Tensor, Tensor, list[Known]]:
    """Maps (N, 4, 12, 12) and halves of them of scenes where a thing is bright; every fourth scene shows none."""
    random = np.random.default_rng(seed)
    maps, known = 0.1 * random.normal(size=(count, CHANNELS, CELLS, CELLS)), []
    for number in range(count):
        here: list[Box] = []
        if number % 4:
            height, width = random.integers(3, 7, 2).tolist()
            top, left = int(random.integers(CELLS + 1 - height)), int(random.integers(CELLS + 1 - width))
            maps[number, 0, top : top + height, left : left + width] += 2
            here.append((left / CELLS, top / CELLS, (left + width) / CELLS, (top + height) / CELLS))
        known.append(Known(tuple(here), is_complete=True))
    finer = torch.from_numpy(maps).half()
    return finer, finer[:, :, ::2, ::2], known


def small_proposer() -> Proposer:
    backbone: Any = SimpleNamespace(finer=(0, CHANNELS), channels=CHANNELS)
    torch.manual_seed(0)
    return Proposer(backbone)


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few channels and small batches, which take a CPU seconds."""
    monkeypatch.setattr(head, "WIDTH", 16)
    monkeypatch.setattr(fitting, "BATCH", 16)


@pytest.mark.usefixtures("_small")
def test_it_learns_where_things_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "PASSES", 16)
    proposer = small_proposer()
    curve = fit_to_maps(proposer, *blobs(128, 0))
    assert len(curve) == 16 * 128 / 16
    assert np.mean(curve[-8:]) < 0.25 * np.mean(curve[:8])
    assert not proposer.training
    finer, coarser, known = blobs(48, 1)
    with torch.inference_mode():
        found = [proposed(numbers) for numbers in proposer(finer.float(), coarser.float()).numpy()]
    assert [len(each) for each in found] == [len(each.boxes) for each in known]
    overlaps = [overlap(each[0], here.boxes[0]) for each, here in zip(found, known, strict=True) if here.boxes]
    assert np.mean(overlaps) > 0.65
    assert np.mean(np.array(overlaps) > 0.5) > 0.9


@pytest.mark.usefixtures("_small")
def test_a_seed_settles_what_is_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "PASSES", 1)
    states = []
    for seed in (3, 3, 4):
        proposer = small_proposer()
        torch.manual_seed(seed)
        fit_to_maps(proposer, *blobs(40, 0))
        states.append(proposer.state_dict())
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    assert not torch.equal(states[0]["numbers.weight"], states[2]["numbers.weight"])


@pytest.mark.usefixtures("_small")
def test_mirrored_batches_have_mirrored_things(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the loss is given always shows a bright thing where its box is."""
    monkeypatch.setattr(fitting, "PASSES", 4)
    finer, coarser, known = blobs(32, 0)
    given: list[Tensor] = []  # the channel that is bright, of each batch
    forward = Proposer.forward

    def note(self: Proposer, finer: Tensor, coarser: Tensor) -> Tensor:
        assert torch.equal(coarser, finer[:, :, ::2, ::2]) or torch.equal(coarser, finer[:, :, ::2, 1::2])
        given.append(finer[:, 0].detach())
        return forward(self, finer, coarser)

    def check(proposals: Tensor, scene: Tensor, things: Tensor, complete: Tensor) -> Tensor:
        lit = torch.zeros(given[-1].shape, dtype=torch.bool)
        for row, box in zip(scene.tolist(), (things * CELLS).round().int().tolist(), strict=True):
            lit[row, box[1] : box[3], box[0] : box[2]] = True
        assert torch.equal(given[-1] > 1, lit)
        return proposal_loss(proposals, scene, things, complete)

    monkeypatch.setattr(Proposer, "forward", note)
    monkeypatch.setattr(fitting, "proposal_loss", check)
    fit_to_maps(small_proposer(), finer, coarser, known)
    as_they_are = [any(torch.equal(maps[0], one) for one in finer[:, 0].float()) for maps in given]
    assert len(given) == 8
    assert 0 < sum(as_they_are) < 8


@pytest.mark.usefixtures("_small")
def test_scenes_that_show_nothing_are_learnt_from_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "PASSES", 2)
    finer, coarser, _ = blobs(20, 0)
    proposer = small_proposer()
    curve = fit_to_maps(proposer, finer, coarser, [Known((), is_complete=True)] * 20)
    assert len(curve) == 4
    assert np.isfinite(curve).all()
    assert all(torch.isfinite(tensor).all() for tensor in proposer.state_dict().values())


# # A network


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Item]:
    folder, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for name in SEEN:
        draw(name, "photo", random).save(folder / f"{name}.png")
    return [Item(folder / f"{name}.png", name, "photo") for name in SEEN]


@pytest.fixture(scope="module")
def settings() -> ModelConfig:
    return ModelConfig(image_size=64, dimension=16, code_lengths=(16,), region_size=64)


def made(settings: ModelConfig) -> CrossATNet:
    torch.manual_seed(0)
    network = CrossATNet(settings)
    network.backbone.load_imagenet_weights()  # type: ignore[operator]
    return network.eval()


def test_maps_are_those_of_the_scenes(settings: ModelConfig, photos: list[Item]) -> None:
    network = made(settings)
    seen = things_in(network, photos, quiet=True)
    finer, coarser, known = scene_maps(network, seen, 18, seed=5, quiet=True)  # more than are seen at once
    assert (finer.shape, coarser.shape, len(known)) == ((18, 112, 4, 4), (18, 320, 2, 2), 18)
    assert finer.dtype == coarser.dtype == torch.float16
    for number in (0, 17):
        scene = compose(seen, np.random.default_rng((5, number)))
        assert known[number] == (scene.boxes, scene.is_complete)
        expected = network.maps(prepare(scene.picture, "photo", 64)[None], "photo")
        for kept, theirs in zip((finer, coarser), expected, strict=True):
            torch.testing.assert_close(kept[number].float(), theirs[0], atol=1e-2, rtol=1e-2)
    assert len({*known}) > 5


def test_all_but_the_proposer_stays_as_it_was(settings: ModelConfig, photos: list[Item]) -> None:
    few = TrainConfig(scenes=6)
    network, pictures = made(settings), [draw(name, "photo", np.random.default_rng(1)) for name in SEEN]
    pixels = np.stack([network.preprocess(picture, "photo") for picture in pictures])
    before, embeddings = (
        {name: tensor.clone() for name, tensor in network.state_dict().items()},
        network.embed(pixels, "photo"),
    )
    fit_proposer(network, photos, few, quiet=True)
    assert not any(module.training for module in network.modules())
    np.testing.assert_array_equal(network.embed(pixels, "photo"), embeddings)
    after = network.state_dict()
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor) != name.startswith("proposer."), name
    again = made(settings)
    torch.manual_seed(99)  # what was drawn before makes no difference
    fit_proposer(again, photos, few, quiet=True)
    assert all(torch.equal(tensor, after[name]) for name, tensor in again.state_dict().items())
    fit_proposer(again, photos, few.model_copy(update={"seed": 1}), quiet=True)
    assert not torch.equal(again.state_dict()["proposer.numbers.weight"], after["proposer.numbers.weight"])


def test_scenes_are_seen_in_the_precision_of_the_training(settings: ModelConfig, photos: list[Item]) -> None:
    """And other pictures, after that, as before."""
    fitted, pixels = [], np.stack([prepare(draw("star", "photo", np.random.default_rng(1)), "photo", 64)])
    for precision in ("32-true", "bf16-mixed"):
        network = made(settings)
        embeddings = network.embed(pixels, "photo")
        fit_proposer(network, photos, TrainConfig(scenes=2, precision=precision), quiet=True)
        np.testing.assert_array_equal(network.embed(pixels, "photo"), embeddings)
        fitted.append(network.state_dict()["proposer.finer.1.running_mean"])
    assert not torch.equal(*fitted)
    torch.testing.assert_close(*fitted, atol=0.3, rtol=0.3)  # a tenth of two batches, whose maps are rounded
