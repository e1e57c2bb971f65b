"""Adds a folder to a gallery while the server serves: one folder at a time, with its progress, and it can be stopped.

What was stored when it is stopped, or when the server ends, stays; adding the folder again goes on from there.
"""

import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from crossatnet.gallery import Gallery
from crossatnet.server.errors import ApiError
from crossatnet.server.galleries import Served
from crossatnet.server.schemas import IndexingAnswer, PlacesAnswer
from crossatnet.server.settings import MOST_PLACES
from crossatnet.system.errors import UserError


class StoppedError(Exception):
    """The folder is no longer to be added."""


class Indexing:
    """The folder that is being added to one gallery. Its methods may be called from several threads."""

    def __init__(self, roots: Sequence[Path]) -> None:
        """`roots`: in and below these, folders may be added; none: no folder may."""
        self._roots = tuple(roots)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._states: dict[str, IndexingAnswer] = {}  # by the gallery's name

    @property
    def is_allowed(self) -> bool:
        """Whether folders may be added at all."""
        return bool(self._roots)

    def start(self, served: Served, path: str) -> IndexingAnswer:
        """Begin to add a folder. Raises `ApiError` 403 outside the roots, 404 for no folder, 409 while one is added."""
        folder = self._checked(path)
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                raise ApiError(409, "another folder is being added: wait until it is done, or stop it", "busy")
            self._stop.clear()
            self._states[served.name] = IndexingAnswer(path=str(folder), running=True)
            self._thread = threading.Thread(target=self._add, args=(served.name, served.gallery, folder), daemon=True)
            self._thread.start()
            return self._states[served.name]

    def state(self, served: Served) -> IndexingAnswer:
        """What becomes of the folder that is being added to a gallery, or was added last."""
        return self._states.get(served.name, IndexingAnswer())

    def stop(self) -> None:
        """Stop adding, and wait until what is being stored is stored."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def places(self, path: str | None) -> PlacesAnswer:
        """The folders in a folder that may be added, or the roots. Raises `ApiError` as `start` does."""
        if path is None:
            return PlacesAnswer(path=None, parent=None, folders=[str(root) for root in self._roots])
        folder = self._checked(path)
        try:
            with os.scandir(folder) as entries:
                names = sorted(
                    entry.name for entry in entries if entry.is_dir(follow_symlinks=False) and entry.name[0] != "."
                )
        except OSError as error:
            raise ApiError(403, f"this folder cannot be read ({error.strerror})") from error
        parent = None if folder in self._roots else str(folder.parent)
        shown = [name for name in names if name.isprintable()][:MOST_PLACES]
        return PlacesAnswer(path=str(folder), parent=parent, folders=[str(folder / name) for name in shown])

    def _checked(self, path: str) -> Path:
        """A folder inside the roots, links resolved, so that none leads out of them."""
        if not self.is_allowed:
            raise ApiError(403, "no folder may be added: the server must be started with --folders FOLDER")
        try:
            folder = Path(path).expanduser().resolve()
            is_inside = any(folder.is_relative_to(root) for root in self._roots)
            if is_inside and not folder.is_dir():
                raise ApiError(404, "no such folder: check its path")
        except (OSError, ValueError, RuntimeError) as error:  # a name too long, a zero byte, an unknown ~user
            raise ApiError(404, "no such folder: check its path") from error
        if not is_inside:
            raise ApiError(403, "this folder is not in one that the server may add from: see its option --folders")
        return folder

    def _add(self, name: str, gallery: Gallery, folder: Path) -> None:
        def progress(done: int, total: int) -> None:
            self._states[name] = self._states[name].model_copy(update={"done": done, "total": total})
            if self._stop.is_set():
                raise StoppedError

        outcome: dict[str, object]
        try:
            summary = replace(gallery.add_folder(folder, progress), seconds=0.0)
            counts = ("added", "updated", "moved", "unchanged", "removed")
            parts = [f"{getattr(summary, count)} {count}" for count in counts if getattr(summary, count)]
            skipped = [f"{len(summary.skipped)} skipped"] if summary.skipped else []
            outcome = {"summary": ", ".join([*parts, *skipped]) or "nothing new"}
        except StoppedError:
            outcome = {"summary": f"stopped: {self._states[name].done} of {self._states[name].total} looked at"}
        except (UserError, OSError) as error:
            outcome = {"error": str(error)}
        self._states[name] = self._states[name].model_copy(update={"running": False, **outcome})
