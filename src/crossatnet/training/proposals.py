"""Teaches a trained network where things are in photos: fits its `Proposer` on composed scenes.

All else of the network stays as it is, so photos have the embeddings that they had.

Shapes: `N` scenes, `B` batch, `T` things of all scenes of a batch, `C h w` the backbone's map, `F i j` its finer map.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from crossatnet.config import TrainConfig
from crossatnet.data.catalog import Item
from crossatnet.data.images import prepare
from crossatnet.model.interface import side_of
from crossatnet.model.network import CrossATNet
from crossatnet.model.proposals import Proposer
from crossatnet.model.regions import Box
from crossatnet.system.progress import track
from crossatnet.training.scenes import compose
from crossatnet.training.start import best_device
from crossatnet.training.things import Seen, things_in

PASSES, BATCH = 4, 64  # over the scenes
LEARNING_RATE, WARM_UP, WEIGHT_DECAY = 3e-3, 0.05, 0.05
LONGEST_GRADIENT = 5.0
SEEN_AT_ONCE = 16  # scenes
SPREAD = 1 / 4  # of a thing's sides: the deviation of the Gaussian of what is near its centre
NEAREST = 0.999  # of that Gaussian's peak: its centre's position
MARGIN = 0.1  # of a thing's sides: what is so near belongs to it
ELSEWHERE = 0.3  # what a proposal counts that is far from all things, where there may be others


class Known(NamedTuple):
    """The boxes of the things in a scene, and whether there are no others."""

    boxes: tuple[Box, ...]
    is_complete: bool


def fit_proposer(network: CrossATNet, photos: Sequence[Item], settings: TrainConfig, quiet: bool = False) -> None:
    """Fit the network's proposer on `settings.scenes` composed from photos of the TRAINING set; the rest stays.

    Half as many photos as scenes are enough.

    The scenes' maps are kept in memory: for EfficientNet-Lite0 and photos of 256 pixels, a gigabyte for 10,000.
    """
    assert network.proposer is not None, "asked only where there are regions"
    network.to(best_device()).eval().use("torch-bf16" if settings.precision == "bf16-mixed" else "torch")
    enough = np.random.default_rng(settings.seed).permutation(len(photos))[: -(-settings.scenes // 2)]
    seen = things_in(network, [photos[number] for number in enough], quiet)
    finer, coarser, scenes = scene_maps(network, seen, settings.scenes, settings.seed, quiet)
    torch.manual_seed(settings.seed)
    fit_to_maps(network.proposer, finer, coarser, scenes, quiet)
    network.cpu().use("torch")


def scene_maps(
    network: CrossATNet, photos: Sequence[Seen], scenes: int, seed: int, quiet: bool
) -> tuple[Tensor, Tensor, list[Known]]:
    """Both maps of composed scenes, (N, F, i, j) and (N, C, h, w), float16, and what is known of each.

    A scene depends on its number and the seed alone.
    """
    finer: list[Tensor] = []
    coarser: list[Tensor] = []
    known: list[Known] = []
    side = side_of(network.config, "photo")
    with ThreadPoolExecutor() as pool:
        for start in track(range(0, scenes, SEEN_AT_ONCE), "composing scenes", -(-scenes // SEEN_AT_ONCE), quiet):
            numbers = range(start, min(start + SEEN_AT_ONCE, scenes))
            composed = [*pool.map(lambda number: compose(photos, np.random.default_rng((seed, number))), numbers)]
            shaped = [*pool.map(partial(prepare, modality="photo", size=side), (each.picture for each in composed))]
            for kept, maps in zip((finer, coarser), network.maps(np.stack(shaped), "photo"), strict=True):
                kept.append(maps.half().cpu())
            known += [Known(each.boxes, each.is_complete) for each in composed]
    return torch.cat(finer), torch.cat(coarser), known


def fit_to_maps(
    proposer: Proposer, finer: Tensor, coarser: Tensor, scenes: Sequence[Known], quiet: bool = True
) -> list[float]:
    """Fit a proposer to maps of scenes, (N, F, i, j) and (N, C, h, w), and what is known of them; the loss of each.

    Half of the batches are mirrored. AdamW, with one cycle of the learning rate.
    """
    proposer.train()
    device = next(proposer.parameters()).device
    weights = [[p for p in proposer.parameters() if (p.ndim > 1) == decays] for decays in (True, False)]
    groups = [{"params": weights[0], "weight_decay": WEIGHT_DECAY}, {"params": weights[1], "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=LEARNING_RATE)
    batches = [batch for _ in range(PASSES) for batch in torch.randperm(len(scenes)).split(BATCH)]
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, LEARNING_RATE, total_steps=len(batches) + 1, pct_start=WARM_UP
    )
    curve = []
    for batch in track(batches, "learning where things are", len(batches), quiet):
        maps = [kept[batch].to(device).float() for kept in (finer, coarser)]
        known = [scenes[number] for number in batch.tolist()]
        scene = torch.tensor([row for row, each in enumerate(known) for _ in each.boxes]).long()  # (T,)
        things = torch.tensor([box for each in known for box in each.boxes]).reshape(-1, 4)  # (T, 4)
        complete = torch.tensor([each.is_complete for each in known])  # (B,)
        if torch.rand(()) < 0.5:
            maps = [kept.flip(3) for kept in maps]
            things = things[:, [2, 1, 0, 3]] * torch.tensor([-1, 1, -1, 1]) + torch.tensor([1, 0, 1, 0])
        loss = proposal_loss(proposer(*maps), scene.to(device), things.to(device), complete.to(device))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(proposer.parameters(), LONGEST_GRADIENT)
        optimiser.step()
        cycle.step()
        curve.append(loss.item())
    proposer.eval()
    return curve


def proposal_loss(proposals: Tensor, scene: Tensor, boxes: Tensor, complete: Tensor) -> Tensor:
    """How wrong proposals (B, 5, i, j) are of the things with boxes (T, 4), each in a scene of the batch (T,).

    Centres: the focal loss of CenterNet (Zhou et al. 2019), which forgives what is near a centre. A scene that is not
    `complete` (B,) may show other things outside of the boxes, so what is proposed there costs less. Sides: 1 - GIoU
    (Rezatofighi et al. 2019), mean over the positions near the centre.

    Example:
        >>> import torch
        >>> from crossatnet.training.proposals import proposal_loss
        >>> nothing = torch.full((1, 5, 4, 4), -9.0)
        >>> proposal_loss(nothing, torch.tensor([]).long(), torch.zeros(0, 4), torch.tensor([True])) < 1e-3
        tensor(True)
    """
    height, width = proposals.shape[2:]
    near = nearness(boxes, height, width)  # (T, i, j)
    wanted = torch.zeros_like(proposals[:, 0])  # (B, i, j)
    inside = covered(boxes, height, width)  # (T, i, j)
    sureness = torch.where(complete, 1.0, ELSEWHERE)[:, None, None].repeat(1, height, width)  # (B, i, j)
    for thing, row in enumerate(scene.tolist()):
        wanted[row] = torch.maximum(wanted[row], near[thing] / near[thing].max())
        sureness[row][inside[thing]] = 1
    logits = proposals[:, 0].float()  # (B, i, j)
    sure, unsure = functional.logsigmoid(logits), functional.logsigmoid(-logits)
    is_centre = wanted >= NEAREST
    right = -((unsure.exp() ** 2) * sure)[is_centre].sum()
    wrong = -(sureness * (1 - wanted) ** 4 * sure.exp() ** 2 * unsure)[~is_centre].sum()
    centres = (right + wrong) / max(1, len(boxes))
    if not len(boxes):
        return centres
    overlaps = giou(boxes_of(proposals[scene]), boxes[:, :, None, None])  # (T, i, j)
    share = near / near.sum((1, 2), keepdim=True)
    return centres + (share * (1 - overlaps)).sum((1, 2)).mean()


def nearness(boxes: Tensor, height: int, width: int) -> Tensor:
    """How near the positions of a map are to the centres of boxes (T, 4): (T, i, j), at most 1.

    The square of a Gaussian with `SPREAD` of the sides as deviation, and a side of at least one position.
    """
    sides = []
    for first, last, count in ((1, 3, height), (0, 2, width)):
        places = (torch.arange(count, device=boxes.device) + 0.5) / count
        centre = (boxes[:, first] + boxes[:, last]) / 2
        deviation = SPREAD * (boxes[:, last] - boxes[:, first]).clamp_min(1 / count)
        sides.append(torch.exp(-(((places - centre[:, None]) / deviation[:, None]) ** 2)))
    return sides[0][:, :, None] * sides[1][:, None, :]


def covered(boxes: Tensor, height: int, width: int) -> Tensor:
    """Which positions of a map lie in boxes (T, 4), or within `MARGIN` and half a position of them: (T, i, j)."""
    sides = []
    for first, last, count in ((1, 3, height), (0, 2, width)):
        places = (torch.arange(count, device=boxes.device) + 0.5) / count
        low, high = boxes[:, [first]], boxes[:, [last]]  # (T, 1)
        margin = MARGIN * (high - low) + 0.5 / count
        sides.append((places >= low - margin) & (places <= high + margin))
    return sides[0][:, :, None] & sides[1][:, None, :]


def boxes_of(proposals: Tensor) -> Tensor:
    """The box that each position of proposals (T, 5, i, j) proposes, not cut at the photo's edge: (T, 4, i, j)."""
    height, width = proposals.shape[2:]
    down = (torch.arange(height, device=proposals.device) + 0.5)[:, None] / height
    across = (torch.arange(width, device=proposals.device) + 0.5) / width
    left, top, right, bottom = proposals[:, 1:].float().exp().clamp(1e-3, 2).unbind(1)
    return torch.stack([across - left, down - top, across + right, down + bottom], dim=1)


def giou(one: Tensor, other: Tensor) -> Tensor:
    """Generalised intersection over union of boxes along the second axis, (T, 4, ...): (T, ...), -1 to 1.

    Example:
        >>> import torch
        >>> from crossatnet.training.proposals import giou
        >>> giou(torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([[0.0, 0, 1, 1]]))
        tensor([1.])
    """
    low, high = torch.maximum(one[:, :2], other[:, :2]), torch.minimum(one[:, 2:], other[:, 2:])
    shared = (high - low).clamp_min(0).prod(1)
    union = sum((box[:, 2:] - box[:, :2]).prod(1) for box in (one, other)) - shared
    hull = (torch.maximum(one[:, 2:], other[:, 2:]) - torch.minimum(one[:, :2], other[:, :2])).prod(1)
    return shared / union - (hull - union) / hull
