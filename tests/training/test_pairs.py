"""Training on pairs of a sketch and the very photo it was drawn of: batches, losses, and what the catalog leaves."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from crossatnet.config import Config, load_config
from crossatnet.data.catalog import Catalog, Item
from crossatnet.data.layouts import list_items
from crossatnet.system.errors import UserError
from crossatnet.training import losses
from crossatnet.training.batches import BalancedPairs, CachedViews
from crossatnet.training.objective import hardest_rival
from crossatnet.training.seen_catalog import paired


def source(label: list[int], instance: list[int]) -> CachedViews:
    """Maps that hold the number of their row."""
    maps = torch.arange(float(len(label))).reshape(-1, 1, 1, 1, 1)
    return CachedViews(maps, torch.tensor(label), torch.zeros(len(label)), torch.tensor(instance))


def test_pairs_are_of_one_instance_and_of_different_photos() -> None:
    """Class 0 has three drawn photos, one of them twice; class 1 has one, class 2 none; some lack the other."""
    sketches = source([0, 0, 0, 0, 1, 2, 0], [10, 11, 12, 10, 20, 30, -1])
    photos = source([0, 0, 0, 1, 2, 0, 0], [12, 10, 11, 20, 31, 13, -1])
    batches = BalancedPairs(sketches, photos, 2, 3, seed=0, epoch=0, batches=20, by_instance=True)
    drawn = set()
    for batch in batches:
        assert sorted(batch.label.tolist()) == [0, 0, 0, 1, 1, 1]
        sketch, photo = batch.sketch.flatten().long(), batch.photo.flatten().long()
        assert torch.equal(sketches.instance[sketch], photos.instance[photo])
        assert torch.equal(photos.instance[photo], batch.instance)
        assert torch.equal(sketches.label[sketch], batch.label)
        assert len(set(photo[batch.label == 0].tolist())) == 3
        drawn |= {*sketch.tolist()}
    assert drawn == {0, 1, 2, 3, 4}


def test_pairs_depend_on_seed_and_epoch_alone() -> None:
    sketches, photos = source([0] * 6, [0, 1, 2, 3, 4, 5]), source([0] * 6, [5, 4, 3, 2, 1, 0])

    def order(seed: int, epoch: int) -> list[int]:
        batches = BalancedPairs(sketches, photos, 1, 4, seed, epoch, batches=5, by_instance=True)
        return [row for batch in batches for row in batch.sketch.flatten().long().tolist()]

    assert order(1, 2) == order(1, 2) != order(1, 3) != order(2, 2)


@pytest.mark.parametrize("seed", range(5))
def test_the_instance_triplet_equals_the_loop(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    sketch, photo = (functional.normalize(torch.randn(9, 4, generator=generator), dim=1) for _ in range(2))
    label, instance = torch.tensor([0, 0, 0, 1, 1, 1, 1, 2, 2]), torch.tensor([0, 1, 2, 3, 4, 3, 5, 6, 6])
    expected = 0.0
    for ours, theirs in ((sketch, photo), (photo, sketch)):
        for i in range(9):
            rivals = [
                float(ours[i] @ theirs[n]) for n in range(9) if label[n] == label[i] and instance[n] != instance[i]
            ]
            expected += max(0.0, 0.3 + max(rivals, default=-9.0) - float(ours[i] @ theirs[i])) / 9
    found = losses.instance_triplet(sketch, photo, label, instance, margin=0.3)
    assert float(found) == pytest.approx(expected, abs=1e-6)


def test_alone_in_its_class_there_is_no_triplet() -> None:
    same = functional.normalize(torch.randn(2, 3), dim=1).requires_grad_()
    loss = losses.instance_triplet(same, same, torch.tensor([0, 1]), torch.tensor([0, 1]), margin=5.0)
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == 0.0
    assert same.grad is not None
    assert torch.isfinite(same.grad).all()


def test_patches_keep_what_they_hold() -> None:
    """Of a map of 5 x 5, patches of 2 x 2 change places; the last row and column stay."""
    maps = torch.arange(25.0).reshape(1, 1, 5, 5)
    shuffled = losses.shuffle_patches(maps, torch.tensor([1, 0, 3, 2]))[0, 0]
    assert torch.equal(shuffled[:4, :2], maps[0, 0, :4, 2:4])
    assert torch.equal(shuffled[:4, 2:4], maps[0, 0, :4, :2])
    assert torch.equal(shuffled[4], maps[0, 0, 4])
    assert torch.equal(shuffled[:, 4], maps[0, 0, :, 4])
    assert torch.equal(losses.shuffle_patches(maps, torch.arange(4)), maps)


def test_the_rival_is_another_thing_of_the_class() -> None:
    sketch = torch.eye(4)
    photo = torch.tensor([[1.0, 0, 0, 0], [0.1, 1, 0, 0], [0.9, 0, 1, 0], [0, 0, 0, 1.0]])
    label, instance = torch.tensor([0, 0, 1, 2]), torch.tensor([5, 6, 7, 8])
    assert hardest_rival(sketch, photo, label).tolist()[0] == 2  # the nearest of another class
    assert hardest_rival(sketch, photo, label, instance).tolist()[0] == 1  # the other of its own
    assert hardest_rival(sketch, photo, label, instance).tolist()[3] != 3  # alone: any but itself
    twice = torch.tensor([5, 5, 7, 8])
    assert hardest_rival(sketch, photo, label, twice).tolist()[0] == 2


def test_only_pairs_are_left_wherever_they_lie(tmp_path: Path) -> None:
    """A sketch in a folder of one's own, named as Sketchy's are, goes with a photo in Sketchy's own layout."""
    names = ["photos/dog/n02103406_1.jpg", "photos/dog/plain.jpg", "sketches/dog/n02103406_1-2.png"]
    names += ["sketches/dog/n02103406_7-1.png", "sketches/dog/mine-1.png", "photos/dog/mine.jpg"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    items = [*list_items(tmp_path, "folder"), Item(tmp_path / "n02103406_7.jpg", "dog", "photo", "n02103406_7")]
    items.append(Item(tmp_path / "n1.jpg", "cat", "photo", "n02103406_1"))  # the same name in another class
    catalog, classes = paired(Catalog(tuple(items), tuple(map(str, range(len(items))))), ["dog", "cat"])
    assert classes == ("dog",)
    assert sorted(item.path.name for item in catalog.items) == [
        "n02103406_1-2.png",
        "n02103406_1.jpg",
        "n02103406_7-1.png",
        "n02103406_7.jpg",
    ]
    with pytest.raises(UserError, match="no sketch says of which photo it was drawn"):
        paired(Catalog(tuple(items[-1:]), ("0",)), ["cat"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss.instance": 1.0, "train.pairs": "class"}, "loss.instance needs sketches beside their own photos"),
        ({"loss.instance": 0.0, "train.pairs": "class"}, "loss.shuffle needs sketches beside their own photos"),
        (
            {"train.trainable_units": 0, "loss.knowledge": 0.0},
            "loss.shuffle is for fine-tuning, but train.trainable_units is 0",
        ),
    ],
)
def test_what_needs_pairs_is_refused_without(changes: dict[str, object], message: str) -> None:
    assert isinstance(load_config("sketchy-instance"), Config)
    with pytest.raises(UserError, match=message):
        load_config("sketchy-instance", changes)
