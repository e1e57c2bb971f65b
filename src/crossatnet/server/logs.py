"""The server's log: a line for each event, and no more lines than a disk can take, whatever clients do."""

import logging
import sys
import threading
import time
from collections.abc import Callable

from crossatnet.system.visible import visible

SAME_A_MINUTE = 5  # lines of one kind; the rest is counted
KINDS_KEPT = 1_000
REQUESTS_AT_ONCE, REQUESTS_A_SECOND = 5_000, 40  # lines of the access log: 200 bytes each, so about 30 MB an hour


class Repeats(logging.Filter):
    """Lets `SAME_A_MINUTE` records of a kind pass, and says with the next ones how many it has left out.

    A kind is a place in the program, with the exception's if there is one.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now = now
        self._seen: dict[object, list[float]] = {}  # kind -> begin of its minute, lines passed, lines left out
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write a record; adds the number of those left out before."""
        kind = (record.name, record.levelno, record.msg if isinstance(record.msg, str) else "", _origin(record))
        with self._lock:
            if len(self._seen) > KINDS_KEPT:
                self._seen.clear()
            entry = self._seen.setdefault(kind, [self._now(), 0, 0])
            left_out = 0
            if self._now() - entry[0] >= 60:
                left_out = int(entry[2])
                entry[:] = [self._now(), 0, 0]
            if entry[1] >= SAME_A_MINUTE:
                entry[2] += 1
                return False
            entry[1] += 1
        if left_out:
            record.msg, record.args = f"{record.getMessage()} (and {left_out} more like it before)", None
        return True


class Bounded(logging.Filter):
    """Lets so many records pass at once, and so many a second in the long run; a line says how many it left out."""

    def __init__(self, at_once: int, a_second: float, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._at_once, self._a_second, self._now = at_once, a_second, now
        self._free, self._when, self._left_out = float(at_once), now(), 0
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write a record."""
        with self._lock:
            now = self._now()
            self._free = min(self._at_once, self._free + (now - self._when) * self._a_second)
            self._when = now
            if self._free < 1:
                self._left_out += 1
                return False
            self._free -= 1
            left_out, self._left_out = self._left_out, 0
        if left_out:
            record.msg, record.args = f'{{"left_out": {left_out}}}\n{record.getMessage()}', None
        return True


class OneLine(logging.Formatter):
    """Formats messages without control characters, which could forge further lines or change a terminal."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The line of a record."""
        record.message = visible(record.message)
        return super().formatMessage(record)


def log_to_stderr(access_log: bool) -> None:
    """Write all warnings and the server's own log to the error stream; the lines of the access log are JSON."""
    own = logging.StreamHandler(sys.stderr)
    own.setFormatter(OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    own.addFilter(Repeats())
    logging.basicConfig(level=logging.WARNING, handlers=[own], force=True)
    plain = logging.StreamHandler(sys.stderr)
    plain.addFilter(Bounded(REQUESTS_AT_ONCE, REQUESTS_A_SECOND))
    requests = logging.getLogger("crossatnet.access")
    requests.handlers, requests.propagate = [plain], False
    requests.setLevel(logging.INFO if access_log else logging.WARNING)


def _origin(record: logging.LogRecord) -> object:
    """Where a record comes from: its own line, or that of its exception."""
    error = record.exc_info[1] if record.exc_info else None
    if error is None:
        return record.pathname, record.lineno
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return type(error), trace and (trace.tb_frame.f_code.co_filename, trace.tb_lineno)
