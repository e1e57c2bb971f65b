"""How many threads may run, and work on all cores: every part once, in order, and BLAS as it was."""

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from threadpoolctl import threadpool_limits

from crossatnet.system import threads
from crossatnet.system.threads import (
    blas,
    compute_on_one_core,
    computing_threads,
    cores,
    keep_torch_to_cores,
    on_cores,
    one_core_a_thread,
    reading_threads,
)
from system.fake_host import CPU, SECOND, fake_host

# How many threads may run


@pytest.fixture
def of_32(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 32 cores, of which the process may use all."""
    monkeypatch.setattr(os, "cpu_count", lambda: 32)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(32)), raising=False)


def second(root: Path, **quotas: str) -> Path:
    """A host of control groups of version 2: the process's own, /pod/box, and those above it."""
    files = {f"{group.replace('_', '/')}/cpu.max": quota for group, quota in quotas.items()}
    return fake_host(root, "0::/pod/box\n", [SECOND], files)


def first(root: Path, quota: str, period: str = "100000") -> Path:
    """The same of version 1, with a quota of the process's own group alone."""
    files = {"cpu,cpuacct/cpu.cfs_quota_us": "-1", "cpu,cpuacct/cpu.cfs_period_us": "100000"}
    files |= {"cpu,cpuacct/box/cpu.cfs_quota_us": quota, "cpu,cpuacct/box/cpu.cfs_period_us": period}
    return fake_host(root, "4:memory:/box\n2:cpu,cpuacct:/box\n0::/\n", [CPU], files)


@pytest.mark.usefixtures("of_32")
@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("max 100000", 32),
        ("400000 100000", 4),
        ("100000 50000", 2),
        ("50000 100000", 1),
        ("150000 100000", 2),
        ("1000 100000", 1),
        ("9900000 100000", 32),
        ("", 32),
        ("half 100000", 32),
    ],
)
def test_a_container_of_version_2_counts_its_quota(tmp_path: Path, quota: str, expected: int) -> None:
    assert cores(second(tmp_path, pod_box=quota)) == expected


@pytest.mark.usefixtures("of_32")
@pytest.mark.parametrize(
    ("quota", "period", "expected"),
    [("-1", "100000", 32), ("400000", "100000", 4), ("50000", "100000", 1), ("150000", "100000", 2), ("-1", "-1", 32)],
)
def test_a_container_of_version_1_counts_its_quota(tmp_path: Path, quota: str, period: str, expected: int) -> None:
    assert cores(first(tmp_path, quota, period)) == expected


@pytest.mark.usefixtures("of_32")
def test_the_strictest_of_nested_groups_counts(tmp_path: Path) -> None:
    assert cores(second(tmp_path / "outer", pod="200000 100000", pod_box="800000 100000")) == 2
    assert cores(second(tmp_path / "inner", pod="800000 100000", pod_box="300000 100000")) == 3
    assert cores(second(tmp_path / "open", pod="500000 100000", pod_box="max 100000")) == 5
    assert cores(second(tmp_path / "beside", pod_other="100000 100000")) == 32


def test_the_fewest_of_machine_affinity_and_quota_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = second(tmp_path, pod_box="400000 100000")
    for there, allowed, expected in ((32, {7}, 1), (32, {1, 5, 9}, 3), (32, set(range(32)), 4), (2, set(range(2)), 2)):
        monkeypatch.setattr(os, "cpu_count", lambda there=there: there)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, allowed=allowed: allowed, raising=False)
        assert cores(root) == expected


def test_a_system_without_affinity_and_groups_counts_its_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 10)
    assert cores(tmp_path) == 10
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores(tmp_path) == 1


def test_this_process_may_use_some_of_the_cores_here() -> None:
    assert 1 <= cores() <= (os.cpu_count() or 1)
    assert reading_threads() == cores() + 1


def test_threads_are_those_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert computing_threads() == 3
    for nonsense in ("", "0", "many"):
        monkeypatch.setenv("OMP_NUM_THREADS", nonsense)
        assert computing_threads() == cores() >= 1


# torch


@pytest.fixture
def torch_of_two() -> Iterator[None]:
    """torch on two threads, and afterwards as it was."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("torch_of_two")
@pytest.mark.parametrize(("allowed", "expected"), [(1, 1), (2, 2), (32, 2)])
def test_torch_starts_no_more_threads_than_may_run(
    allowed: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "computing_threads", lambda: allowed)
    keep_torch_to_cores()
    assert torch.get_num_threads() == expected


@pytest.mark.usefixtures("torch_of_two")
def test_torch_is_left_as_it_was_by_what_computes_on_one_core_a_thread() -> None:
    with one_core_a_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    compute_on_one_core()
    assert torch.get_num_threads() == 1


def test_nothing_here_loads_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    keep_torch_to_cores()
    compute_on_one_core()
    with one_core_a_thread():
        assert "torch" not in sys.modules


# Work on every core


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
@pytest.mark.parametrize(
    ("granted", "most", "expected", "usable"), [(3, 8, 3, 8), (8, 2, 2, 8), (1, 8, 1, 8), (8, 8, 2, 2)]
)
def test_works_on_as_many_threads_as_blas_may_use_at_once(
    granted: int, most: int, expected: int, usable: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many parts meet at a barrier, and never more are at work."""
    monkeypatch.setattr(threads, "cores", lambda: usable)
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
