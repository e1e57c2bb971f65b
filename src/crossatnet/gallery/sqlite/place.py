"""Notices when another file is put in the place of a gallery that is open.

SQLite opens the log of changes beside a gallery by its name. So after `mv other.gallery my.gallery` under a running
server, the next program to open `my.gallery` would play the old gallery's log into the new one, and the server, when it
ends, would delete the new one's log. Therefore every transaction looks at the file first, a connection to a file that
is gone is never closed, and a small file beside an open gallery, `-open`, says whose log lies there.
"""

import ctypes
import os
import sqlite3
from contextlib import suppress
from pathlib import Path

from crossatnet.gallery.backend import GalleryReplacedError
from crossatnet.system.errors import UserError

OPEN = "-open"


class Place:
    """The place of an open gallery: its path, and which file was there when it was opened."""

    def __init__(self, path: Path) -> None:
        """Call it once the gallery is open. Where the folder cannot be written, no file is made beside it."""
        self.path = path
        self._file = _identity(path)
        with suppress(OSError):
            _marker(path).write_text(f"{self._file[1]}\n", encoding="ascii")

    def check(self) -> None:
        """Raise `GalleryReplacedError` unless the file that was opened is still there."""
        if not self.is_kept():
            raise GalleryReplacedError(
                f"{self.path}: another file was put in its place while it was open; stop the programs that use it,"
                f" delete {self.path.name}-wal and {self.path.name}-shm, and start them again;"
                " next time use `crossatnet replace`"
            )

    def is_kept(self) -> bool:
        """Whether the file that was opened is still there."""
        try:
            return _identity(self.path) == self._file
        except OSError:  # moved away or deleted
            return False

    def close(self, connection: sqlite3.Connection) -> None:
        """Close the connection, unless that would delete another gallery's log; closing twice does no harm."""
        if not self.is_kept():
            never_close(connection)
            return
        connection.close()
        if not self.path.with_name(self.path.name + "-wal").exists():  # SQLite deletes it with the last connection
            with suppress(OSError):
                _marker(self.path).unlink(missing_ok=True)


def never_close(connection: sqlite3.Connection) -> None:
    """Keep a connection from being closed for as long as the process lives, also when Python ends."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


def check_log(path: Path) -> None:
    """Raise `UserError` if the log of changes beside a gallery belongs to another file that was in its place."""
    log, shared = (path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))
    try:
        known = int(_marker(path).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return  # not open, or opened by a version that made no such file
    if known != _identity(path)[1] and (log.exists() or shared.exists()):
        raise UserError(
            f"{path}: was put in the place of another gallery whose changes lie in {log.name}; stop the programs that"
            f" use it, then delete {log.name}, {shared.name} and {_marker(path).name}, or put the other gallery back;"
            " next time use `crossatnet replace`"
        )


def _marker(path: Path) -> Path:
    return path.with_name(path.name + OPEN)


def _identity(path: Path) -> tuple[int, int]:
    status = os.stat(path)  # noqa: PTH116 - half the time of Path.stat, before every transaction
    return status.st_dev, status.st_ino
