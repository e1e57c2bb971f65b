"""Work on all cores: every part once, in order, and BLAS as it was."""

import threading

import pytest
from threadpoolctl import threadpool_limits

from crossatnet.system.threads import blas, on_cores


def blas_threads() -> list[int]:
    return [library.num_threads for library in blas().lib_controllers]


def test_every_part_is_worked_on_once_and_in_order() -> None:
    worked: list[int] = []

    def work(part: int) -> int:
        worked.append(part)
        return part * 10

    assert on_cores(work, range(50), most=3) == [part * 10 for part in range(50)]
    assert sorted(worked) == list(range(50))
    assert on_cores(work, [], most=3) == []


@pytest.mark.skipif(not blas_threads(), reason="a BLAS whose threads cannot be set, such as Accelerate")
@pytest.mark.parametrize(("granted", "most", "expected"), [(3, 8, 3), (8, 2, 2), (1, 8, 1)])
def test_works_on_as_many_threads_as_blas_may_use_at_once(granted: int, most: int, expected: int) -> None:
    """So many parts meet at a barrier, and never more are at work."""
    meeting, working, counts = threading.Barrier(expected), threading.Semaphore(expected), list[list[int]]()

    def work(_: int) -> None:
        assert working.acquire(blocking=False)
        meeting.wait(timeout=30)
        counts.append(blas_threads())
        meeting.wait(timeout=30)
        working.release()

    with threadpool_limits(granted, "blas"):
        before = blas_threads()
        on_cores(work, range(4 * expected), most)
        assert blas_threads() == before == [granted] * len(before)
    assert counts == [[1] * len(before)] * 4 * expected


def test_a_mistake_is_raised_and_leaves_blas_as_it_was() -> None:
    def work(part: int) -> int:
        raise ValueError(f"part {part}")

    before = blas_threads()
    with pytest.raises(ValueError, match="part 0"):
        on_cores(work, range(9), most=2)
    assert blas_threads() == before
    assert on_cores(abs, [-1], most=2) == [1]


def test_two_callers_take_turns() -> None:
    """BLAS has one number of threads: a caller that came between would keep what the other had set."""
    before, inside, go = blas_threads(), threading.Event(), threading.Event()

    def wait(part: int) -> int:
        inside.set()
        go.wait(timeout=30)
        return part

    first = threading.Thread(target=on_cores, args=(wait, [1], 2))
    first.start()
    inside.wait(timeout=30)
    second = threading.Thread(target=on_cores, args=(abs, [-1], 2))
    second.start()
    go.set()
    first.join(timeout=30)
    second.join(timeout=30)
    assert blas_threads() == before
