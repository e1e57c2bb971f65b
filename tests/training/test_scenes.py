"""Scenes: what they are made of, and that their boxes are right."""

from collections import Counter
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from crossatnet.data.catalog import Item, open_item
from crossatnet.model.regions import Box
from crossatnet.training import scenes
from crossatnet.training.scenes import (
    EDGES,
    GRIDS,
    MIDDLE,
    SIZES,
    THING_AREA,
    any_edge,
    are_apart,
    compose,
    free_box,
    ground,
    mask,
    middle,
    mosaic,
    paste,
    scattered,
    within,
)

NUMBERS = range(120)
GAP = 0.02  # things may overlap by it
THING = (255, 0, 180)  # the colour in the middle of photos


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Item]:
    """Of one colour in the middle and grey around; beside them lies a file that no decoder can read."""
    folder = tmp_path_factory.mktemp("photos")
    for number, (width, height) in enumerate([(60, 40), (40, 60), (50, 50)]):
        photo = Image.new("RGB", (width, height), (90, 90, 90))
        photo.paste(THING, (round(0.32 * width), round(0.32 * height), round(0.68 * width), round(0.68 * height)))
        photo.save(folder / f"{number}.png")
    (folder / "unseen.png").write_bytes(b"no picture")
    return [Item(folder / f"{number}.png", "cup", "photo") for number in range(3)]


def generator(number: int) -> np.random.Generator:
    return np.random.default_rng((7, number))


@pytest.fixture(scope="module")
def composed(photos: list[Item]) -> list[scenes.Composed]:
    return [compose(photos, generator(number)) for number in NUMBERS]


def centre(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def shows_the_thing(picture: Image.Image, box: Box) -> bool:
    """Whether the centre of a box has the colour, in whatever light."""
    x, y = centre(box)
    red, green, blue = picture.getpixel((int(x * picture.width), int(y * picture.height)))  # type: ignore[misc]
    return bool(red >= blue > green and red - green > 50)


def test_the_generator_decides_everything(photos: list[Item], composed: list[scenes.Composed]) -> None:
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


def test_a_box_ends_where_its_thing_does(photos: list[Item], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a white ground, of things that hide all of their box, nothing else is coloured."""
    monkeypatch.setattr(scenes, "middle", lambda *_: Image.new("RGB", (30, 20), THING))
    monkeypatch.setattr(scenes, "any_edge", lambda _: "hard")
    monkeypatch.setattr(scenes, "ground", lambda _photos, size, _random: Image.new("RGB", size, "white"))
    for number in range(10):
        canvas = Image.new("RGB", (400, 300), "white")
        boxes = scattered(canvas, photos, generator(number))
        coloured = np.ptp(np.asarray(canvas), axis=2) > 40
        expected = np.zeros_like(coloured)
        for left, top, right, bottom in boxes:
            expected[round(300 * top) : round(300 * bottom), round(400 * left) : round(400 * right)] = True
        np.testing.assert_array_equal(coloured, expected)


def test_all_kinds_of_scenes_occur(photos: list[Item], monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: Counter[str] = Counter()
    edges: Counter[str] = Counter()
    pasted: Counter[str] = Counter()

    def counted(name: str, real: object) -> None:
        def noted(*given: object) -> object:
            kinds[name] += 1
            return real(*given)  # type: ignore[operator]

        monkeypatch.setattr(scenes, name, noted)

    counted("mosaic", mosaic)
    counted("scattered", scattered)

    def note(canvas: Image.Image, picture: Image.Image, box: Box, edge: str, random: np.random.Generator) -> None:
        edges[edge] += 1
        pasted["patch" if picture.size == (64, 64) else "thing"] += 1

    monkeypatch.setattr(scenes, "paste", note)
    found = [compose(photos, generator(number)) for number in NUMBERS]
    plain = len(NUMBERS) - kinds.total()
    assert sum(scene.boxes == (MIDDLE,) for scene in found) == plain
    assert 0.15 < plain / len(NUMBERS) < 0.45
    assert 0.04 < kinds["mosaic"] / len(NUMBERS) < 0.25
    assert kinds["scattered"] / len(NUMBERS) > 0.4
    assert {*edges} == {*EDGES}
    assert min(pasted.values()) > 20


def test_a_mosaic_is_filled_cell_by_cell(photos: list[Item], monkeypatch: pytest.MonkeyPatch) -> None:
    cells: list[tuple[Box, bool]] = []

    def note(canvas: Image.Image, picture: Image.Image, box: Box, edge: str, random: np.random.Generator) -> None:
        cells.append((box, picture.size != (64, 64)))
        assert edge == "hard"

    monkeypatch.setattr(scenes, "paste", note)
    grids, empty = set(), 0
    for number in range(60):
        cells.clear()
        boxes = mosaic(Image.new("RGB", (90, 60)), photos, generator(number))
        assert [within(cell, MIDDLE) for cell, is_thing in cells if is_thing] == [*boxes]
        assert sum((right - left) * (bottom - top) for (left, top, right, bottom), _ in cells) == pytest.approx(1)
        columns, rows = ({cell[axis] for cell, _ in cells} for axis in (0, 1))
        assert all(one < other for side in (columns, rows) for one, other in pairwise(sorted(side)))
        assert len(cells) == len(columns) * len(rows)
        grids.add((len(columns), len(rows)))
        empty += len(cells) - len(boxes)
    assert grids == {*GRIDS}
    assert empty > 0


def test_no_photo_but_those_given_is_opened(photos: list[Item], monkeypatch: pytest.MonkeyPatch) -> None:
    """So nothing of an unseen class can reach a scene."""
    opened: Counter[Path] = Counter()

    def note(item: Item) -> Image.Image:
        opened[item.path] += 1  # type: ignore[index]
        return open_item(item)

    monkeypatch.setattr(scenes, "open_item", note)
    for number in range(20):
        compose(photos[:2], generator(number))
    assert {*opened} == {photo.path for photo in photos[:2]}


def test_grounds_show_nothing_of_a_photos_middle(photos: list[Item]) -> None:
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


def test_the_middle_of_a_photo_is_some_of_it(photos: list[Item]) -> None:
    picture = open_item(photos[0])
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
    for number in range(20):
        canvas = Image.new("RGB", (100, 50), "white")
        paste(canvas, Image.new("RGB", (7, 9), THING), (0.2, 0.4, 0.6, 0.8), "hard", np.random.default_rng(number))
        pixels = np.asarray(canvas)
        outside = np.ones((50, 100), bool)
        outside[20:40, 20:60] = False
        assert (pixels[outside] == 255).all()
        assert shows_the_thing(canvas, (0.2, 0.4, 0.6, 0.8))
        found.add(canvas.getpixel((40, 30)))
    assert len(found) > 5
    tiny = Image.new("RGB", (100, 50))
    paste(tiny, Image.new("RGB", (7, 9), THING), (0.99, 0.99, 1.0, 1.0), "soft oval", np.random.default_rng(0))


def test_a_box_within_a_box() -> None:
    assert within((0, 0, 1, 1), MIDDLE) == MIDDLE
    assert within((0.5, 0.0, 1.0, 0.5), (0.5, 0.0, 1.0, 0.5)) == (0.75, 0.0, 1.0, 0.25)
    assert within((0.2, 0.4, 0.6, 0.8), (0.25, 0.5, 0.75, 1.0)) == pytest.approx((0.3, 0.6, 0.5, 0.8))
