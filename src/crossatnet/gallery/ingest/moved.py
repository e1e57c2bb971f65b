"""Recognises files that moved: a new path whose bytes are those of a stored picture whose own file is gone."""

import threading
from pathlib import Path
from typing import Protocol

from crossatnet.gallery.backend import Backend, Facts


class Claims(Protocol):
    """Who hands out stored pictures to files that may be them."""

    def claim(self, content_hash: str, path: str) -> Facts | None:
        """See `Moves.claim`."""


class Moves:
    """Hands out stored pictures whose files are gone, each once; called from several threads.

    The stored picture of a moved file keeps its id and embedding, so the network need not see it again. A picture may
    lie in a folder that is not being indexed, as a whole folder that was renamed does.
    """

    def __init__(self, store: Backend) -> None:
        self._store = store
        self._claimed: dict[str, str] = {}  # stored path -> the file that is it
        self._lock = threading.Lock()

    def claim(self, content_hash: str, path: str) -> Facts | None:
        """What is stored of a picture of these bytes whose file is gone, if the file at `path` may be it.

        Each is given to one file only; who asks again, as a worker that took over from a lost one, gets the same.
        """
        with self._lock:
            for origin in self._store.with_content(content_hash):
                if self._claimed.get(origin, path) == path and is_gone(origin):
                    key = self._store.ids([origin]).get(origin)
                    stored = self._store.pictures([key]) if key is not None else {}
                    if key in stored:  # and not removed by another process since
                        self._claimed[origin] = path
                        return stored[key].facts
        return None


def is_gone(path: str) -> bool:
    """Whether nothing is at `path`. False in a folder that may not be entered, so that its pictures are kept.

    Example:
        >>> from crossatnet.gallery.ingest.moved import is_gone
        >>> is_gone("no/such/file.jpg")
        True
    """
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False
