"""Files that are whole or not there: written beside their place, under another name, and then put into it.

Also locks that hold across processes, and files that are opened only if they are plain ones.
"""

import fcntl
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

UNFINISHED = ".unfinished"  # ends the name of a file that is not whole yet
LOCK_LOOKS_S = 0.005  # between two tries to get a lock


class NotPlainError(OSError):
    """What was opened is no plain file: a pipe, a device, a socket."""


def open_plain(path: str | Path) -> IO[bytes]:
    """Open a plain file to read. A pipe in its place, which would block for ever, raises `NotPlainError`.

    What was opened is looked at, not what lay there before: a name can be given to another file at any time. Raises
    `OSError` as `open` does.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(21, os.strerror(21), str(path))
        if not stat.S_ISREG(mode):
            raise NotPlainError(22, "no plain file, but a pipe, a device or a socket", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


@contextmanager
def locked(path: Path, seconds: float) -> Iterator[None]:
    """Hold the lock that the file `path` stands for, against all threads and processes of this machine.

    The file is made if needed and stays. A killed process loses its locks. Raises `TimeoutError` if another one keeps
    it for so many seconds.
    """
    with path.open("ab") as file:
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise TimeoutError(f"{path}: locked for {seconds:g} s by another process") from None
                time.sleep(LOCK_LOOKS_S)
        yield  # closing the file unlocks it


def write_whole(path: Path, content: str | bytes, durable: bool = False) -> None:
    """Write a file, text as UTF-8, as `replacing` does."""
    with replacing(path, durable) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def replacing(path: Path, durable: bool = False) -> Iterator[IO[bytes]]:
    """A file to write that takes the place of `path` when the block ends; if it raises, `path` stays as it was.

    Who reads `path` finds the old file or the new one, whole, also after a kill, which leaves a hidden file beside it.
    Several may write at once: the last one's file stays. `durable` files survive a power cut: for what cannot be made
    again. A link stays a link to the file that is replaced; what is no file, such as a pipe, is written to as it is.
    The new file may be read by whom the umask allows. Raises `OSError`, with the name of `path`.
    """
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    target = path.resolve()
    # Of the name only what fits into 255 bytes; an index run passes over hidden files.
    beside = target.with_name(f".{target.name[:40]}.{secrets.token_hex(4)}{UNFINISHED}")
    with _named(path, beside):
        file = beside.open("xb")
        with _put_into_place(beside, target, file, durable):
            yield file


@contextmanager
def replacing_alone(path: Path) -> Iterator[IO[bytes] | None]:
    """As `replacing`, durable, for large files that one process at a time writes; None while another one does.

    The file beside it has one name, `path` with ".new", so what a killed process left takes no more room. The lock
    goes with its process, and so does not outlive a killed one, as the unfinished file itself may.
    """
    beside = path.with_name(path.name + ".new")
    with _named(path, beside), beside.open("ab") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Was it put into place by another process before it could be locked here? Then it must not be written to.
            is_ours = beside.stat().st_ino == os.fstat(opened.fileno()).st_ino
        except OSError:
            is_ours = False
        if not is_ours:
            yield None
            return
        file = beside.open("r+b")
        with _put_into_place(beside, path, file, durable=True):
            file.truncate(0)
            yield file


def keep_durably(unfinished: Path, path: Path) -> None:
    """Have the disk keep a finished file, and give it its name. Raises `OSError`."""
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    unfinished.replace(path)
    _keep_name(path.parent)


@contextmanager
def _put_into_place(beside: Path, path: Path, file: IO[bytes], durable: bool) -> Iterator[None]:
    """Close `file` when the block ends and give it its name; remove it if anything fails."""
    try:
        with file:
            yield
            if durable:
                file.flush()
                os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    if durable:
        _keep_name(path.parent)


def _keep_name(folder: Path) -> None:
    """Have the disk keep a folder's names; some file systems cannot, and the file is in its place anyway."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _named(path: Path, beside: Path) -> Iterator[None]:
    """Give the errors of the file beside, or of no file at all (a full disk), the name that the user knows."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(beside)):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
