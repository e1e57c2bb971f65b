"""Reading ahead: a thread prepares the next part while the caller works on the one before."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Part = TypeVar("Part")
Input = TypeVar("Input")


def read_ahead(read: Callable[[Part], Input], parts: Iterable[Part]) -> Iterator[Input]:
    """`read(part)` of every part, in order, at most one part ahead of the caller; raises what `read` raises."""
    reading: deque[Future[Input]] = deque()
    with ThreadPoolExecutor(max_workers=1) as pool:
        for part in parts:
            reading.append(pool.submit(read, part))
            if len(reading) == 2:
                yield reading.popleft().result()
        while reading:
            yield reading.popleft().result()
