"""The control groups that this process is in: where Linux keeps what a container may use."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

HOST = Path("/")  # the root of the file system; tests make one of their own


def settings(controller: str, name: str, root: Path = HOST) -> Iterator[str]:
    """What the files `name` of one controller (`cpu`, `memory`) say, from this process's own group up to the topmost.

    Every group on the way limits the process, so a caller takes the strictest. Groups of version 1 and 2 may both be
    mounted, and their files have different names. Nothing on a system without such groups.
    """
    for mount, group in _groups(controller, root):
        for folder in (mount / group, *(mount / parent for parent in group.parents)):
            try:
                yield (folder / name).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError):
                continue  # the topmost group of version 2 has no limits, and other folders are not for us to read


def _groups(controller: str, root: Path) -> Iterator[tuple[Path, PurePosixPath]]:
    """(where a hierarchy is mounted, this process's group below it) of version 2 and of one controller of version 1."""
    try:
        memberships = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
        mounts = (root / "proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    found = dict(line.split(":", 2)[1:] for line in memberships if line.count(":") >= 2)  # controllers -> group
    for line in mounts:
        left, _, right = line.partition(" - ")
        shown, where = left.split(" ")[3:5]  # of the hierarchy, the part that is mounted; and where
        kind, _, options = right.split(" ", 2)
        for controllers, group in found.items():
            is_second = kind == "cgroup2" and controllers == ""
            is_first = kind == "cgroup" and controller in controllers.split(",") and controller in options.split(",")
            if is_second or is_first:
                yield root / where.lstrip("/"), _below(PurePosixPath(group), PurePosixPath(shown))


def _below(group: PurePosixPath, shown: PurePosixPath) -> PurePosixPath:
    """The group's path below the part of a hierarchy that is mounted; that part itself if the group is not in it.

    A container may see the host's paths in /proc, and only its own group under /sys.
    """
    if group.is_relative_to(shown) and ".." not in group.parts:
        return group.relative_to(shown)
    return PurePosixPath()
