"""How sure hits are, from the gallery's own spread."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crossatnet.data.strokes import render
from crossatnet.gallery import Gallery
from crossatnet.gallery.sqlite.store import Store
from crossatnet.model.confidence import OTHERS, Confidence
from gallery.fake_model import FakeModel

FIT = Confidence(weights="", intercept=-2, score=3, outstanding=1, sure=0.6, fitted_on="a test")
SQUARE = (np.array([[0, 0], [9, 0], [9, 9], [0, 9], [0, 0]], np.float32),)
PICTURES = 12


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(PICTURES):
        pixels = random.integers(256, size=(24, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    model = FakeModel()
    model.confidence = FIT  # type: ignore[attr-defined]
    gallery = Gallery.create(tmp_path / "my.gallery", model)
    gallery.add_folder(folder)
    return gallery


def test_a_hits_chance_is_read_from_its_score_and_the_others(gallery: Gallery) -> None:
    model = gallery.model
    hits = gallery.search(SQUARE, k=PICTURES)
    query = model.embed(model.preprocess(render(SQUARE), "sketch")[None], "sketch")[0]
    embeddings = [gallery.store.embedding(hit.id) for hit in hits]
    cosines = np.array([float(row @ query) for row in embeddings if row is not None])
    for hit in hits:
        outstanding = (hit.score - cosines.mean()) / cosines.std()
        chance = 1 / (1 + np.exp(-(-2 + 3 * hit.score + outstanding)))
        assert hit.chance == pytest.approx(chance, abs=0.01)
        assert hit.sure == (hit.chance >= 0.6)
    assert [hit.sure for hit in hits] == sorted((hit.sure for hit in hits), reverse=True)
    assert {hit.sure for hit in hits} == {True, False}


def test_nobody_knows_how_sure_other_searches_are(gallery: Gallery, tmp_path: Path) -> None:
    one = gallery.search(SQUARE, k=1)[0]
    stored = gallery.store.pictures([one.id])[one.id]
    for result in (
        gallery.find(stored, 3),
        gallery.find(SQUARE, 3, ranking="code"),
        gallery.find([SQUARE, SQUARE], 3, combine="union"),
        gallery.find(tmp_path / "photos" / "0.png", 3, modality="photo"),
    ):
        assert [(hit.chance, hit.sure) for hit in result.hits] == [(None, None)] * 3
    assert gallery.find([SQUARE, SQUARE], 3).hits[0].chance == pytest.approx(one.chance)
    with Gallery.open(tmp_path / "my.gallery", FakeModel()) as without:
        assert without.search(SQUARE, k=1)[0].chance is None


def test_a_sample_is_spread_over_the_gallery_and_follows_it(gallery: Gallery, tmp_path: Path) -> None:
    store = gallery.store
    assert isinstance(store, Store)
    assert store.sample(OTHERS).shape == (PICTURES, 16)
    few = store.sample(3)
    rows = [store.embedding(key) for key in sorted(store.ids([*store.paths_under(tmp_path)]).values())]
    assert np.array_equal(few[[0, -1]], np.stack([row for row in rows if row is not None])[[0, -1]])
    assert store.sample(3) is few  # kept
    gallery.remove([tmp_path / "photos" / "0.png"])
    assert len(store.sample(OTHERS)) == PICTURES - 1
    gallery.remove([tmp_path / "photos"])
    assert store.sample(OTHERS).shape == (0, 16)
    assert gallery.search(SQUARE) == []
