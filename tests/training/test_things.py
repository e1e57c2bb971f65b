"""Where things are by a network's own eyes: what is like the whole, and the boxes of it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from crossatnet.config import ModelConfig
from crossatnet.data.catalog import Item, open_item
from crossatnet.data.images import prepare
from crossatnet.model.network import CrossATNet
from crossatnet.model.regions import Box, area
from crossatnet.training import things
from crossatnet.training.things import ENLARGED, GRID, MIDDLE, boxes_of_things, connected, likenesses, things_in

SIDE = 64


@pytest.fixture(scope="module")
def network() -> CrossATNet:
    torch.manual_seed(0)
    made = CrossATNet(ModelConfig(image_size=SIDE, dimension=16, code_lengths=(16,), region_size=64))
    made.backbone.load_imagenet_weights()  # type: ignore[operator]
    return made.eval()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Item]:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(10):
        photo = Image.new("RGB", (80, 60), (200, 210, 190))
        pen, left = ImageDraw.Draw(photo), 4 * number
        pen.ellipse((left, 10, left + 34, 44), (180, 20, 20), "black", 3)
        pen.line((left + 6, 20, left + 26, 34), "yellow", 4)
        photo.save(folder / f"{number}.png")
    return [Item(folder / f"{number}.png", "ball", "photo") for number in range(10)]


def flood(cells: Sequence[Sequence[bool]]) -> list[set[tuple[int, int]]]:
    """The connected parts of cells, corners included, by a plain flood."""
    left = {(row, column) for row, cell in enumerate(cells) for column, is_in in enumerate(cell) if is_in}
    parts = []
    while left:
        part, edge = set(), [left.pop()]
        while edge:
            row, column = edge.pop()
            part.add((row, column))
            around = {(row + down, column + across) for down in (-1, 0, 1) for across in (-1, 0, 1)} & left
            left -= around
            edge += around
        parts.append(part)
    return parts


def test_connected_parts_are_those_of_a_plain_flood() -> None:
    random, counts = np.random.default_rng(0), set()
    for number in range(20):
        cells = torch.from_numpy(random.random((7, 11)) < 0.05 * number)
        numbered = connected(cells)
        assert torch.equal(numbered > 0, cells)
        found = [{(row, column) for row, column in (numbered == n).nonzero().tolist()} for n in numbered.unique() if n]
        expected = flood(cells.tolist())
        assert sorted(map(sorted, found)) == sorted(map(sorted, expected))
        counts.add(len(expected))
    assert len(counts) > 5


def plane(*spots: tuple[Box, float], side: int = GRID) -> torch.Tensor:
    """Likeness of places, (side, side), of so much within boxes, the later ones above."""
    likeness = torch.zeros(side, side)
    for (left, top, right, bottom), value in spots:
        likeness[round(top * side) : round(bottom * side), round(left * side) : round(right * side)] = value
    return likeness


def test_things_have_boxes_the_largest_first() -> None:
    large, small = (0.5, 0.25, 1.0, 0.75), (0.0, 0.0, 0.25, 0.125)
    assert boxes_of_things(plane((small, 0.9), (large, 0.8))) == (large, small)
    assert boxes_of_things(0.1 * plane((small, 0.9), (large, 0.8))) == (large, small)  # the highest counts as 1


def test_what_is_less_like_the_whole_belongs_to_a_thing_but_is_none() -> None:
    thing, around, apart = (0.5, 0.5, 0.75, 0.75), (0.25, 0.5, 0.75, 0.75), (0.0, 0.0, 0.25, 0.25)
    assert boxes_of_things(plane((around, 0.5), (thing, 1.0), (apart, 0.5))) == (around,)
    assert boxes_of_things(plane((around, 0.2), (thing, 1.0))) == (thing,)


def test_a_speck_is_no_thing() -> None:
    speck, thing = (0.0, 0.0, 1 / GRID, 3 / GRID), (0.5, 0.5, 0.75, 0.75)
    assert boxes_of_things(plane((speck, 1.0), (thing, 1.0))) == (thing,)
    assert boxes_of_things(plane((speck, 1.0))) == ()


def test_likeness_is_the_cosine_of_each_place_alone(network: CrossATNet, photos: list[Item]) -> None:
    pictures = [open_item(photo) for photo in photos[:2]]
    whole, enlarged = (
        np.stack([prepare(picture, "photo", side) for picture in pictures]) for side in (SIDE, ENLARGED * SIDE)
    )
    found = likenesses(network, whole, enlarged)
    places = network.map(enlarged, "photo")
    assert found.shape == (2, *places.shape[2:])
    with torch.inference_mode():
        for number in range(2):
            embedding = network.embed_map(network.map(whole[number : number + 1], "photo"), "photo")[0]
            for row, column in np.ndindex(*found.shape[1:]):
                place = places[number : number + 1, :, row : row + 1, column : column + 1]
                alone = network.embed_map(place, "photo")[0]
                assert float(found[number, row, column]) == pytest.approx(float(alone @ embedding), abs=1e-4)
    assert found.max() > found.min() + 0.1


def test_photos_that_tell_are_seen(network: CrossATNet, photos: list[Item], monkeypatch: pytest.MonkeyPatch) -> None:
    """In their order, also where there are more than are seen at once, without those that tell nothing."""
    real = likenesses

    def dimmed(network: CrossATNet, whole: np.ndarray, enlarged: np.ndarray) -> torch.Tensor:
        found = real(network, whole, enlarged)
        highest = torch.full((len(found), 1, 1), things.CLEAR + 0.01)
        highest[1] -= 0.02
        return found / found.amax((1, 2), keepdim=True) * highest

    monkeypatch.setattr(things, "likenesses", dimmed)
    seen = things_in(network, photos, quiet=True)
    assert [each.item for each in seen] == [photo for number, photo in enumerate(photos) if number % 8 != 1]
    for each in seen:
        assert each.boxes
        assert each.likeness.min() >= 0
        assert each.likeness.max() == 1
        assert all(area(one) >= area(other) for one, other in zip(each.boxes, each.boxes[1:], strict=False))


def test_without_any_that_tells_the_middle_is_taken(
    network: CrossATNet, photos: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(things, "CLEAR", 2)
    seen = things_in(network, photos, quiet=True)
    assert [each.item for each in seen] == photos
    assert {each.boxes for each in seen} == {(MIDDLE,)}
    assert all((each.likeness == 1).all() for each in seen)


def test_no_photo_but_those_given_is_opened(
    network: CrossATNet, photos: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = list[Path]()

    def note(item: Item) -> Image.Image:
        opened.append(Path(str(item.path)))
        return open_item(item)

    monkeypatch.setattr(things, "open_item", note)
    things_in(network, photos[:3], quiet=True)
    assert sorted(opened) == sorted(Path(str(photo.path)) for photo in photos[:3])
