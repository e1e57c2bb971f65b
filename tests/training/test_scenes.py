"""Scenes: what they are made of, and that their boxes are right."""

from collections import Counter
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from crossatnet.data.catalog import Item, open_item
from crossatnet.model.regions import Box, area
from crossatnet.training import scenes
from crossatnet.training.scenes import (
    EDGES,
    GRIDS,
    PATCH,
    SIZES,
    THING_AREA,
    Thing,
    any_edge,
    any_thing,
    are_apart,
    compose,
    crop,
    cut_at,
    free_box,
    ground,
    grown,
    mask,
    middle,
    mosaic,
    paste,
    patches,
    scattered,
    view,
    within,
)
from crossatnet.training.things import Seen

NUMBERS = range(120)
GAP = 0.02  # things may overlap by it
THING = (255, 0, 180)  # the colour in the middle of photos
MIDDLE: Box = (0.3, 0.3, 0.7, 0.7)  # where it is
LIKENESS = np.pad(np.ones((4, 4), np.float32), 3)  # of places, (10, 10)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Seen]:
    """Of one colour in the middle and grey around; beside them lies a file that no decoder can read."""
    folder = tmp_path_factory.mktemp("photos")
    for number, (width, height) in enumerate([(60, 40), (40, 60), (50, 50)]):
        photo = Image.new("RGB", (width, height), (90, 90, 90))
        photo.paste(THING, (round(0.3 * width), round(0.3 * height), round(0.7 * width), round(0.7 * height)))
        photo.save(folder / f"{number}.png")
    (folder / "unseen.png").write_bytes(b"no picture")
    items = [Item(folder / f"{number}.png", "cup", "photo") for number in range(3)]
    return [Seen(item, LIKENESS, (MIDDLE,)) for item in items]


def generator(number: int) -> np.random.Generator:
    return np.random.default_rng((7, number))


@pytest.fixture(scope="module")
def composed(photos: list[Seen]) -> list[scenes.Composed]:
    return [compose(photos, generator(number)) for number in NUMBERS]


def centre(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def shows_the_thing(picture: Image.Image, box: Box) -> bool:
    """Whether the centre of a box has the colour, in whatever light."""
    x, y = centre(box)
    red, green, blue = picture.getpixel((int(x * picture.width), int(y * picture.height)))  # type: ignore[misc]
    return bool(red >= blue > green and red - green > 50)


def test_the_generator_decides_everything(photos: list[Seen], composed: list[scenes.Composed]) -> None:
    for number in NUMBERS[::6]:
        again = compose(photos, generator(number))
        assert again.boxes == composed[number].boxes
        assert again.picture.tobytes() == composed[number].picture.tobytes()
    assert len({scene.picture.tobytes() for scene in composed}) > 0.8 * len(composed)


def test_boxes_lie_in_the_picture_and_things_stand_apart(composed: list[scenes.Composed]) -> None:
    for scene in composed:
        assert scene.picture.size in SIZES
        assert scene.picture.mode == "RGB"
        for left, top, right, bottom in scene.boxes:
            assert 0 <= left < right <= 1
            assert 0 <= top < bottom <= 1
        for one, other in combinations(scene.boxes, 2):
            assert are_apart(one, other, -GAP - 1e-9)
    assert {scene.picture.size for scene in composed} == {*SIZES}
    assert len({len(scene.boxes) for scene in composed}) > 5


def test_a_box_shows_its_thing(composed: list[scenes.Composed]) -> None:
    boxes = [(scene.picture, box) for scene in composed for box in scene.boxes]
    assert len(boxes) > 2 * len(NUMBERS)
    assert all(shows_the_thing(picture, box) for picture, box in boxes)


def test_a_box_ends_where_its_thing_does(photos: list[Seen], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a white ground, of things that hide all of their box, nothing else is coloured."""
    hard = Thing(Image.new("RGB", (30, 20), THING), Image.new("L", (30, 20), 255), (0, 0, 1, 1))
    monkeypatch.setattr(scenes, "any_thing", lambda *_: hard)
    for number in range(10):
        canvas = Image.new("RGB", (400, 300), "white")
        boxes = scattered(canvas, photos, (), 6, generator(number))
        coloured = np.ptp(np.asarray(canvas), axis=2) > 40
        expected = np.zeros_like(coloured)
        for left, top, right, bottom in boxes:
            expected[round(300 * top) : round(300 * bottom), round(400 * left) : round(400 * right)] = True
        np.testing.assert_array_equal(coloured, expected)


def test_a_thing_cut_out_has_the_box_of_what_is_shown(photos: list[Seen]) -> None:
    cut_outs, framed = 0, set()
    for number in range(60):
        picture, shown, box = any_thing(photos, generator(number))
        assert picture.size == shown.size
        if box == (0, 0, 1, 1):
            framed.add(picture.size)
            continue
        cut_outs += 1
        opaque: NDArray[np.bool_] = np.asarray(shown) > 200
        coloured = np.ptp(np.asarray(picture), axis=2) > 40
        assert coloured[opaque].mean() > 0.6
        assert opaque[coloured].mean() > 0.8
        rows, columns = (np.flatnonzero(coloured.any(axis)) for axis in (1, 0))
        edges = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / (picture.size * 2)
        np.testing.assert_allclose(box, edges, atol=0.1)
    assert 20 < cut_outs < 50
    assert len(framed) > 8


def test_a_view_keeps_the_largest_thing_whole(photos: list[Seen]) -> None:
    second: Box = (0.0, 0.0, 0.2, 0.1)
    both = [photo._replace(boxes=(MIDDLE, second)) for photo in photos]
    counts, sizes, places = Counter[int](), set(), set()
    for number in range(60):
        picture, boxes = view(both[number % 3], generator(number))
        counts[len(boxes)] += 1
        sizes.add(picture.size)
        left, top, right, bottom = boxes[0]
        places.add(left < 1 - right)
        coloured = np.ptp(np.asarray(picture), axis=2) > 40
        rows, columns = (np.flatnonzero(coloured.any(axis)) for axis in (1, 0))
        edges = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        expected = [share * side for share, side in zip((left, top, right, bottom), picture.size * 2, strict=True)]
        np.testing.assert_allclose(edges, expected, atol=1.6)  # whole pixels
        if len(boxes) == 2 and picture.size == open_item(both[number % 3].item).size:
            assert boxes[1] in (second, (0.8, 0.0, 1.0, 0.1))
    assert {*counts} == {1, 2}  # the second one is left out where too little of it is seen
    assert len(sizes) > 15
    assert places == {True, False}


def test_all_kinds_of_scenes_occur(photos: list[Seen], monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: Counter[str] = Counter()

    def counted(name: str, real: object) -> None:
        def noted(*given: object) -> object:
            kinds[name] += 1
            return real(*given)  # type: ignore[operator]

        monkeypatch.setattr(scenes, name, noted)

    for name, real in (("mosaic", mosaic), ("patches", patches), ("scattered", scattered)):
        counted(name, real)
    monkeypatch.setattr(scenes, "paste", lambda *_: None)
    found = [compose(photos, generator(number)) for number in NUMBERS]
    on_photos = kinds["scattered"] - kinds["patches"]
    alone = sum(not scene.is_complete for scene in found) - on_photos
    assert sum(scene.is_complete for scene in found) == kinds["mosaic"] + kinds["patches"]
    assert 0.25 < alone / len(NUMBERS) < 0.55
    assert 0.15 < on_photos / len(NUMBERS) < 0.45
    assert 0.02 < kinds["mosaic"] / len(NUMBERS) < 0.2
    assert 0.1 < kinds["patches"] / len(NUMBERS) < 0.4


def test_things_on_a_photo_lie_beside_its_own(photos: list[Seen]) -> None:
    beside = 0
    for number in NUMBERS:
        scene = compose(photos, generator(number))
        if not scene.is_complete and len(scene.boxes) > 1:
            beside += 1
            assert shows_the_thing(scene.picture, scene.boxes[0])
    assert beside > 15


def test_patches_show_nothing_and_some_keep_things_off(photos: list[Seen], monkeypatch: pytest.MonkeyPatch) -> None:
    pasted: list[tuple[Image.Image, Box]] = []
    monkeypatch.setattr(scenes, "paste", lambda _canvas, picture, _mask, box, _random: pasted.append((picture, box)))
    taken = [box for number in range(40) for box in patches(Image.new("RGB", (90, 60)), photos, generator(number))]
    assert all(picture.size == PATCH for picture, _ in pasted)
    assert {*taken} < {box for _, box in pasted}
    assert 0.4 < len(taken) / len(pasted) < 0.8
    full = scattered(Image.new("RGB", (90, 60)), photos, ((0, 0, 1, 1),), 8, generator(0))
    assert full == ()


def test_a_mosaic_is_filled_cell_by_cell(photos: list[Seen], monkeypatch: pytest.MonkeyPatch) -> None:
    cells: list[tuple[Box, bool]] = []

    def note(
        canvas: Image.Image, picture: Image.Image, shown: Image.Image, box: Box, random: np.random.Generator
    ) -> None:
        cells.append((box, picture.size != PATCH))
        assert shown.size == picture.size
        assert shown.getextrema() == (255, 255)

    monkeypatch.setattr(scenes, "paste", note)
    grids, empty = set(), 0
    for number in range(60):
        cells.clear()
        boxes = mosaic(Image.new("RGB", (90, 60)), photos, generator(number))
        for cell, box in zip([cell for cell, is_thing in cells if is_thing], boxes, strict=True):
            inner = cut_at(cell, box)
            assert inner is not None
            assert within(cell, inner) == pytest.approx(box)
        assert sum(area(cell) for cell, _ in cells) == pytest.approx(1)
        columns, rows = ({cell[axis] for cell, _ in cells} for axis in (0, 1))
        assert all(one < other for side in (columns, rows) for one, other in pairwise(sorted(side)))
        assert len(cells) == len(columns) * len(rows)
        grids.add((len(columns), len(rows)))
        empty += len(cells) - len(boxes)
    assert grids == {*GRIDS}
    assert empty > 0


def test_no_photo_but_those_given_is_opened(photos: list[Seen], monkeypatch: pytest.MonkeyPatch) -> None:
    """So nothing of an unseen class can reach a scene."""
    opened: Counter[Path] = Counter()

    def note(item: Item) -> Image.Image:
        opened[item.path] += 1  # type: ignore[index]
        return open_item(item)

    monkeypatch.setattr(scenes, "open_item", note)
    for number in range(20):
        compose(photos[:2], generator(number))
    assert {*opened} == {photo.item.path for photo in photos[:2]}


def test_grounds_show_nothing_of_a_photos_middle(photos: list[Seen]) -> None:
    kinds = set()
    for number in range(40):
        picture = ground(photos, (50, 40), generator(number))
        assert (picture.size, picture.mode) == ((50, 40), "RGB")
        pixels = np.asarray(picture)
        is_grey = bool((np.ptp(pixels, axis=2) < 12).all())
        colours = len(np.unique(pixels.reshape(-1, 3), axis=0))
        kinds.add("corner" if is_grey and colours < 4 else "colour" if colours == 1 else "uneven")
        if np.abs(pixels.astype(int) - (90, 90, 90)).max() < 3:
            kinds.add("of a photo")
    assert kinds == {"corner", "colour", "uneven", "of a photo"}


def test_the_middle_of_a_photo_is_some_of_it(photos: list[Seen]) -> None:
    picture = open_item(photos[0].item)
    sizes = set()
    for number in range(40):
        part = middle(picture, generator(number))
        sizes.add(part.size)
        assert 0.4 * picture.width < part.width <= picture.width
        assert 0.4 * picture.height < part.height <= picture.height
        assert part.getpixel((part.width // 2, part.height // 2)) == THING
    assert len(sizes) > 20
    assert middle(Image.new("RGB", (1, 1)), generator(0)).size == (1, 1)


def test_a_free_box_overlaps_none() -> None:
    random, found, missed = np.random.default_rng(0), 0, 0
    for gap in (0.03, 0.0, -0.02):
        for _ in range(20):
            taken: list[Box] = []
            for _ in range(12):
                box = free_box(THING_AREA, random.uniform(0.4, 2.5), taken, gap, random)
                if box is None:
                    missed += 1
                    continue
                found += 1
                assert min(box) >= 0
                assert max(box) <= 1
                for other in taken:
                    across = min(box[2], other[2]) - max(box[0], other[0])
                    down = min(box[3], other[3]) - max(box[1], other[1])
                    assert min(across, down) <= -gap + 1e-9
                taken.append(box)
    assert found > 100
    assert missed > 0


def test_a_free_box_has_the_area_and_the_shape_asked_for() -> None:
    random = np.random.default_rng(0)
    boxes = [free_box((0.05, 0.2), 2.0, [], 0.0, random) for _ in range(50)]
    sides = np.array([(box[2] - box[0], box[3] - box[1]) for box in boxes if box is not None])
    assert len(sides) == 50
    np.testing.assert_allclose(sides[:, 0] / sides[:, 1], 2)
    areas = sides.prod(1)
    assert 0.05 <= areas.min() < 0.07
    assert 0.15 < areas.max() <= 0.2
    assert free_box((0.5, 0.6), 1.0, [(0.0, 0.0, 1.0, 1.0)], 0.0, random) is None
    crowded = [free_box((0.3, 0.31), 1.0, [(0.0, 0.0, 0.6, 1.0)], 0.0, random) for _ in range(20)]
    smaller = [box for box in crowded if box is not None]  # where there is no room for more
    assert len(smaller) > 10
    assert all((box[2] - box[0]) * (box[3] - box[1]) < 0.4**2 for box in smaller)


def test_edges_hide_what_is_outside_them() -> None:
    size = (60, 40)
    shares = {}
    for edge in EDGES:
        hidden: NDArray[np.uint8] = np.asarray(mask(size, edge, np.random.default_rng(0)))
        assert hidden.shape == (40, 60)
        assert hidden[20, 30] == 255
        assert (hidden[0, 0] == 255) == (edge == "hard")
        shares[edge] = (hidden > 127).mean()
    assert shares["hard"] == 1
    assert shares["oval"] == pytest.approx(np.pi / 4, abs=0.03)
    assert 0.6 < shares["faded"] < 0.75
    assert {any_edge(np.random.default_rng(number)) for number in range(40)} == {*EDGES}


def test_a_picture_is_pasted_into_its_box_in_some_light() -> None:
    found = set()
    thing, opaque = Image.new("RGB", (7, 9), THING), Image.new("L", (7, 9), 255)
    for number in range(20):
        canvas = Image.new("RGB", (100, 50), "white")
        paste(canvas, thing, opaque, (0.2, 0.4, 0.6, 0.8), np.random.default_rng(number))
        pixels = np.asarray(canvas)
        outside = np.ones((50, 100), bool)
        outside[20:40, 20:60] = False
        assert (pixels[outside] == 255).all()
        assert shows_the_thing(canvas, (0.2, 0.4, 0.6, 0.8))
        found.add(canvas.getpixel((40, 30)))
    assert len(found) > 5
    tiny = Image.new("RGB", (100, 50))
    paste(tiny, thing, opaque, (0.99, 0.99, 1.0, 1.0), np.random.default_rng(0))
    paste(tiny, thing, Image.new("L", (7, 9), 0), (0.0, 0.0, 0.5, 0.5), np.random.default_rng(0))
    assert not np.asarray(tiny)[:25, :50].any()  # what the mask hides is not shown


def test_boxes_cut_at_another_and_grown() -> None:
    assert cut_at((0.0, 0.0, 0.5, 0.5), (0.25, 0.25, 0.75, 0.5)) == (0.5, 0.5, 1.0, 1.0)
    assert cut_at((0.0, 0.0, 0.5, 0.5), (0.5, 0.0, 0.75, 0.5)) is None
    assert grown((0.4, 0.4, 0.6, 0.6), 0.5, 0) == pytest.approx((0.3, 0.4, 0.7, 0.6))
    assert grown((0.0, 0.1, 1.0, 0.9), 1, 1) == (0, 0, 1, 1)


def test_a_crop_is_one_pixel_at_least() -> None:
    picture = Image.new("RGB", (10, 10))
    assert crop(picture, (1.0, 1.0, 1.0, 1.0)).size == (1, 1)
    assert crop(picture, (0.2, 0.0, 0.6, 1.0)).size == (4, 10)


def test_a_box_within_a_box() -> None:
    assert within((0, 0, 1, 1), MIDDLE) == MIDDLE
    assert within((0.5, 0.0, 1.0, 0.5), (0.5, 0.0, 1.0, 0.5)) == (0.75, 0.0, 1.0, 0.25)
    assert within((0.2, 0.4, 0.6, 0.8), (0.25, 0.5, 0.75, 1.0)) == pytest.approx((0.3, 0.6, 0.5, 0.8))
