"""Two functions as a model: what they are given, what becomes of what they give, and functions that cannot be used."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from crossatnet.gallery import Gallery, TwoTowers
from crossatnet.gallery.embedder import MEMBERS, check_embedder
from crossatnet.model.interface import CannotGuideError
from crossatnet.system.errors import UserError

SIDE = 16


def coarse(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """How much ink is in each of 4 x 4 parts."""
    return (255.0 - pixels).reshape(len(pixels), 4, SIDE // 4, 4, SIDE // 4, 3).mean((2, 4, 5)).reshape(len(pixels), 16)


def towers(**changed: Any) -> TwoTowers:
    given = {"sketch": coarse, "photo": coarse, "name": "coarse", "version": "1", "side": SIDE, **changed}
    return TwoTowers(**given)


def line(horizontal: bool, ink: str = "black", paper: str = "white") -> Image.Image:
    image = Image.new("RGB", (64, 64), paper)
    ImageDraw.Draw(image).line((4, 32, 60, 32) if horizontal else (32, 4, 32, 60), ink, 4)
    return image


def test_is_a_whole_embedder() -> None:
    model = towers()
    assert check_embedder(model, "coarse") is model
    assert set(MEMBERS) >= {"fingerprint", "source", "preprocess", "embed", "guide", "hash"}


def test_towers_see_drawings_as_ink_on_paper_and_photos_as_they_are() -> None:
    model = towers()
    drawn = [model.preprocess(line(True, *colours), "sketch") for colours in (("black", "white"), ("white", "black"))]
    for pixels in drawn:
        assert (pixels.shape, pixels.dtype) == ((SIDE, SIDE, 3), np.uint8)
        assert pixels[0].mean() > 250  # paper
        assert pixels.min() < 100  # ink
    dark = Image.new("RGB", (64, 64), (10, 20, 30))
    assert model.preprocess(dark, "photo")[3, 3].tolist() == [10, 20, 30]


def test_each_modality_goes_to_its_own_tower_and_lengths_become_one() -> None:
    model = towers(sketch=lambda pixels: np.tile([3.0, 4.0], (len(pixels), 1)), photo=lambda p: [[0, -2]] * len(p))
    pixels = np.zeros((3, SIDE, SIDE, 3), np.uint8)
    sketches, photos = model.embed(pixels, "sketch"), model.embed(pixels, "photo")
    assert (sketches.dtype, photos.dtype, model.dimension) == (np.float32, np.float32, 2)
    np.testing.assert_allclose(sketches, [[0.6, 0.8]] * 3, rtol=1e-6)
    np.testing.assert_allclose(photos, [[0.0, -1.0]] * 3, rtol=1e-6)


def test_codes_say_on_which_side_of_planes_an_embedding_lies() -> None:
    """The share of bits in which two codes differ is their angle, in halves of a turn: a naive count, and theory."""
    model = towers(code_bits=4096)
    generator = np.random.default_rng(1)
    one, other = generator.standard_normal((2, 16)).astype(np.float32)
    codes = np.unpackbits(model.hash(np.stack([one, other, -one])), axis=1)
    assert codes.shape == (3, 4096)
    differ = sum(int(a != b) for a, b in zip(codes[0], codes[1], strict=True)) / 4096
    angle = np.arccos(one @ other / np.linalg.norm(one) / np.linalg.norm(other)) / np.pi
    assert differ == pytest.approx(angle, abs=0.03)
    assert (codes[0] != codes[2]).all()


def test_the_fingerprint_is_of_all_that_changes_embeddings_and_codes() -> None:
    same = [towers().fingerprint, towers(name="another name").fingerprint, towers(batch_size=3).fingerprint]
    assert len(set(same)) == 1
    assert len(same[0]) == 64
    other = [
        towers(version="2"),
        towers(side=32, photo=lambda p: coarse(p[:, ::2, ::2]), sketch=lambda p: coarse(p[:, ::2, ::2])),
        towers(code_bits=64),
    ]
    assert len({*same, *(model.fingerprint for model in other)}) == 4


def test_a_gallery_of_towers_finds_what_is_drawn(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name, horizontal in (("flat", True), ("tall", False)):
        line(horizontal, "navy", "ivory").save(tmp_path / "photos" / f"{name}.png")
    with Gallery.create(tmp_path / "my.gallery", towers()) as gallery:
        assert gallery.add_folder(tmp_path / "photos").added == 2
    gallery = Gallery.open(tmp_path / "my.gallery", towers())
    for name, horizontal in (("flat", True), ("tall", False)):
        hits = gallery.search(line(horizontal))
        assert Path(hits[0].path).stem == name
    with pytest.raises(CannotGuideError, match="coarse has no attention"):
        gallery.search(line(True), rerank="guided")
    with pytest.raises(CannotGuideError):
        towers().guide(np.zeros((SIDE, SIDE, 3), np.uint8), np.zeros((1, SIDE, SIDE, 3), np.uint8))
    with pytest.raises(UserError, match=r"made with checkpoint coarse .* but the model given is coarse .*another file"):
        Gallery.open(tmp_path / "my.gallery", towers(version="2"))
    with pytest.raises(UserError, match=r"made with the model coarse, which was not saved; .*--embedder MODULE:OBJECT"):
        Gallery.open(tmp_path / "my.gallery").search(line(True))


def fail(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    raise ZeroDivisionError("no\nluck")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"photo": fail}, "coarse: the tower of photo pictures fails: ZeroDivisionError: no luck"),
        ({"sketch": lambda pixels: coarse(pixels)[0]}, r"tower of sketch pictures gives shape \(16,\) for 1 pictures"),
        ({"sketch": lambda pixels: None}, r"tower of sketch pictures (fails|gives shape \(\))"),
        ({"sketch": lambda pixels: "text"}, "tower of sketch pictures fails: ValueError"),
        ({"sketch": lambda pixels: np.ones((1, 0))}, r"gives shape \(1, 0\)"),
        ({"sketch": lambda pixels: np.ones((1, 3))}, "drawings gives 3 numbers and that of photos 16; both must"),
        ({"name": ""}, "need a name"),
        ({"version": ""}, "need a name for messages, and a version"),
        ({"code_bits": 12}, "code_bits a multiple of 8"),
        ({"side": 0}, "side and batch_size must be 1 or more"),
    ],
)
def test_towers_that_cannot_be_used(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        towers(**changed)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_an_embedding_without_a_direction_is_an_error(value: float) -> None:
    model = towers(photo=lambda pixels: np.full((len(pixels), 16), value))
    with pytest.raises(UserError, match="coarse: the tower of photo pictures gives embeddings without a direction"):
        model.embed(np.zeros((1, SIDE, SIDE, 3), np.uint8), "photo")
