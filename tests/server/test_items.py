"""Pictures through the server: it sends only indexed pictures, and of their files only the pixels."""

import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from crossatnet.gallery import Gallery
from crossatnet.gallery.sqlite.store import Store
from crossatnet.server.app import create_app
from crossatnet.server.errors import ApiError
from crossatnet.server.galleries import open_galleries
from crossatnet.server.pictures import Thumbnails
from crossatnet.server.settings import Place, Settings
from crossatnet.system.errors import UserError
from gallery.fake_model import FakeModel
from server.serving import BASE, HOUSE, PICTURES, PNG, ask, assert_refused, picture


def id_of(gallery: Gallery, path: Path) -> int:
    return gallery.store.ids([str(path)])[str(path)]


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def test_galleries_and_their_statistics_are_returned(client: TestClient, gallery: Gallery) -> None:
    expected = {
        "name": "my-pets",
        "title": "My pets!",
        "pictures": PICTURES,
        "checkpoint": "fake-0",
        "guided": True,
        "code_bits": 64,
        "uploads": True,
        "reveals": True,
        "indexes": False,
        "credits": None,
    }
    assert client.get("/api/v1/galleries").json() == {"galleries": [expected]}
    statistics = client.get(BASE).json()
    assert expected.items() <= statistics.items()
    assert statistics["class_counts"] == {"cat": 20, "dog": 20}
    assert statistics["fingerprint"] == gallery.store.made_with.fingerprint
    assert statistics["bytes"] >= Path(gallery.store.name).stat().st_size
    assert str(Path(gallery.store.name).parent) not in client.get(BASE).text


def test_names_in_addresses_are_plain_and_differ(tmp_path: Path, model: FakeModel) -> None:
    places = []
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
        places.append(Place(str(tmp_path / folder / "x y.gallery"), credits="by me"))
        Gallery.create(places[-1].place, model).close()
    galleries = open_galleries(places, model=model)
    assert [served.name for served in galleries] == ["x-y", "x-y-2", "x-y-3"]
    with TestClient(create_app(galleries, Settings(tuple(places))), base_url="http://localhost") as client:
        listed = client.get("/api/v1/galleries").json()["galleries"]
        empty = client.post("/api/v1/galleries/x-y-2/search/strokes", json={"strokes": HOUSE})
    assert [each["credits"] for each in listed] == ["by me"] * 3
    assert (empty.json()["hits"], empty.json()["next_offset"]) == ([], None)


def test_facts_have_no_path(client: TestClient, gallery: Gallery, folder: Path) -> None:
    path = folder / "cat" / "04.png"
    answer = client.get(f"{BASE}/items/{id_of(gallery, path)}")
    facts = answer.json()
    assert facts["file_name"] == "04.png"
    assert (facts["class_name"], facts["size"]) == ("cat", path.stat().st_size)
    assert (facts["width"], facts["height"]) == (80, 60)
    assert str(folder) not in answer.text


def test_the_image_is_encoded_again(client: TestClient, gallery: Gallery, folder: Path, tmp_path: Path) -> None:
    text = PngInfo()
    text.add_text("Comment", "<script>alert(1)</script>")
    path = folder / "cat" / "large.png"
    Image.new("RGB", (3000, 100), "red").save(path, pnginfo=text)
    path.write_bytes(path.read_bytes() + b"<script>alert(2)</script>")
    gallery.add_folder(folder)
    key = id_of(gallery, path)
    for name, side in (("image", 2048), ("thumbnail", 256)):
        answer = client.get(f"{BASE}/items/{key}/{name}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
        assert b"script" not in answer.content
        shown = opened(answer.content)
        assert (shown.format, max(shown.size)) == ("JPEG", side)
        assert np.asarray(shown)[shown.height // 2, 100].tolist() == pytest.approx([255, 0, 0], abs=8)


def test_stored_thumbnails_are_sent(tmp_path: Path, folder: Path, model: FakeModel) -> None:
    for side in (32, 400):
        place = Place(str(tmp_path / f"{side}.gallery"))
        with Gallery.create(place.place, model, thumbnail_side=side) as gallery:
            gallery.add_folder(folder)
            stored = gallery.store.thumbnail(1)
        with TestClient(create_app(open_galleries([place], model=model), Settings((place,)))) as client:
            client.base_url = "http://localhost"
            shutil.move(folder, tmp_path / "away")
            answer = client.get(f"/api/v1/galleries/{side}/items/1/thumbnail")
            shutil.move(tmp_path / "away", folder)
        assert opened(answer.content).size == opened(stored or b"").size  # noise is not larger than 256
        sent, kept = (np.asarray(opened(content), np.int16) for content in (answer.content, stored or b""))
        assert np.abs(sent - kept).mean() < 8  # decoded and encoded again: what is stored is not sent as it is


def test_browsers_may_keep_what_has_a_version(client: TestClient) -> None:
    hit = client.post(f"{BASE}/search/strokes", json={"strokes": HOUSE, "k": 1}).json()["hits"][0]
    for name in ("thumbnail", "image"):
        assert "immutable" in client.get(hit[name]).headers["cache-control"]
        assert client.get(hit[name].partition("?")[0] + "?v=old").headers["cache-control"] == "no-store"


BAD_IDS = ["0", "999", "-1", "x", "1.0", "0x1", "٣", "9" * 19, "9" * 25, "%00", "1%00", "..", "%2e%2e", "..%2f1"]
TRAVERSALS = [
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e%2f1",
    "....//",
    "..%5c..%5cx",
    "%2fetc%2fpasswd",
    "a%00b",
    "..;",
    "~root",
]


def test_ids_and_names_that_are_none_are_refused(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(picture(1))
    strokes = json.dumps({"strokes": HOUSE}).encode()
    ways: list[tuple[str, str, dict[str, str], bytes]] = [
        ("GET", "", {}, b""),
        ("GET", "/thumbnail", {}, b""),
        ("GET", "/image", {}, b""),
        ("GET", "/similar", {}, b""),
        ("DELETE", "", {}, b""),
        ("POST", "/explanation/strokes", {"content-type": "application/json"}, strokes),
        ("POST", "/explanation/sketch", PNG, picture(1)),
    ]
    for method, way, headers, body in ways:
        for bad in (*BAD_IDS, *TRAVERSALS):
            for path in (f"{BASE}/items/{bad}{way}", f"/api/v1/galleries/{bad}/items/1{way}"):
                answer = ask(client.app, method, path, headers, [body])
                assert answer.status in (404, 405), (method, path)
                assert json.loads(answer.body)["error"]["message"]
    for bad in (*TRAVERSALS, "../secret.png", "../../app.py", "%2e%2e/%2e%2e/settings.py", "/etc/passwd", "../app.py"):
        answer = ask(client.app, "GET", f"/static/{bad}")
        assert (answer.status, json.loads(answer.body)["error"]["code"]) == (404, "not_found")
    searches = {"strokes": ({"content-type": "application/json"}, strokes), "sketch": (PNG, picture(1))}
    searches |= {"sketch/reading": searches["sketch"]}
    for way, (headers, body) in (searches | {"photo": searches["sketch"]}).items():
        for bad in TRAVERSALS:
            answer = ask(client.app, "POST", f"/api/v1/galleries/{bad}/search/{way}", headers, [body])
            assert answer.status == 404, (way, bad)


def link_elsewhere(path: Path, elsewhere: Path) -> None:
    path.unlink()
    path.symlink_to(elsewhere)


def become_text(path: Path, elsewhere: Path) -> None:
    path.write_text("root:x:0:0", encoding="utf-8")


def become_folder(path: Path, elsewhere: Path) -> None:
    path.unlink()
    path.mkdir()


def become_pipe(path: Path, elsewhere: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def become_device(path: Path, elsewhere: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def same_size(path: Path, elsewhere: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def vanish(path: Path, elsewhere: Path) -> None:
    path.unlink()


def unreadable_loop(path: Path, elsewhere: Path) -> None:
    path.unlink()
    path.symlink_to(path)


@pytest.mark.parametrize(
    "swap",
    [link_elsewhere, become_text, become_folder, become_pipe, become_device, same_size, vanish, unreadable_loop],
)
def test_a_file_that_is_not_what_was_indexed_is_never_sent(
    client: TestClient, gallery: Gallery, folder: Path, tmp_path: Path, swap: Callable[[Path, Path], None]
) -> None:
    path, elsewhere = folder / "cat" / "04.png", tmp_path / "private.png"
    elsewhere.write_bytes(picture(1000))
    key = id_of(gallery, path)
    swap(path, elsewhere)
    item = f"{BASE}/items/{key}"
    for answer in (
        client.get(f"{item}/thumbnail"),
        client.get(f"{item}/image"),
        client.post(f"{item}/explanation/strokes", json={"strokes": HOUSE}),
        client.post(f"{item}/explanation/sketch", content=picture(1), headers=PNG),
    ):
        assert_refused(answer, 409, "conflict", "04.png")
        assert str(folder) not in answer.text
    assert client.get(item).status_code == 200
    guided = client.post(f"{BASE}/search/strokes", json={"strokes": HOUSE, "k": 50, "ranking": "guided"})
    assert len(guided.json()["hits"]) == 50  # the missing picture keeps its score


def test_a_link_to_the_very_bytes_is_served(client: TestClient, gallery: Gallery, folder: Path, tmp_path: Path) -> None:
    path = folder / "cat" / "04.png"
    path.rename(tmp_path / "moved.png")
    path.symlink_to(tmp_path / "moved.png")
    assert client.get(f"{BASE}/items/{id_of(gallery, path)}/image").status_code == 200


def test_what_another_process_indexes_is_found_at_once(client: TestClient, gallery: Gallery, folder: Path) -> None:
    (folder / "cat" / "new.png").write_bytes(picture(500))
    gallery.add_folder(folder)
    answer = client.post(f"{BASE}/search/photo?k=1", content=picture(500), headers=PNG).json()
    assert (answer["hits"][0]["file_name"], answer["pictures"]) == ("new.png", PICTURES + 1)
    gallery.remove([folder / "cat" / "new.png"])
    assert client.get(f"{BASE}/items/{answer['hits'][0]['id']}").status_code == 404


def test_a_gallery_that_fails_is_one_plain_answer(
    client: TestClient, gallery: Gallery, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise UserError(f"{gallery.store.name}: the disk failed to read or write")

    monkeypatch.setattr(Store, "nearest", fail)
    monkeypatch.setattr(Store, "__len__", fail)
    answer = client.post(f"{BASE}/search/strokes", json={"strokes": HOUSE})
    assert_refused(answer, 503, "unavailable", "log")
    assert gallery.store.name not in answer.text
    assert answer.headers["retry-after"] == "1"
    assert gallery.store.name in caplog.text
    assert_refused(client.get("/api/v1/ready"), 503, "unavailable")
    assert client.get("/api/v1/health").status_code == 200


def test_only_the_thumbnails_used_last_are_kept(gallery: Gallery, folder: Path) -> None:
    items = [*gallery.store.pictures([1, 2, 3]).values()]
    thumbnails = Thumbnails(most=2)
    made = [thumbnails.get(items[number]) for number in (0, 1, 0, 2)]  # the second is dropped
    for item in items:
        Path(item.facts.path).unlink()
    assert [thumbnails.get(items[0]), thumbnails.get(items[2])] == [made[0], made[3]]
    with pytest.raises(ApiError):
        thumbnails.get(items[1])
