"""Drawings by another hand: like the original, and no two alike."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from crossatnet.data import hands
from crossatnet.data.hands import redraw, smooth, strokes_of, vary
from crossatnet.data.snapshots import snapshot
from crossatnet.data.transforms import augment

SEEDS = range(20)


def house() -> Image.Image:
    image = Image.new("RGB", (200, 160), (255, 255, 255))
    pencil = ImageDraw.Draw(image)
    pencil.rectangle((40, 70, 140, 140), outline=(0, 0, 0), width=3)
    pencil.line([(40, 70), (90, 20), (140, 70)], (0, 0, 0), 3)
    return image


def disc() -> Image.Image:
    image = Image.new("RGB", (160, 120), (230, 225, 210))
    ImageDraw.Draw(image).ellipse((40, 20, 120, 100), fill=(150, 30, 30))
    return image


def ink(image: Image.Image) -> NDArray[np.float64]:
    return 255.0 - np.asarray(image.convert("L"), dtype=np.float64)


def test_strokes_lie_on_the_lines() -> None:
    points = np.concatenate(strokes_of(house()))
    scale, top = hands.SIDE / 200, (hands.SIDE - 160 * hands.SIDE / 200) / 2
    pixels = np.asarray(house().convert("L"))
    for x, y in points:
        column, row = round(float(x) / scale), round(float(y - top) / scale)
        assert pixels[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3].min() < 128


def test_a_drawing_is_drawn_again_and_again_otherwise() -> None:
    results = [redraw(house(), np.random.default_rng(seed)) for seed in SEEDS]
    assert {(result.size, result.mode) for result in results} == {((hands.SIDE, hands.SIDE), "RGB")}
    assert len({result.tobytes() for result in results}) == len(SEEDS)
    assert redraw(house(), np.random.default_rng(3)).tobytes() == results[3].tobytes()
    shares = [float((ink(result) > 64).mean()) for result in results]
    assert min(shares) > 0.004
    assert max(shares) < 0.25
    assert max(shares) > 2 * min(shares)  # thick and thin


def test_it_stays_about_where_it_was() -> None:
    plain = ink(hands._squared(house(), 255))
    near = np.asarray(Image.fromarray((plain > 64).astype(np.uint8) * 255).resize((14, 14), Image.Resampling.BOX)) > 0
    for seed in SEEDS:
        cells = Image.fromarray((ink(redraw(house(), np.random.default_rng(seed))) > 64).astype(np.uint8) * 255)
        drawn = np.asarray(cells.resize((14, 14), Image.Resampling.BOX)) > 0
        assert (drawn & near).sum() / drawn.sum() > 0.3, seed


def test_a_blank_sheet_stays_blank() -> None:
    blank = Image.new("RGB", (90, 60), (255, 255, 255))
    assert redraw(blank, np.random.default_rng(0)) is blank


def test_one_dot_can_be_drawn_again() -> None:
    dot = Image.new("RGB", (50, 50), (255, 255, 255))
    dot.putpixel((25, 25), (0, 0, 0))
    for seed in SEEDS:
        assert redraw(dot, np.random.default_rng(seed)).mode == "RGB"


def test_corners_are_cut_and_ends_kept() -> None:
    corner = np.array([(0.0, 0.0), (10.0, 0.0), (10.0, 10.0)])
    rounded = smooth(corner)
    assert rounded[0].tolist() == [0, 0]
    assert rounded[-1].tolist() == [10, 10]
    assert not (abs(rounded - (10, 0)) < 1).all(axis=1).any()
    assert smooth(corner[:2]) is not None
    assert smooth(corner[:2]).tolist() == corner[:2].tolist()


@pytest.mark.parametrize("modality", ["sketch", "photo"])
def test_without_hands_it_is_the_plain_augmentation(modality: str) -> None:
    image = house()
    plain = augment(image, modality, np.random.default_rng(5))  # type: ignore[arg-type]
    assert vary(image, modality, np.random.default_rng(5)).tobytes() == plain.tobytes()  # type: ignore[arg-type]
    others = [vary(image, modality, np.random.default_rng(seed), 1.0).tobytes() for seed in SEEDS]  # type: ignore[arg-type]
    assert len(set(others)) == len(SEEDS)


def test_photos_are_taken_another_way() -> None:
    image = disc()
    before = image.tobytes()
    results = [snapshot(image, np.random.default_rng(seed)) for seed in SEEDS]
    assert {result.size for result in results} == {image.size}
    assert len({result.tobytes() for result in results}) > len(SEEDS) / 2
    assert image.tobytes() == before
    red = [float((np.asarray(result)[:, :, 1] < 100).mean()) for result in results]
    assert min(red) < 0.8 * max(red)  # far and near
