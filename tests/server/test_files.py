"""What is done with hits through the server: places, originals, archives, the file manager, and folders added."""

import io
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fastapi.testclient import TestClient

from crossatnet.gallery import Gallery
from crossatnet.server.app import create_app
from crossatnet.server.galleries import open_galleries
from crossatnet.server.settings import Place, Settings
from gallery import known
from gallery.fake_model import FakeModel
from server.serving import ADDRESS, BASE, HOUSE, PICTURES, assert_refused, picture

Client = Callable[..., TestClient]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photos of two years, in folders, one of them three times."""
    root = tmp_path / "photos"
    for number in range(12):
        year = 2018 + number % 2
        path = root / str(year) / ("holiday" if number % 3 else "work") / f"{number:02}.jpg"
        known.write(
            path, number, f"{year}:07:14 10:00:{number:02}", ("red",) if number % 2 else ("blue",), "By the sea"
        )
    for name in ("copy", "other"):
        shutil.copy(root / "2019" / "holiday" / "01.jpg", root / f"{name}.jpg")
    return root


@pytest.fixture
def photo_gallery(tmp_path: Path, photos: Path, model: FakeModel) -> Iterator[Gallery]:
    with Gallery.create(tmp_path / "photos.gallery", model) as gallery:
        gallery.add_folder(photos)
        yield gallery


@pytest.fixture
def both(photo_gallery: Gallery, gallery: Gallery, model: FakeModel) -> Iterator[TestClient]:
    """A server of the photos and of the pictures of the other tests."""
    places = (Place(photo_gallery.store.name), Place(gallery.store.name))
    with TestClient(create_app(open_galleries(places, None, model), Settings(places)), base_url=ADDRESS) as client:
        yield client


PHOTOS = "/api/v1/galleries/photos"


def hits(client: TestClient, **conditions: Any) -> list[dict[str, Any]]:
    answer = client.get(f"{PHOTOS}/search/words", params={"k": 50, **conditions})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["hits"]
    return found


def names(found: list[dict[str, Any]]) -> list[str]:
    return [hit["file_name"] for hit in found]


def test_conditions_find_with_and_without_a_drawing(both: TestClient) -> None:
    assert len(hits(both, words="sea")) == 14
    assert names(hits(both, taken_since="2019-01-01", tags="red", grouped=True))[:2] == ["11.jpg", "09.jpg"]
    assert {name[:2] for name in names(hits(both, folder="2018/work"))} == {"00", "06"}
    assert names(hits(both, words="nothing")) == []
    drawn = both.post(
        f"{PHOTOS}/search/strokes", json={"strokes": HOUSE, "words": "work", "taken_before": "2019-01-01"}
    )
    assert {hit["file_name"] for hit in drawn.json()["hits"]} == {"00.jpg", "06.jpg"}
    assert {hit["taken"][:4] for hit in drawn.json()["hits"]} == {"2018"}
    photo = both.post(
        f"{PHOTOS}/search/photo",
        params={"folder": "work", "tags": "red"},
        content=known.content(known.noise(9)),
        headers={"content-type": "image/jpeg"},
    )
    assert names(photo.json()["hits"])[0] == "09.jpg"
    assert_refused(both.get(f"{PHOTOS}/search/words", params={"taken_since": "someday"}), 422, "invalid", "taken_since")


def test_copies_are_one_hit(both: TestClient) -> None:
    found = hits(both, grouped=True)
    assert len(found) == 12
    (group,) = (hit for hit in found if hit["copies"])
    assert sorted([group["file_name"], *names(group["copies"])]) == ["01.jpg", "copy.jpg", "other.jpg"]
    first = both.get(f"{PHOTOS}/search/words", params={"k": 5, "grouped": True}).json()
    second = both.get(f"{PHOTOS}/search/words", params={"k": 50, "offset": 5, "grouped": True}).json()
    assert first["next_offset"] == 5
    assert names(first["hits"]) + names(second["hits"]) == names(found)


def test_several_galleries_are_searched_as_one(both: TestClient, model: FakeModel, tmp_path: Path) -> None:
    body = {"strokes": HOUSE, "k": 30}
    one = both.post(f"{PHOTOS}/search/strokes", json=body).json()
    other = both.post(f"{BASE}/search/strokes", json=body).json()
    together = both.post(f"{PHOTOS}/search/strokes", json={**body, "also": ["my-pets"]}).json()
    expected = sorted((hit["score"] for hit in one["hits"] + other["hits"]), reverse=True)[:30]
    assert [hit["score"] for hit in together["hits"]] == expected
    assert together["pictures"] == 14 + PICTURES
    assert {hit["gallery"] for hit in together["hits"]} == {"photos", "my-pets"}
    second = both.post(f"{PHOTOS}/search/strokes", json={**body, "also": ["my-pets"], "k": 60, "offset": 30}).json()
    ids = [(hit["gallery"], hit["id"]) for hit in together["hits"] + second["hits"]]
    assert len(set(ids)) == len(ids) == 14 + PICTURES
    assert second["next_offset"] is None
    assert_refused(both.post(f"{PHOTOS}/search/strokes", json={**body, "also": ["none"]}), 404, "not_found")


def test_galleries_of_different_checkpoints_are_not_mixed(photo_gallery: Gallery, tmp_path: Path) -> None:
    other = FakeModel(seed=1)
    Gallery.create(tmp_path / "other.gallery", other).close()
    served = [*open_galleries((Place(photo_gallery.store.name),), None, FakeModel())]
    served += [*open_galleries((Place(str(tmp_path / "other.gallery")),), None, other)]
    from crossatnet.server.galleries import Galleries

    with TestClient(create_app(Galleries(served), Settings(())), base_url=ADDRESS) as client:
        answer = client.get(f"{PHOTOS}/search/words", params={"words": "sea", "also": "other"})
    assert_refused(answer, 422, "invalid", "made by different checkpoints")


def test_a_place_tells_where_the_file_is_and_what_is_known(both: TestClient, photos: Path) -> None:
    (hit,) = hits(both, words="05")
    place = both.get(f"{PHOTOS}/items/{hit['id']}/place").json()
    assert place == {
        "path": str(photos / "2019" / "holiday" / "05.jpg"),
        "gone": False,
        "taken": "2019-07-14T10:00:05",
        "camera": "",
        "has_place": False,
        "tags": ["red"],
        "caption": "By the sea",
        "rating": None,
    }
    (photos / "2019" / "holiday" / "05.jpg").unlink()
    assert both.get(f"{PHOTOS}/items/{hit['id']}/place").json()["gone"] is True
    assert hits(both, words="05")[0]["gone"] is True


def test_the_original_is_the_file_as_it_was_indexed_or_nothing(both: TestClient, photos: Path) -> None:
    (hit,) = hits(both, words="05")
    path, address = photos / "2019" / "holiday" / "05.jpg", f"{PHOTOS}/items/{hit['id']}/original"
    answer = both.get(address)
    assert answer.content == path.read_bytes()
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["content-disposition"] == "inline; filename*=UTF-8''05.jpg"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert both.get(f"{address}?download=true").headers["content-disposition"].startswith("attachment")
    path.unlink()
    path.symlink_to("/etc/hostname")
    assert_refused(both.get(address), 409, "conflict", "05.jpg")
    assert_refused(both.get(f"{PHOTOS}/items/999/original"), 404, "not_found")


def test_a_name_cannot_end_a_header(tmp_path: Path, model: FakeModel) -> None:
    known.write(tmp_path / "odd" / 'a";\r\nx: y\u202e.jpg', 1)
    with Gallery.create(tmp_path / "odd.gallery", model) as gallery:
        gallery.add_folder(tmp_path / "odd")
    places = (Place(str(tmp_path / "odd.gallery")),)
    with TestClient(create_app(open_galleries(places, None, model), Settings(places)), base_url=ADDRESS) as client:
        answer = client.get("/api/v1/galleries/odd/items/1/original")
        assert answer.status_code == 200
        assert answer.headers["content-disposition"] == "inline; filename*=UTF-8''a%22%3B%0D%0Ax%3A%20y%E2%80%AE.jpg"
        archive = client.post("/api/v1/selection/archive", json={"items": [{"gallery": "odd", "id": "1"}]})
        assert zipfile.ZipFile(io.BytesIO(archive.content)).namelist() == ['a";__x: y_.jpg']


def test_a_selection_becomes_a_list_or_an_archive(both: TestClient, photos: Path, gallery: Gallery) -> None:
    found = hits(both, words="01")
    other = both.get(f"{BASE}/search/words", params={"k": 1}).json()["hits"]
    gone = hits(both, words="05")
    chosen = {"items": [{"gallery": hit["gallery"], "id": hit["id"]} for hit in (*found, *other, *gone)]}
    (photos / "2019" / "holiday" / "05.jpg").unlink()
    paths = both.post("/api/v1/selection/paths", json=chosen).json()["paths"]
    assert paths[0] == str(photos / "2019" / "holiday" / "01.jpg")
    assert len(paths) == 3
    answer = both.post("/api/v1/selection/archive", json=chosen)
    assert answer.headers["content-type"] == "application/zip"
    packed = zipfile.ZipFile(io.BytesIO(answer.content))
    assert packed.testzip() is None
    assert packed.namelist() == ["01.jpg", Path(paths[1]).name, "left out.txt"]
    assert packed.read("01.jpg") == (photos / "2019" / "holiday" / "01.jpg").read_bytes()
    assert b"05.jpg" in packed.read("left out.txt")
    assert_refused(both.post("/api/v1/selection/archive", json={"items": []}), 422, "invalid")
    assert_refused(
        both.post("/api/v1/selection/archive", json={"items": [{"gallery": "photos", "id": "999"}]}), 404, "not_found"
    )


def test_equal_names_stay_apart_in_an_archive(tmp_path: Path, model: FakeModel) -> None:
    for number, folder in enumerate(("a", "b", "c")):
        known.write(tmp_path / "same" / folder / "One.jpg", number)
    with Gallery.create(tmp_path / "same.gallery", model) as gallery:
        gallery.add_folder(tmp_path / "same")
    places = (Place(str(tmp_path / "same.gallery")),)
    with TestClient(create_app(open_galleries(places, None, model), Settings(places)), base_url=ADDRESS) as client:
        items = [{"gallery": "same", "id": str(number)} for number in (1, 2, 3)]
        answer = client.post("/api/v1/selection/archive", json={"items": items})
    assert zipfile.ZipFile(io.BytesIO(answer.content)).namelist() == ["One.jpg", "One (2).jpg", "One (3).jpg"]


def test_the_file_manager_opens_on_this_machine_only(
    both: TestClient, serve: Client, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched: list[tuple[str, bool]] = []
    monkeypatch.setattr("typer.launch", lambda path, locate=False: launched.append((path, locate)) or 0)
    (hit,) = hits(both, words="05")
    address = f"{PHOTOS}/items/{hit['id']}/reveal"
    assert both.post(address).status_code == 204
    assert launched == [(str(photos / "2019" / "holiday" / "05.jpg"), True)]
    assert_refused(both.post(address, headers={"origin": "http://evil.example"}), 403, "forbidden")
    monkeypatch.setattr("typer.launch", lambda path, locate=False: 3)
    assert_refused(both.post(address), 503, "no_file_manager")
    (photos / "2019" / "holiday" / "05.jpg").unlink()
    assert_refused(both.post(address), 409, "conflict")
    elsewhere = serve(host="0.0.0.0", token="a token of letters")
    elsewhere.headers["authorization"] = "Bearer a token of letters"
    assert_refused(elsewhere.post(f"{BASE}/items/1/reveal"), 403, "forbidden", "another machine")
    assert len(launched) == 1


def test_folders_of_a_gallery_are_listed_with_all_that_lies_below(both: TestClient) -> None:
    folders = both.get(f"{PHOTOS}/folders").json()["folders"]
    assert {each["folder"]: each["pictures"] for each in folders} == {
        "2018": 6,
        "2018/holiday": 4,
        "2018/work": 2,
        "2019": 6,
        "2019/holiday": 4,
        "2019/work": 2,
    }
    assert all(len(hits(both, folder=each["folder"])) == each["pictures"] for each in folders)


def done(client: TestClient) -> dict[str, Any]:
    """The state of the adding once it is over."""
    deadline = time.monotonic() + 30
    while (state := client.get(f"{BASE}/indexing").json())["running"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return dict(state)


def test_a_folder_is_added_and_found_at_once(serve: Client, photos: Path) -> None:
    client = serve(folders=(photos.parent.resolve(),))
    assert client.get(f"{BASE}/indexing").json()["path"] is None
    answer = client.post(f"{BASE}/indexing", json={"path": str(photos)})
    assert answer.status_code == 202
    assert answer.json()["running"] is True
    state = done(client)
    assert (state["done"], state["total"], state["summary"], state["error"]) == (14, 14, "14 added", None)
    assert len(client.get(f"{BASE}/search/words", params={"words": "sea"}).json()["hits"]) == 14
    client.post(f"{BASE}/indexing", json={"path": str(photos)})
    assert done(client)["summary"] == "14 unchanged"


def test_only_folders_inside_the_roots_are_added(serve: Client, photos: Path, tmp_path: Path) -> None:
    root = photos / "2019"
    client = serve(folders=(root.resolve(),))
    (root / "out").symlink_to(photos / "2018")
    for path in (photos, photos / "2018", root / ".." / "2018", root / "out", "/etc", "~root", "\0", "x" * 3000):
        answer = client.post(f"{BASE}/indexing", json={"path": str(path)})
        assert answer.status_code in (403, 404), path
        assert client.get("/api/v1/places", params={"below": str(path)}).status_code in (403, 404)
    assert_refused(client.post(f"{BASE}/indexing", json={"path": str(root / "none")}), 404, "not_found")
    assert client.get("/api/v1/places").json() == {"path": None, "parent": None, "folders": [str(root)]}
    inside = client.get("/api/v1/places", params={"below": str(root)}).json()
    assert inside == {"path": str(root), "parent": None, "folders": [str(root / "holiday"), str(root / "work")]}
    below = client.get("/api/v1/places", params={"below": str(root / "work")}).json()
    assert (below["parent"], below["folders"]) == (str(root), [])


def test_nothing_is_added_where_it_is_not_allowed(serve: Client, photos: Path) -> None:
    client = serve()
    assert_refused(client.post(f"{BASE}/indexing", json={"path": str(photos)}), 403, "forbidden", "--folders")
    assert client.get("/api/v1/places").json()["folders"] == []


def test_adding_is_stopped_and_goes_on(serve: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(200):
        known.write(tmp_path / "many" / f"{number:03}.jpg", number)
    slow = FakeModel.embed

    def embed(self: FakeModel, *arguments: Any) -> Any:
        time.sleep(0.05)
        return slow(self, *arguments)

    monkeypatch.setattr(FakeModel, "embed", embed)
    client = serve(folders=(tmp_path.resolve(),))
    body = {"path": str(tmp_path / "many")}
    assert client.post(f"{BASE}/indexing", json=body).status_code == 202
    assert_refused(client.post(f"{BASE}/indexing", json=body), 409, "busy")
    while not client.get(f"{BASE}/indexing").json()["done"]:
        time.sleep(0.01)
    state = client.delete(f"{BASE}/indexing").json()
    assert state["running"] is False
    assert state["summary"].startswith("stopped: ")
    kept = client.get(BASE).json()["pictures"] - PICTURES
    assert 0 < kept < 200
    assert client.post(f"{BASE}/indexing", json=body).status_code == 202
    assert done(client)["summary"] == f"{200 - kept} added, {kept} unchanged"


def test_trouble_while_adding_is_told(serve: Client, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    client = serve(folders=(tmp_path.resolve(),))
    assert client.post(f"{BASE}/indexing", json={"path": str(tmp_path / "empty")}).status_code == 202
    assert "no pictures there" in done(client)["error"]
    assert client.get(BASE).json()["pictures"] == PICTURES


def test_a_picture_of_a_store_is_fetched_and_only_as_it_was_indexed(tmp_path: Path, model: FakeModel) -> None:
    store = fsspec.filesystem("memory")
    store.pipe("/bucket/photos/cat/1.png", picture(1))
    with Gallery.create(tmp_path / "far.gallery", model) as gallery:
        gallery.add_source("memory://bucket/photos")
        settings = Settings((Place(gallery.store.name),))
        with TestClient(create_app(open_galleries(settings.places, None, model), settings), base_url=ADDRESS) as client:
            (hit,) = client.get("/api/v1/galleries/far/search/words").json()["hits"]
            item = f"/api/v1/galleries/far/items/{hit['id']}"
            assert client.get(f"{item}/original").content == picture(1)
            assert client.get(f"{item}/image").headers["content-type"] == "image/jpeg"
            assert client.get(f"{item}/place").json()["path"] == "memory://bucket/photos/cat/1.png"
            assert client.get("/api/v1/galleries/far/folders").status_code == 200
            assert client.post(f"{item}/reveal").status_code == 409
            store.pipe("/bucket/photos/cat/1.png", picture(2))
            answer = client.get(f"{item}/original")
            assert (answer.status_code, "has changed" in answer.text) == (409, True)
            assert "memory://" not in answer.text
    store.rm("/bucket", recursive=True)
