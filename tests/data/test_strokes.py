import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crossatnet.data.names import canonical
from crossatnet.data.strokes import Drawing, StrokeFile, named_drawing, read_ndjson, render
from crossatnet.system.errors import ImageError, UserError


def drawing(*strokes: list[tuple[float, float]]) -> Drawing:
    return tuple(np.array(stroke, dtype=np.float32) for stroke in strokes)


def line(strokes: object, recognized: bool = True, key_id: str = "1") -> str:
    return json.dumps({"word": "cat", "key_id": key_id, "recognized": recognized, "drawing": strokes})


def ink_box(image: Image.Image) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of what is darker than mid-grey."""
    box = image.convert("L").point(lambda value: 255 * (value < 128)).getbbox()
    assert box is not None
    return box


@pytest.fixture
def ndjson(tmp_path: Path) -> Path:
    path = tmp_path / "cat.ndjson"
    rows = [
        line([[[0, 255], [10, 20]], [[5], [6]]]),
        "",
        line([[[1.5, 2], [3, 4], [0, 17]]], recognized=False, key_id="2"),
    ]
    path.write_text("\n".join(rows) + "\n")
    return path


def test_reads_the_simplified_and_the_raw_format(ndjson: Path) -> None:
    simplified, raw = read_ndjson(ndjson)
    assert (simplified.word, simplified.key_id, simplified.recognized) == ("cat", "1", True)
    assert [stroke.dtype for stroke in simplified.drawing] == [np.float32, np.float32]
    assert [stroke.tolist() for stroke in simplified.drawing] == [[[0, 10], [255, 20]], [[5, 6]]]
    assert [stroke.tolist() for stroke in raw.drawing] == [[[1.5, 3], [2, 4]]]  # the times are dropped


def test_can_keep_only_what_the_game_recognized(ndjson: Path) -> None:
    assert [row.key_id for row in read_ndjson(ndjson, recognized_only=True)] == ["1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "not a JSON object"),
        ('{"word": "cat"}', "'key_id' is missing"),
        (line([[[1, 2], [3, 4]]]).replace('"cat"', "7"), "'word' is missing or not a str"),
        (line({}), "'drawing' is missing or not a list"),
        (line([[[1, 2], [3, 4]], [[1, 2]]]), r"stroke 2: not \[xs, ys\]"),
        (line([[[1, 2], [3]]]), "stroke 1: its lists differ in length"),
        (line([[[1, 2], [3, 4], [5]]]), "stroke 1: its lists differ in length"),
        (line([[[], []]]), "stroke 1: not lists of numbers with one point"),
        (line([[["1"], ["2"]]]), "stroke 1: not lists of numbers"),
        (line([[1, 2]]), "stroke 1: not lists of numbers"),
        (line([[[1, float("nan")], [3, 4]]]), "stroke 1: a coordinate is not a finite number"),
        (line([[[1, 1e300], [3, 4]]]), "stroke 1: a coordinate is not a finite number"),
    ],
)
def test_malformed_line_is_named_with_its_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "cat.ndjson"
    path.write_text(line([[[0, 1], [0, 1]]]) + "\n\n" + text)
    with pytest.raises(UserError, match=rf"cat\.ndjson, line 3.*{message}"):
        read_ndjson(path)
    assert StrokeFile.open(path).read(0).key_id == "1"  # one bad row spoils no other
    with pytest.raises(ImageError, match=rf"cat\.ndjson, line 3.*{message}"):
        StrokeFile.open(path).image(1)


def test_bytes_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    path = tmp_path / "cat.ndjson"
    path.write_bytes(b'{"word": "\xff"}\n')
    with pytest.raises(UserError, match=r"cat\.ndjson, line 1: not JSON"):
        read_ndjson(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.ndjson: cannot be read \(No such file"):
        read_ndjson(tmp_path / "absent.ndjson")
    with pytest.raises(UserError, match=r"absent\.ndjson: cannot be read \(No such file"):
        StrokeFile.open(tmp_path / "absent.ndjson")


def test_rows_of_a_file_are_those_of_the_list(ndjson: Path) -> None:
    file = StrokeFile.open(ndjson)
    assert StrokeFile.open(ndjson) is file
    rows = read_ndjson(ndjson)
    assert len(file) == len(rows) == 2
    for index, row in enumerate(rows):
        assert file.read(index).key_id == row.key_id
        assert file.image(index).tobytes() == render(row.drawing).tobytes()
    for outside in (-1, 2):
        with pytest.raises(ImageError, match=rf"no drawing {outside + 1}; it has 2, counted from 1"):
            file.read(outside)


def test_changed_file_is_read_anew(ndjson: Path) -> None:
    assert len(StrokeFile.open(ndjson)) == 2
    ndjson.write_text(line([]) + "\n")
    assert len(StrokeFile.open(ndjson)) == 1
    with pytest.raises(ImageError, match=r"cat\.ndjson, line 1: a drawing without strokes"):
        StrokeFile.open(ndjson).image(0)


def test_render_is_black_on_white_with_smooth_edges() -> None:
    image = render(drawing([(0, 0), (10, 7)]))
    pixels = np.asarray(image)
    assert (image.mode, pixels.shape) == ("RGB", (256, 256, 3))
    assert np.ptp(pixels, axis=2).max() == 0
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert len(np.unique(pixels)) > 4  # greys along the edge
    assert (pixels[:20] == 255).all()
    assert (pixels[:, :20] == 255).all()


@pytest.mark.parametrize("scale", [0.001, 1, 5000])
def test_render_keeps_proportions_centres_and_respects_the_margin(scale: float) -> None:
    frame = [(-3 * scale, 7 * scale), (1 * scale, 7 * scale), (1 * scale, 9 * scale), (-3 * scale, 9 * scale)]
    left, top, right, bottom = ink_box(render(drawing(frame), size=200, width=0.02, margin=0.1))
    assert (left, right) == pytest.approx((20, 180), abs=1.5)
    ink_height = 156 / 2 + 4  # twice as wide as high between the pen's centres, and the pen is 4 pixels
    assert (top, bottom) == pytest.approx((100 - ink_height / 2, 100 + ink_height / 2), abs=1.5)


def test_pen_width_is_a_share_of_the_side() -> None:
    for size in (64, 256, 500):
        column = np.asarray(render(drawing([(0, 0), (1, 0)]), size=size, width=0.03))[:, size // 2, 0]
        assert (255 - column.astype(float)).sum() / 255 == pytest.approx(0.03 * size, abs=0.5)


def test_single_points_become_dots() -> None:
    left, top, right, bottom = ink_box(render(drawing([(7, 7)]), width=0.1))
    assert (left, top, right, bottom) == pytest.approx((115, 115, 141, 141), abs=2)
    with_dot = np.asarray(render(drawing([(0, 0), (0, 10)], [(10, 5)])))
    assert (with_dot[124:132, 200:] < 128).any()


@pytest.mark.parametrize("empty", [(), (*drawing([(0, 0)]), np.zeros((0, 2), np.float32))])
def test_empty_drawing_is_refused(empty: Drawing) -> None:
    with pytest.raises(UserError, match="without"):
        render(empty)


@pytest.mark.parametrize("measures", [{"size": 0}, {"width": 0}, {"margin": -0.1}, {"margin": 0.5}, {"width": 0.9}])
def test_measures_without_room_are_refused(measures: dict[str, float]) -> None:
    with pytest.raises(UserError, match="nothing can be drawn"):
        render(drawing([(0, 0), (1, 1)]), **measures)  # type: ignore[arg-type]


def test_real_files_read_and_render() -> None:
    data = os.environ.get("CROSSATNET_DATA")
    if not data:
        pytest.skip("CROSSATNET_DATA does not name the folder of sample data")
    paths = sorted(Path(data, "quickdraw-mini").glob("*.ndjson"))
    if not paths:
        pytest.skip("CROSSATNET_DATA holds no quickdraw-mini/*.ndjson")
    for path in paths:
        rows = read_ndjson(path)
        assert {canonical(row.word) for row in rows} == {canonical(path.stem)}
        left, top, right, bottom = ink_box(render(rows[0].drawing))
        assert max(right - left, bottom - top) == pytest.approx(256 * 0.8, abs=2)


ROW = '{"word": "owl", "key_id": "1", "recognized": true, "drawing": [[[0, %d], [0, 9]]]}'


@pytest.mark.parametrize("name", ["owl.ndjson", "owl.ndjson.gz"])
def test_a_packed_file_is_read_like_a_plain_one(tmp_path: Path, name: str) -> None:
    text = "\n".join(ROW % number for number in range(1, 6)).encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    assert len(StrokeFile.open(path)) == len(read_ndjson(path)) == 5
    for row in (4, 0, 2):
        assert StrokeFile.open(path).read(row).drawing[0][1, 0] == row + 1
    named = named_drawing(f"{path}:3")
    assert named is not None
    assert named[0].tolist() == [[0, 0], [3, 9]]


@pytest.mark.parametrize("damage", ["cut", "no gzip", "bits"])
def test_a_damaged_packed_file_is_named(tmp_path: Path, damage: str) -> None:
    whole = gzip.compress((ROW % 5).encode() * 50)
    content = {"cut": whole[:-20], "no gzip": b"plain", "bits": whole[:30] + bytes(9) + whole[39:]}[damage]
    (tmp_path / "owl.ndjson.gz").write_bytes(content)
    with pytest.raises(ImageError, match=r"owl\.ndjson\.gz: cannot be read"):
        read_ndjson(tmp_path / "owl.ndjson.gz")


def test_a_file_that_unpacks_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bomb.ndjson.gz").write_bytes(gzip.compress(b" " * 200_000))
    monkeypatch.setattr("crossatnet.data.strokes.MOST_UNPACKED", 100_000)
    with pytest.raises(ImageError, match=r"bomb\.ndjson\.gz: more than"):
        StrokeFile.open(tmp_path / "bomb.ndjson.gz")


def test_names_of_drawings(tmp_path: Path) -> None:
    (tmp_path / "a:b.ndjson").write_text(ROW % 1)
    assert named_drawing(str(tmp_path / "a:b.ndjson")) is not None
    assert named_drawing(str(tmp_path / "a:b.ndjson:1")) is not None
    assert named_drawing("photo.png") is named_drawing("C:/photo:1.png") is None
    for number in ("0", "-1", "x", ""):
        with pytest.raises(ImageError, match="give the number of a drawing, from 1"):
            named_drawing(str(tmp_path / f"a:b.ndjson:{number}"))
    with pytest.raises(ImageError, match="no drawing 26; it has 1, counted from 1"):
        named_drawing(str(tmp_path / "a:b.ndjson:26"))
