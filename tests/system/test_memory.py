"""Memory that is kept: a network's layers use again what was freed before them, and take no page from the system."""

import platform
import subprocess
import sys

import pytest

from crossatnet.system import memory as allocator

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
