"""How many threads may run, and work on every core at once, each with a thread that computes alone.

The one place that asks for cores. The machine's number is no answer: a process may be kept to some of them (`taskset`,
a cluster's scheduler) or, in a container, to a share of their time, and threads beyond that cost memory and turns.
"""

import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

from crossatnet.system import cgroups

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

Part = TypeVar("Part")
Result = TypeVar("Result")

_TURN = Lock()  # BLAS has one number of threads in a process: whoever sets it must be done before the next one does


def cores(root: Path = cgroups.HOST) -> int:
    """Cores that this process may use, at least 1: the fewest of the machine's, its affinity's and its container's.

    A container's quota of time counts as so many cores, a part of one as a whole one. `root` is where /proc and /sys
    are looked for.
    """
    counts = [os.cpu_count() or 1]
    if hasattr(os, "sched_getaffinity"):  # Linux
        counts.append(len(os.sched_getaffinity(0)))
    counts += [math.ceil(quota) for quota in _quotas(root)]
    return max(1, min(counts))


def computing_threads() -> int:
    """Threads for one computation: OMP_NUM_THREADS, which torch and faiss obey too, or else one a core.

    What does many computations at once, each on one core, asks for `cores()`: there OMP_NUM_THREADS is often 1.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) > 0 else cores()


def reading_threads() -> int:
    """Threads that read files and compute on what they read: one more than cores, for one may wait for the disk."""
    return cores() + 1


def on_cores(work: Callable[[Part], Result], parts: Iterable[Part], most: int) -> list[Result]:
    """`work(part)` of every part, in order, on as many threads as BLAS and this process may use, at most `most`.

    NumPy's own products on several threads are slower where other work stands between them: all threads wait for the
    slowest after each, and spin meanwhile. How many BLAS may use is what the user grants: all cores, or what
    OMP_NUM_THREADS or threadpoolctl say. Raises what `work` raises.
    """
    with _TURN:
        granted = max((library.num_threads for library in blas().lib_controllers), default=most)
        with blas().limit(limits=1), ThreadPoolExecutor(min(granted, cores(), most)) as pool:
            return list(pool.map(work, parts))


@cache  # looking through all that is loaded takes milliseconds
def blas() -> "ThreadpoolController":
    """The BLAS that NumPy was loaded with; empty if it is one whose threads cannot be set, such as Accelerate."""
    import numpy  # noqa: F401 - it loads the BLAS that is looked for
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


def keep_torch_to_cores() -> None:
    """Let torch, if it is loaded, start no more threads than may run: it knows affinity, but no container's quota."""
    torch = sys.modules.get("torch")  # not imported here: a model may do without
    if torch is not None and torch.get_num_threads() > computing_threads():
        torch.set_num_threads(computing_threads())


def compute_on_one_core() -> None:
    """From now on torch, if it is loaded, computes on one core in this thread, and in those that are new to torch."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


@contextmanager
def one_core_a_thread() -> Iterator[None]:
    """While it lasts, each thread that is started computes on one core, where it is torch that computes.

    By itself torch spreads each operation over all cores, and its threads wait for the slowest. On cores that decode as
    well there always is a slow one.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    threads = torch.get_num_threads()
    compute_on_one_core()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _quotas(root: Path) -> Iterator[float]:
    """Cores' worth of time that this process's control groups allow it, of version 2 and 1."""
    for text in cgroups.settings("cpu", "cpu.max", root):
        quota, _, period = text.partition(" ")
        if quota.isdigit() and period.isdigit():  # else "max"
            yield int(quota) / int(period)
    quotas = cgroups.settings("cpu", "cpu.cfs_quota_us", root)
    periods = cgroups.settings("cpu", "cpu.cfs_period_us", root)
    for quota, period in zip(quotas, periods, strict=False):  # a group has both files or neither
        if quota.isdigit() and period.isdigit():  # else -1: no limit
            yield int(quota) / int(period)
