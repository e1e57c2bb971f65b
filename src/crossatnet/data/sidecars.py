"""XMP files beside a picture, in which photo programs keep what they know of it, as they leave the picture as it is.

darktable and digiKam write `photo.jpg.xmp`, Lightroom and others `photo.xmp`.
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from crossatnet.data.metadata import LONGEST_XMP
from crossatnet.system.files import open_plain

SUFFIX = ".xmp"


@dataclass(frozen=True)
class Sidecars:
    """The XMP packets beside a picture, the one that counts most first, and their state before they were read."""

    state: str
    packets: tuple[bytes, ...]


def sidecar_state(picture: str | Path) -> str:
    """What differs after a change of the XMP files beside a picture, by their sizes and times; "" if there are none.

    Example:
        >>> from crossatnet.data.sidecars import sidecar_state
        >>> photo.save("photo.jpg")
        >>> sidecar_state(tmp_path / "photo.jpg")
        ''
    """
    return "|".join(state for file in _names(picture) if (state := _state(file)))


def read_sidecars(picture: str | Path) -> Sidecars:
    """The XMP files beside a picture. One that cannot be read, is too long or is a link counts as absent."""
    state = sidecar_state(picture)
    packets = [_content(file) for file in _names(picture)] if state else []
    return Sidecars(state, tuple(filter(None, packets)))


def _names(picture: str | Path) -> tuple[str, str]:
    return f"{picture}{SUFFIX}", f"{os.path.splitext(picture)[0]}{SUFFIX}"  # noqa: PTH122  # once a picture in a scan


def _state(file: str) -> str:
    try:
        status = os.lstat(file)
    except OSError:
        return ""
    if not stat.S_ISREG(status.st_mode):
        return ""
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def _content(file: str) -> bytes:
    if not _state(file):
        return b""
    try:
        with open_plain(file) as opened:
            return opened.read(LONGEST_XMP + 1)  # one byte more than is taken for XMP
    except OSError:
        return b""
