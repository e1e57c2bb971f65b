import json
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from crossatnet.data.catalog import Catalog, Item, Problem, open_item, scan
from crossatnet.data.images import Modality
from crossatnet.system.errors import ImageError, UserError


def picture(path: Path, colour: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (6, 5), (colour, 0, 0))
    image.putpixel((2, 2), (255, 255, 255))  # a sketch must have something drawn
    image.save(path)
    return path


def item(path: str, class_name: str = "cat", modality: Modality = "photo") -> Item:
    return Item(Path(path), class_name, modality)


def catalog(*items: Item) -> Catalog:
    return Catalog(items, tuple(str(number) for number in range(len(items))), root=Path("data"))


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def test_label_names_the_file_and_the_line() -> None:
    assert item("a/b.png").label == str(Path("a/b.png"))
    assert Item(Path("cat.ndjson"), "cat", "sketch", row=0).label == "cat.ndjson:1"


def test_scan_keeps_order_and_hashes_contents(tmp_path: Path) -> None:
    items = [item(str(picture(tmp_path / f"{colour}.png", colour)), "Hot-Air Balloon") for colour in (9, 3, 7)]
    scanned = scan(items, tmp_path, quiet=True)
    assert [kept.path.name for kept in scanned.items] == ["9.png", "3.png", "7.png"]
    assert {kept.class_name for kept in scanned.items} == {"hot_air_balloon"}
    assert (scanned.problems, scanned.duplicates, scanned.root) == ((), (), tmp_path)
    assert len(set(scanned.hashes)) == 3
    picture(tmp_path / "3.png", 4)
    again = scan(items, tmp_path, quiet=True)
    assert [old == new for old, new in zip(scanned.hashes, again.hashes, strict=True)] == [True, False, True]


def test_scan_names_what_it_leaves_out(tmp_path: Path) -> None:
    good = picture(tmp_path / "good.png", 1)
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 1, 0, 0, 0, 0)
    (tmp_path / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND", b""))
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:-30])
    names = ["text.png", "huge.png", "good.png", "absent.png", "cut.png"]
    scanned = scan([item(str(tmp_path / name)) for name in names], tmp_path, quiet=True)
    assert [kept.path.name for kept in scanned.items] == ["good.png"]
    found = {problem.item.path.name: problem.reason for problem in scanned.problems}
    assert list(found) == ["text.png", "huge.png", "absent.png", "cut.png"]
    reasons = {"text.png": "not a picture", "huge.png": "limit of", "absent.png": "no such file", "cut.png": "damaged"}
    for name, reason in reasons.items():
        assert reason in found[name]
        assert str(tmp_path / name) in found[name]


def test_duplicates_are_told_with_the_one_that_was_kept(tmp_path: Path) -> None:
    first = picture(tmp_path / "cat" / "first.png", 1)
    for name in ("cat/second.png", "dog/third.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(first.read_bytes())
    listed = [item(str(first)), item(str(tmp_path / "cat/second.png")), item(str(tmp_path / "dog/third.png"), "dog")]
    scanned = scan(listed, tmp_path, quiet=True)
    assert scanned.items == (listed[0],)
    assert scanned.duplicates == ((listed[1], listed[0]), (listed[2], listed[0]))
    assert scanned.problems == ()


def test_sketch_and_photo_of_the_same_bytes_are_no_duplicates(tmp_path: Path) -> None:
    path = picture(tmp_path / "same.png", 1)
    items = (item(str(path), modality="photo"), item(str(path), modality="sketch"))
    scanned = scan(items, tmp_path, quiet=True)
    assert scanned.items == items
    assert scanned.duplicates == ()
    assert scanned.hashes[0] == scanned.hashes[1]


def test_drawings_of_a_stroke_file(tmp_path: Path) -> None:
    path = tmp_path / "cat.ndjson"
    strokes = [[[[0, 9], [0, 9]]], [[[0, 9], [9, 0]]], [[[0, 9], [0, 9]]], []]
    rows = [{"word": "cat", "key_id": "1", "recognized": True, "drawing": drawing} for drawing in strokes]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{\n")
    listed = [Item(path, "cat", "sketch", row=row) for row in range(5)]
    scanned = scan(listed, tmp_path, quiet=True)
    assert [kept.row for kept in scanned.items] == [0, 1]
    assert scanned.duplicates == ((listed[2], listed[0]),)  # the same strokes
    assert [problem.item.label for problem in scanned.problems] == [f"{path}:4", f"{path}:5"]
    assert "without strokes" in scanned.problems[0].reason
    assert "not JSON" in scanned.problems[1].reason
    assert open_item(scanned.items[1]).size == (256, 256)


def test_nothing_usable_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(UserError, match=rf"{tmp_path}: no usable pictures; the first: .*text\.png: not a picture"):
        scan([item(str(tmp_path / "text.png"))], tmp_path, quiet=True)
    with pytest.raises(UserError, match=r"no usable pictures$"):
        scan([], tmp_path, quiet=True)


def test_open_item_raises_image_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"absent\.png"):
        open_item(item(str(tmp_path / "absent.png")))
    assert open_item(item(str(picture(tmp_path / "red.png", 200)))).getpixel((0, 0)) == (200, 0, 0)


def test_select_keeps_order_and_hashes() -> None:
    whole = catalog(
        item("0", "dog"), item("1", "cat", "sketch"), item("2", "cow"), item("3", "cat"), item("4", "dog", "sketch")
    )
    part = whole.select(["cat", "dog"])
    assert [kept.path.name for kept in part.items] == ["0", "1", "3", "4"]
    assert part.hashes == ("0", "1", "3", "4")
    assert part.root == whole.root
    assert whole.select(iter(["cat", "dog"]), "sketch").hashes == ("1", "4")
    assert whole.select(["cat"], "photo").hashes == ("3",)
    assert whole.select(["bird"]).items == ()


def test_counts_are_sketches_and_photos_by_class() -> None:
    whole = catalog(item("0", "dog"), item("1", "cat", "sketch"), item("2", "cat"), item("3", "cat", "sketch"))
    assert list(whole.counts().items()) == [("cat", (2, 1)), ("dog", (0, 1))]


def test_require() -> None:
    whole = catalog(item("0"), item("1", modality="sketch"), item("2", "dog"), item("3", "cow", "sketch"))
    whole.require(["cat"], "training")
    with pytest.raises(UserError, match=r"data: no pictures of 2 of the 3 classes for training \(eel, elk\)"):
        whole.require(["eel", "cat", "elk"], "training")
    with pytest.raises(UserError, match="class 'dog' has 0 sketches and 1 photos; the test needs at least one of each"):
        whole.require(["cat", "dog"], "the test")
    with pytest.raises(UserError, match="class 'cow' has 1 sketches and 0 photos"):
        whole.require(["cow"], "the test")


def test_require_names_five_absent_classes_at_most() -> None:
    with pytest.raises(UserError, match=r"no pictures of 7 of the 7 classes for training \(0, 1, 2, 3, 4 \.\.\.\)"):
        catalog(item("0")).require(list("0123456"), "training")


def test_joined_keeps_order_and_counts_the_same_picture_once() -> None:
    first = Catalog((item("0"), item("1", "dog")), ("a", "b"), root=Path("first"))
    other = (item("2", "cow"), item("3", "cow"), item("4", "cow", "sketch"), item("5"))
    joined = first.joined(Catalog(other, ("c", "b", "b", "a"), root=Path("other")))
    assert [kept.path.name for kept in joined.items] == ["0", "1", "2", "4"]  # 4: a sketch is no photo
    assert joined.hashes == ("a", "b", "c", "b")
    assert joined.root == Path("first")
    assert joined.counts() == {"cat": (0, 1), "cow": (1, 1), "dog": (0, 1)}
    assert joined.duplicates == ((other[1], first.items[1]), (other[3], first.items[0]))  # also across classes


def test_joined_keeps_what_each_left_out() -> None:
    first = Catalog((item("0"),), ("a",), (Problem(item("1"), "bad"),), ((item("2"), item("0")),))
    second = Catalog((item("3"),), ("b",), (Problem(item("4"), "worse"),), ((item("5"), item("3")),))
    joined = first.joined(second)
    assert [problem.reason for problem in joined.problems] == ["bad", "worse"]
    assert joined.duplicates == (*first.duplicates, *second.duplicates)


def test_joined_with_nothing_new_changes_nothing() -> None:
    whole = catalog(item("0", "dog"), item("1", "cat", "sketch"))
    assert whole.joined(whole.select(["dog"])) == whole
    assert whole.joined(whole.select([])) == whole
