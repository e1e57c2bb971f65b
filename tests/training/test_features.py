import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from crossatnet.data.catalog import Catalog, Item, open_item, scan
from crossatnet.data.images import prepare
from crossatnet.data.transforms import augment
from crossatnet.system.errors import ImageError
from crossatnet.training import features
from crossatnet.training.features import LivePictures, LiveViews, ViewSettings, extract

SIZE, CELL = 32, 8
SETTINGS = ViewSettings(SIZE, fit_strokes=True, views=3, units=2)
CPU = torch.device("cpu")


class CellMeans:
    """A tiny backbone: the mean colour of every cell of 8 x 8 pixels. Counts the pictures it is shown."""

    def __init__(self, fail_after: int | None = None) -> None:
        self.shown = 0
        self.fail_after = fail_after

    def __call__(self, pixels: Tensor) -> Tensor:
        assert pixels.dtype == torch.uint8
        assert pixels.shape[1:] == (3, SIZE, SIZE)
        if self.fail_after is not None and self.shown >= self.fail_after:
            raise KeyboardInterrupt
        self.shown += len(pixels)
        return F.avg_pool2d(pixels.float() / 255, CELL)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CROSSATNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(features, "PICTURES_AT_ONCE", 2)  # several part files and batches with few pictures
    monkeypatch.setattr(features, "VIEWS_AT_ONCE", 4)
    return tmp_path / "cache"


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """Three photos, a sketch and a drawing in a stroke file: parts of 2, 2 and 1 items."""
    items = []
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"photo{number}.png")
        items.append(Item(tmp_path / f"photo{number}.png", "cat", "photo"))
    sketch = Image.new("RGB", (60, 60), (255, 255, 255))
    ImageDraw.Draw(sketch).line((5, 9, 30, 40), fill=(0, 0, 0), width=2)
    sketch.save(tmp_path / "sketch.png")
    items.append(Item(tmp_path / "sketch.png", "cat", "sketch"))
    row = {"word": "cat", "key_id": "1", "recognized": True, "drawing": [[[0, 9, 4], [0, 5, 9]]]}
    (tmp_path / "cat.ndjson").write_text(json.dumps(row))
    items.append(Item(tmp_path / "cat.ndjson", "cat", "sketch", row=0))
    return scan(items, tmp_path, quiet=True)


def run(catalog: Catalog, backbone: CellMeans, settings: ViewSettings = SETTINGS, fingerprint: str = "a") -> Tensor:
    return extract(catalog, backbone, fingerprint, settings, CPU, quiet=True)


def map_files(cache: Path) -> list[Path]:
    return sorted((cache / "features").rglob("*.npy"))


def by_hand(image: Image.Image, item: Item) -> np.ndarray:
    pixels = prepare(image, item.modality, SIZE, fit_strokes=True)
    cells = SIZE // CELL
    means = np.zeros((3, cells, cells))
    for channel in range(3):
        for row in range(cells):
            for column in range(cells):
                cell = pixels[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL, channel]
                means[channel, row, column] = cell.mean() / 255
    return means


def test_maps_equal_those_computed_by_hand(cache: Path, catalog: Catalog) -> None:
    maps = run(catalog, CellMeans())
    assert (maps.shape, maps.dtype) == ((5, 3, 3, 4, 4), torch.float16)
    for number, (item, digest) in enumerate(zip(catalog.items, catalog.hashes, strict=True)):
        image = open_item(item)
        np.testing.assert_allclose(maps[number, 0].numpy(), by_hand(image, item), atol=1e-3)
        for view in (1, 2):
            seed = list(hashlib.sha256(f"{view}/{digest}".encode()).digest())
            other = augment(image, item.modality, np.random.default_rng(seed))
            np.testing.assert_allclose(maps[number, view].numpy(), by_hand(other, item), atol=1e-3)
        assert not torch.equal(maps[number, 1], maps[number, 2])


def test_second_call_reads_the_cache(cache: Path, catalog: Catalog) -> None:
    first, second = CellMeans(), CellMeans()
    maps = run(catalog, first)
    assert first.shown == 5 * 3
    assert torch.equal(run(catalog, second), maps)
    assert second.shown == 0
    expected = {f"{digest}-{item.modality}.npy" for item, digest in zip(catalog.items, catalog.hashes, strict=True)}
    assert {path.name for path in map_files(cache)} == expected
    assert not list(cache.rglob("*.unfinished"))


def test_only_what_is_missing_is_computed(cache: Path, catalog: Catalog) -> None:
    maps = run(catalog, CellMeans())
    map_files(cache)[1].unlink()
    backbone = CellMeans()
    assert torch.equal(run(catalog, backbone), maps)
    assert backbone.shown == 1 * 3


def test_killed_extraction_goes_on_after_the_last_whole_part(cache: Path, catalog: Catalog) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(catalog, CellMeans(fail_after=2 * 3))
    assert len(map_files(cache)) == 2
    backbone = CellMeans()
    maps = run(catalog, backbone)
    assert backbone.shown == 3 * 3
    assert not list(cache.rglob("*.unfinished"))
    map_files(cache)[0].unlink()
    assert torch.equal(run(catalog, CellMeans()), maps)


def test_order_of_items_does_not_matter_to_their_features(cache: Path, catalog: Catalog) -> None:
    reversed_catalog = replace(catalog, items=catalog.items[::-1], hashes=catalog.hashes[::-1])
    assert torch.equal(run(reversed_catalog, CellMeans()), run(catalog, CellMeans()).flip(0))


def test_more_views_leave_the_first_ones_as_they_are(cache: Path, catalog: Catalog) -> None:
    assert torch.equal(run(catalog, CellMeans(), replace(SETTINGS, views=2)), run(catalog, CellMeans())[:, :2])


def test_whatever_decides_a_feature_has_its_own_folder(
    cache: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def folders() -> int:
        return len(list((cache / "features").iterdir()))

    run(catalog, CellMeans())
    run(catalog, CellMeans(), replace(SETTINGS, views=1))
    run(catalog, CellMeans(), replace(SETTINGS, fit_strokes=False))
    run(catalog, CellMeans(), replace(SETTINGS, units=1))
    run(catalog, CellMeans(), fingerprint="b")
    assert folders() == 5
    as_photos = tuple(replace(item, modality="photo", row=None) for item in catalog.items[:-1])
    as_photos += catalog.items[-1:]
    assert not torch.equal(run(replace(catalog, items=as_photos), CellMeans()), run(catalog, CellMeans()))
    monkeypatch.setattr(features, "RECIPE", features.RECIPE + 1)
    backbone = CellMeans()
    run(catalog, backbone)
    assert (folders(), backbone.shown) == (6, 5 * 3)


def test_same_contents_elsewhere_share_the_features(cache: Path, catalog: Catalog, tmp_path: Path) -> None:
    maps = run(catalog, CellMeans())
    moved = tmp_path / "moved"
    moved.mkdir()
    for item in catalog.items:
        (moved / item.path.name).write_bytes(item.path.read_bytes())
    items = [replace(item, path=moved / item.path.name, class_name="dog") for item in catalog.items]
    backbone = CellMeans()
    assert torch.equal(run(scan(items, moved, quiet=True), backbone), maps)
    assert backbone.shown == 0


def test_a_part_of_the_catalog_shares_the_features(cache: Path, catalog: Catalog) -> None:
    maps = run(catalog, CellMeans())
    backbone = CellMeans()
    part = replace(catalog, items=catalog.items[1:4], hashes=catalog.hashes[1:4])
    assert torch.equal(run(part, backbone), maps[1:4])
    assert backbone.shown == 0


def test_no_gradient_is_kept(cache: Path, catalog: Catalog) -> None:
    weight = torch.ones(1, requires_grad=True)
    maps = extract(catalog, lambda pixels: pixels.float().mean(1, True) * weight, "c", SETTINGS, CPU, quiet=True)
    assert not maps.requires_grad


def test_file_that_went_away_is_named(cache: Path, catalog: Catalog) -> None:
    catalog.items[2].path.unlink()
    with pytest.raises(ImageError, match=r"photo2\.png: no such file"):
        run(catalog, CellMeans())


def live(catalog: Catalog, settings: ViewSettings = SETTINGS) -> LiveViews:
    label = torch.zeros(len(catalog.items), dtype=torch.long)
    return LiveViews(LivePictures(catalog.items, settings), label, label)


def drawn(views: LiveViews, picked: list[int], seed: int) -> Tensor:
    return views.draw(torch.tensor(picked), torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("fit_strokes", [True, False])
def test_plain_live_pictures_are_those_prepared(catalog: Catalog, fit_strokes: bool) -> None:
    picked = [4, 0, 3, 3, 1]
    pixels = live(catalog, replace(SETTINGS, fit_strokes=fit_strokes)).plain(torch.tensor(picked))
    assert (pixels.shape, pixels.dtype) == ((5, 3, SIZE, SIZE), torch.uint8)
    for number, picture in zip(picked, pixels, strict=True):
        item = catalog.items[number]
        expected = prepare(open_item(item), item.modality, SIZE, fit_strokes)
        np.testing.assert_array_equal(picture.permute(1, 2, 0).numpy(), expected)


def test_drawn_live_pictures_depend_on_the_generator_alone(catalog: Catalog) -> None:
    picked = [4, 0, 3, 3, 1]
    views = live(catalog)
    pixels = drawn(views, picked, seed=1)
    assert (pixels.shape, pixels.dtype) == ((5, 3, SIZE, SIZE), torch.uint8)
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002  # the old global generator is the one that nobody must use
    assert torch.equal(drawn(views, picked, seed=1), pixels)
    assert torch.equal(drawn(live(catalog), picked, seed=1), pixels)
    assert not torch.equal(drawn(views, picked, seed=2), pixels)


def test_drawn_live_pictures_are_augmented_each_in_its_own_way(catalog: Catalog) -> None:
    views = live(catalog)
    pixels = drawn(views, [0] * 8, seed=0)
    assert len({picture.numpy().tobytes() for picture in pixels}) == 8
    generator = torch.Generator().manual_seed(0)
    picked = torch.tensor([2, 4])
    first, second = views.draw(picked, generator), views.draw(picked, generator)
    assert not torch.equal(first, second)  # the generator goes on


def test_augmented_by_a_seed(catalog: Catalog) -> None:
    numbers, seeds = [3, 4, 0], [7, None, 2**62 - 1]
    for number, seed, pixels in zip(numbers, seeds, live(catalog).pictures.read(numbers, seeds), strict=True):
        item = catalog.items[number]
        image = open_item(item)
        if seed is not None:
            image = augment(image, item.modality, np.random.default_rng(seed))
        expected = prepare(image, item.modality, SIZE, fit_strokes=True)
        np.testing.assert_array_equal(pixels.permute(1, 2, 0).numpy(), expected)


def test_subset_of_live_pictures(catalog: Catalog) -> None:
    part = LivePictures(catalog.items, SETTINGS)[[4, 1]]
    assert list(part.items) == [catalog.items[4], catalog.items[1]]
    whole = live(catalog).plain(torch.tensor([4, 1]))
    assert torch.equal(LiveViews(part, torch.zeros(2), torch.zeros(2)).plain(torch.tensor([0, 1])), whole)


def test_live_picture_that_went_away_is_named(catalog: Catalog) -> None:
    catalog.items[2].path.unlink()
    views = live(catalog)
    views.plain(torch.tensor([0, 1]))
    with pytest.raises(ImageError, match=r"photo2\.png: no such file"):
        views.plain(torch.tensor([0, 2]))
