"""Kill a process that works on a gallery at random moments, and check that no acknowledged change is lost.

    python tests/gallery/kills.py --moments 200

The worker of `killed.py` indexes a folder, watches another, removes pictures, takes uploads by a server, compacts,
copies, replaces, repairs and converts galleries, for ever. It says what it is about to change, and what is done. It is
killed with SIGKILL, so that it cannot clean up. Then the gallery is opened and compared with what was said. The next
worker continues with the same gallery, and begins with another step.

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

from crossatnet.data.hashes import content_hash
from crossatnet.gallery import Gallery
from crossatnet.gallery.sqlite import present
from crossatnet.gallery.sqlite.checking import check, repair

sys.path.insert(0, str(Path(__file__).parents[1]))
from gallery import killed
from gallery.fake_model import FakeModel
from gallery.sqlite.test_migrations import made_by_schema_2, rows_of

TESTS = Path(__file__).parents[1]
RESULTS = TESTS.parent / "benchmarks" / "results" / "kills.json"
PICTURES = 240
SILENT = ("compact", "convert", "backup", "repair")  # steps that say only when they begin
MOST_WORDS, MOST_SECONDS = 15, 0.1  # a worker is killed so long after it has said so much: on slow machines too


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        rounds = list(killed_rounds(Path(scratch), options.moments, options.seed))
    during = Counter(one["during"] for one in rounds)
    print(f"killed at {len(rounds)} moments: {', '.join(f'{count} in {step}' for step, count in during.items())}")
    print(f"{sum(one['acknowledged'] for one in rounds):,} acknowledged changes checked, none lost, none twice")
    record = {
        "command": f"python tests/gallery/kills.py --moments {options.moments} --seed {options.seed}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "sqlite": sqlite3.sqlite_version,
        "rounds": rounds,
    }
    RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def killed_rounds(place: Path, moments: int, seed: int) -> Iterator[dict[str, Any]]:
    """Kill a worker again and again; raises `AssertionError` as soon as the gallery is not as it must be."""
    files = drawn(place / "pictures")
    (place / "watched").mkdir()
    (place / "watched" / "first.png").write_bytes(killed.png(seed))
    Gallery.create(place / "my.gallery", FakeModel()).close()
    old = [(path, "cat", f"{number:064x}") for number, path in enumerate(files)]
    template = made_by_schema_2(place / "template", FakeModel(), old)
    expected: dict[str, bool | None] = {}  # path -> whether it is stored; None: the kill came before the answer
    chance, steps = random.Random(seed), [*killed.STEPS]
    for moment in range(moments):
        step = steps[moment % len(steps)]
        command = [sys.executable, killed.__file__, str(place), step, str(seed + moment)]
        words = 1 if step in SILENT else chance.randint(1, MOST_WORDS)
        said = killed_after(command, words, chance.uniform(0, MOST_SECONDS))
        acknowledged = followed(expected, said)
        check_gallery(place, expected)
        check_copies(place, template)
        yield {"during": [what for word, what in said if word == "begun"][-1], "acknowledged": acknowledged}


def killed_after(command: list[str], words: int, seconds: float) -> list[list[Any]]:
    """What a worker said until it was killed, so many seconds after it had said so many words."""
    paths = os.pathsep.join([str(TESTS), *sys.path])
    said: list[list[Any]] = []
    began = threading.Event()

    def listen() -> None:
        assert worker.stdout is not None
        for line in worker.stdout:
            if line.endswith("\n"):  # the last line may be cut short; then it does not count
                said.append(json.loads(line))
                if len(said) == words:
                    began.set()
        began.set()

    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": paths}
    ) as worker:
        listener = threading.Thread(target=listen)
        listener.start()
        began.wait(120)
        time.sleep(seconds)
        assert worker.poll() is None, "the worker ended by itself"
        worker.send_signal(signal.SIGKILL)
        listener.join()
    assert worker.returncode == -signal.SIGKILL
    return said


def followed(expected: dict[str, bool | None], said: list[list[Any]]) -> int:
    """Update `expected` by what was said; returns the number of acknowledged changes."""
    acknowledged = 0
    for word, what in said:
        if word == "doubtful":
            expected.update(dict.fromkeys(what, None))
        elif word == "coming":
            expected.update({path: expected.get(path) or None for path in what})
        elif word in ("kept", "gone"):
            expected.update(dict.fromkeys(what, word == "kept"))
            acknowledged += len(what)
    return acknowledged


def check_gallery(place: Path, expected: dict[str, bool | None]) -> None:
    """Check that the gallery opens, is undamaged, and holds each acknowledged picture once; update open cases."""
    path = place / "my.gallery"
    finish_uploads(place)
    assert repair(path, killed.embed_into)[1] == (), "damaged by the worker, and not to be mended"
    assert check(path).are_none
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = connection.execute("SELECT path, content_hash FROM items").fetchall()
    stored, hashes = [row[0] for row in rows], dict(rows)
    assert len(stored) == len(hashes), "a picture is stored twice"
    for one, must in expected.items():
        assert must is None or (one in stored) == must, f"{one}: {'lost' if must else 'back again'}"
    assert set(stored) <= set(expected)
    kept = {str(each) for each in (place / "uploads").rglob("*.png")}
    assert kept == {each for each in stored if each.startswith(str(place / "uploads"))}, "a file or a row is alone"
    with patch.object(present, "UNFLUSHED", killed.SMALL_SIDE_FILE), Gallery.open(path, FakeModel()) as gallery:
        assert len(gallery) == len(stored)
        there = [one for one in stored if Path(one).is_file()]
        # A watched file that was changed just before the kill, and not yet read again, is found by what it was.
        as_stored = [one for one in there if content_hash(Path(one).read_bytes()) == hashes[one]]
        assert all(one.startswith(str(place / "watched")) for one in {*there} - {*as_stored})
        for one in as_stored[:: max(1, len(as_stored) // 5)]:
            (hit,) = gallery.search(one, 1, "photo")
            assert hit.path == one, f"{hit} instead of {one}"
            assert hit.score > 0.99
    expected.update({one: one in stored for one in expected})


def finish_uploads(place: Path) -> None:
    """What a server does when it starts again."""
    if not (place / "uploads").exists():
        return
    from crossatnet.server import uploads  # here, as only this step needs what is slow to load
    from crossatnet.server.galleries import open_galleries
    from crossatnet.server.settings import Place

    galleries = open_galleries([Place(str(place / "my.gallery"))], place / "uploads", FakeModel())
    for served in galleries:
        uploads.tidy(served)
    galleries.close()


def check_copies(place: Path, template: list[tuple[object, ...]]) -> None:
    """Check that a copy is whole or not there, and that an old gallery is converted whole or not at all."""
    old = place / "old.gallery"
    if old.exists():
        Gallery.open(old, FakeModel()).close()
        with closing(sqlite3.connect(old)) as connection:
            assert rows_of(connection) == template
        for file in place.glob("old.gallery*"):
            file.unlink()
    for name in ("copy.gallery", "earlier.gallery"):
        assert not (place / name).exists() or check(place / name).are_none
    for part in place.glob(".*.unfinished*"):
        part.unlink()


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
