"""Keeps a gallery up to date with a folder by looking at the folder again and again.

A look takes one `stat` a file and works on every file system, also on network disks, which send no notices of changes.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from crossatnet.gallery.ingest.folder import IngestSummary
from crossatnet.system.errors import UserError


def watch_folder(
    update: Callable[[], IngestSummary],
    seconds: float,
    warn: Callable[[str], None],
    skipped: Iterable[tuple[str, str]] = (),
    wait: Callable[[float], None] = time.sleep,
) -> Iterator[IngestSummary]:
    """Call `update`, which brings a gallery up to date, every `seconds`, for ever.

    Yields a summary whenever something has changed.

    An error, such as a full or missing disk, is reported once by `warn`; the update is made once the error is gone. A
    skipped file is reported only when its reason is new; `skipped` holds those reported before. A picture that is still
    being copied is skipped until it is whole.
    """
    reported, known = "", set(skipped)
    while True:
        wait(seconds)
        try:
            summary = update()
        except (UserError, OSError) as error:  # OSError: a network disk that is gone
            if str(error) != reported:
                warn(str(error))
            reported = str(error)
            continue
        reported = ""
        fresh = tuple(problem for problem in summary.skipped if problem not in known)
        known = set(summary.skipped)
        if any((summary.added, summary.updated, summary.removed, summary.moved, summary.described, fresh)):
            yield replace(summary, skipped=fresh)
