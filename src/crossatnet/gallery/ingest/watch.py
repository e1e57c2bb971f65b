"""Keeping a gallery in step with a folder: looking at it again and again.

Looking costs one `stat` a file and works on every file system, network ones too, where notices of changes do not come.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from crossatnet.gallery.ingest.folder import IngestSummary
from crossatnet.system.errors import UserError


def watch_folder(
    update: Callable[[], IngestSummary],
    seconds: float,
    complain: Callable[[str], None],
    skipped: Iterable[tuple[str, str]] = (),
    wait: Callable[[float], None] = time.sleep,
) -> Iterator[IngestSummary]:
    """Call `update`, which brings a gallery up to date, every so many seconds, for ever.

    Yields what was done whenever something was.

    A trouble, such as a disk that is away or full, is told once, and what it kept from being done is done when it is
    over. Of skipped files only those with a new reason are told, not those told before (`skipped`): a picture still
    being copied is skipped until it is whole.
    """
    told, known = "", set(skipped)
    while True:
        wait(seconds)
        try:
            summary = update()
        except (UserError, OSError) as error:  # OSError: a network disk that went away
            if str(error) != told:
                complain(str(error))
            told = str(error)
            continue
        told = ""
        fresh = tuple(problem for problem in summary.skipped if problem not in known)
        known = set(summary.skipped)
        if summary.added or summary.updated or summary.removed or fresh:
            yield replace(summary, skipped=fresh)
