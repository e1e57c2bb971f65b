from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from crossatnet.data.catalog import Item
from crossatnet.data.images import Modality
from crossatnet.training.batches import BalancedPairs, CachedViews, Pairs
from crossatnet.training.features import LivePictures, LiveViews, ViewSettings

VIEWS = 3


def cached(counts: list[int], sign: int) -> CachedViews:
    """`counts[k]` pictures of class k; every map tells its class (hundreds), picture (tens) and view (ones)."""
    label = torch.cat([torch.full((count,), number) for number, count in enumerate(counts)])
    picture = torch.cat([torch.arange(count) for count in counts])
    code = 100 * label[:, None] + 10 * picture[:, None] + torch.arange(VIEWS)  # (N, V)
    maps = (sign * (code + 1)).half()[:, :, None, None, None].expand(-1, -1, 2, 4, 4)  # +1: zero has no sign
    shuffled = torch.randperm(len(label), generator=torch.Generator().manual_seed(0))
    return CachedViews(maps[shuffled], label[shuffled], torch.zeros_like(label))


def batches(
    sketches: list[int], photos: list[int], classes: int, pairs: int, seed: int = 0, epoch: int = 0
) -> BalancedPairs:
    return BalancedPairs(cached(sketches, 1), cached(photos, -1), classes, pairs, seed, epoch)


def codes(batch: Pairs) -> tuple[list[int], list[int]]:
    sketch, photo = ([abs(int(value)) - 1 for value in maps[:, 0, 0, 0]] for maps in batch[:2])
    return sketch, photo


def flat(source: BalancedPairs) -> list[int]:
    return [code for batch in source for side in codes(batch) for code in side]


def test_sketch_and_photo_are_of_the_label() -> None:
    for batch in batches([4, 6, 3, 5], [7, 2, 9, 1], classes=3, pairs=4):
        assert batch.sketch.shape == batch.photo.shape == (12, 2, 4, 4)
        assert batch.sketch.dtype == batch.photo.dtype == torch.float32
        assert (batch.sketch > 0).all()
        assert (batch.photo < 0).all()
        for side in codes(batch):
            assert [code // 100 for code in side] == batch.label.tolist()


@pytest.mark.parametrize(("number", "classes"), [(4, 2), (5, 2), (5, 3), (7, 5), (3, 3)])
def test_every_batch_has_that_many_different_classes(number: int, classes: int) -> None:
    for epoch in range(10):
        for batch in batches([9] * number, [9] * number, classes, pairs=2, epoch=epoch):
            assert sorted(Counter(batch.label.tolist()).values()) == [2] * classes


@pytest.mark.parametrize(("number", "classes"), [(4, 2), (5, 2), (7, 5)])
def test_classes_come_equally_often_whatever_their_size(number: int, classes: int) -> None:
    source = batches([1] * number, [9 * (number - 1), *[1] * (number - 1)], classes, pairs=1)
    seen: Counter[int] = Counter(dict.fromkeys(range(number), 0))
    for batch in source:
        seen.update(batch.label.tolist())
        assert max(seen.values()) - min(seen.values()) <= 1
    assert min(seen.values()) > 1


def test_all_pictures_and_views_are_drawn() -> None:
    source = batches([3, 2], [2, 4], classes=2, pairs=200)
    (batch,) = source
    sketch_codes, photo_codes = codes(batch)
    assert set(sketch_codes) == {0, 1, 2, 10, 11, 12, 20, 21, 22, 100, 101, 102, 110, 111, 112}
    assert len(set(photo_codes)) == (2 + 4) * VIEWS
    assert len(set(zip(sketch_codes, photo_codes, strict=True))) > 100  # of 9 * 6 + 6 * 12: paired at random


def test_order_depends_on_seed_and_epoch_alone() -> None:
    counts = [5] * 6
    source = batches(counts, counts, 3, 2, seed=1, epoch=2)
    order = flat(source)
    torch.manual_seed(99)
    assert flat(source) == order  # a second pass repeats it
    assert flat(batches(counts, counts, 3, 2, seed=1, epoch=2)) == order
    assert flat(batches(counts, counts, 3, 2, seed=1, epoch=3)) != order
    assert flat(batches(counts, counts, 3, 2, seed=2, epoch=2)) != order


@pytest.mark.parametrize(
    ("sketches", "photos", "classes", "pairs", "length"),
    [
        ([5, 5], [3, 4], 2, 1, 5),  # 10 sketches in batches of 2
        ([5, 5], [5, 6], 2, 1, 6),  # 11 photos, rounded up
        ([5, 5], [3, 4], 2, 50, 1),
        ([1, 1, 1], [2, 2, 2], 64, 2, 1),  # 3 classes only: 6 photos in batches of 6
        ([1, 1, 1], [2, 2, 3], 64, 2, 2),
    ],
)
def test_length_shows_as_many_pairs_as_the_larger_modality_has(
    sketches: list[int], photos: list[int], classes: int, pairs: int, length: int
) -> None:
    source = batches(sketches, photos, classes, pairs)
    assert len(source) == length
    assert len(list(source)) == length


def test_fewer_classes_than_a_batch_asks_for() -> None:
    for batch in batches([2, 2, 2], [5, 5, 5], classes=64, pairs=2):
        assert Counter(batch.label.tolist()) == {0: 2, 1: 2, 2: 2}


def test_plain_pictures_are_the_first_views() -> None:
    source = cached([3, 2], 1)
    picked = torch.tensor([4, 0, 0])
    plain = source.plain(picked)
    assert (plain.shape, plain.dtype) == ((3, 2, 4, 4), torch.float32)
    assert torch.equal(plain, source.maps[picked, 0].float())


def live(folder: Path, modality: Modality, counts: list[int]) -> LiveViews:
    """`counts[k]` pictures of class k; photos of a class are of one grey, black first, and sketches a square."""
    items, labels = [], []
    for number, count in enumerate(counts):
        for picture in range(count):
            path = folder / f"{modality}-{number}-{picture}.png"
            image = Image.new("RGB", (20, 20), "white" if modality == "sketch" else (60 * number,) * 3)
            if modality == "sketch":
                image.paste((0, 0, 0), (2, 2, 6 + 4 * number, 6 + 4 * number))
            image.save(path)
            items.append(Item(path, str(number), modality))
            labels.append(number)
    pictures = LivePictures(items, ViewSettings(16, False, views=0, units=0))
    return LiveViews(pictures, torch.tensor(labels), torch.zeros(len(labels)))


@pytest.fixture
def live_pairs(tmp_path: Path) -> BalancedPairs:
    return BalancedPairs(live(tmp_path, "sketch", [2, 3, 1]), live(tmp_path, "photo", [4, 1, 2]), 2, 2, seed=1, epoch=0)


def test_pairs_of_live_pictures(live_pairs: BalancedPairs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crossatnet.training.features.vary", lambda image, modality, random, hands, mirror: image)
    assert len(list(live_pairs)) == len(live_pairs) == 2
    for batch in live_pairs:
        for side in (batch.sketch, batch.photo):
            assert (side.shape, side.dtype) == ((4, 3, 16, 16), torch.uint8)
        assert batch.photo[:, 0, 8, 8].tolist() == [60 * number for number in batch.label.tolist()]
        drawn = (batch.sketch[:, 0].float().mean((1, 2)) / 255 * 20**2).sqrt()  # the squares' sides
        assert drawn.round().tolist() == [4 + 4 * number for number in batch.label.tolist()]


@pytest.mark.parametrize("workers", [0, 1])
def test_pairs_of_live_pictures_repeat(live_pairs: BalancedPairs, workers: int) -> None:
    first = list(live_pairs)
    again = list(DataLoader(live_pairs, batch_size=None, num_workers=workers))
    for batch, same in zip(first, again, strict=True):
        assert all(torch.equal(one, other) for one, other in zip(batch, same, strict=True))
    live_pairs.start += 1
    assert not torch.equal(next(iter(live_pairs)).photo, first[0].photo)


def test_one_sided_classes_come_alone() -> None:
    """Classes 0 and 1 have both, class 2 sketches only, class 3 photos only."""
    source = batches([3, 1, 2, 0], [2, 1, 0, 4], classes=2, pairs=5)
    alone = Counter[int]()
    for batch in [*source, *source, *batches([3, 1, 2, 0], [2, 1, 0, 4], classes=2, pairs=5, epoch=1)]:
        assert sorted(batch.label.tolist()) == [0] * 5 + [1] * 5
        own = [batch.lone_sketch_label.tolist(), batch.lone_photo_label.tolist()]
        assert own in ([[2] * 5, []], [[], [3] * 5])  # one for every two classes with both
        for side, lone in zip(codes(batch), own, strict=True):
            assert [code // 100 for code in side] == batch.label.tolist() + lone
        alone.update(own[0] + own[1])
    assert set(alone) <= {2, 3}


def test_data_sets_come_equally_often_within_a_class() -> None:
    sketches, photos = cached([100], 1), cached([100], -1)
    origin = (sketches.maps[:, 0, 0, 0, 0] > 900).long()  # 90 pictures of one data set, 10 of the other
    assert int(origin.sum()) == 10
    source = BalancedPairs(sketches._replace(origin=origin), photos, 1, 1000, 0, 0)
    drawn, _ = codes(next(iter(source)))
    share = sum(code >= 900 for code in drawn) / len(drawn)
    assert 0.45 < share < 0.55
    (plain, _) = codes(next(iter(BalancedPairs(sketches, photos, 1, 1000, 0, 0))))
    assert sum(code >= 900 for code in plain) / len(plain) < 0.15


def test_a_number_of_batches_can_be_set() -> None:
    source = BalancedPairs(cached([5, 5], 1), cached([5, 5], -1), 2, 1, 0, 0, batches=7)
    assert len(source) == len(list(source)) == 7
