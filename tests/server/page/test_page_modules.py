"""The page's pure modules, run in the browser and compared with plain Python."""

import base64
import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import Page

from oracles.strokes import SAMPLE, distance_to_segment, nearest, samples, simplified
from server.page.hand import Point, Stroke

Visit = Callable[..., Page]
Run = Callable[..., Any]

PLACES = st.tuples(st.integers(0, 200), st.integers(0, 200))  # so near to each other that an eraser meets lines


@pytest.fixture
def run(visit: Visit) -> Run:
    """Calls a function of one of the page's modules: `run("geometry", "simplify", points, tolerance)`."""
    page = visit()
    call = """([module, name, args]) => import(`/static/js/${module}.js`).then((loaded) => {
      try { return { value: loaded[name](...args) }; } catch (error) { return { error: error.message }; }
    })"""

    def called(module: str, name: str, *args: Any) -> Any:
        answer = page.evaluate(call, [module, name, list(args)])
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer["value"]

    return called


def scribble(seed: int, points: int) -> Stroke:
    """A random winding line on the paper."""
    random_ = random.Random(seed)
    x, y = random_.uniform(0, 1024), random_.uniform(0, 1024)
    line = []
    for _ in range(points):
        line.append((x, y))
        x = min(1024.0, max(0.0, x + random_.gauss(0, 30)))
        y = min(1024.0, max(0.0, y + random_.gauss(0, 30)))
    return line


@pytest.mark.parametrize("tolerance", [0.5, 4, 40])
def test_simplified_lines_equal_the_naive_ones(run: Run, tolerance: float) -> None:
    for seed, points in enumerate((1, 2, 3, 50, 120)):
        line = scribble(seed, points)
        assert [tuple(point) for point in run("geometry", "simplify", line, tolerance)] == simplified(line, tolerance)
    closed = [(0, 0), (10, 0), (10, 10), (0, 0)]
    assert run("geometry", "simplify", closed, 0.5) == [list(point) for point in closed]


def test_an_eraser_leaves_what_is_beyond_its_reach_and_nothing_else(run: Run) -> None:
    @settings(max_examples=40, deadline=None, derandomize=True)
    @given(st.lists(PLACES, min_size=2, max_size=6), PLACES, PLACES, st.floats(5, 80))
    def check(line: Stroke, start: Point, end: Point, reach: float) -> None:
        pieces = run("geometry", "cut", line, start, end, reach)
        kept = [point for piece in pieces for point in samples(piece)]
        assert all(distance_to_segment(point, start, end) > reach - 1e-6 for point in kept)
        for point in samples(line):
            if distance_to_segment(point, start, end) > reach + 2 * SAMPLE:
                assert nearest(point, kept) < SAMPLE

    check()
    assert run("geometry", "cut", [(5, 5)], (0, 0), (10, 10), 1) == []  # a dot
    assert run("geometry", "cut", [(5, 9)], (0, 0), (10, 10), 1) == [[[5, 9]]]


def test_a_smoothed_line_starts_and_ends_where_the_hand_did_and_stays_near(run: Run, visit: Visit) -> None:
    page = visit()
    random_ = random.Random(3)
    for step in (0.7, 4.0, 60.0):
        hand = [(100 + step * number, 500 + random_.gauss(0, 0.4)) for number in range(15)]
        smooth = page.evaluate(
            """([first, ...rest]) => import("/static/js/smoother.js").then(({ Smoother }) => {
              const smoother = new Smoother(first);
              rest.forEach((point) => smoother.add(point));
              return smoother.finish(rest.at(-1));
            })""",
            hand,
        )
        assert smooth[0] == list(hand[0])
        assert nearest(tuple(smooth[-1]), [hand[-1]]) <= 0.5
        assert all(nearest((x, y), samples(hand)) < 1.5 for x, y in smooth)
        roughness = sum(abs(b[1] - a[1]) for a, b in pairwise(smooth))
        assert roughness < sum(abs(b[1] - a[1]) for a, b in pairwise(hand))


def test_a_link_gives_back_the_strokes_it_was_made_of(run: Run) -> None:
    strokes = [{"points": scribble(seed, 1 + 9 * seed), "width": 4 + seed} for seed in range(12)]
    code = run("link", "encode", strokes)
    assert set(code) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    decoded = run("link", "decode", code)
    assert [stroke["width"] for stroke in decoded] == [stroke["width"] for stroke in strokes]
    for stroke, again in zip(strokes, decoded, strict=True):
        line = samples(again["points"])
        assert all(nearest(point, line) < 1 + 2**0.5 / 2 + SAMPLE for point in stroke["points"])  # tolerance, grid
    assert run("link", "decode", run("link", "encode", [])) == []
    dot = [{"points": [[7, 1024]], "width": 9}]
    assert run("link", "decode", run("link", "encode", dot)) == dot


def test_long_drawings_still_make_links_that_can_be_sent(run: Run) -> None:
    strokes = [{"points": scribble(seed, 400), "width": 12} for seed in range(8)]
    code = run("link", "encode", strokes)
    assert len(code) < 8000
    assert len(run("link", "decode", code)) == 8


def test_links_that_are_damaged_are_refused_with_a_sentence(run: Run) -> None:
    code = run("link", "encode", [{"points": scribble(5, 30), "width": 12}])
    for wrong in ("", "A", "AAAA", code[:-1], code[:-8], code[4:], code + "A", "%%%", code[:10] + "é" + code[11:]):
        with pytest.raises(ValueError, match=r"damaged or was cut short|another version"):
            run("link", "decode", wrong)
    changed = "".join(chr(ord(letter) ^ 1) if number == 20 else letter for number, letter in enumerate(code))
    with pytest.raises(ValueError, match="damaged"):
        run("link", "decode", changed)
    with pytest.raises(ValueError, match="another version"):
        run("link", "decode", base64.urlsafe_b64encode(bytes([9, 9, 9, 9])).decode().rstrip("="))
    with pytest.raises(ValueError, match="too long"):
        run("link", "decode", "A" * 200_001)
