"""The present state of a gallery as arrays: kept from search to search, brought up to date, begun by the side file.

Letters: `N` items.
"""

import secrets
import threading
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from crossatnet.gallery.backend import EVERYTHING, Filter
from crossatnet.gallery.reach import INDEXED
from crossatnet.gallery.sqlite import database, sidefile
from crossatnet.gallery.sqlite.clustering import lists_for
from crossatnet.gallery.sqlite.damage import DamageReport
from crossatnet.gallery.sqlite.database import plain_errors
from crossatnet.gallery.sqlite.file import GalleryFile
from crossatnet.gallery.sqlite.filters import in_sql
from crossatnet.gallery.sqlite.rows import Damaged, count_changes, count_rows, read_changes, read_rows
from crossatnet.gallery.sqlite.snapshot import Masks, Snapshot
from crossatnet.system.errors import UserError

UNFLUSHED = 10_000  # SQLite reads so many items in a tenth of a second: fewer need no side file
UNFLUSHED_SHARE = 0.02  # of all items; after more changes the side file is written again
# A run of days must write it in between too: readers keep in memory what the side file lacks.
PUT_IN_A_RUN, UNFLUSHED_SHARE_IN_A_RUN = 100_000, 0.25
CONDITIONS_KEPT = 16  # sets of conditions; each takes one byte for each item in memory


@dataclass(frozen=True)
class Current:
    """The snapshot of one version of the file, and which of its rows meet the conditions of recent searches."""

    version: tuple[object, ...]
    snapshot: Snapshot
    masks: dict[Filter, Masks] = field(default_factory=dict)


class Present:
    """The arrays that searches of one open gallery run on, and the side file that spares reading them again.

    Its methods may be called from several threads.
    """

    def __init__(self, file: GalleryFile, report: DamageReport) -> None:
        self._file = file
        self._report = report
        self._latest: Current | None = None
        self._put = 0  # items, since the side file was last checked
        self._lock = threading.Lock()

    def now(self, distrust_side_file: bool = False) -> Current:
        """The snapshot of the gallery as it is now. A search that still uses an older one is not disturbed."""
        with self._lock:
            version = self._file.version()  # read first, so that a change in between is noticed next time
            if self._latest is None or self._latest.version != version or distrust_side_file:
                is_same_file = self._latest is not None and self._latest.version[2] == version[2]
                self._file.check_meta()
                before = self._latest.snapshot if self._latest and is_same_file and not distrust_side_file else None
                self._latest = Current(version, self._brought_up(before, distrust_side_file))
            return self._latest

    def masks(self, current: Current, filter: Filter) -> Masks:
        """Which rows of the snapshot meet the conditions; kept for the next search with the same conditions."""
        masks = current.masks.get(filter)
        if masks is None:
            masks = current.snapshot.masks(None if filter == EVERYTHING else self._ids_that_meet(filter))
            if len(current.masks) >= CONDITIONS_KEPT:
                current.masks.clear()
            current.masks[filter] = masks
        return masks

    def added(self, items: int) -> None:
        """So many items were stored: a long run writes the side file on its way."""
        self._put += items
        if self._put > PUT_IN_A_RUN:
            self.flush(UNFLUSHED_SHARE_IN_A_RUN)

    def flush(self, share: float = UNFLUSHED_SHARE) -> None:
        """Write the side file if there is none, if more than this share of its items has changed, or for an index."""
        self._put = 0
        with self._file.reading() as connection:
            side = self._side_file()
            changed = count_changes(connection, side.header.generation) if side else self._file.count()
        lacks_index = side is not None and not side.header.lists and self._wants_index(side.header.items)
        if lacks_index or (changed > UNFLUSHED and (side is None or changed > share * side.header.items)):
            self._write_side_file()

    def rewrite(self) -> None:
        """Write the side file after the gallery was compacted; a small gallery has none."""
        if self._file.count() > UNFLUSHED:
            self._write_side_file()
        else:
            sidefile.path_of(self._file.path).unlink(missing_ok=True)

    def _brought_up(self, before: Snapshot | None, distrust_side_file: bool) -> Snapshot:
        """The present snapshot, made from an earlier one if possible."""
        if before and not self._is_overtaken(before) and (brought := self._after(before)) is not None:
            return brought
        if not distrust_side_file and (brought := self._of_side_file()) is not None:
            return brought
        if self._file.count() > UNFLUSHED and self._write_side_file() and (brought := self._of_side_file()) is not None:
            return brought
        everything = self._after(Snapshot())
        assert everything is not None, "all items can be read from the beginning"
        return everything

    def _is_overtaken(self, before: Snapshot) -> bool:
        """Whether a newer side file holds much of what this snapshot holds in memory."""
        return before.in_memory > UNFLUSHED and before.side_token != self._side_token()

    def _of_side_file(self) -> Snapshot | None:
        """The present snapshot from the side file, if there is an undamaged one that is not too old."""
        side = self._side_file()
        return None if side is None else self._after(Snapshot.of_side_file(side))

    def _after(self, snapshot: Snapshot) -> Snapshot | None:
        with self._file.reading() as connection:
            damaged: list[Damaged] = []
            changes = read_changes(connection, self._file.made_with, snapshot.generation, damaged)
            self._report.add(damaged)
        return None if changes is None else snapshot.after(changes)

    def _side_file(self) -> sidefile.SideFile | None:
        """The side file, if there is an undamaged one."""
        width, dimension = self._file.made_with.code_bits // 8, self._file.made_with.dimension
        return sidefile.read(self._file.path, self._side_token(), width, dimension)

    def _side_token(self) -> str:
        return str(self._file.rows("SELECT side_token FROM meta")[0][0])

    def _write_side_file(self, is_damaged: bool = False) -> bool:
        """Write the side file; returns whether that was possible. A failure loses nothing.

        A gallery that `is_damaged` is read twice.
        """
        if not database.may_write(self._file.path):
            return False
        token, made_with = secrets.token_hex(16), self._file.made_with
        try:
            # a connection of its own, so that searches go on meanwhile
            with plain_errors(self._file.path), closing(database.open_to_read(self._file.path)[0]) as reading:
                reading.execute("BEGIN")
                (generation,) = reading.execute("SELECT generation FROM meta").fetchone()
                count, regions = count_rows(reading, made_with, is_damaged)
                sizes = count, made_with.code_bits // 8, made_with.dimension
                before, lists = None, 0
                if self._wants_index(count):
                    before = self._side_file()
                    lists = lists_for(count, before.header.lists if before else 0)
                header = sidefile.Header(token, generation, *sizes, regions=regions, lists=lists)
                if not sidefile.write(self._file.path, header, read_rows(reading, made_with, None, []), before):
                    return False
            with self._file.writing() as connection:
                connection.execute("UPDATE meta SET side_token = ?", (token,))
        except (OSError, UserError):
            return False
        except ValueError:  # fewer rows than were counted: some are damaged
            return not is_damaged and self._write_side_file(is_damaged=True)
        return True

    def _wants_index(self, items: int) -> bool:
        """Whether the side file of so many items has an index; regions are searched without one."""
        return items > INDEXED and not self._file.made_with.regions

    def _ids_that_meet(self, filter: Filter) -> NDArray[np.int64]:
        """The ids, ascending, of the items that meet the conditions."""
        condition, values = in_sql(filter)
        rows = self._file.rows(f"SELECT id FROM items WHERE {condition}", values)
        return np.sort(np.fromiter((row[0] for row in rows), np.int64, len(rows)))
