"""Searches through the server: every kind of query gives the same hits as the gallery itself."""

import io
import json
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from httpx2 import Response
from PIL import Image

from crossatnet.data.strokes import render
from crossatnet.gallery import Filter, Gallery, Hit
from crossatnet.gallery.sqlite.store import Store
from crossatnet.model.explain import attention_overlay
from crossatnet.server.pictures import encoded
from gallery.fake_model import FakeModel
from oracles.search import hamming
from server.serving import BASE, HOUSE, PICTURES, PNG, assert_refused, picture

DRAWING = tuple(np.array(stroke, np.float32) for stroke in HOUSE)


def pairs(hits: list[Hit]) -> list[tuple[str, float]]:
    return [(str(hit.id), pytest.approx(hit.score, abs=1e-5)) for hit in hits]


def shown(answer: Response) -> list[tuple[str, float]]:
    assert answer.status_code == 200, answer.text
    return [(hit["id"], hit["score"]) for hit in answer.json()["hits"]]


@pytest.mark.parametrize(("ranking", "rerank"), [("float", None), ("guided", "guided")])
def test_strokes_find_what_the_gallery_finds(
    client: TestClient, gallery: Gallery, ranking: str, rerank: str | None
) -> None:
    answer = client.post(f"{BASE}/search/strokes", json={"strokes": HOUSE, "k": 50, "ranking": ranking})
    expected = gallery.search(DRAWING, k=50, rerank=rerank)  # type: ignore[arg-type]
    assert shown(answer) == pairs(expected)
    for hit, known in zip(answer.json()["hits"], expected, strict=True):
        assert (hit["class_name"], hit["file_name"]) == (known.class_name, Path(known.path).name)
        assert (hit["width"], hit["height"]) == (80, 60)
        assert str(Path(known.path).parent) not in answer.text


def test_a_drawing_is_shown_as_it_is_read(client: TestClient, gallery: Gallery) -> None:
    content = encoded(render(DRAWING), "PNG")
    answer = client.post(f"{BASE}/search/sketch/reading", content=content, headers=PNG)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    assert np.array_equal(255 - np.asarray(Image.open(io.BytesIO(answer.content))), gallery.as_read(content)[0])


def test_codes_order_by_the_share_of_equal_bits(client: TestClient, gallery: Gallery, model: FakeModel) -> None:
    def code(picture: object, modality: str) -> np.ndarray:
        pixels = model.preprocess(picture, modality)[None]  # type: ignore[arg-type]
        return model.hash(model.embed(pixels, modality))[0]  # type: ignore[arg-type]

    query = code(render(DRAWING), "sketch")
    paths = [*gallery.store.paths_under(Path("/"))]
    ids = gallery.store.ids(paths)
    scores = {ids[path]: 1 - hamming(code(path, "photo"), query) / 64 for path in paths}
    best = sorted(scores, key=lambda key: (-scores[key], key))
    answer = client.post(f"{BASE}/search/strokes", json={"strokes": HOUSE, "k": PICTURES, "ranking": "code"})
    assert shown(answer) == [(str(key), pytest.approx(scores[key])) for key in best]


@pytest.mark.parametrize("modality", ["sketch", "photo"])
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_picture_files_find_what_the_gallery_finds(
    client: TestClient, gallery: Gallery, modality: str, form: str
) -> None:
    content = picture(3, form)
    answer = client.post(f"{BASE}/search/{modality}?k=9", content=content, headers={"content-type": "image/any"})
    assert shown(answer) == pairs(gallery.search(content, k=9, modality=modality))  # type: ignore[arg-type]


def test_a_guided_search_by_a_file_is_that_of_the_gallery(client: TestClient, gallery: Gallery) -> None:
    answer = client.post(f"{BASE}/search/sketch?k=9&ranking=guided", content=picture(3), headers=PNG)
    assert shown(answer) == pairs(gallery.search(picture(3), k=50, rerank="guided")[:9])


@pytest.mark.parametrize(("ranking", "found"), [("float", PICTURES), ("code", PICTURES), ("guided", 50)])
def test_pages_put_together_are_the_whole_list(client: TestClient, ranking: str, found: int) -> None:
    query = {"strokes": HOUSE, "ranking": ranking}
    pages: list[tuple[str, float]] = []
    offset: int | None = 0
    while offset is not None:
        answer = client.post(f"{BASE}/search/strokes", json={**query, "k": 7, "offset": offset})
        body = answer.json()
        assert (body["offset"], body["k"], body["pictures"]) == (offset, 7, PICTURES)
        pages += shown(answer)
        offset = body["next_offset"]
    assert pages == shown(client.post(f"{BASE}/search/strokes", json={**query, "k": 100}))
    assert len({key for key, _ in pages}) == len(pages) == found
    beyond = client.post(f"{BASE}/search/strokes", json={**query, "k": 7, "offset": 500}).json()
    assert (beyond["hits"], beyond["next_offset"]) == ([], None)


def test_only_of_classes(client: TestClient, gallery: Gallery) -> None:
    expected = pairs(gallery.search(DRAWING, k=30, filter=Filter(class_names=("cat",))))
    answer = client.post(f"{BASE}/search/strokes", json={"strokes": HOUSE, "k": 30, "class_names": ["cat"]})
    assert shown(answer) == expected
    assert answer.json()["next_offset"] is None
    both = client.post(f"{BASE}/search/photo?k=60&class_names=cat&class_names=dog", content=picture(1), headers=PNG)
    assert {hit["class_name"] for hit in both.json()["hits"]} == {"cat", "dog"}


def test_similar_pictures_leave_out_the_picture_itself(
    client: TestClient, gallery: Gallery, model: FakeModel, folder: Path
) -> None:
    path = folder / "cat" / "04.png"
    key = gallery.store.ids([str(path)])[str(path)]
    everything = gallery.search(path, k=PICTURES, modality="photo")
    others = [str(hit.id) for hit in everything if hit.id != key]
    first = client.get(f"{BASE}/items/{key}/similar?k=5")
    second = client.get(f"{BASE}/items/{key}/similar?k=5&offset=5")
    assert [key for key, _ in shown(first) + shown(second)] == others[:10]
    last = client.get(f"{BASE}/items/{key}/similar?k=100").json()
    assert ([hit["id"] for hit in last["hits"]], last["next_offset"]) == (others, None)


def test_times_are_reported_and_counted(client: TestClient) -> None:
    times = client.post(f"{BASE}/search/strokes", json={"strokes": HOUSE}).json()["milliseconds"]
    assert 0 < times["network"] + times["search"] <= times["total"]
    text = client.get("/metrics").text
    assert 'crossatnet_search_part_seconds_count{part="network"} 1.0' in text
    route = "/api/v1/galleries/{gallery}/search/strokes"
    assert f'crossatnet_requests_total{{method="POST",route="{route}",status="200"}} 1.0' in text
    assert "crossatnet_requests_in_flight 1.0" in text  # the request for the metrics itself


def test_a_picture_removed_while_others_like_it_are_searched_for(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "embedding", lambda *_: None)
    refused = client.get(f"{BASE}/items/1/similar")
    assert_refused(refused, 404, "not_found", "no picture of that id in my-pets; it was just removed: search again")


@pytest.mark.parametrize("way", ["strokes", "sketch"])
def test_an_explanation_is_the_picture_under_the_attention(
    client: TestClient, model: FakeModel, folder: Path, gallery: Gallery, way: str
) -> None:
    path = folder / "cat" / "04.png"
    key = gallery.store.ids([str(path)])[str(path)]
    made = io.BytesIO()
    render(DRAWING).save(made, "PNG")
    sent = {"json": {"strokes": HOUSE}} if way == "strokes" else {"content": made.getvalue(), "headers": PNG}
    answer = client.post(f"{BASE}/items/{key}/explanation/{way}", **sent)  # type: ignore[arg-type]
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    attention = model.guide(model.preprocess(render(DRAWING), "sketch"), model.preprocess(path, "photo")[None])[1][0]
    expected = attention_overlay(Image.open(path).convert("RGB"), attention)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(answer.content))), np.asarray(expected))


def test_bad_fields_are_named(client: TestClient) -> None:
    bodies: list[tuple[dict[str, object], str]] = [
        ({}, "strokes"),
        ({"strokes": []}, "strokes"),
        ({"strokes": [[]]}, "strokes"),
        ({"strokes": [[[1]]]}, "strokes"),
        ({"strokes": [[["1", 2]]]}, "strokes"),
        ({"strokes": [[[True, 2]]]}, "strokes"),
        ({"strokes": [[[1e7, 2]]]}, "strokes"),
        ({"strokes": [[[0, 0]] * 20_001]}, "strokes"),
        ({"strokes": [[[0, 0]]] * 2_001}, "strokes"),
        ({"strokes": [[[0, 0]] * 11_000] * 2}, "20,000 points"),
        ({"strokes": HOUSE, "k": 0}, "k"),
        ({"strokes": HOUSE, "k": 201}, "k"),
        ({"strokes": HOUSE, "k": "3"}, "k"),
        ({"strokes": HOUSE, "offset": -1}, "offset"),
        ({"strokes": HOUSE, "ranking": "best"}, "ranking"),
        ({"strokes": HOUSE, "class_names": ["x"] * 101}, "class_names"),
        ({"strokes": HOUSE, "where": {}}, "where"),
    ]
    for body, part in bodies:
        assert_refused(client.post(f"{BASE}/search/strokes", json=body), 422, "invalid", part)


def test_fields_are_named_as_they_are_sent(client: TestClient) -> None:
    for body, message in (
        ('{"strokes": [[[1, 2]]], "k": 0}', "k: Input should be greater than"),
        (json.dumps({"strokes": [[[0, 0]] * 11_000] * 2}), "body: more than 20,000 points in all; leave some out"),
        ("{", "body.1: JSON decode error"),
    ):
        answer = client.post(f"{BASE}/search/strokes", content=body, headers={"content-type": "application/json"})
        assert_refused(answer, 422, "invalid")
        assert answer.json()["error"]["message"].startswith(message)


def test_bad_json_is_refused(client: TestClient) -> None:
    for text in ("", "{", "[1e400]", '{"strokes": [[[NaN, 1]]]}', "[" * 5000, '"\\ud800"', "9" * 5000):
        answer = client.post(f"{BASE}/search/strokes", content=text, headers={"content-type": "application/json"})
        assert answer.status_code in (400, 422)
        assert answer.json()["error"]["message"]


@pytest.mark.parametrize("route", ["search/strokes", "items/1/explanation/strokes"])
def test_json_must_be_called_json(client: TestClient, route: str) -> None:
    body = b'{"strokes": [[[1, 2]]]}'
    for headers in ({}, {"content-type": "text/plain"}, {"content-type": "application/x-www-form-urlencoded"}):
        answer = client.post(f"{BASE}/{route}", content=body, headers=headers)
        assert_refused(answer, 415, "unsupported_media_type", "Content-Type: application/json")
    for kind in ("application/json; charset=utf-8", "Application/JSON", "application/x.drawing+json"):
        assert client.post(f"{BASE}/{route}", content=body, headers={"content-type": kind}).status_code == 200
    assert (
        "415"
        in client.get("/openapi.json").json()["paths"][
            f"/api/v1/galleries/{{gallery}}/{route}".replace("items/1", "items/{item_id}")
        ]["post"]["responses"]
    )


def test_the_page_of_the_api_tells_how_to_search_by_strokes(client: TestClient) -> None:
    page = client.get("/docs").text
    section = page.partition("/search/strokes</code>")[2].partition("</section>")[0]
    for part in (
        "<code>application/json</code>",
        "<code>strokes</code>: list of list of [number, number], required. Each a list of points (x, y)",
        "<code>k</code>: integer 1 to 200, <code>24</code> if left out.",
        "<code>offset</code>: integer 0 to 10,000, <code>0</code> if left out.",
        "<code>ranking</code>: &quot;float&quot; or &quot;code&quot; or &quot;guided&quot;, <code>",
        "<code>class_names</code>: list of string, <code>[]</code> if left out. Only of these classes.",
    ):
        assert part in section
    example = json.loads(unescape(section.partition("Such as <code>")[2].partition("</code>")[0]))
    assert len(shown(client.post(f"{BASE}/search/strokes", json={**example, "k": 3}))) == 3


@pytest.mark.parametrize("strokes", [[[[5, 5]]], [[[1e6, -1e6], [1e6, -1e6]]], [[[1e-45, 0], [0, 1e-45]]]])
def test_odd_drawings_are_searched_for(client: TestClient, strokes: object) -> None:
    assert len(shown(client.post(f"{BASE}/search/strokes", json={"strokes": strokes, "k": 5}))) == 5


def test_photos_cannot_be_guided(client: TestClient) -> None:
    answer = client.post(f"{BASE}/search/photo?ranking=guided", content=picture(1), headers=PNG)
    assert_refused(answer, 422, "invalid", "float or code")


def test_a_model_without_attention_neither_guides_nor_explains(client: TestClient, model: FakeModel) -> None:
    model.has_attention = False
    assert client.get("/api/v1/galleries").json()["galleries"][0]["guided"] is False
    guided = client.post(f"{BASE}/search/strokes", json={"strokes": HOUSE, "ranking": "guided"})
    assert_refused(guided, 422, "invalid", "no attention")
    explained = client.post(f"{BASE}/items/1/explanation/strokes", json={"strokes": HOUSE})
    assert_refused(explained, 422, "invalid", "no attention")
