"""Lines thinned and walked: against shapes that anyone can check by eye."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from crossatnet.data.tracing import resampled, thin, trace


def drawn(*lines: list[tuple[int, int]], width: int = 5, closed: bool = False) -> NDArray[np.bool_]:
    image = Image.new("L", (80, 60))
    for line in lines:
        ImageDraw.Draw(image).line([*line, line[0]] if closed else line, 255, width)
    return np.asarray(image) > 0


def pieces(ink: NDArray[np.bool_]) -> int:
    """How many pieces of 8-connected ink there are, by flooding one after another."""
    left, count = {(int(x), int(y)) for y, x in np.argwhere(ink)}, 0
    while left:
        count += 1
        edge = [left.pop()]
        while edge:
            x, y = edge.pop()
            around = {(x + dx, y + dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)} & left
            left -= around
            edge += around
    return count


def test_a_thick_line_becomes_its_middle() -> None:
    thinned = thin(drawn([(10, 30), (70, 30)]))
    rows, columns = np.nonzero(thinned)
    assert set(rows) <= {29, 30, 31}
    assert thinned.sum() <= 62
    assert columns.min() <= 13
    assert columns.max() >= 67


@pytest.mark.parametrize(
    ("lines", "closed"),
    [
        ([[(10, 10), (70, 50)]], False),
        ([[(10, 10), (60, 10), (40, 50)]], True),
        ([[(10, 30), (70, 30)], [(40, 5), (40, 55)]], False),
        ([[(10, 10), (30, 10)], [(50, 40), (70, 55)]], False),
    ],
)
def test_thinning_keeps_the_pieces_and_stays_within_the_ink(lines: list[list[tuple[int, int]]], closed: bool) -> None:
    ink = drawn(*lines, closed=closed)
    thinned = thin(ink)
    assert not (thinned & ~ink).any()
    assert pieces(thinned) == pieces(ink)
    blocks = thinned[:-1, :-1] & thinned[1:, :-1] & thinned[:-1, 1:] & thinned[1:, 1:]
    assert not blocks.any()  # nothing is two pixels thick both ways


def test_thinning_nothing_gives_nothing() -> None:
    assert not thin(np.zeros((5, 7), dtype=bool)).any()


def test_a_line_is_one_stroke_from_end_to_end() -> None:
    ink = np.zeros((20, 20), dtype=bool)
    ink[7, 3:15] = True
    (stroke,) = trace(ink)
    assert stroke.dtype == np.float32
    ends = {tuple(stroke[0].tolist()), tuple(stroke[-1].tolist())}
    assert ends == {(3.0, 7.0), (14.0, 7.0)}
    assert (np.abs(np.diff(stroke, axis=0)).max(axis=1) == 1).all()


@pytest.mark.parametrize("width", [1, 3, 6])
def test_every_line_is_walked(width: int) -> None:
    thinned = thin(drawn([(10, 30), (70, 30)], [(40, 5), (40, 55)], [(5, 5), (20, 15)], width=width))
    strokes = trace(thinned)
    assert len(strokes) <= 6
    walked = np.concatenate(strokes)
    for y, x in np.argwhere(thinned):
        assert np.abs(walked - (x, y)).max(axis=1).min() <= 1  # itself, or a corner that was cut
    assert all(thinned[int(y), int(x)] for x, y in walked)


def test_a_ring_is_one_stroke() -> None:
    image = Image.new("L", (60, 60))
    ImageDraw.Draw(image).ellipse((10, 10, 50, 50), outline=255, width=4)
    strokes = sorted(trace(thin(np.asarray(image) > 0)), key=len)
    assert len(strokes[-1]) > 90
    assert sum(len(stroke) for stroke in strokes[:-1]) < 10
    assert np.hypot(*(strokes[-1][0] - strokes[-1][-1])) < 3


def test_points_are_as_far_apart_as_asked() -> None:
    stroke = np.array([(0, 0), (10, 0), (10, 10)], dtype=np.float32)
    points = resampled(stroke, 5)
    assert points.tolist() == [[0, 0], [5, 0], [10, 0], [10, 5], [10, 10]]
    uneven = resampled(stroke, 5, np.random.default_rng(0))
    assert uneven.shape == points.shape
    assert uneven[0].tolist() == [0, 0]
    assert uneven[-1].tolist() == [10, 10]
    assert not np.allclose(uneven, points)
    assert resampled(stroke, 1000).tolist() == [[0, 0], [10, 10]]
