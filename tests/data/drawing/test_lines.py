"""Printed lines go and strokes stay; the parts of a picture are those that a loop finds."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from crossatnet.data.drawing.lines import printed_lines, without_printed_lines
from crossatnet.data.drawing.pen import dilated, eroded
from crossatnet.data.drawing.read import _block_tones, read_drawing
from crossatnet.data.drawing.spots import parts
from data.drawing.drawn import Ink, house, laid, overlap, picture

SIDE = 400


def ruled(spacing: float, wide: int, both: bool, tilt: float = 0.0) -> Ink:
    image = Image.new("L", (SIDE, SIDE))
    draw = ImageDraw.Draw(image)
    for at in np.arange(spacing / 2, SIDE, spacing):
        draw.line([(0, at - tilt * SIDE / 2), (SIDE, at + tilt * SIDE / 2)], 255, wide)
        if both:
            draw.line([(at, 0), (at, SIDE)], 255, wide)
    return np.asarray(image, np.float32) / 255


@pytest.mark.parametrize("strength", [0.25, 0.6, 1.0])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize(("spacing", "wide"), [(16, 1), (29, 2), (44, 1)])
def test_ruled_and_squared_paper(strength: float, both: bool, spacing: float, wide: int) -> None:
    ink = np.maximum(house(SIDE), strength * ruled(spacing, wide, both))
    assert overlap(read_drawing(picture(laid(ink, 250, 20))), house(SIDE)) > 0.9


@pytest.mark.parametrize("tilt", [-0.06, -0.02, 0.03, 0.07])
def test_lines_may_be_tilted(tilt: float) -> None:
    ink = np.maximum(house(SIDE), 0.5 * ruled(30, 2, False, tilt))
    assert overlap(read_drawing(picture(laid(ink, 240, 20))), house(SIDE)) > 0.9


def test_a_margin_goes_with_the_lines() -> None:
    ink = np.maximum(house(SIDE), 0.4 * ruled(30, 1, False))
    ink[:, 40:42] = np.maximum(ink[:, 40:42], 0.5)
    assert overlap(read_drawing(picture(laid(ink, 250, 20))), house(SIDE)) > 0.9


def test_a_drawing_of_lines_is_no_ruling() -> None:
    image = Image.new("L", (SIDE, SIDE))
    for at in range(100, 300, 25):
        ImageDraw.Draw(image).line([(60, at), (340, at)], 255, 4)  # a fence: from edge to edge of nothing
    ink = np.asarray(image, np.float32) / 255
    assert printed_lines(ink) is None
    np.testing.assert_array_equal(without_printed_lines(ink), ink)


@pytest.mark.parametrize("share", [0.1, 0.35, 0.6])
@pytest.mark.parametrize("shape", [(1, 1), (9, 14), (23, 17)])
def test_parts_are_those_of_a_flood(share: float, shape: tuple[int, int]) -> None:
    mask = np.random.default_rng(1).random(shape) < share
    found = parts(mask)
    label, count = flooded(mask)
    assert len(found.area) == count
    for number in range(count):
        rows, columns = np.nonzero(label == number)
        own = found.label[rows[0], columns[0]]
        np.testing.assert_array_equal(found.label == own, label == number)
        assert found.area[own] == len(rows)
        assert found.span[own] == max(np.ptp(rows), np.ptp(columns)) + 1


def flooded(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Label by a loop that anyone can check by eye."""
    label, count = np.full(mask.shape, -1), 0
    for start in zip(*np.nonzero(mask), strict=True):
        if label[start] >= 0:
            continue
        todo = [start]
        while todo:
            row, column = todo.pop()
            if (
                0 <= row < mask.shape[0]
                and 0 <= column < mask.shape[1]
                and mask[row, column]
                and label[row, column] < 0
            ):
                label[row, column] = count
                todo += [(row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
        count += 1
    return label, count


@pytest.mark.parametrize("radius", [1, 2, 5])
def test_dilated_and_eroded_look_at_every_pixel_of_the_square(radius: int) -> None:
    mask = np.random.default_rng(2).random((12, 17)) < 0.5
    padded = np.pad(mask, radius)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * radius + 1,) * 2)
    np.testing.assert_array_equal(dilated(mask, radius), windows.any(axis=(2, 3)))
    np.testing.assert_array_equal(eroded(mask, radius), windows.all(axis=(2, 3)))


def test_a_blocks_tone_is_the_median_of_every_second_row() -> None:
    planes = np.random.default_rng(3).integers(0, 256, (3, 64, 96), dtype=np.uint8)
    tones = _block_tones(planes)
    side = 3  # 96 pixels in 32 blocks
    for plane in range(3):
        for row in range(64 // side):
            for column in range(32):
                block = planes[plane, side * row : side * row + side : 2, side * column : side * column + side]
                assert tones[plane, row, column] == np.sort(block.ravel())[block.size // 2]
