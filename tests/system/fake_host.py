"""A made-up /proc and /sys below a folder, as a container's process would see them."""

from pathlib import Path

SECOND = "31 23 0:28 {shown} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
CPU = "32 31 0:29 {shown} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"
MEMORY = "35 31 0:32 {shown} /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory"
OTHERS = ("22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw", "23 22 0:21 / /proc rw - proc proc rw")


def fake_host(root: Path, memberships: str, mounts: list[str], files: dict[str, str], shown: str = "/") -> Path:
    """A root whose process is in the groups `memberships`; `files` are settings by their paths below /sys/fs/cgroup.

    `shown` is the part of each hierarchy that is mounted: the container's own group, in a container that sees the
    host's paths in /proc.
    """
    process = root / "proc" / "self"
    process.mkdir(parents=True)
    (process / "cgroup").write_text(memberships)
    (process / "mountinfo").write_text("\n".join([*OTHERS, *(mount.format(shown=shown) for mount in mounts)]) + "\n")
    for name, text in files.items():
        path = root / "sys" / "fs" / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root
