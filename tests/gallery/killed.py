"""The worker that `kills.py` kills: it does all that changes or copies a gallery, for ever, and says what it does.

It says of each step when it begins, which pictures are about to come ("coming") or may go ("doubtful"), and what is
acknowledged: which pictures must be there from then on ("kept"), which must not ("gone").
"""

import io
import json
import random
import shutil
import socket
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import numpy as np
from PIL import Image

from crossatnet.data.hashes import content_hash, short_hash
from crossatnet.gallery import Gallery
from crossatnet.gallery.ingest import folder as ingest
from crossatnet.gallery.ingest.watch import watch_folder
from crossatnet.gallery.sqlite import copies, database, present
from crossatnet.gallery.sqlite.checking import Embed, repair
from gallery.fake_model import FakeModel

SMALL_SIDE_FILE = 20  # so many items have one here
UPLOADED = "my"  # the folder of the gallery in the folder of uploads


class Worker:
    """All steps on the gallery `my.gallery` in a folder, beside which their files lie."""

    def __init__(self, place: Path, seed: int) -> None:
        self.place, self.chance = place, random.Random(seed)
        self.path, self.pictures, self.watched = place / "my.gallery", place / "pictures", place / "watched"
        self.files = sorted(map(str, self.pictures.rglob("*.png")))
        self.gallery = Gallery.open(self.path, FakeModel())

    def index(self) -> None:
        say("coming", self.files)
        self.gallery.add_folder(self.pictures, lambda done, _: say("kept", self.files[:done]))

    def remove(self) -> None:
        for _ in range(5):
            self._remove_some()

    def compact(self) -> None:
        self.gallery.store.compact()

    def watch(self) -> None:
        """Between two looks a file is added, changed, moved or deleted."""
        stored = [path for path in self._stored(self.path) if path.startswith(str(self.watched))]
        say("coming", self._watched_files())
        say("doubtful", sorted({*stored} - {*self._watched_files()}))
        looks, seen = iter(range(6)), {*stored}

        def wait(_: float) -> None:
            if next(looks, None) is None:
                raise KeyboardInterrupt  # as people end it
            self._change_watched()

        def update() -> ingest.IngestSummary:
            summary, there = self.gallery.add_folder(self.watched), self._watched_files()
            say("gone", sorted(seen - {*there}))
            say("kept", there)
            seen.update(there)
            return summary

        with suppress(KeyboardInterrupt):
            for _ in watch_folder(update, 0, ended, (), wait):
                pass

    def upload(self) -> None:
        """A real server takes pictures and deletes some of them."""
        import httpx2  # here, as only this step needs what is slow to load

        with served(self.path, self.place / "uploads") as base, httpx2.Client(timeout=60) as client:
            items = f"{base}/api/v1/galleries/{UPLOADED}/items"
            for number in range(6):
                content = png(self.chance.getrandbits(40))
                name = f"picture-{short_hash(content_hash(content))}.png"
                path = str(self.place / "uploads" / UPLOADED / name)
                say("coming", [path])
                answer = client.post(items, content=content, headers={"content-type": "image/png"})
                assert answer.status_code == 201, answer.text
                say("kept", [path])
                if number % 3 == 2:
                    say("doubtful", [path])
                    assert client.delete(f"{items}/{answer.json()['id']}").status_code == 204
                    say("gone", [path])

    def convert(self) -> None:
        """A gallery of schema 2 is opened, which converts it."""
        old = self.place / "old.gallery"
        for _ in range(3):
            shutil.copyfile(self.place / "template", self.place / "copied")
            (self.place / "copied").rename(old)
            database.open_to_write(old).close()
            for file in self.place.glob("old.gallery*"):
                file.unlink()

    def backup(self) -> None:
        copy = self.place / "copy.gallery"
        for _ in range(3):
            copy.unlink(missing_ok=True)
            copies.backup(self.path, copy)
        copy.unlink()

    def replace(self) -> None:
        """What was removed comes back by a copy made before."""
        earlier = self.place / "earlier.gallery"
        earlier.unlink(missing_ok=True)
        copies.backup(self.path, earlier)
        there = self._stored(earlier)
        say("doubtful", self._remove_some())
        copies.replace(self.path, earlier)
        say("kept", there)
        earlier.unlink()

    def repair(self) -> None:
        """A row is damaged, and made again from its file."""
        self.gallery.close()
        whole = sorted({*self.files} & {*self._stored(self.path)})
        for path in self.chance.sample(whole, min(3, len(whole))):
            with closing(sqlite3.connect(self.path)) as connection, connection:
                connection.execute("UPDATE items SET embedding = x'00' WHERE path = ?", (path,))
            assert repair(self.path, embed_into)[1] == ()
        self.gallery = Gallery.open(self.path, FakeModel())

    def _remove_some(self) -> list[str]:
        doomed = self.chance.sample(self.files, 20)
        say("doubtful", doomed)
        self.gallery.store.remove(doomed)
        say("gone", doomed)
        return doomed

    def _change_watched(self) -> None:
        one, new = self.chance.choice(self._watched_files()), str(self.watched / f"{self.chance.getrandbits(40)}.png")
        change = self.chance.choice(("add", "add", "change", "move", "delete"))
        if change == "delete" and len(self._watched_files()) > 1:  # a folder without pictures is a disk that is gone
            say("doubtful", [one])
            Path(one).unlink()
        elif change == "move":
            say("doubtful", [one, new])
            Path(one).rename(new)
        else:
            target = one if change == "change" else new
            say("coming", [target])
            (self.place / "drawn").write_bytes(png(self.chance.getrandbits(40)))
            (self.place / "drawn").rename(target)

    def _watched_files(self) -> list[str]:
        return sorted(map(str, self.watched.iterdir()))

    def _stored(self, path: Path) -> list[str]:
        with closing(sqlite3.connect(path)) as connection:
            return sorted(row[0] for row in connection.execute("SELECT path FROM items"))


STEPS: dict[str, Callable[[Worker], None]] = {
    step.__name__: step
    for step in (
        *(Worker.index, Worker.remove, Worker.compact, Worker.watch, Worker.upload, Worker.convert, Worker.backup),
        *(Worker.replace, Worker.repair),
    )
}


def main() -> None:
    """Do all steps again and again, beginning with the one named."""
    place, first, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    present.UNFLUSHED, ingest.PICTURES_A_BATCH = SMALL_SIDE_FILE, 8  # many commits for a small gallery
    worker, steps = Worker(place, seed), [*STEPS]
    while True:
        for step in steps[steps.index(first) :] + steps[: steps.index(first)]:
            say("begun", step)
            STEPS[step](worker)


def say(word: str, what: object) -> None:
    sys.stdout.write(json.dumps([word, what]) + "\n")
    sys.stdout.flush()


def ended(message: str) -> None:
    raise AssertionError(message)


def png(seed: int) -> bytes:
    """A tiny picture of noise."""
    made = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(made, "PNG")
    return made.getvalue()


def embed_into(copy: Path) -> Embed:
    def embed(path: Path, class_name: str | None) -> None:
        with Gallery.open(copy, FakeModel()) as gallery:
            gallery.add_picture(path, class_name)

    return embed


@contextmanager
def served(gallery: Path, uploads: Path) -> Iterator[str]:
    """The address of a server of the gallery, in this process."""
    import uvicorn

    from crossatnet.server.app import create_app
    from crossatnet.server.galleries import open_galleries
    from crossatnet.server.settings import Place, Settings
    from crossatnet.server.uploads import tidy

    settings = Settings((Place(str(gallery)),), uploads=uploads)
    galleries = open_galleries(settings.places, uploads, FakeModel())
    for each in galleries:
        tidy(each)
    server = uvicorn.Server(uvicorn.Config(create_app(galleries, settings), log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


if __name__ == "__main__":
    main()
