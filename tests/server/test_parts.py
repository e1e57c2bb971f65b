"""Parts of pictures over HTTP: the box of a hit, its frame in an explanation, and "more like this part"."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from crossatnet.gallery import Gallery, PartOf
from crossatnet.server.app import create_app
from crossatnet.server.galleries import open_galleries
from crossatnet.server.settings import Place, Settings
from gallery.fake_model import BOXES, FakeModel
from gallery.known import noise
from server.serving import ADDRESS, PNG, assert_refused

BASE = "/api/v1/galleries/parts"
CORNER = BOXES[1]


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[tuple[TestClient, Gallery]]:
    """A server of a gallery with regions, and the gallery."""
    model = FakeModel(dimension=64, regions=True)
    (tmp_path / "photos").mkdir()
    for number in range(9):
        noise(number).save(tmp_path / "photos" / f"{number}.png")
    with Gallery.create(tmp_path / "parts.gallery", model, regions=True) as gallery:
        gallery.add_folder(tmp_path / "photos")
        settings = Settings((Place(gallery.store.name),))
        with TestClient(create_app(open_galleries(settings.places, None, model), settings), base_url=ADDRESS) as client:
            yield client, gallery


def corner(number: int, is_drawn: bool = False) -> bytes:
    """The lower right quarter of a picture as a file; as the fake model reads drawings, if it is one."""
    made, pixels = io.BytesIO(), np.asarray(noise(number).crop((32, 32, 64, 64)))
    Image.fromarray(255 - pixels if is_drawn else pixels).save(made, "PNG")
    return made.getvalue()


def test_a_hit_says_by_which_part_it_was_found(parts: tuple[TestClient, Gallery]) -> None:
    hits = parts[0].post(f"{BASE}/search/photo", content=corner(4), headers=PNG).json()["hits"]
    assert (hits[0]["file_name"], hits[0]["box"]) == ("4.png", pytest.approx(CORNER, abs=0.002))
    assert parts[0].get(BASE).json()["regions"] is True


def test_a_part_of_a_picture_finds_others(parts: tuple[TestClient, Gallery]) -> None:
    client, gallery = parts
    stored = gallery.find(noise(4), 1, modality="photo").pictures[0]
    expected = gallery.find(PartOf(stored, (0.5, 0.5, 1, 1)), 20).hits
    found = client.get(f"{BASE}/items/{stored.id}/similar?k=20&box=0.5,0.5,1,1").json()["hits"]
    assert [(hit["id"], hit["box"]) for hit in found] == [(str(hit.id), hit.box and [*hit.box]) for hit in expected]
    whole = client.get(f"{BASE}/items/{stored.id}/similar?k=20").json()["hits"]
    assert [hit["score"] for hit in whole] != [hit["score"] for hit in found]


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ("half", "four numbers, left,top,right,bottom"),
        ("0,0,1", "four numbers, left,top,right,bottom"),
        ("0,0,nan,1", "fractions from 0 to 1"),
        ("0.5,0,0.4,1", "right and bottom at least 0.02 more"),
        ("0,0,2,1", "fractions from 0 to 1"),
        ("0,0,0.001,1", "right and bottom at least 0.02 more"),
        ("0" * 200, "box"),
    ],
)
def test_a_wrong_box_is_refused(parts: tuple[TestClient, Gallery], box: str, message: str) -> None:
    assert_refused(parts[0].get(f"{BASE}/items/1/similar?box={box}"), 422, "invalid", message)


def test_a_part_of_a_file_that_changed_is_refused(parts: tuple[TestClient, Gallery]) -> None:
    client, gallery = parts
    stored = gallery.find(noise(4), 1, modality="photo").pictures[0]
    noise(5).save(stored.facts.path)
    assert_refused(client.get(f"{BASE}/items/{stored.id}/similar?box=0,0,1,0.5"), 409, "conflict", "4.png")
    assert client.get(f"{BASE}/items/999/similar?box=0,0,1,0.5").status_code == 404


def test_an_explanation_frames_the_part(parts: tuple[TestClient, Gallery]) -> None:
    client = parts[0]
    found = client.post(f"{BASE}/search/sketch", content=corner(4, is_drawn=True), headers=PNG).json()["hits"][0]
    assert found["box"] == pytest.approx(CORNER, abs=0.002)
    answer = client.post(
        f"{BASE}/items/{found['id']}/explanation/sketch", content=corner(4, is_drawn=True), headers=PNG
    )
    pixels = np.asarray(Image.open(io.BytesIO(answer.content)))  # (64, 64, 3)
    assert pixels[33, 33:62].min() == 255  # the white line in the frame's black one
    assert pixels[32, 32:64].max() == 0
    assert pixels[31].max() > 0
