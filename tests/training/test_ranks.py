"""Two ranks, each with its part of the batches, against one process with the whole batches."""

import multiprocessing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from crossatnet.config import Config, DataConfig, LossConfig, ModelConfig, TrainConfig
from crossatnet.model.network import CrossATNet
from crossatnet.system.errors import UserError
from crossatnet.training.batches import BalancedPairs, CachedViews, Pairs
from crossatnet.training.features import MappedMaps, MappedViews
from crossatnet.training.objective import Objective
from crossatnet.training.ranks import ALONE, Ranks

CLASSES = ("owl", "cat", "bus", "cup", "key")
STEPS = 3
SERVED = multiprocessing.get_context("forkserver")  # forks no threads, which may hold locks, and imports torch once
SERVED.set_forkserver_preload(["crossatnet.training.objective"])


def config(pairs: str) -> Config:
    """Every term of the loss that such pairs allow, with dropout; a batch is 9 pairs, and not cut evenly."""
    by_instance = {"instance": 1.0, "shuffle": 0.5, "guided": 0.5, "agreement": 0.5}
    by_class = {"guided": 0.5, "agreement": 0.5, "latent": 0.3, "reconstruction": 0.4, "semantic_margin": 0.1}
    return Config(
        name="ranks",
        data=DataConfig(split="mine"),
        model=ModelConfig(image_size=32, dimension=16, code_lengths=(16,), dropout=0.3, attention_heads=4),
        loss=LossConfig.model_validate(by_instance if pairs == "instance" else by_class),
        train=TrainConfig.model_validate({"trainable_units": 1, "pairs": pairs}),
    )


def batches(network: CrossATNet, settings: Config, ranks: Ranks) -> list[Pairs]:
    """Maps before the last unit; of class 3 there are only sketches, of class 4 only photos."""
    generator = torch.Generator().manual_seed(5)
    by_instance = settings.train.pairs == "instance"
    sources = []
    for missing in (4, 3):
        label = torch.tensor([number for number in range(5) for _ in range(4) if number != missing or by_instance])
        channels = 192  # of the last unit's input
        maps = torch.randn(len(label), 2, channels, 2, 2, generator=generator).half()
        instance = torch.arange(len(label)) if by_instance else torch.full_like(label, -1)
        sources.append(CachedViews(maps, label, torch.zeros_like(label), instance))
    pairs = BalancedPairs(*sources, 3, 3, seed=1, epoch=0, batches=STEPS, by_instance=by_instance, ranks=ranks)
    return [*pairs]


class Step(nn.Module):
    """What DDP wraps: a network with its objective."""

    def __init__(self, settings: Config, ranks: Ranks) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.network = CrossATNet(settings.model)
        self.network.backbone.requires_grad_(False)
        self.network.backbone.chain()[-1].requires_grad_(True)
        self.objective = Objective(self.network, settings, CLASSES, self.network.backbone.depth - 1)
        self.network.pooler.sketch_query.weight.data.normal_()  # zero at the start, which would hide its errors
        self.network.pooler.gallery_query.data.normal_()
        self.ranks = ranks

    def forward(self, batch: Pairs) -> Tensor:
        self.network.encoder("photo").eval()
        return torch.stack([*self.objective(self.network, batch, self.ranks).values()]).sum()


def train_steps(settings: Config, ranks: Ranks) -> tuple[list[float], list[dict[str, Tensor]]]:
    """Losses and gradients of some steps."""
    step = Step(settings, ranks)
    wrapped: Any = step
    if ranks.count > 1:
        wrapped = DistributedDataParallel(step, broadcast_buffers=False, find_unused_parameters=True)
    optimizer = torch.optim.AdamW([weight for weight in step.parameters() if weight.requires_grad], lr=1e-3)
    values, gradients = [], []
    for number, batch in enumerate(batches(step.network, settings, ranks)):
        torch.manual_seed(number)
        optimizer.zero_grad()
        loss = wrapped(batch)
        loss.backward()
        values.append(loss.item())
        gradients.append({n: w.grad.clone() for n, w in step.named_parameters() if w.grad is not None})
        optimizer.step()
    return values, gradients


def run_rank(rank: int, folder: Path, settings: Config) -> None:
    meeting = f"file://{folder}/meeting"
    distributed.init_process_group("gloo", meeting, timedelta(seconds=60), rank=rank, world_size=2)
    torch.save(train_steps(settings, Ranks(rank, 2)), folder / f"{rank}.pt")
    distributed.destroy_process_group()


def in_two_processes(target: Any, *arguments: Any) -> None:
    started = [SERVED.Process(target=target, args=(rank, *arguments)) for rank in (0, 1)]
    for process in started:
        process.start()
    for process in started:
        process.join(60)
    assert [process.exitcode for process in started] == [0, 0]


@pytest.mark.parametrize("pairs", ["class", "instance"])
def test_two_ranks_do_what_one_does(pairs: str, tmp_path: Path) -> None:
    settings = config(pairs)
    losses, gradients = train_steps(settings, ALONE)
    in_two_processes(run_rank, tmp_path, settings)
    for rank in (0, 1):
        values, found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert values == pytest.approx(losses, rel=1e-5)
        for ours, theirs in zip(gradients, found, strict=True):
            assert ours.keys() == theirs.keys()
            assert any(name.startswith("network.backbone") for name in ours)
            for name, gradient in ours.items():
                torch.testing.assert_close(
                    theirs[name], gradient, rtol=1e-3, atol=2e-5, msg=lambda m, n=name: f"{n} {m}"
                )


def test_ranks_share_out_every_batch() -> None:
    """Together their parts are the batch that one process draws, and no row is in two of them."""
    settings = config("class")
    whole, *parts = (
        batches(CrossATNet(settings.model), settings, ranks) for ranks in (ALONE, Ranks(0, 2), Ranks(1, 2))
    )
    for batch, *shares in zip(whole, *parts, strict=True):
        pairs = len(batch.label)
        for side, lone in (("sketch", len(batch.lone_sketch_label)), ("photo", len(batch.lone_photo_label))):
            maps = getattr(batch, side)
            rows = [Ranks(rank, 2).rows(pairs, lone) for rank in (0, 1)]
            assert sorted(torch.cat(rows).tolist()) == [*range(pairs + lone)]
            for own, share in zip(rows, shares, strict=True):
                assert torch.equal(getattr(share, side), maps[own])
                assert torch.equal(share.label, batch.label)


def test_more_ranks_than_pairs_are_refused() -> None:
    settings = config("class")
    with pytest.raises(UserError, match="9 pairs, fewer than the 10 processes"):
        batches(CrossATNet(settings.model), settings, Ranks(0, 10))


def fail_on_the_first(rank: int, folder: Path) -> None:
    meeting = f"file://{folder}/meeting"
    distributed.init_process_group("gloo", meeting, timedelta(seconds=60), rank=rank, world_size=2)
    ranks = Ranks(rank, 2)
    assert ranks.from_first(lambda: f"by {rank}") == "by 0"

    def refuse() -> str:
        raise UserError("no data")

    try:
        ranks.from_first(refuse)
    except (UserError, SystemExit) as error:
        (folder / f"{rank}.txt").write_text(f"{type(error).__name__} {error}")
    distributed.destroy_process_group()


def test_the_first_rank_computes_and_speaks_for_all(tmp_path: Path) -> None:
    in_two_processes(fail_on_the_first, tmp_path)
    assert [(tmp_path / f"{rank}.txt").read_text() for rank in (0, 1)] == ["UserError no data", "SystemExit 2"]


def test_mapped_maps_are_drawn_as_those_in_memory(tmp_path: Path) -> None:
    maps = torch.randn(6, 3, 4, 2, 2).half()
    label, picked = torch.arange(3), torch.tensor([2, 0, 0, 1])
    kept = CachedViews(maps[[5, 1, 2]], label, label)
    mapped = MappedViews(MappedMaps.write(tmp_path / "maps.npy", maps)[[5, 1, 2]], label, label)
    assert torch.equal(mapped.plain(picked), kept.plain(picked))
    drawn = [source.draw(picked, torch.Generator().manual_seed(1), torch.tensor([1, 3])) for source in (kept, mapped)]
    assert torch.equal(*drawn)
    assert drawn[0].shape == (2, 4, 2, 2)
