"""Work on every core at once, each with a thread that multiplies matrices alone."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Lock
from typing import TypeVar

import numpy  # noqa: F401 - it loads the BLAS that is looked for
from threadpoolctl import ThreadpoolController

Part = TypeVar("Part")
Result = TypeVar("Result")

_TURN = Lock()  # BLAS has one number of threads in a process: whoever sets it must be done before the next one does


def on_cores(work: Callable[[Part], Result], parts: Iterable[Part], most: int) -> list[Result]:
    """`work(part)` of every part, in order, on as many threads as BLAS may use, at most `most`.

    NumPy's own products on several threads are slower where other work stands between them: all threads wait for the
    slowest after each, and spin meanwhile. How many BLAS may use is what the user grants: all cores, or what
    OMP_NUM_THREADS or threadpoolctl say. Raises what `work` raises.
    """
    with _TURN:
        granted = max((library.num_threads for library in blas().lib_controllers), default=os.cpu_count() or 1)
        with blas().limit(limits=1), ThreadPoolExecutor(min(granted, most)) as pool:
            return list(pool.map(work, parts))


@cache  # looking through all that is loaded takes milliseconds
def blas() -> ThreadpoolController:
    """The BLAS that NumPy was loaded with; empty if it is one whose threads cannot be set, such as Accelerate."""
    return ThreadpoolController().select(user_api="blas")
