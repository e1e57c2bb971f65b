"""Random damage, kills and full disks, round after round: a few in the fast suite, ATTACK_MINUTES of them in the slow.

Each round is checked by an oracle of its own: nothing acknowledged is lost, nothing is doubled, no traceback, and no
answer that differs without a word.
"""

import os
import random
import resource
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import httpx2
import numpy as np
import pytest

from attack.servers import Server, crossatnet
from crossatnet.evaluation.embeddings import evaluate_embeddings
from crossatnet.evaluation.results import load_results, save_results
from crossatnet.gallery.sqlite.checking import check
from crossatnet.gallery.sqlite.copies import backup, replace
from crossatnet.runtime.load import load
from crossatnet.system.errors import UserError
from gallery.killed import STEPS
from gallery.kills import killed_rounds
from server.serving import PNG, picture

MINUTES = float(os.environ.get("ATTACK_MINUTES", "0"))
KINDS = 5  # of rounds, which share the minutes
FLIPS = int(os.environ.get("ATTACK_FLIPS", "60"))  # at least
SEED = int(os.environ.get("ATTACK_SEED", "0"))

pytestmark = pytest.mark.attack


def rounds(least: int) -> Iterator[int]:
    """Numbers of rounds: `least` of them, or as many as the minutes allow."""
    until, number = time.monotonic() + 60 * MINUTES / KINDS, 0
    while number < least or time.monotonic() < until:
        yield number
        number += 1


def flipped(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def scores(archive: Path) -> str:
    """What embeddings score, without how long it took."""
    return repr([row.model_copy(update={"seconds_per_query": None}) for row in evaluate_embeddings(archive).rows])


def test_flips_of_checkpoints_results_and_archives(exported: Path, tmp_path: Path) -> None:
    chance, outcomes = random.Random(SEED), Counter[str]()
    probe = np.random.default_rng(0).integers(0, 256, (1, 96, 96, 3), np.uint8)
    truth = load(exported, "onnx").embed(probe, "photo")
    archive, results = tmp_path / "some.npz", tmp_path / "some.json"
    values = np.random.default_rng(0).standard_normal((20, 8))
    names = [f"class{number % 4}" for number in range(20)]
    np.savez(archive, query=values, query_class=names, gallery=values, gallery_class=names)
    scored = scores(archive)
    save_results(evaluate_embeddings(archive), results)
    files = [*(exported / name for name in ("config.json", "onnx.json", "model.safetensors", "photo.onnx"))]
    for number in rounds(FLIPS):
        file = [*files, archive, results][number % (len(files) + 2)]
        content = file.read_bytes()
        file.write_bytes(flipped(content, chance))
        try:
            if file == archive:
                is_same = scores(archive) == scored
            elif file == results:
                is_same = True  # text of a user's own: what is well-formed is believed
                load_results(results)
            else:
                model = load(exported, "onnx")
                is_same = bool(np.array_equal(model.embed(probe, "photo"), truth))
            outcomes["as before" if is_same else "silent"] += 1
        except UserError:
            outcomes["refused"] += 1
        finally:
            file.write_bytes(content)
    print(f"flips of checkpoints, results and archives: {dict(outcomes)}")
    assert not outcomes["silent"]


def test_kills_of_a_server_that_takes_uploads(indexed: Path, tmp_path: Path) -> None:
    place, kept = tmp_path / "pets.gallery", tmp_path / "uploads"
    backup(indexed, place)
    chance, posted, deleted, acknowledged = random.Random(SEED), dict[str, str](), set[str](), 0
    for number in rounds(4):
        server = Server(place, tmp_path / "log", "--uploads", kept, "--quiet")
        killer = threading.Timer(chance.uniform(0.05, 1.5), server.process.send_signal, (signal.SIGKILL,))
        killer.start()
        seed, doubtful = 0, set[str]()
        with suppress(httpx2.HTTPError), httpx2.Client(timeout=30) as client:
            while True:
                seed += 1
                answer = client.post(f"{server.base}/items", content=picture(10_000 * number + seed), headers=PNG)
                assert answer.status_code == 201, answer.text
                item = answer.json()
                posted[item["id"]] = item["file_name"]
                acknowledged += 1
                if seed % 3 == 0:
                    doubtful = {item["id"]}
                    assert client.delete(f"{server.base}/items/{item['id']}").status_code == 204
                    deleted.add(item["id"])
                    acknowledged += 1
        killer.join()
        server.stop()
        with Server(place, tmp_path / "log", "--uploads", kept, "--quiet"):
            pass  # which finishes what was half done
        with closing(sqlite3.connect(place)) as connection:
            rows = {str(key): path for key, path in connection.execute("SELECT id, path FROM items")}
        uploaded = {key: Path(path) for key, path in rows.items() if Path(path).is_relative_to(kept)}
        lost = posted.keys() - deleted - doubtful - uploaded.keys()
        assert not lost, f"acknowledged and lost: {lost}"
        assert not deleted & uploaded.keys(), "deleted and back again"
        on_disk = {path for path in kept.rglob("*") if path.is_file() and path.name != ".lock"}
        assert on_disk == set(uploaded.values()), "a file without its row, or a row without its file"
        deleted |= doubtful - uploaded.keys()
    print(f"kills of a server: {acknowledged} acknowledged changes, none lost")


def test_kills_over_all_steps(tmp_path: Path) -> None:
    """Of a worker that indexes, watches, uploads, removes, compacts, converts, copies, replaces and repairs."""
    done, acknowledged = Counter[str](), 0
    killed = killed_rounds(tmp_path, 1_000_000, SEED)
    for _ in rounds(len(STEPS)):
        outcome = next(killed)
        done[outcome["during"]] += 1
        acknowledged += outcome["acknowledged"]
    assert acknowledged > len(STEPS)
    print(f"kills: {acknowledged} acknowledged changes, none lost and none done twice; {dict(done)}")


def test_a_disk_that_gets_full_at_any_write(indexed: Path, tmp_path: Path) -> None:
    """A limit of the size of files stands in for the disk: every write beyond it fails as on a full one."""
    chance, folder, place = random.Random(SEED), tmp_path / "pictures", tmp_path / "pets.gallery"
    backup(indexed, place)
    folder.mkdir()
    outcomes = Counter[int]()
    for number in rounds(3):
        for seed in range(10):
            (folder / f"{number}-{seed}.png").write_bytes(picture(1_000 * number + seed))
        before, room = _paths(place), place.stat().st_size + chance.randrange(0, 60_000)

        def little_room(room: int = room) -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

        done = crossatnet("index", folder, "-o", place, "--quiet", preexec_fn=little_room)
        outcomes[done.returncode] += 1
        assert done.returncode in (0, 2), done.stderr
        assert "Traceback" not in done.stderr
        assert len(done.stderr.splitlines()) <= 1, done.stderr
        assert _paths(place) >= before
        assert check(place).are_none
        assert crossatnet("index", folder, "-o", place, "--quiet").returncode == 0
    print(f"full disks: exit codes {dict(outcomes)}")


def test_replaced_again_and_again_while_it_is_searched(indexed: Path, tmp_path: Path) -> None:
    place, other = tmp_path / "pets.gallery", tmp_path / "other.gallery"
    backup(indexed, place)
    (tmp_path / "pictures").mkdir()
    for seed in range(3):
        (tmp_path / "pictures" / f"{seed}.png").write_bytes(picture(seed))
    assert crossatnet("index", tmp_path / "pictures", "-o", other, "--quiet").returncode == 0
    with Server(place, tmp_path / "log", "--workers", 2, "--quiet") as server, httpx2.Client(timeout=60) as client:
        for number in rounds(10):
            replace(place, indexed if number % 2 else other)
            answer = client.post(f"{server.base}/search/photo?k=50", content=picture(0), headers=PNG)
            assert answer.status_code == 200, answer.text
            assert len(answer.json()["hits"]) == (12 if number % 2 else 3)
        assert "Traceback" not in server.text()
    assert check(place).are_none


def _paths(place: Path) -> set[str]:
    with closing(sqlite3.connect(place)) as connection:
        rows = [row[0] for row in connection.execute("SELECT path FROM items")]
    assert len(rows) == len(set(rows)), "a picture is stored twice"
    return set(rows)
