"""Processes that read pictures which may take without end: their time and memory are bounded, and they can be ended.

Most pictures are plain by their outline (see `pictures.effort`) and are read in the process that asks. The rest is sent
to one of a few processes, which run `decoder_process`. One that takes too much is ended by the system, or here, and the
picture is refused. What comes back is only numbers and text: pixels, sizes, words.
"""

import json
import os
import queue
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from crossatnet.data.drawing.read import NothingDrawnError
from crossatnet.data.pictures.effort import outline
from crossatnet.data.pictures.opening import TooManyPixelsError
from crossatnet.system.errors import ImageError, UserError
from crossatnet.system.threads import cores

WALL = 6  # times the seconds of processor time: for machines that are busy
ENDED = "takes more time or memory to read than a picture may; save it again with another program"
ERRORS = {kind.__name__: kind for kind in (ImageError, NothingDrawnError, TooManyPixelsError)}
CHILD = "CROSSATNET_DECODER"  # set in the environment of such a process, which asks no other one
LENGTHS = struct.Struct("<II")  # bytes of a message's JSON, and of what follows it


@dataclass(frozen=True)
class Limits:
    """How pictures are read in this process: `processes` at once, each with so many seconds and bytes for a picture.

    Plain files of at most `pixels_here` are read here. `nice` lets other work of the machine go first.
    """

    processes: int
    seconds: int = 20
    bytes: int = 2_500_000_000
    pixels_here: int = 1_000_000_000
    nice: int = 0


class Decoders:
    """A few processes that read pictures, started when they are needed; called from several threads."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._free: queue.LifoQueue[_Process | None] = queue.LifoQueue()
        self._all: set[_Process] = set()
        self._is_closed = False
        for _ in range(limits.processes):
            self._free.put(None)

    def ask(self, job: str, content: bytes, **settings: Any) -> tuple[Any, bytes]:
        """What a job of `decoder_process` says of a picture file's bytes, and its pixels or file, if it makes any.

        Waits for a free process. Raises `ImageError` as the job does, and if it takes more than is allowed.
        """
        process = self._free.get()
        try:
            if self._is_closed:
                raise UserError("stopped: pictures are no longer read")
            if process is None:
                process = _Process(self.limits)
                self._all.add(process)
            said, made = process.ask({"job": job, "settings": settings}, content)
        except (OSError, EOFError, struct.error):
            if process is not None:
                process.end()
                self._all.discard(process)
            process = None
            raise ImageError(f"{settings.get('name') or 'the uploaded picture'}: {ENDED}") from None
        finally:
            self._free.put(process)
        if "error" in said:
            raise ERRORS.get(said["error"], ImageError)(said["message"])
        return said["value"], made

    def close(self) -> None:
        """End all processes, also those at work."""
        self._is_closed = True
        for process in [*self._all]:
            process.end()


class _Process:
    def __init__(self, limits: Limits) -> None:
        self._wall = WALL * limits.seconds
        numbers = map(str, (limits.seconds, limits.bytes, limits.nice))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "crossatnet.data.decoder_process", *numbers],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, CHILD: "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C is for the process that asks
        )

    def ask(self, what: dict[str, Any], content: bytes) -> tuple[Any, bytes]:
        """Send a job and wait for its answer. Raises `OSError` or `EOFError` if the process ends before it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        timer = threading.Timer(self._wall, self._process.kill)
        timer.daemon = True
        timer.start()
        try:
            send(self._process.stdin, what, content)
            return receive(self._process.stdout)
        finally:
            timer.cancel()

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                if stream is not None:
                    stream.close()


def send(stream: Any, what: Any, content: bytes | memoryview) -> None:
    """Write a message: JSON, and bytes."""
    text = json.dumps(what).encode()
    stream.write(LENGTHS.pack(len(text), len(content)))
    stream.write(text)
    stream.write(content)
    stream.flush()


def receive(stream: Any) -> tuple[Any, bytes]:
    """Read a message. Raises `EOFError` if the other side has ended."""
    lengths = stream.read(LENGTHS.size)
    if len(lengths) < LENGTHS.size:
        raise EOFError
    text, content = (stream.read(length) for length in LENGTHS.unpack(lengths))
    if (len(text), len(content)) != LENGTHS.unpack(lengths):
        raise EOFError
    return json.loads(text), content


_lock = threading.Lock()
_decoders: Decoders | None = None
_limits: Limits | None = None


def limit(limits: Limits) -> None:
    """Read pictures within these limits from now on, for the whole process."""
    global _limits
    end_all()
    with _lock:
        _limits = limits


def decoders() -> Decoders:
    """The processes that read pictures for this one."""
    global _decoders
    with _lock:
        if _decoders is None:
            _decoders = Decoders(_limits or Limits(max(2, cores())))
        return _decoders


def end_all() -> None:
    """End the processes that read pictures, also those at work; the next picture starts new ones."""
    global _decoders
    with _lock:
        ended, _decoders = _decoders, None
    if ended is not None:
        ended.close()


def is_read_here(content: bytes) -> bool:
    """Whether a picture file's bytes are read in this process: plain ones, of few pixels if that is asked for.

    Raises `ImageError` for a file that asks for more work than any picture needs.

    Example:
        >>> from crossatnet.data.decoders import is_read_here
        >>> photo.save("photo.jpg"); photo.save("photo.gif")
        >>> is_read_here((tmp_path / "photo.jpg").read_bytes()), is_read_here((tmp_path / "photo.gif").read_bytes())
        (True, False)
    """
    if CHILD in os.environ:
        return True
    found = outline(content)
    if found is None:
        return False
    most = _limits.pixels_here if _limits is not None else Limits.pixels_here
    return found.width * found.height <= most or not found.is_kept_whole
