"""Limits of control groups: read from the process's own group and from every one above it, of either version."""

from pathlib import Path

from crossatnet.system.cgroups import settings
from system.fake_host import CPU, MEMORY, SECOND, fake_host


def test_every_group_on_the_way_up_is_asked(tmp_path: Path) -> None:
    files = {"cpu.max": "0 9", "pod/cpu.max": "1 9", "pod/box/cpu.max": "2 9", "pod/other/cpu.max": "3 9"}
    root = fake_host(tmp_path, "0::/pod/box\n", [SECOND], files)
    assert [*settings("cpu", "cpu.max", root)] == ["2 9", "1 9", "0 9"]
    assert [*settings("memory", "memory.max", root)] == []  # nobody limits it


def test_controllers_of_version_1_have_hierarchies_of_their_own(tmp_path: Path) -> None:
    files = {"cpu,cpuacct/one/x": "of cpu", "memory/two/x": "of memory", "memory/x": "of all", "x": "of neither"}
    root = fake_host(tmp_path, "4:memory:/two\n3:cpuset:/\n2:cpu,cpuacct:/one\n0::/\n", [CPU, MEMORY], files)
    assert [*settings("cpu", "x", root)] == ["of cpu"]
    assert [*settings("memory", "x", root)] == ["of memory", "of all"]
    assert [*settings("cpuset", "x", root)] == []  # not mounted


def test_a_container_that_sees_the_paths_of_its_host(tmp_path: Path) -> None:
    """Docker with version 1: /proc names the host's group, of which only the part below is mounted."""
    root = fake_host(tmp_path, "0::/docker/ab/inner\n", [SECOND], {"inner/x": "1", "x": "2"}, shown="/docker/ab")
    assert [*settings("cpu", "x", root)] == ["1", "2"]


def test_a_group_that_is_not_mounted_is_taken_for_the_one_that_is(tmp_path: Path) -> None:
    """A group outside the namespace, as `/..`, must not lead out of the folder either."""
    (tmp_path / "sys" / "fs").mkdir(parents=True)
    (tmp_path / "sys" / "fs" / "x").write_text("no setting")
    for number, (group, shown) in enumerate((("/docker/ab", "/docker/cd"), ("/../x", "/"), ("/..", "/"))):
        host = tmp_path / str(number)
        root = fake_host(host, f"0::{group}\n", [SECOND], {"x": "1"}, shown)
        assert [*settings("cpu", "x", root)] == ["1"]


def test_no_control_groups_no_limits(tmp_path: Path) -> None:
    assert [*settings("cpu", "cpu.max", tmp_path)] == []  # macOS
    root = fake_host(tmp_path, "\n", [SECOND], {"cpu.max": "1 9"})
    assert [*settings("cpu", "cpu.max", root)] == []
    (root / "sys" / "fs" / "cgroup" / "cpu.max").write_bytes(b"\xff")
    (root / "proc" / "self" / "cgroup").write_text("0::/\n")
    assert [*settings("cpu", "cpu.max", root)] == []
