"""A process that reads pictures for another one, within bounds of time and memory: `python -m` this module.

Its arguments are the seconds of processor time for a picture, the bytes of memory, and how nice it is to other
processes. Jobs come by standard input, answers go by standard output, see `decoders.send`. It ends with its input.
"""

import os
import queue
import resource
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from crossatnet.data import decoders
from crossatnet.data.images import check_picture, load_image, picture_size, read_sketch, small_jpeg
from crossatnet.data.metadata import read_metadata
from crossatnet.data.photos import read_arrays
from crossatnet.data.pictures.quiet import silence_libraries
from crossatnet.system.errors import ImageError

Answer = tuple[Any, bytes]


def main() -> None:
    """Answer jobs until the input ends."""
    seconds, most, nice = map(int, sys.argv[1:])
    os.nice(nice)
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    own = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (own, hard))
    silence_libraries()
    jobs: queue.SimpleQueue[tuple[Any, bytes]] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(jobs,), daemon=True).start()
    while True:
        what, content = jobs.get()
        _allow(seconds)
        said, made = _answered(what, content)
        decoders.send(sys.stdout.buffer, said, made)


def _receive(jobs: "queue.SimpleQueue[tuple[Any, bytes]]") -> None:
    """Take jobs; where the other process has ended, end at once, also in the middle of a picture."""
    try:
        while True:
            jobs.put(decoders.receive(sys.stdin.buffer))
    except EOFError:
        os._exit(0)


def _allow(seconds: int) -> None:
    """From now on so many seconds of processor time; then the system ends this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(used.ru_utime + used.ru_stime) + seconds + 1
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _answered(what: Any, content: bytes) -> Answer:
    try:
        value, made = JOBS[what["job"]](content, **what["settings"])
    except ImageError as error:
        return {"error": type(error).__name__, "message": str(error)}, b""
    except (MemoryError, RecursionError):
        name = what["settings"].get("name") or "the uploaded picture"
        return {"error": "ImageError", "message": f"{name}: {decoders.ENDED}"}, b""
    except Exception as error:  # damaged bytes make decoders raise nearly anything
        return {"error": "ImageError", "message": f"damaged picture ({error})"}, b""
    return {"value": value}, made


def _image(content: bytes, **settings: Any) -> Answer:
    image = load_image(content, **settings)
    return image.size, image.tobytes()


def _photo(content: bytes, **settings: Any) -> Answer:
    arrays = read_arrays(content, **settings)
    return [array.shape for array in arrays], b"".join(array.tobytes() for array in arrays)


def _sketch(content: bytes, name: str, size: int, fit_strokes: bool) -> Answer:
    return None, np.ascontiguousarray(read_sketch(content, size, fit_strokes, name)).tobytes()


def _metadata(content: bytes, name: str) -> Answer:
    return asdict(read_metadata(content, name)), b""


JOBS: dict[str, Callable[..., Answer]] = {
    "check": lambda content, **settings: (check_picture(content, **settings), b""),
    "image": _image,
    "jpeg": lambda content, **settings: (None, small_jpeg(content, **settings)),
    "metadata": _metadata,
    "photo": _photo,
    "size": lambda content, **_: (picture_size(content), b""),
    "sketch": _sketch,
}

if __name__ == "__main__":
    main()
