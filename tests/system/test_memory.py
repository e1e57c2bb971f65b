"""How much memory may be used, and memory that is kept: layers use again what was freed, and take no new page."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from crossatnet.system import memory as allocator
from crossatnet.system.memory import usable_memory
from system.fake_host import MEMORY, SECOND, fake_host

THERE = 16 * 2**30  # bytes of a machine


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with 16 GiB."""
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": THERE // 4096, "SC_PAGE_SIZE": 4096}.__getitem__)


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(("limit", "expected"), [("max", THERE), (f"{2**29}", 2**29), (f"{2**60}", THERE), ("", THERE)])
def test_a_container_of_version_2_limits_memory(tmp_path: Path, limit: str, expected: int) -> None:
    files = {"pod/box/memory.max": limit, "pod/memory.max": "max", "pod/other/memory.max": "4096"}
    assert usable_memory(fake_host(tmp_path, "0::/pod/box\n", [SECOND], files)) == expected


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(("limit", "expected"), [("9223372036854771712", THERE), (f"{2**31}", 2**31)])
def test_a_container_of_version_1_limits_memory(tmp_path: Path, limit: str, expected: int) -> None:
    files = {"memory/memory.limit_in_bytes": "9223372036854771712", "memory/box/memory.limit_in_bytes": limit}
    assert usable_memory(fake_host(tmp_path, "4:memory:/box\n0::/\n", [MEMORY], files)) == expected


@pytest.mark.usefixtures("machine")
def test_the_strictest_of_nested_groups_counts(tmp_path: Path) -> None:
    files = {"pod/box/memory.max": f"{2**32}", "pod/memory.max": f"{2**30}", "memory.max": "max"}
    assert usable_memory(fake_host(tmp_path, "0::/pod/box\n", [SECOND], files)) == 2**30


@pytest.mark.usefixtures("machine")
def test_a_system_without_control_groups_has_the_memory_of_the_machine(tmp_path: Path) -> None:
    assert usable_memory(tmp_path) == THERE


def test_this_process_may_use_some_of_the_memory_here() -> None:
    assert 2**20 < usable_memory() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


FAULTS = """
import resource
import torch
from crossatnet.system.memory import keep_freed_memory
from crossatnet.model.backbones.efficientnet import EfficientNetLite0
{first}
network, pictures = EfficientNetLite0().eval(), torch.zeros(8, 3, 224, 224)
with torch.inference_mode():
    for turn in range(6):
        if turn == 4:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        network(pictures)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(first: str) -> int:
    """Pages that the system had to give a fresh process for two batches, after four like them."""
    code = FAULTS.format(first=first)
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_memory_is_used_again() -> None:
    assert 10 * faults("keep_freed_memory()") < faults("")


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str | None] = []
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(allocator.ctypes, "CDLL", opened.append)
    allocator.keep_freed_memory.__wrapped__()
    assert opened == []
