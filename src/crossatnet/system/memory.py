"""How much memory this process may use, and the C library's allocator, set to keep what torch frees."""

import ctypes
import os
import platform
from functools import cache
from pathlib import Path

from crossatnet.system import cgroups

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # of glibc's malloc.h
NEVER = 2**31 - 1  # bytes free at the end of the heap before any go back
AHEAD = 2**26  # bytes that the heap grows by


def usable_memory(root: Path = cgroups.HOST) -> int:
    """Bytes of memory that this process may use: the machine's, or what its container allows if that is less.

    `root` is where /proc and /sys are looked for.
    """
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for name in ("memory.max", "memory.limit_in_bytes"):  # of control groups of version 2 and 1
        limits += [int(text) for text in cgroups.settings("memory", name, root) if text.isdigit()]
    return min(limits)


@cache
def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, for what it allocates next; it stays at its peak.

    Every layer allocates megabytes and frees them soon. glibc takes blocks that large from the system and gives them
    back each time, and the system fills them with zeros again.
    For processes that compute by torch from now on; does nothing where the C library is another.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    library = ctypes.CDLL(None)
    for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, NEVER), (M_TOP_PAD, AHEAD)):
        library.mallopt(option, value)
