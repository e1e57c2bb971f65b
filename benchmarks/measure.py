"""Times and memory, as the benchmarks take them."""

import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np


def clocked(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds that the work takes on the clock, and of all processors' time."""
    begin, begin_cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - begin, time.process_time() - begin_cpu


def percentile_ms(seconds: list[float], percent: int) -> float:
    """A percentile of times, in milliseconds."""
    return float(np.percentile(seconds, percent)) * 1000


def peak_mib() -> float:
    """The most memory that this process has held so far, with mapped pages."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
