"""What further data sets may add to training: never a class that the split keeps unseen, nor a relative of one."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from crossatnet.config import DataConfig
from crossatnet.data.catalog import Catalog
from crossatnet.data.splits import Split
from crossatnet.system.errors import UserError
from crossatnet.training.seen_catalog import seen_catalog

SPLIT = Split("made", seen=("zebra", "ape"), unseen=("bear", "car_sedan", "mouse"))
LEFT_OUT = {
    "bear": "under its own name",
    "Car": "under an alias",
    "mouse (animal)": "under an alias",
    "rat": "a relative",
    "teddy-bear": "holds its name",
    "Race Car": "holds its alias",
}

opened: list[str] = []
listening = False


def listen(event: str, arguments: tuple[object, ...]) -> None:
    if listening and event == "open":
        opened.append(str(arguments[0]))


sys.addaudithook(listen)


@pytest.fixture(autouse=True)
def hear() -> Iterator[None]:
    """Note every file opened during a test."""
    global listening
    opened.clear()
    listening = True
    yield
    listening = False


def add(root: Path, class_name: str, sketches: int, photos: int, first: int = 0) -> None:
    """Pictures of one class in the layout `folder`: no two the same, unless their `first` numbers overlap."""
    for folder, count in (("sketches", sketches), ("photos", photos)):
        for number in range(first, first + count):
            path = root / folder / class_name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            colour = (number, sum(class_name.encode()) % 256, 0 if folder == "photos" else 255)
            image = Image.new("RGB", (4, 4), colour)
            image.putpixel((1, 1), (128, 128, 128))  # a sketch must have something drawn
            image.save(path)


def add_undecodable(root: Path, class_name: str) -> None:
    for folder in ("sketches", "photos"):
        (root / folder / class_name).mkdir(parents=True)
        (root / folder / class_name / "secret.png").write_text("no picture: nobody may read it")


@pytest.fixture
def main(tmp_path: Path) -> Path:
    """The split's own data set; its unseen classes are files that no decoder can read."""
    root = tmp_path / "main"
    for name in SPLIT.seen:
        add(root, name, sketches=2, photos=3)
    for name in SPLIT.unseen:
        add_undecodable(root, name)
    for part in ("seen", "unseen"):
        (tmp_path / f"made.{part}.txt").write_text("\n".join(getattr(SPLIT, part)))
    return root


def read(main: Path, *extra: Path, layout: str = "folder") -> tuple[Catalog, tuple[str, ...]]:
    offers = [{"layout": layout, "root": root} for root in extra]
    config = DataConfig.model_validate({"root": main, "split": str(main.parent / "made"), "extra": offers})
    catalog, split, seen = seen_catalog(config, quiet=True)
    assert split == SPLIT
    return catalog, seen


def test_without_further_data_sets(main: Path) -> None:
    catalog, seen = read(main)
    assert seen == SPLIT.seen
    assert catalog.counts() == {"ape": (2, 3), "zebra": (2, 3)}
    assert catalog.root == main


def test_seen_and_new_classes_are_added_and_the_splits_come_first(main: Path, tmp_path: Path) -> None:
    add(tmp_path / "extra", "Ape", sketches=1, photos=2, first=100)
    add(tmp_path / "extra", "wheel", sketches=2, photos=1)
    add(tmp_path / "extra", "Alarm-Clock", sketches=1, photos=1)
    catalog, seen = read(main, tmp_path / "extra")
    assert seen == ("zebra", "ape", "alarm_clock", "wheel")
    assert catalog.counts() == {"alarm_clock": (1, 1), "ape": (3, 5), "wheel": (2, 1), "zebra": (2, 3)}
    assert catalog.root == main


def test_unseen_classes_and_their_relatives_are_never_read(main: Path, tmp_path: Path) -> None:
    add(tmp_path / "extra", "wheel", sketches=1, photos=1)
    for name in LEFT_OUT:
        add_undecodable(tmp_path / "extra", name)
    opened.clear()
    catalog, seen = read(main, tmp_path / "extra")
    assert seen == ("zebra", "ape", "wheel")
    assert catalog.counts() == {"ape": (2, 3), "wheel": (1, 1), "zebra": (2, 3)}
    read_here = {Path(path) for path in opened if path.startswith(str(tmp_path)) and not path.endswith(".txt")}
    assert read_here == {item.path for item in catalog.items}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_unseen_classes_are_left_out_readable_or_not(main: Path, tmp_path: Path, name: str) -> None:
    add(tmp_path / "extra", "wheel", sketches=1, photos=1)
    add(tmp_path / "extra", name, sketches=1, photos=1, first=50)
    catalog, seen = read(main, tmp_path / "extra")
    assert seen == ("zebra", "ape", "wheel")
    assert not [item for item in catalog.items if item.path.parent.name == name]


def test_unseen_stroke_files_are_not_opened(main: Path, tmp_path: Path) -> None:
    extra = tmp_path / "extra"
    add(extra, "wheel", sketches=1, photos=1)
    for name in ("bear", "car"):
        (extra / f"{name}.ndjson").symlink_to(tmp_path / "absent.ndjson")
    _, seen = read(main, extra, layout="quickdraw")
    assert seen == ("zebra", "ape", "wheel")
    assert not [path for path in opened if path.endswith(".ndjson")]


def test_class_without_sketches_or_photos_is_left_out(main: Path, tmp_path: Path) -> None:
    add(tmp_path / "extra", "wheel", sketches=3, photos=0)
    add(tmp_path / "extra", "kite", sketches=0, photos=3)
    add(tmp_path / "extra", "ape", sketches=1, photos=0, first=100)
    catalog, seen = read(main, tmp_path / "extra")
    assert seen == SPLIT.seen
    assert catalog.counts() == {"ape": (3, 3), "zebra": (2, 3)}


def test_sketches_of_one_set_meet_the_photos_of_another(main: Path, tmp_path: Path) -> None:
    add(tmp_path / "first", "wheel", sketches=3, photos=0)
    add(tmp_path / "second", "wheel", sketches=0, photos=2)
    catalog, seen = read(main, tmp_path / "first", tmp_path / "second")
    assert seen == ("zebra", "ape", "wheel")
    assert catalog.counts()["wheel"] == (3, 2)


def test_picture_that_both_sets_have_counts_once(main: Path, tmp_path: Path) -> None:
    add(tmp_path / "extra", "ape", sketches=3, photos=3)  # the first two sketches and all photos are in both
    catalog, _ = read(main, tmp_path / "extra")
    assert catalog.counts()["ape"] == (3, 3)
    assert [item.path.parts[-4] for item in catalog.items if item.class_name == "ape"].count("extra") == 1


def test_further_data_set_cannot_mend_the_splits_own(main: Path, tmp_path: Path) -> None:
    for path in (main / "sketches" / "ape").iterdir():
        path.unlink()
    add(tmp_path / "extra", "ape", sketches=1, photos=1, first=100)
    with pytest.raises(UserError, match="class 'ape' has 0 sketches and 3 photos; training needs at least one of each"):
        read(main, tmp_path / "extra")


def test_data_set_with_nothing_to_add(main: Path, tmp_path: Path) -> None:
    for name in LEFT_OUT:
        add_undecodable(tmp_path / "extra", name)
    with pytest.raises(UserError, match=r"extra: every class is unseen in the split made, .* take this data set out"):
        read(main, tmp_path / "extra")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no pictures found under '.*empty' in the layout 'folder'"):
        read(main, tmp_path / "empty")
    with pytest.raises(UserError, match=r"no folder '.*absent'"):
        read(main, tmp_path / "absent")


def test_all_takes_every_class_with_sketches_and_photos(main: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    for number, name in enumerate(("wheel", "Bear", "ape")):
        add(whole, name, sketches=1, photos=2, first=10 * number)
    add(whole, "kite", sketches=0, photos=3, first=70)
    offers = [{"layout": "folder", "root": main}]
    config = DataConfig.model_validate({"root": whole, "split": "all"})
    catalog, split, seen = seen_catalog(config, quiet=True)
    assert (split.name, split.seen, split.unseen, seen) == (
        "all",
        ("ape", "bear", "wheel"),
        (),
        ("ape", "bear", "wheel"),
    )
    assert catalog.counts() == {"ape": (1, 2), "bear": (1, 2), "wheel": (1, 2)}
    for name in SPLIT.unseen:  # with every class seen, nothing has to be left out of a further set
        for folder in ("sketches", "photos"):
            (main / folder / name / "secret.png").unlink()
        add(main, name, sketches=1, photos=1, first=200)
    _, _, more = seen_catalog(DataConfig.model_validate({"root": whole, "split": "all", "extra": offers}), quiet=True)
    assert more == ("ape", "bear", "wheel", "car_sedan", "mouse", "zebra")


def test_classes_with_one_side_are_taken_when_asked_for(main: Path, tmp_path: Path) -> None:
    add(tmp_path / "extra", "wheel", sketches=3, photos=0)
    add(tmp_path / "extra", "kite", sketches=0, photos=3)
    config = DataConfig.model_validate(
        {
            "root": main,
            "split": str(main.parent / "made"),
            "extra": [{"layout": "folder", "root": tmp_path / "extra"}],
            "one_sided": True,
        }
    )
    catalog, _, seen = seen_catalog(config, quiet=True)
    assert seen == ("zebra", "ape", "kite", "wheel")
    assert catalog.counts()["kite"] == (0, 3)
    assert catalog.counts()["wheel"] == (3, 0)


def test_what_is_left_out_is_not_read(main: Path, tmp_path: Path) -> None:
    """A class with its relatives and aliases, and single pictures by their places."""
    for name in ("wheel", "camel", "llama", "motorbike"):
        add(tmp_path / "extra", name, sketches=2, photos=2, first=len(name))
    held = ["camel", "Motorcycle", "main/photos/ape/1.png", "extra/sketches/wheel/5.png"]
    (tmp_path / "held.txt").write_text("\n".join(held) + "\n")
    opened.clear()
    config = DataConfig.model_validate(
        {
            "root": main,
            "split": str(main.parent / "made"),
            "extra": [{"layout": "folder", "root": tmp_path / "extra"}],
            "leave_out": tmp_path / "held.txt",
        }
    )
    catalog, _, seen = seen_catalog(config, quiet=True)
    assert seen == ("zebra", "ape", "wheel")
    assert catalog.counts() == {"ape": (2, 2), "wheel": (1, 2), "zebra": (2, 3)}
    read_here = {Path(path) for path in opened if path.startswith(str(tmp_path)) and path.endswith(".png")}
    assert read_here == {item.path for item in catalog.items}


def test_what_to_leave_out_must_be_readable(main: Path, tmp_path: Path) -> None:
    config = DataConfig.model_validate(
        {"root": main, "split": str(main.parent / "made"), "leave_out": tmp_path / "absent.txt"}
    )
    with pytest.raises(UserError, match=r"absent\.txt: cannot be read .*data\.leave_out"):
        seen_catalog(config, quiet=True)


def test_at_most_so_many_pictures_of_a_class_and_set(main: Path, tmp_path: Path) -> None:
    add(tmp_path / "extra", "ape", sketches=9, photos=9, first=100)
    opened.clear()
    config = DataConfig.model_validate(
        {
            "root": main,
            "split": str(main.parent / "made"),
            "extra": [{"layout": "folder", "root": tmp_path / "extra"}],
            "most_pictures": 2,
        }
    )
    catalog, _, _ = seen_catalog(config, quiet=True)
    assert catalog.counts() == {"ape": (4, 4), "zebra": (2, 2)}
    assert len({path for path in opened if path.endswith(".png") and path.startswith(str(tmp_path))}) == 12
    again, _, _ = seen_catalog(config, quiet=True)
    assert again.items == catalog.items
