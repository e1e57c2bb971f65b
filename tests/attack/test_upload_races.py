"""An acknowledged upload stays, whoever deletes the same picture at the same time; nothing half done stays."""

import os
import random
import sqlite3
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import httpx2
import pytest
from fastapi.testclient import TestClient

from attack.servers import Server, crossatnet
from crossatnet.gallery import Gallery
from crossatnet.gallery.sqlite.store import Store
from crossatnet.server import uploads
from crossatnet.server.galleries import open_galleries
from crossatnet.server.settings import Place
from gallery.fake_model import FakeModel
from server.serving import BASE, PNG, assert_refused, picture

ROUNDS = int(os.environ.get("ATTACK_ROUNDS", "60"))


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]


def stored(gallery: Path) -> set[str]:
    with closing(sqlite3.connect(gallery)) as connection:
        return {row[0] for row in connection.execute("SELECT path FROM items")}


def raced(places: list[str], uploaded: Path, gallery: Path, rounds: int) -> None:
    """Post and delete one picture at once, again and again: a row and its file are there together or not at all."""
    chance = random.Random(0)
    with ThreadPoolExecutor(3) as pool, httpx2.Client(timeout=60, headers=PNG) as client:
        for number in range(rounds):
            content = picture(1000 + number % 7)
            first = client.post(f"{chance.choice(places)}/items", content=content).json()
            wait = threading.Barrier(3)

            def post(place: str, wait: threading.Barrier = wait, content: bytes = content) -> httpx2.Response:
                wait.wait()
                return client.post(f"{place}/items", content=content)

            def delete(place: str, wait: threading.Barrier = wait, key: str = first["id"]) -> httpx2.Response:
                wait.wait()
                return client.delete(f"{place}/items/{key}")

            posts = [pool.submit(post, chance.choice(places)) for _ in range(2)]
            deleted = pool.submit(delete, chance.choice(places)).result()
            answers = [each.result() for each in posts]
            assert [each.status_code for each in answers] == [201, 201], [each.text for each in answers]
            assert deleted.status_code in (204, 404), deleted.text
            on_disk = {str(path) for path in files(uploaded)}
            assert stored(gallery) == on_disk, f"round {number}: row and file do not agree"
            for answer in answers:
                item = answer.json()["id"]
                if client.get(f"{places[0]}/items/{item}").status_code == 200:
                    assert client.get(f"{places[0]}/items/{item}/image").status_code == 200
            for path in on_disk:  # the next round begins without it
                with closing(Store.open(gallery)) as store:
                    key = store.ids([path])[path]
                assert client.delete(f"{places[0]}/items/{key}").status_code == 204


@pytest.mark.attack
def test_no_upload_is_lost_to_a_delete_by_workers_and_servers(tmp_path: Path) -> None:
    folder, place, kept = tmp_path / "pictures", tmp_path / "pets.gallery", tmp_path / "uploads"
    folder.mkdir()
    (folder / "1.png").write_bytes(picture(1))
    assert crossatnet("index", folder, "-o", place, "--quiet").returncode == 0
    assert crossatnet("remove", place, folder).returncode == 0
    options = ("--uploads", kept, "--quiet")
    with (
        Server(place, tmp_path / "one.log", *options, "--workers", 2) as one,
        Server(place, tmp_path / "two.log", *options) as two,
    ):
        raced([one.base, two.base], kept, place, ROUNDS)
        assert "Traceback" not in one.text() + two.text()


def test_an_upload_and_a_delete_of_the_same_picture_take_turns(client: TestClient, tmp_path: Path) -> None:
    """The same with threads of one server, each pausing between file and row as a busy disk would."""
    content = picture(500)
    for _ in range(30):
        first = client.post(f"{BASE}/items", content=content, headers=PNG).json()
        with ThreadPoolExecutor(2) as pool:
            posted = pool.submit(client.post, f"{BASE}/items", content=content, headers=PNG)
            deleted = pool.submit(client.delete, f"{BASE}/items/{first['id']}")
            assert posted.result().status_code == 201
            assert deleted.result().status_code in (204, 404)
        item = client.get(f"{BASE}/items/{posted.result().json()['id']}")
        assert len(files(tmp_path / "uploads")) == (item.status_code == 200)


def test_a_failing_upload_removes_no_file_of_another(
    client: TestClient, gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = picture(501)
    item = client.post(f"{BASE}/items", content=content, headers=PNG).json()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Gallery, "store_picture", full)
        assert_refused(client.post(f"{BASE}/items", content=content, headers=PNG), 507, "disk_full")
    assert client.get(item["image"]).status_code == 200
    assert len(files(tmp_path / "uploads")) == 1


class Killed(BaseException):
    """Ends a step like a kill: what follows it does not run."""


@pytest.mark.parametrize("step", ["write_whole", "store", "unlink", "remove"])
def test_what_a_kill_left_half_done_is_finished_at_the_next_start(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, kept = tmp_path / "pets.gallery", tmp_path / "uploads"
    Gallery.create(place, FakeModel()).close()
    galleries = open_galleries([Place(str(place))], kept, FakeModel())
    served = galleries.named("pets")
    old = uploads.add(served, picture(600), "old", "cat")

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", killed)  # nothing is cleaned up
        patched.setattr("crossatnet.system.files.Path.unlink", killed)
        if step == "write_whole":
            patched.setattr("os.fsync", killed)
        elif step == "store":
            patched.setattr(Gallery, "store_picture", killed)
        elif step == "remove":
            patched.setattr(Store, "remove", killed)
        begun = partial(uploads.remove, served, old)
        if step not in ("remove", "unlink"):
            begun = partial(uploads.add, served, picture(601), "new", None)
        with pytest.raises(Killed):
            begun()
    assert len(files(kept)) > 1 or step == "unlink"
    galleries.close()
    again = open_galleries([Place(str(place))], kept, FakeModel())
    uploads.tidy(again.named("pets"))
    on_disk = {str(path) for path in files(kept)}
    assert on_disk == stored(place)
    assert len(on_disk) == (0 if step == "unlink" else 1)
    again.close()


def test_uploads_may_be_read_by_whom_the_umask_allows(client: TestClient, tmp_path: Path) -> None:
    client.post(f"{BASE}/items", content=picture(502), headers=PNG)
    (file,) = files(tmp_path / "uploads")
    reference = tmp_path / "reference"
    reference.touch()
    assert stat.S_IMODE(file.stat().st_mode) == stat.S_IMODE(reference.stat().st_mode)


def test_names_are_counted_in_bytes(client: TestClient, tmp_path: Path) -> None:
    for number, name in enumerate(("鳥" * 80, "😀" * 199, "é" * 200, "x" * 200)):
        answer = client.post(f"{BASE}/items", params={"file_name": name}, content=picture(510 + number), headers=PNG)
        assert answer.status_code == 201, answer.text
    for path in files(tmp_path / "uploads"):
        assert len(path.name.encode()) <= 120


def test_a_class_may_not_have_the_name_of_an_uploaded_file(client: TestClient, tmp_path: Path) -> None:
    client.post(f"{BASE}/items", content=picture(503), headers=PNG)
    (file,) = files(tmp_path / "uploads")
    answer = client.post(f"{BASE}/items", params={"class_name": file.name}, content=picture(504), headers=PNG)
    assert_refused(answer, 422, "invalid", "class_name")


def test_a_full_disk_is_said_as_such(
    client: TestClient, gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        assert_refused(client.post(f"{BASE}/items", content=picture(505), headers=PNG), 507, "disk_full", "make room")
    store = client.app.state.crossatnet.galleries.named("my-pets").gallery.store  # type: ignore[attr-defined]
    pages = store._file._connection.execute("PRAGMA page_count").fetchone()[0]
    store._file._connection.execute(f"PRAGMA max_page_count = {pages + 6}")
    codes = set()
    for number in range(400):  # until the file would have to grow
        answer = client.post(f"{BASE}/items", content=picture(700 + number), headers=PNG)
        codes.add(answer.status_code)
        if answer.status_code != 201:
            assert_refused(answer, 507, "disk_full", "make room")
            break
    assert codes == {201, 507}
    assert {str(path) for path in files(tmp_path / "uploads")} <= stored(Path(gallery.store.name))
