import hashlib
import json
import os
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from crossatnet.data import layouts
from crossatnet.data.catalog import Item
from crossatnet.data.layouts import LAYOUTS, list_classes, read_catalog
from crossatnet.data.names import canonical
from crossatnet.data.splits import load_split
from crossatnet.system.errors import ImageError, UserError


def tree(root: Path, *names: str) -> Path:
    """Make a picture of each name; its colour depends on the name, so that no two are duplicates."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        colour = tuple(byte // 4 for byte in hashlib.sha256(name.encode()).digest()[:3])
        image = Image.new("RGB", (4, 4), colour)
        image.paste((255 - colour[0], 255, 0), (1, 1, 3, 3))  # a sketch must have something drawn
        image.save(path, "JPEG" if path.suffix.lower() != ".png" else "PNG")
    return root


def ndjson(path: Path, rows: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shared = {"word": path.stem, "key_id": "1", "recognized": True}
    start = len(path.stem)  # the drawings of the files in a test differ, too
    drawings = [{**shared, "drawing": [[[0, 90, start + 30 * row], [0, 50, 90]]]} for row in range(rows)]
    path.write_text("".join(json.dumps(drawing) + "\n" for drawing in drawings))


def relative(items: tuple[Item, ...], root: Path) -> dict[str, tuple[str, str]]:
    return {item.path.relative_to(root).as_posix(): (item.class_name, item.modality) for item in items}


def sample_data(name: str) -> Path:
    data = os.environ.get("CROSSATNET_DATA")
    if not data:
        pytest.skip("CROSSATNET_DATA does not name the folder of sample data")
    if not Path(data, name).is_dir():
        pytest.skip(f"CROSSATNET_DATA holds no {name}")
    return Path(data, name)


SKETCHY = {
    "256x256/photo/tx_000000000000/alarm_clock/n02694662_92.jpg": ("alarm_clock", "photo"),
    "256x256/photo/tx_000000000000/hot-air_balloon/n02782093_1.jpg": ("hot_air_balloon", "photo"),
    "256x256/sketch/tx_000000000000/alarm_clock/n02694662_92-1.png": ("alarm_clock", "sketch"),
    "256x256/sketch/tx_000000000000/alarm_clock/n02694662_92-12.png": ("alarm_clock", "sketch"),
    "256x256/sketch/tx_000000000000/hot-air_balloon/n02782093_1-3.png": ("hot_air_balloon", "sketch"),
    "EXTEND_image_sketchy/alarm_clock/ext_5.jpg": ("alarm_clock", "photo"),
}


def test_sketchy(tmp_path: Path) -> None:
    tree(tmp_path, *SKETCHY)
    tree(tmp_path, "256x256/photo/tx_000100000000/alarm_clock/n02694662_92.jpg")  # another cut of the same photos
    catalog = read_catalog(tmp_path, "sketchy", quiet=True)
    assert relative(catalog.items, tmp_path) == SKETCHY
    assert (catalog.problems, catalog.duplicates) == ((), ())


def test_sketchy_sketches_name_the_photo_they_were_drawn_from(tmp_path: Path) -> None:
    tree(tmp_path, *SKETCHY)
    items = read_catalog(tmp_path, "sketchy", quiet=True).items
    instances = {item.path.name: item.instance for item in items}
    assert instances == {
        "n02694662_92.jpg": "n02694662_92",
        "n02694662_92-1.png": "n02694662_92",
        "n02694662_92-12.png": "n02694662_92",
        "n02782093_1.jpg": "n02782093_1",
        "n02782093_1-3.png": "n02782093_1",
        "ext_5.jpg": "ext_5",
    }


def test_sketchy_re_packed(tmp_path: Path) -> None:
    names = {
        "256x256/photo/tx_000000000000_ready/ape/n1_1.jpg": ("ape", "photo"),
        "256x256/sketch/tx_000000000000_ready/ape/n1_1-1.png": ("ape", "sketch"),
        "all_photo/ape/ext_1.jpg": ("ape", "photo"),
    }
    tree(tmp_path, *names)
    assert relative(read_catalog(tmp_path, "sketchy", quiet=True).items, tmp_path) == names


def test_sketchy_root_may_be_the_inner_folder(tmp_path: Path) -> None:
    inner = tree(tmp_path, *SKETCHY) / "256x256"
    expected = {name.removeprefix("256x256/"): kind for name, kind in SKETCHY.items() if name.startswith("256x256/")}
    assert relative(read_catalog(inner, "sketchy", quiet=True).items, inner) == expected


@pytest.mark.parametrize("suffix", ["", "_ready"])
def test_tuberlin(tmp_path: Path, suffix: str) -> None:
    names = {
        f"png{suffix}/airplane/1.png": ("airplane", "sketch"),
        f"png{suffix}/alarm clock/81.png": ("alarm_clock", "sketch"),
        f"png{suffix}/pipe (for smoking)/12,000.png": ("pipe_for_smoking", "sketch"),
        f"png{suffix}/mouse (animal)/9.png": ("mouse", "sketch"),
        f"ImageResized{suffix}/alarm clock/n02694662_92.JPEG": ("alarm_clock", "photo"),
        f"ImageResized{suffix}/pipe (for smoking)/n1 (2).jpg": ("pipe_for_smoking", "photo"),
    }
    tree(tmp_path, *names)
    assert relative(read_catalog(tmp_path, "tuberlin", quiet=True).items, tmp_path) == names


def test_quickdraw_pictures(tmp_path: Path) -> None:
    names = {
        "sketches/hot-air balloon/4503641325043712.png": ("hot_air_balloon", "sketch"),
        "photos/hot-air balloon/flickr_1.jpg": ("hot_air_balloon", "photo"),
    }
    tree(tmp_path, *names)
    assert relative(read_catalog(tmp_path, "quickdraw", quiet=True).items, tmp_path) == names


@pytest.mark.parametrize("folder", ["", "sketches"])
def test_quickdraw_strokes(tmp_path: Path, folder: str) -> None:
    ndjson(tmp_path / folder / "hot-air balloon.ndjson", 3)
    ndjson(tmp_path / folder / "ant.ndjson", 2)
    (tmp_path / folder / "._ant.ndjson").write_bytes(b"\0\5\x16\7 written by macOS")
    tree(tmp_path, "photos/ant/1.jpg")
    catalog = read_catalog(tmp_path, "quickdraw", quiet=True)
    assert catalog.counts() == {"ant": (2, 1), "hot_air_balloon": (3, 0)}
    assert [item.row for item in catalog.items if item.class_name == "hot_air_balloon"] == [0, 1, 2]
    assert (catalog.problems, catalog.duplicates) == ((), ())


@pytest.mark.parametrize("layout", ["folder", "quickstart"])
def test_folder(tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"sketches/Mug/a.png": ("mug", "sketch"), "photos/Mug/b.JPG": ("mug", "photo")}
    tree(tmp_path, *names)
    tree(tmp_path, "photos/.thumbnails/b.jpg", "photos/Mug/.hidden.jpg", "photos/loose.jpg", "photos/Mug/deep/c.jpg")
    (tmp_path / "photos/Mug/notes.txt").write_text("not a picture, and not said to be one")
    built = []

    def build(root: Path, progress: bool) -> Path:
        built.append((root, progress))
        return root

    monkeypatch.setattr(layouts, "build_quickstart", build)
    catalog = read_catalog(tmp_path, layout, quiet=True)
    assert relative(catalog.items, tmp_path) == names
    assert catalog.problems == ()
    assert built == ([(tmp_path, False)] if layout == "quickstart" else [])


def test_pairs_of_sketchy_are_known_in_a_folder_too(tmp_path: Path) -> None:
    """By the end of a photo's name, where other sets have put their own before it."""
    expected = {
        "sketches/dog/n02103406_1011-2.png": "n02103406_1011",
        "sketches/dog/mine-2.png": None,
        "photos/dog/n02103406_1011.jpg": "n02103406_1011",
        "photos/dog/pacs_dog_n02103406_1138.jpg": "n02103406_1138",
        "photos/dog/mini_n02103406_n0210340600000012.jpg": None,
    }
    tree(tmp_path, *expected)
    items = read_catalog(tmp_path, "folder", quiet=True).items
    assert {item.path.relative_to(tmp_path).as_posix(): item.instance for item in items} == expected


def test_quickstart_without_root_is_built_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSATNET_CACHE", str(tmp_path))
    monkeypatch.setattr(layouts, "build_quickstart", lambda root, progress: tree(root, "photos/mug/a.jpg"))
    assert read_catalog(None, "quickstart", quiet=True).root == tmp_path / "quickstart"


def test_bad_files_are_reported_not_fatal(tmp_path: Path) -> None:
    tree(tmp_path, "photos/mug/good.jpg")
    (tmp_path / "photos/mug/bad.jpg").write_text("no picture")
    ndjson(tmp_path / "mug.ndjson", 1)
    with (tmp_path / "mug.ndjson").open("a") as file:
        file.write("{\n")
    catalog = read_catalog(tmp_path, "quickdraw", quiet=True)
    assert catalog.counts() == {"mug": (1, 1)}
    bad = [str(tmp_path / "photos/mug/bad.jpg"), f"{tmp_path / 'mug.ndjson'}:2"]
    assert [problem.item.label for problem in catalog.problems] == bad


def test_only_the_classes_asked_for_are_opened(tmp_path: Path) -> None:
    tree(tmp_path, "photos/Alarm Clock/1.jpg", "photos/dog/1.jpg")
    (tmp_path / "photos/dog/bad.jpg").write_text("no picture")
    ndjson(tmp_path / "alarm clock.ndjson", 2)
    (tmp_path / "dog.ndjson").symlink_to(tmp_path / "absent.ndjson")
    catalog = read_catalog(tmp_path, "quickdraw", quiet=True, classes=["alarm_clock", "cow"])
    assert catalog.counts() == {"alarm_clock": (2, 1)}
    assert catalog.problems == ()
    with pytest.raises(ImageError, match=r"dog\.ndjson: cannot be read"):
        read_catalog(tmp_path, "quickdraw", quiet=True, classes=["dog"])


def test_classes_are_listed_without_opening_a_picture(tmp_path: Path) -> None:
    tree(tmp_path, "photos/Alarm Clock/1.jpg", "photos/car/1.jpg", "photos/empty/notes.txt")
    (tmp_path / "photos/car/1.jpg").write_text("no picture")
    (tmp_path / "alarm clock.ndjson").symlink_to(tmp_path / "absent.ndjson")
    (tmp_path / "hot-air balloon.ndjson").write_text("no strokes")
    assert list_classes(tmp_path, "quickdraw") == {"alarm_clock", "car_sedan", "hot_air_balloon"}


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_folder_without_the_layout_lists_no_classes(tmp_path: Path, layout: str) -> None:
    tree(tmp_path, "somewhere/else/1.jpg")
    assert list_classes(tmp_path, layout) == set()


def test_classes_of_an_unknown_layout_or_a_missing_root(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown layout 'tu-berlin'; did you mean tuberlin\?"):
        list_classes(tmp_path, "tu-berlin")
    with pytest.raises(UserError, match=r"no folder '.*absent'; give the folder that holds the data set"):
        list_classes(tmp_path / "absent", "sketchy")


def test_unknown_layout_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown layout 'tu-berlin'; did you mean tuberlin\?"):
        read_catalog(tmp_path, "tu-berlin")


def test_missing_root(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no folder '.*absent'; give the folder that holds the data set"):
        read_catalog(tmp_path / "absent", "sketchy")
    with pytest.raises(UserError, match=r"the layout 'sketchy' needs the folder of the data set: .* --data"):
        read_catalog(None, "sketchy")


@pytest.mark.parametrize("layout", sorted(set(LAYOUTS) - {"quickstart"}))
def test_empty_folder_says_what_was_expected(tmp_path: Path, layout: str) -> None:
    tree(tmp_path, "somewhere/else/1.jpg")
    with pytest.raises(UserError, match=f"no pictures found under .* in the layout '{layout}'.*/CLASS/"):
        read_catalog(tmp_path, layout, quiet=True)


def test_wrong_classes(tmp_path: Path) -> None:
    tree(tmp_path, "photos/dog/1.jpg")
    with pytest.raises(UserError, match="has none of the classes asked for"):
        read_catalog(tmp_path, "folder", quiet=True, classes=["cat"])


def test_sketchy_mini_is_whole() -> None:
    root, split = sample_data("sketchy-mini"), load_split("sketchy-sake25")
    items = [*LAYOUTS["sketchy"](root)]
    classes = sorted(split.seen + split.unseen)
    listed = Counter((canonical(item.class_name), item.modality) for item in items)
    assert listed == dict.fromkeys([(name, modality) for name in classes for modality in ("sketch", "photo")], 25)
    photos = {item.instance for item in items if item.modality == "photo"}
    assert len(photos) == 3125
    assert {item.instance for item in items if item.modality == "sketch"} <= photos
    few = classes[::10]  # reading all takes half a minute
    catalog = read_catalog(root, "sketchy", quiet=True, classes=few)
    assert catalog.counts() == dict.fromkeys(few, (25, 25))
    assert (catalog.problems, catalog.duplicates) == ((), ())


def test_tuberlin_mini_is_whole() -> None:
    root = sample_data("tuberlin-mini")
    listed = Counter(item.modality for item in LAYOUTS["tuberlin"](root))
    assert listed == {"sketch": 17_600, "photo": 3_995}
    classes = ["backpack", "pipe_for_smoking", "car_sedan", "airplane"]  # a few: reading all takes a quarter minute
    catalog = read_catalog(root, "tuberlin", quiet=True, classes=classes)
    assert {sketches for sketches, _ in catalog.counts().values()} == {80}
    assert set(catalog.counts()) == set(classes) <= load_split("tuberlin-sake30").seen_set
    assert (catalog.problems, catalog.duplicates) == ((), ())


def test_quickdraw_mini_is_whole() -> None:
    root = sample_data("quickdraw-mini")
    classes = sorted({item.path.stem for item in LAYOUTS["quickdraw"](root)})
    assert len(classes) == 78
    catalog = read_catalog(root, "quickdraw", quiet=True, classes=["ant", "hot_air_balloon", "wine_bottle"])
    assert catalog.counts() == {"ant": (25, 0), "hot_air_balloon": (25, 0), "wine_bottle": (25, 0)}
    assert (catalog.problems, catalog.duplicates) == ((), ())
