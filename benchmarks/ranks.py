"""A step of training by one process and by two that share its batch: time on the clock, and of each process's core.

    python benchmarks/ranks.py --units 0,4,17

Maps are random and the weights, too; the batch is 64 classes with 2 pairs, as configs have it. Where other programs use
the cores, the clock says nothing of a speed-up. The core's own time does: the time alone by that of the slower of two
is the most that two free cores can gain.
"""

import argparse
import multiprocessing
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

import record
from crossatnet.config import Config, DataConfig, ModelConfig, TrainConfig
from crossatnet.model.network import CrossATNet
from crossatnet.training.batches import BalancedPairs, CachedViews, Pairs
from crossatnet.training.objective import Objective
from crossatnet.training.ranks import ALONE, Ranks

CLASSES = 100
STEPS = 6  # the first one, which allocates, is not counted


class Step(nn.Module):
    """A network with its loss, of which the last units learn."""

    def __init__(self, units: int, ranks: Ranks) -> None:
        super().__init__()
        torch.manual_seed(0)
        config = Config(
            name="ranks",
            data=DataConfig(split="all"),
            model=ModelConfig(),
            train=TrainConfig(trainable_units=units),
        )
        self.network = CrossATNet(config.model)
        self.passed = self.network.backbone.depth - units
        for unit in self.network.backbone.chain()[: self.passed]:
            unit.requires_grad_(False)
        self.objective = Objective(self.network, config, [f"class {number}" for number in range(CLASSES)], self.passed)
        self.ranks = ranks

    def forward(self, batch: Pairs) -> Tensor:
        self.network.encoder("photo").eval()
        return torch.stack([*self.objective(self.network, batch, self.ranks).values()]).sum()

    def batches(self) -> BalancedPairs:
        """Random maps, as they stand before the units that learn."""
        with torch.no_grad():
            pictures = torch.zeros(1, 3, 224, 224, dtype=torch.uint8)
            shape = self.network.backbone.early(pictures, self.passed).shape[1:] if self.passed else (3, 224, 224)
        label = torch.arange(CLASSES)
        maps = torch.rand(CLASSES, 1, *shape).half() * (1 if self.passed else 255)
        source = CachedViews(maps, label, torch.zeros_like(label))
        return BalancedPairs(source, source, 64, 2, seed=0, epoch=0, batches=STEPS, ranks=self.ranks)


def timed(units: int, ranks: Ranks) -> tuple[float, float]:
    """Milliseconds of a step, on the clock and of this process's core."""
    torch.set_num_threads(1)
    step = Step(units, ranks)
    wrapped: Any = step
    if ranks.count > 1:
        wrapped = DistributedDataParallel(step, broadcast_buffers=False, find_unused_parameters=True)
    optimizer = torch.optim.AdamW([weight for weight in step.parameters() if weight.requires_grad])
    clock = core = 0.0
    for number, batch in enumerate(step.batches()):
        if number == 1:
            clock, core = time.perf_counter(), time.process_time()
        optimizer.zero_grad()
        wrapped(batch).backward()
        optimizer.step()
    passed = time.perf_counter() - clock, time.process_time() - core
    return 1000 * passed[0] / (STEPS - 1), 1000 * passed[1] / (STEPS - 1)


def run(rank: int, count: int, units: int, folder: str) -> None:
    """A process's part; it writes its times down."""
    if count > 1:
        meeting = f"file://{folder}/meeting"
        distributed.init_process_group("gloo", meeting, timedelta(minutes=10), rank=rank, world_size=count)
    torch.save(timed(units, Ranks(rank, count) if count > 1 else ALONE), f"{folder}/{rank}.pt")
    if count > 1:
        distributed.destroy_process_group()


def together(count: int, units: int) -> tuple[float, float]:
    """The times of so many processes: those of the slowest."""
    with tempfile.TemporaryDirectory() as folder:
        context = multiprocessing.get_context("spawn")
        started = [context.Process(target=run, args=(rank, count, units, folder)) for rank in range(count)]
        for process in started:
            process.start()
        for process in started:
            process.join()
        times = [torch.load(Path(folder) / f"{rank}.pt") for rank in range(count)]
    return max(each[0] for each in times), max(each[1] for each in times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", default="0,4,17", help="of the backbone that learn")
    options = parser.parse_args()
    rows = []
    for units in map(int, options.units.split(",")):
        (alone, alone_core), (two, two_core) = together(1, units), together(2, units)
        row = {"units": units, "alone_ms": alone, "alone_core_ms": alone_core, "two_ms": two, "two_core_ms": two_core}
        rows.append({**row, "most": alone_core / two_core})
        print(rows[-1], flush=True)
    found = {"rows": rows, "machine": record.machine()}
    print(record.write("ranks", {**found, "command": f"python benchmarks/ranks.py --units {options.units}"}))


if __name__ == "__main__":
    main()
