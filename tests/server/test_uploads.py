"""Uploads: kept completely or not at all, and files that are no pictures are refused in one line."""

import io
import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from crossatnet.gallery import Gallery
from crossatnet.server import uploads
from picture_files import encoded, multi_picture, patches
from server.serving import BASE, PICTURES, PNG, ask, assert_refused, picture

PLACES = (
    f"{BASE}/search/sketch",
    f"{BASE}/search/sketch/reading",
    f"{BASE}/search/photo",
    f"{BASE}/items/1/explanation/sketch",
    f"{BASE}/items",
)


def files(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "uploads").rglob("*") if path.is_file() and path.name != uploads.LOCK]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def svg(body: str, prologue: str = "") -> bytes:
    return f'<?xml version="1.0"?>{prologue}<svg xmlns="http://www.w3.org/2000/svg">{body}</svg>'.encode()


def gif_of_many_pixels() -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b",\0\0\0\0\xff\xff\xff\xff\0\x02\x02\x44\x01\0;"


BAD = {
    "nothing but zeros": bytes(1000),
    "text": b"hello",
    "svg with a script": svg("<script>alert(1)</script>"),
    "svg with an external entity": svg("&x;", '<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>'),
    "svg that grows": svg("&b;", '<!DOCTYPE svg [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>'),
    "html": b"<!doctype html><script>alert(1)</script>",
    "pdf": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n",
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(/etc/passwd) (r) file",
    "zip": b"PK\x03\x04" + bytes(100),
    "gzip bomb": b"\x1f\x8b\x08" + bytes(100),
    "png without pixels": png(10, 10),
    "png of few bytes that claims a million": png(1000, 1000, chunk(b"IDAT", zlib.compress(bytes(100)))),
    "png whose text inflates": png(10, 10, chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(100_000_000)))),
    "png with broken sums": png(10, 10, b"\0\0\0\x04IDATabcdxxxx"),
    "half a png": picture(1)[:300],
    "half a jpeg": picture(1, "JPEG")[:300],
    "half a webp": picture(1, "WEBP")[:60],
    "half a tiff": picture(1, "TIFF")[:500],
    "a pixmap that is not taken": b"P6 2 2 255 " + bytes(12),
    "an icon": b"\0\0\1\0\1\0\x10\x10\0\0\1\0\x20\0\x68\4\0\0\x16\0\0\0",
}
TOO_LARGE = {
    "30,000 pixels square": png(30_000, 30_000, chunk(b"IDAT", zlib.compress(bytes(1000)))),
    "a png bomb": png(20_000, 20_000, chunk(b"IDAT", zlib.compress(bytes(50_000_000)))),
    "2^31 pixels wide": png(2**31 - 1, 1, chunk(b"IDAT", zlib.compress(bytes(1000)))),
    "a gif of 4 Gpx": gif_of_many_pixels(),
    "a little too many": png(8_000, 5_001, chunk(b"IDAT", zlib.compress(bytes(1000)))),
}


def test_what_is_no_picture_is_refused_everywhere(client: TestClient, tmp_path: Path) -> None:
    for name, content in BAD.items():
        for place in PLACES:
            answer = client.post(place, content=content, headers=PNG)
            assert answer.status_code == 400, (name, place, answer.text)
            assert_refused(answer, 400, "bad_picture", "the uploaded picture")
    for name, content in TOO_LARGE.items():
        for place in PLACES:
            answer = client.post(place, content=content, headers=PNG)
            assert answer.status_code == 413, (name, place, answer.text)
            assert_refused(answer, 413, "too_large", "pixels")
    assert files(tmp_path) == []
    assert client.get(BASE).json()["pictures"] == PICTURES


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(form=st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"]), data=st.data())
def test_damaged_pictures_are_searched_for_or_refused(client: TestClient, form: str, data: st.DataObject) -> None:
    content = bytearray(picture(1, form))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(1, len(content)))]
    answer = client.post(f"{BASE}/search/photo?k=1", content=bytes(content), headers=PNG)
    assert answer.status_code in (200, 400, 413)


def test_other_types_and_empty_bodies_are_refused(client: TestClient) -> None:
    for place in PLACES:
        for kind in ("text/html", "application/json", "multipart/form-data; boundary=x", ""):
            answer = client.post(place, content=picture(1), headers={"content-type": kind})
            assert_refused(answer, 415, "unsupported_media_type", "Content-Type")
        assert_refused(client.post(place, content=b"", headers=PNG), 400, "bad_picture", "empty")


def test_bodies_without_end_are_cut_off(client: TestClient) -> None:
    for place, kind, most in (
        *((place, PNG, 20_000_000) for place in PLACES),
        (f"{BASE}/search/strokes", {"content-type": "application/json"}, 1_000_000),
        (f"{BASE}/items/1/explanation/strokes", {"content-type": "application/json"}, 1_000_000),
    ):
        sent = 0

        def endless() -> Iterator[bytes]:
            nonlocal sent
            while True:
                sent += 100_000
                yield bytes(100_000)

        answer = ask(client.app, "POST", place, kind, endless())
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        assert json.loads(answer.body)["error"]["code"] == "too_large"
        assert sent == most + 100_000


def test_announced_sizes_are_refused_before_they_are_read(client: TestClient) -> None:
    for place, most in ((PLACES[3], 20_000_000), (f"{BASE}/search/strokes", 1_000_000), ("/login", 10_000)):
        for length in (str(most + 1), "9" * 400):
            answer = client.post(place, content=b"x", headers={**PNG, "content-length": length})
            assert_refused(answer, 413, "too_large")


def test_bodies_find_room_beside_others_or_are_refused(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crossatnet.server.limits.BODIES_BYTES", 1_500_000)
    for _ in range(3):  # what was refused takes no room afterwards
        refused = client.post(f"{BASE}/search/photo", content=iter([bytes(900_000)] * 2), headers=PNG)
        assert_refused(refused, 503, "overloaded", "as many pictures")
        assert client.post(f"{BASE}/search/photo", content=picture(1), headers=PNG).status_code == 200


def test_an_upload_can_be_found_and_deleted(client: TestClient, gallery: Gallery, tmp_path: Path) -> None:
    content = picture(700, "JPEG")
    answer = client.post(f"{BASE}/items?file_name=My%20bird.exe&class_name=bird", content=content, headers=PNG)
    assert answer.status_code == 201
    item = answer.json()
    assert item["file_name"].startswith("My-bird-")
    assert item["file_name"].endswith(".jpg")  # the real format, not the one in its name
    assert (item["class_name"], item["size"]) == ("bird", len(content))
    (file,) = files(tmp_path)
    assert file == tmp_path / "uploads" / "my-pets" / "bird" / item["file_name"]
    assert file.read_bytes() == content
    hit = client.post(f"{BASE}/search/photo?k=1", content=content, headers=PNG).json()["hits"][0]
    assert hit["id"] == item["id"]
    assert client.get(item["image"]).status_code == 200

    again = client.post(f"{BASE}/items?file_name=My%20bird.exe&class_name=bird", content=content, headers=PNG)
    assert (again.status_code, again.json()["id"]) == (201, item["id"])
    assert len(gallery) == PICTURES + 1

    assert client.delete(f"{BASE}/items/{item['id']}").status_code == 204
    assert files(tmp_path) == []
    assert client.get(f"{BASE}/items/{item['id']}").status_code == 404
    assert client.delete(f"{BASE}/items/{item['id']}").status_code == 404


def test_deleting_an_indexed_picture_leaves_its_file(client: TestClient, gallery: Gallery, folder: Path) -> None:
    path = folder / "cat" / "04.png"
    key = gallery.store.ids([str(path)])[str(path)]
    assert client.delete(f"{BASE}/items/{key}").status_code == 204
    assert path.exists()
    assert gallery.store.ids([str(path)]) == {}


NAMES = [
    "../../../x",
    "/etc/passwd",
    "..\\..\\x",
    ".htaccess",
    "x" * 200,
    "a\0b",
    "...",
    "",
    " ",
    "é漢😀.png",
    "CON",
    "a/b/c.png",
]


def test_no_name_leaves_the_uploads_folder(client: TestClient, tmp_path: Path) -> None:
    before = {path for path in tmp_path.rglob("*") if "uploads" not in path.parts}
    for number, name in enumerate(NAMES):
        answer = client.post(f"{BASE}/items", params={"file_name": name}, content=picture(number), headers=PNG)
        assert answer.status_code == 201, answer.text
        assert answer.json()["file_name"][0] not in ".-"
    assert {path.parent for path in files(tmp_path)} == {tmp_path / "uploads" / "my-pets"}
    assert len(files(tmp_path)) == len(NAMES)
    for name in ("..", ".", "../x", "a/b", "a\\b", ".hidden", " x", "a\nb", "\ud800", "x" * 101):
        params = {"class_name": name} if name != "\ud800" else {}
        place = f"{BASE}/items" if params else f"{BASE}/items?class_name=%ED%A0%80"
        answer = client.post(place, params=params or None, content=picture(99), headers=PNG)
        assert answer.status_code in (201, 422) if name == "\ud800" else answer.status_code == 422, name
    (tmp_path / "uploads" / "my-pets" / "linked").symlink_to(tmp_path)
    answer = client.post(f"{BASE}/items?class_name=linked", content=picture(98), headers=PNG)
    assert_refused(answer, 422, "invalid", "link")
    galleries = set(tmp_path.rglob("*.gallery*"))
    assert {path for path in tmp_path.rglob("*") if "uploads" not in path.parts} - galleries <= before


def test_an_upload_that_cannot_be_stored_leaves_nothing(
    client: TestClient, gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Gallery, "store_picture", full)
        answer = client.post(f"{BASE}/items", content=picture(700), headers=PNG)
    assert_refused(answer, 507, "disk_full")
    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        assert_refused(client.post(f"{BASE}/items", content=picture(700), headers=PNG), 507, "disk_full")
    assert files(tmp_path) == []
    assert len(gallery) == PICTURES


def test_polyglots_lose_what_is_no_picture(client: TestClient) -> None:
    polyglot = picture(700) + b"<script>alert(1)</script>" + b"PK\x05\x06" + bytes(18)
    item = client.post(f"{BASE}/items?file_name=x.html", content=polyglot, headers=PNG).json()
    assert item["file_name"].endswith(".png")
    for name in ("image", "thumbnail"):
        answer = client.get(item[name])
        assert answer.headers["content-type"] == "image/jpeg"
        assert b"script" not in answer.content
        assert Image.open(io.BytesIO(answer.content)).format == "JPEG"


def test_without_a_folder_nothing_is_taken(serve: object) -> None:
    client: TestClient = serve()  # type: ignore[operator]
    assert_refused(client.post(f"{BASE}/items", content=picture(1), headers=PNG), 403, "forbidden", "--uploads")
    assert_refused(client.delete(f"{BASE}/items/1"), 403, "forbidden", "--uploads")


@pytest.mark.parametrize(
    ("kind", "suffix"), [("two pictures", ".jpg"), ("HEIF", ".heic"), ("AVIF", ".avif"), ("JXL", ".jxl")]
)
def test_photos_of_phones_are_kept_by_their_format(client: TestClient, tmp_path: Path, kind: str, suffix: str) -> None:
    content = multi_picture(patches(), patches(seed=1)) if kind == "two pictures" else encoded(patches(), kind)
    answer = client.post(f"{BASE}/items", params={"file_name": "phone"}, content=content, headers=PNG)
    assert answer.status_code == 201, answer.text
    (kept,) = files(tmp_path)
    assert kept.suffix == suffix
    assert kept.read_bytes() == content
