"""Damaged rows are named in the log, each once."""

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

from crossatnet.gallery.sqlite.rows import Damaged

ROWS_NAMED = 5  # in one line

log = logging.getLogger("crossatnet.gallery")


class DamageReport:
    """What was already said of the damaged rows of a gallery; called from several threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._named: set[int] = set()
        self._lock = threading.Lock()

    def add(self, damaged: Sequence[Damaged]) -> None:
        """Name rows that were not named before."""
        if not damaged:
            return
        with self._lock:
            fresh = [row for row in damaged if row.id not in self._named]
            self._named.update(row.id for row in fresh)
        if fresh:
            some = ", ".join(f"{row.id} ({row.reason})" for row in fresh[:ROWS_NAMED])
            more = f" and {len(fresh) - ROWS_NAMED} more" if len(fresh) > ROWS_NAMED else ""
            todo = f"mend it: crossatnet check {self._path} --repair"
            log.warning("%s: damaged rows are left out: %s%s; %s", self._path, some, more, todo)
