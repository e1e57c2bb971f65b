"""Recognises files that moved: a new path whose bytes are those of a stored picture whose own file is gone."""

import threading
from pathlib import Path

from crossatnet.gallery.backend import Backend, Facts


class Moves:
    """Hands out stored pictures whose files are gone, each once; called from several threads.

    The stored picture of a moved file keeps its id and embedding, so the network need not see it again. A picture may
    lie in a folder that is not being indexed, as a whole folder that was renamed does.
    """

    def __init__(self, store: Backend) -> None:
        self._store = store
        self._claimed: set[str] = set()
        self._lock = threading.Lock()

    def claim(self, content_hash: str) -> Facts | None:
        """What is stored of a picture of these bytes whose file is gone, if there is one that nobody has claimed."""
        with self._lock:
            for path in self._store.with_content(content_hash):
                if path not in self._claimed and is_gone(path):
                    key = self._store.ids([path]).get(path)
                    stored = self._store.pictures([key]) if key is not None else {}
                    if key in stored:  # and not removed by another process since
                        self._claimed.add(path)
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
