"""Files written whole: what is read is the old or the new one, whatever happens between."""

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

import pytest

from crossatnet.system import files
from crossatnet.system.files import replacing, replacing_alone, write_whole

Writer = Callable[[Path], AbstractContextManager[IO[bytes] | None]]
WRITERS = [replacing, replacing_alone]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that holds "old"."""
    (tmp_path / "file").write_text("old")
    return tmp_path / "file"


def test_text_and_bytes_are_written_as_they_are(tmp_path: Path) -> None:
    for content in ("Größe\n", b"\xff\r\n", ""):
        write_whole(tmp_path / "file", content)
        assert (tmp_path / "file").read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("writer", WRITERS)
def test_the_file_changes_when_all_is_written(path: Path, writer: Writer) -> None:
    with writer(path) as file:
        assert file is not None
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
        assert len(names(path.parent)) == 2
    assert path.read_text() == "new"
    assert names(path.parent) == ["file"]


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("mistake", [ValueError("bad"), KeyboardInterrupt(), OSError("no space left on device")])
def test_what_fails_leaves_the_old_file_alone(path: Path, writer: Writer, mistake: BaseException) -> None:
    def half() -> None:
        with writer(path) as file:
            assert file is not None
            file.write(b"ne")
            raise mistake

    with pytest.raises(type(mistake)) as caught:
        half()
    assert caught.value is mistake
    assert path.read_text() == "old"
    assert names(path.parent) == ["file"]


FULL = """
import resource, sys
from pathlib import Path
from crossatnet.system import files
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # as a disk that is full after 1000 bytes
try:
    with getattr(files, sys.argv[1])(Path(sys.argv[2])) as file:
        file.write(bytes(3000))
except OSError as error:
    print(error.filename)
"""


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_reported_with_the_name_of_the_file(path: Path, writer: Writer) -> None:
    arguments = [sys.executable, "-c", FULL, writer.__name__, str(path)]  # type: ignore[attr-defined]
    run = subprocess.run(arguments, capture_output=True, check=True, text=True)
    assert run.stdout.strip() == str(path)
    assert path.read_text() == "old"
    assert names(path.parent) == ["file"]


KILLED = """
import sys
from pathlib import Path
from crossatnet.system import files
with getattr(files, sys.argv[1])(Path(sys.argv[2])) as file:
    file.write(b"ne")
    file.flush()
    print("half", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("writer", WRITERS)
def test_a_kill_leaves_the_old_file_and_the_next_run_works(path: Path, writer: Writer) -> None:
    arguments = [sys.executable, "-c", KILLED, writer.__name__, str(path)]  # type: ignore[attr-defined]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half\n"
        process.kill()
        assert process.wait(30) == -signal.SIGKILL
    assert path.read_text() == "old"
    left = [name for name in names(path.parent) if name != "file"]
    assert len(left) == 1
    with writer(path) as file:
        assert file is not None
        file.write(b"new")
    assert path.read_text() == "new"
    assert names(path.parent) == (["file"] if writer is replacing_alone else [*left, "file"])
    assert left[0].startswith(".") == (writer is replacing)  # hidden where it stays


def test_of_many_writers_at_once_each_file_is_whole(path: Path) -> None:
    contents = [bytes([number]) * 50_000 for number in range(8)]
    path.write_bytes(contents[0])
    done = threading.Event()

    def read() -> set[bytes]:
        seen = set()
        while not done.is_set():
            seen.add(path.read_bytes())
        return seen

    with ThreadPoolExecutor(9) as pool:
        reading = pool.submit(read)
        for _ in range(5):
            list(pool.map(lambda content: write_whole(path, content), contents))
        done.set()
        assert reading.result() <= {*contents}
    assert path.read_bytes() in contents
    assert names(path.parent) == ["file"]


def test_of_two_that_write_alone_one_gets_nothing(path: Path) -> None:
    with replacing_alone(path) as file:
        assert file is not None
        with replacing_alone(path) as other:
            assert other is None
        file.write(b"new")
    assert path.read_text() == "new"
    with replacing_alone(path) as file:  # the lock is gone
        assert file is not None


def test_a_file_that_another_put_into_place_is_not_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = fcntl.flock

    def other_was_faster(file: IO[bytes], operation: int) -> None:
        (tmp_path / "file.new").rename(tmp_path / "file")
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", other_was_faster)
    with replacing_alone(tmp_path / "file") as file:
        assert file is None
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_umask_says_who_may_read(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        write_whole(tmp_path / "file", "")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


@pytest.mark.parametrize("writer", WRITERS)
def test_a_folder_that_cannot_be_written_is_reported_with_the_name_of_the_file(tmp_path: Path, writer: Writer) -> None:
    (tmp_path / "no folder").write_text("")
    for path in (tmp_path / "missing" / "file", tmp_path / "no folder" / "file"):
        with pytest.raises(OSError, match="file") as caught, writer(path):
            pytest.fail("nothing can be written")
        assert caught.value.filename == str(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
@pytest.mark.parametrize("writer", WRITERS)
def test_a_missing_right_is_reported_with_the_name_of_the_file(path: Path, writer: Writer) -> None:
    path.parent.chmod(0o500)
    try:
        with pytest.raises(PermissionError) as caught, writer(path):
            pytest.fail("nothing can be written")
        assert caught.value.filename == str(path)
        assert path.read_text() == "old"
    finally:
        path.parent.chmod(0o700)


def test_a_right_refused_by_the_system_is_reported_with_the_name_of_the_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self), None, str(target))

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(PermissionError) as caught:
        write_whole(path, "new")
    assert str(caught.value) == f"[Errno 13] Permission denied: '{path}'"
    assert path.read_text() == "old"
    assert names(path.parent) == ["file"]


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError) as caught:
        write_whole(tmp_path, "new")
    assert caught.value.filename == str(tmp_path)


def test_a_link_stays_one(path: Path, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "link"
    link.symlink_to(path)
    write_whole(link, "new")
    assert link.is_symlink()
    assert path.read_text() == "new"
    assert (names(tmp_path), names(link.parent)) == (["file", "links"], ["link"])


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit((tmp_path / "pipe").read_text)
        write_whole(tmp_path / "pipe", "new")
        assert reading.result(30) == "new"
    assert (tmp_path / "pipe").is_fifo()


def test_the_longest_names_fit(tmp_path: Path) -> None:
    for name in ("n" * 255, "\N{GRINNING FACE}" * 63):
        write_whole(tmp_path / name, "new")
        assert (tmp_path / name).read_text() == "new"


def test_only_durable_files_wait_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file's content is kept before it gets its name, and its name afterwards."""
    kept: list[tuple[str, bool]] = []

    def watched(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        kept.append(("name" if is_folder else "content", (tmp_path / "file").exists()))

    monkeypatch.setattr(files.os, "fsync", watched)
    write_whole(tmp_path / "file", "new")
    assert kept == []
    (tmp_path / "file").unlink()
    write_whole(tmp_path / "file", "new", durable=True)
    assert kept == [("content", False), ("name", True)]


def test_a_file_system_that_cannot_keep_names_is_no_mistake(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(files.os, "fsync", refuse)
    write_whole(path, "new", durable=True)
    assert path.read_text() == "new"
