"""Several processes that train one network together: who has which rows of a batch, and how the batch becomes whole.

Every process, a rank, draws the same batch and reads its own rows of it. What the trained units make of these rows is
gathered with gradients, so that each rank computes the loss of the whole batch. Its value and, once averaged over the
ranks as DDP does, its gradients are those of one process with the whole batch.

Letters: `N` rows of a batch.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from crossatnet.system.errors import UserError

Value = TypeVar("Value")

PATIENCE = timedelta(days=2)  # for what the first rank does alone, such as computing the features
LOST = "another process of this training was lost; run the same command again, it goes on after the last whole epoch"


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together: number `rank` of `count`, `devices` of them on each machine.

    Example:
        >>> from crossatnet.training.ranks import Ranks
        >>> [Ranks(rank, 2).rows(4, 3).tolist() for rank in (0, 1)]
        [[0, 1, 4], [2, 3, 5, 6]]
    """

    rank: int = 0
    count: int = 1
    devices: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.rank == 0

    @property
    def nodes(self) -> int:
        """How many machines take part."""
        return self.count // self.devices

    def rows(self, *counts: int) -> Tensor:
        """The own rows of a batch that consists of so many rows of each kind, one kind after the other.

        Each kind is cut into pieces of equal size, as far as it can be; no row is in two ranks' shares.
        """
        pieces, start = [], 0
        for count in counts:
            first, end = (count * rank // self.count for rank in (self.rank, self.rank + 1))
            pieces.append(torch.arange(start + first, start + end))
            start += count
        return torch.cat(pieces)

    def whole(self, own: Tensor, *counts: int) -> Tensor:
        """Every rank's own rows, as `rows` has them, put together: (N, ...). Its gradient is the sum of all ranks'."""
        if self.count == 1:
            return own
        gathered: Tensor = _Whole.apply(own, self, counts)  # type: ignore[no-untyped-call]
        return gathered

    def from_first(self, value: Callable[[], Value]) -> Value:
        """What the first rank computes; the others wait for it. If it raises `UserError`, the others end in silence."""
        if self.count == 1:
            return value()
        sent: list[Any] = [None, False]
        if self.is_first:
            try:
                sent = [value(), True]
            except UserError:
                distributed.broadcast_object_list(sent, 0, _patient_group())
                raise
        distributed.broadcast_object_list(sent, 0, _patient_group())
        if not sent[1]:
            raise SystemExit(2)
        result: Value = sent[0]
        return result


ALONE = Ranks()


class _Whole(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, own: Tensor, ranks: Ranks, counts: tuple[int, ...]) -> Tensor:
        shares = [Ranks(rank, ranks.count).rows(*counts) for rank in range(ranks.count)]
        context.rows = shares[ranks.rank]
        padded = own.new_zeros(max(map(len, shares)), *own.shape[1:])  # what is gathered must be of one shape
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in shares]
        distributed.all_gather(parts, padded)
        whole = own.new_empty(sum(counts), *own.shape[1:])
        for part, rows in zip(parts, shares, strict=True):
            whole[rows.to(own.device)] = part[: len(rows)]
        return whole

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Any:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total[context.rows.to(total.device)], None, None


@cache
def _patient_group() -> Any:
    return distributed.new_group(backend="gloo", timeout=PATIENCE)


@contextmanager
def launched(devices: int | None = None, nodes: int | None = None) -> Iterator[Ranks]:
    """The ranks of a training on `devices` GPUs, or processes on CPUs, of each of `nodes` machines; for command lines.

    Under torchrun and Slurm the processes are there already; else Lightning starts those of this machine, by the same
    command. Where neither number is given, torchrun's count, or else there is one process. Raises `UserError` for
    numbers that do not fit what is there, and if another process is lost meanwhile.
    """
    if devices is None and nodes is None and distributed.is_torchelastic_launched():
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    devices, nodes = devices or 1, nodes or 1
    if devices * nodes == 1:
        yield ALONE
        return
    from lightning.fabric import Fabric
    from lightning.fabric.strategies.ddp import DDPStrategy
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    try:
        fabric = Fabric(accelerator="auto", devices=devices, num_nodes=nodes, strategy=DDPStrategy())
        fabric.launch()
    except (MisconfigurationException, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"--devices {devices} --nodes {nodes}: {reason}") from error
    try:
        yield Ranks(fabric.global_rank, fabric.world_size, devices)
    except RuntimeError as error:
        if isinstance(error, distributed.DistError) or "gloo" in str(error).lower():
            raise UserError(LOST) from error
        raise
    finally:
        distributed.destroy_process_group()
