"""Kill a process that works on a gallery at random moments, and check that no acknowledged change is lost.

    python tests/gallery/kills.py --moments 50

A worker indexes a folder, removes pictures and compacts the gallery, for ever. It reports each step before and after
it. It is killed with SIGKILL, so that it cannot clean up. Then the gallery is opened and every picture is searched for.
The next worker continues with the same gallery.

Prints a table and writes `benchmarks/results/kills.json`; `test_faults.py` runs a few moments.
"""

import argparse
import json
import os
import platform
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from PIL import Image

from crossatnet.gallery import Gallery
from crossatnet.gallery.ingest import folder as ingest
from crossatnet.gallery.sqlite import present

sys.path.insert(0, str(Path(__file__).parents[1]))
from gallery.fake_model import FakeModel

TESTS = Path(__file__).parents[1]
RESULTS = TESTS.parent / "benchmarks" / "results" / "kills.json"
PICTURES = 240
STEPS = ("index", "remove", "compact")
MOST_SECONDS = 0.5  # after the first report; a worker does all steps about five times a second


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", nargs=3, metavar=("GALLERY", "FOLDER", "FIRST"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(Path(options.work[0]), Path(options.work[1]), options.work[2], options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        rounds = list(killed_rounds(Path(scratch), options.moments, options.seed))
    during = Counter(one["during"] for one in rounds)
    print(f"killed at {len(rounds)} moments: {', '.join(f'{count} while {step}' for step, count in during.items())}")
    print(f"{sum(one['acknowledged'] for one in rounds):,} acknowledged changes checked, none lost, none twice")
    record = {
        "command": f"python tests/gallery/kills.py --moments {options.moments} --seed {options.seed}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "sqlite": sqlite3.sqlite_version,
        "rounds": rounds,
    }
    RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def killed_rounds(scratch: Path, moments: int, seed: int) -> Iterator[dict[str, Any]]:
    """Kill a worker again and again; raises `AssertionError` as soon as the gallery is not as it must be."""
    folder, path = scratch / "pictures", scratch / "my.gallery"
    files = drawn(folder)
    Gallery.create(path, FakeModel()).close()
    expected = dict.fromkeys(files, False)  # path -> whether it is stored; None: the kill came before the answer
    chance = random.Random(seed)
    for moment in range(moments):
        command = [sys.executable, __file__, "--seed", str(seed + moment)]
        command += ["--work", str(path), str(folder), STEPS[moment % len(STEPS)]]
        said = killed(command, chance.uniform(0, MOST_SECONDS))
        step, acknowledged = followed(expected, files, said)
        checked(path, expected)
        yield {"during": step, "acknowledged": acknowledged}


def killed(command: list[str], seconds: float) -> list[list[Any]]:
    """The reports of a worker until it was killed, so many seconds after its first one."""
    paths = os.pathsep.join([str(TESTS), *sys.path])
    said: list[list[Any]] = []
    began = threading.Event()

    def listen() -> None:
        assert worker.stdout is not None
        for line in worker.stdout:
            if line.endswith("\n"):  # the last line may be cut short; then it does not count
                said.append(json.loads(line))
                began.set()
        began.set()

    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": paths}
    ) as worker:
        listener = threading.Thread(target=listen)
        listener.start()
        began.wait(60)
        time.sleep(seconds)
        assert worker.poll() is None, "the worker ended by itself"
        worker.send_signal(signal.SIGKILL)
        listener.join()
    assert worker.returncode == -signal.SIGKILL
    return said


def work(path: Path, folder: Path, first: str, seed: int) -> None:
    """The worker: all steps again and again."""
    present.UNFLUSHED, ingest.PICTURES_A_BATCH = 20, 8  # side files and many commits for a small gallery
    chance, files = random.Random(seed), sorted(map(str, folder.rglob("*.png")))
    with Gallery.open(path, FakeModel()) as gallery:
        say("opened")
        steps = [*STEPS]
        while steps[0] != first:
            steps.append(steps.pop(0))
        while True:
            for step in steps:
                if step == "index":
                    say("indexing")
                    gallery.add_folder(folder, lambda done, _: say("indexed", done))
                elif step == "remove":
                    for _ in range(5):
                        doomed = chance.sample(files, 20)
                        say("removing", doomed)
                        gallery.store.remove(doomed)
                        say("removed", doomed)
                else:
                    say("compacting")
                    gallery.store.compact()
                    say("compacted")


def say(*words: object) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


def followed(expected: dict[str, bool | None], files: list[str], said: list[list[Any]]) -> tuple[str, int]:
    """Update `expected` by the reports; returns the last step begun and the number of acknowledged changes."""
    acknowledged = 0
    for word, *rest in said:
        if word == "indexing":
            expected.update({path: stored or None for path, stored in expected.items()})
        elif word == "removing":
            expected.update(dict.fromkeys(rest[0], None))
        elif word == "indexed":
            expected.update(dict.fromkeys(files[: rest[0]], True))
            acknowledged += len(files[: rest[0]])
        elif word == "removed":
            expected.update(dict.fromkeys(rest[0], False))
            acknowledged += len(rest[0])
    return next((word for word, *_ in reversed(said) if word.endswith("ing")), "opening"), acknowledged


def checked(path: Path, expected: dict[str, bool | None]) -> None:
    """Check that the gallery opens, is undamaged, and holds each acknowledged picture once; update open cases."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        stored = [row[0] for row in connection.execute("SELECT path FROM items")]
    assert len(stored) == len(set(stored)), "a picture is stored twice"
    for one, must in expected.items():
        assert must is None or (one in stored) == must, f"{one}: {'lost' if must else 'back again'}"
    assert set(stored) <= set(expected)
    with patch.object(present, "UNFLUSHED", 20), Gallery.open(path, FakeModel()) as gallery:
        assert len(gallery) == len(stored)
        for one in stored[:: max(1, len(stored) // 5)]:
            (hit,) = gallery.search(one, 1, "photo")
            assert hit.path == one
            assert hit.score > 0.99
    expected.update({one: one in stored for one in expected})


def drawn(folder: Path) -> list[str]:
    """Tiny pictures of noise in three folders; their paths, sorted as they are indexed."""
    for number in range(PICTURES):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        path = folder / f"class{number % 3}" / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return sorted(map(str, folder.rglob("*.png")))


if __name__ == "__main__":
    main()
