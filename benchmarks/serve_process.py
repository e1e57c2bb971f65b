"""The server under test: galleries for it, its processes, and what these take."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import numpy as np
from PIL import Image, ImageDraw

from crossatnet import CrossATNet, Gallery
from synthetic import fill

START_S = 120.0
PICTURES = 96  # four pages of 24
PICTURE_SIZE = (1600, 1200)
THUMBNAIL_SIDE = 256


def make_large(path: Path, model: CrossATNet, items: int) -> None:
    """A gallery of made-up embeddings with the codes that the model gives them. Its pictures' files do not exist."""
    with Gallery.create(path, model) as gallery:
        fill(gallery, items)
        gallery.store.flush()


def make_of_pictures(path: Path, model: CrossATNet, folder: Path, thumbnail_side: int) -> None:
    """A gallery of a folder's pictures, with thumbnails in it or without."""
    with Gallery.create(path, model, thumbnail_side) as gallery:
        gallery.add_folder(folder)


def draw_pictures(folder: Path) -> None:
    """`PICTURES` files with the size and roughly the detail of photos, each its own."""
    folder.mkdir()
    width, height = PICTURE_SIZE
    for number in range(PICTURES):
        random = np.random.default_rng(number)
        noise = random.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8)
        picture = Image.fromarray(noise).resize(PICTURE_SIZE, Image.Resampling.BICUBIC)
        draw = ImageDraw.Draw(picture)
        for _ in range(20):
            x, y, size = random.integers(0, width), random.integers(0, height), random.integers(20, 400)
            draw.ellipse((x, y, x + size, y + size), tuple(random.integers(0, 255, 3).tolist()))
        picture.save(folder / f"{number:03}.jpg", quality=88)


class Server(AbstractContextManager["Server"]):
    """`crossatnet serve` as users start it, in processes of its own, until the end of the `with`."""

    def __init__(
        self, galleries: Sequence[Path | str], workers: int, log: Path, searches: int = 0, threads: str = ""
    ) -> None:
        command = [sys.executable, "-m", "crossatnet", "serve", *map(str, galleries), "--port", "0"]
        command += ["--workers", str(workers), "--searches", str(searches)]
        environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        environment |= {"OMP_NUM_THREADS": threads} if threads else {}
        self.log = log
        self._workers = workers
        with log.open("w") as file:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, text=True, env=environment)

    def __enter__(self) -> Self:
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().split(" ")[0]
        if not self.address:
            raise SystemExit(f"the server did not start:\n{self.log.read_text()}")
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if len(self.workers()) == self._workers and len(self.answering(20)) == self._workers:
                return self
            time.sleep(0.1)
        raise SystemExit(f"the server was not ready within {START_S:g} s:\n{self.log.read_text()[-2000:]}")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)

    def answering(self, asked: int = 1) -> set[int]:
        """The processes that answered one of so many requests, each over a connection of its own."""
        try:
            size = self.log.stat().st_size
            for _ in range(asked):
                self.ask("/api/v1/ready")
        except (OSError, urllib.error.URLError):
            return set()
        with self.log.open() as file:
            file.seek(size)
            return {fact["worker"] for fact in map(access, file) if fact}

    def ask(self, path: str, body: bytes | None = None, kind: str = "") -> Any:
        """The JSON that a request is answered with."""
        headers = {"Content-Type": kind} if body is not None else {}
        with urllib.request.urlopen(urllib.request.Request(self.address + path, body, headers), timeout=60) as answer:
            return json.load(answer)

    def processes(self) -> list[int]:
        """All of the server's, the one that was started first."""
        return [self._process.pid, *children(self._process.pid)]

    def workers(self) -> list[int]:
        """Those that answer."""
        spawned = [pid for pid in children(self._process.pid) if "spawn_main" in command_of(pid)]
        return spawned if self._workers > 1 else [self._process.pid]

    def connections(self, pid: int) -> int:
        """How many open connections of clients a worker holds."""
        port = urlsplit(self.address).port
        own = {str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir() if file.is_symlink()}
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        established = [row for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "01"]
        return sum(f"socket:[{row[9]}]" in own for row in established)

    def memory(self) -> dict[str, float]:
        """MiB of all its processes: `anonymous`, what they hold themselves, and `pss`, with their share of files."""
        found = {"anonymous": 0.0, "pss": 0.0}
        for pid in self.processes():
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
            kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
            found["anonymous"] += kib["Pss_Anon"] / 1024
            found["pss"] += kib["Pss"] / 1024
        return found

    def cpu_seconds(self) -> float:
        """What its processes have taken so far."""
        return cpu_seconds(self.processes())


def access(line: str) -> dict[str, Any] | None:
    """A line of the server's log, if it is of its access log and whole."""
    try:
        fact = json.loads(line)
    except ValueError:
        return None
    return fact if isinstance(fact, dict) and "worker" in fact else None


def cpu_seconds(pids: Iterable[int]) -> float:
    """What these processes have taken so far."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        ticks += int(fields[11]) + int(fields[12])  # utime and stime
    return ticks / os.sysconf("SC_CLK_TCK")


def with_children(pid: int) -> list[int]:
    """A process and all that it started."""
    return [pid, *(below for child in children(pid) for below in with_children(child))]


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except FileNotFoundError:
        return ""
