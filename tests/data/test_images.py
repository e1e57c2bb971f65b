import io
import random
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageDraw, ImageFile

from crossatnet.data import images
from crossatnet.data.images import cut_to_strokes, load_image, picture_size, prepare
from crossatnet.data.pictures import opening
from crossatnet.data.pictures.formats import FORMATS
from crossatnet.system.errors import ImageError, UserError

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)
BLOCK = 16  # pixels of one colour a side, so that JPEG's losses are small
NOT_DECODED = {
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>',
    "pdf": b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n",
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n",
    "ppm": b"P6 1 1 255\n\0\0\0",  # Pillow could read it; we let it not
    "text": b"this is no picture at all\n",
    "empty": b"",
}


def noise(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixels(source: images.Picture) -> NDArray[np.uint8]:
    image = load_image(source)
    assert image.mode == "RGB"
    return np.asarray(image)


def png_header(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def seen_at(orientation: int, row: int, column: int, height: int, width: int) -> tuple[int, int]:
    """Where a stored pixel is to be seen, by the EXIF standard's "the 0th row is at the visual ..." table."""
    down, right = height - 1 - row, width - 1 - column
    return {
        1: (row, column),  # 0th row: top, 0th column: left
        2: (row, right),  # top, right
        3: (down, right),  # bottom, right
        4: (down, column),  # bottom, left
        5: (column, row),  # left, top
        6: (column, down),  # right, top
        7: (right, down),  # right, bottom
        8: (right, row),  # left, bottom
    }[orientation]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    stored = np.array([[[250, 10, 10], [10, 250, 10], [10, 10, 250]], [[10, 10, 10], [250, 250, 10], [90, 90, 90]]])
    height, width = stored.shape[:2]
    expected = np.zeros((height, width, 3) if orientation < 5 else (width, height, 3))
    for row in range(height):
        for column in range(width):
            expected[seen_at(orientation, row, column, height, width)] = stored[row, column]
    large = Image.fromarray(np.kron(stored, np.ones((BLOCK, BLOCK, 1))).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    exact: dict[str, Any] = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}
    loaded = pixels(encoded(large, kind, exif=exif, **exact.get(kind, {})))
    assert loaded.shape == (expected.shape[0] * BLOCK, expected.shape[1] * BLOCK, 3)
    np.testing.assert_allclose(loaded[BLOCK // 2 :: BLOCK, BLOCK // 2 :: BLOCK], expected, atol=3)


def test_exif_with_a_tag_that_cannot_be_written_again_is_no_fault() -> None:
    def tag(number: int, kind: int, value: int) -> bytes:
        return struct.pack("<HHII", number, kind, 1, value)

    # Compression is a SHORT by the standard; here it is a LONG too large for one
    exif = b"II*\0" + struct.pack("<IH", 8, 2) + tag(0x0103, 4, 70_000) + tag(0x0112, 3, 6) + bytes(4)
    assert load_image(encoded(Image.new("RGB", (30, 20), RED), "JPEG", exif=b"Exif\0\0" + exif)).size == (20, 30)


def test_cmyk_jpeg() -> None:
    red = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100)
    np.testing.assert_allclose(pixels(red), np.broadcast_to(RED, (16, 16, 3)), atol=3)


def test_sixteen_bit_png() -> None:
    grey = np.array([[0, 257, 257 * 100], [257 * 200, 65535 - 257, 65535]], dtype=np.uint16)
    content = encoded(Image.fromarray(grey))
    assert content[24] == 16  # the file has 16 bits a pixel
    expected = np.array([[0, 1, 100], [200, 254, 255]])
    np.testing.assert_array_equal(pixels(content), np.stack([expected] * 3, axis=-1))


def test_float_picture_is_spread_over_the_range() -> None:
    content = encoded(Image.fromarray(np.array([[-2.0, 0.0, 2.0]], dtype=np.float32)), "TIFF")
    np.testing.assert_allclose(pixels(content)[0, :, 0], [0, 127.5, 255], atol=0.5)
    flat = encoded(Image.fromarray(np.full((2, 2), 7.0, dtype=np.float32)), "TIFF")
    assert (pixels(flat) == 0).all()


def test_palette_with_transparency_is_laid_on_white() -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([*RED, *RED, *BLUE])
    image.putdata([0, 1, 2])
    content = encoded(image, transparency=bytes([255, 0, 128]))
    assert Image.open(io.BytesIO(content)).mode == "P"
    np.testing.assert_allclose(pixels(content)[0], [RED, WHITE, (127, 127, 255)], atol=1)


@pytest.mark.parametrize(
    ("mode", "colours", "expected"),
    [
        ("RGBA", [(255, 0, 0, 255), (255, 0, 0, 0), (0, 0, 255, 128)], [RED, WHITE, (127, 127, 255)]),
        ("LA", [(0, 255), (0, 0), (0, 128)], [(0, 0, 0), WHITE, (127, 127, 127)]),
        ("L", [0, 100, 255], [(0, 0, 0), (100, 100, 100), WHITE]),
        ("1", [0, 255, 0], [(0, 0, 0), WHITE, (0, 0, 0)]),
    ],
)
def test_other_modes(mode: str, colours: list[int], expected: list[tuple[int, int, int]]) -> None:
    image = Image.new(mode, (3, 1))
    for column, colour in enumerate(colours):
        image.putpixel((column, 0), colour)
    np.testing.assert_allclose(pixels(encoded(image))[0], expected, atol=1)
    np.testing.assert_allclose(pixels(image)[0], expected, atol=1)


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (5, 4), colour) for colour in (RED, BLUE, WHITE)]
    frames[0].save(tmp_path / "animation.gif", save_all=True, append_images=frames[1:])
    assert getattr(Image.open(tmp_path / "animation.gif"), "n_frames", 1) == 3
    np.testing.assert_array_equal(pixels(tmp_path / "animation.gif"), np.broadcast_to(RED, (4, 5, 3)))


def test_path_string_bytes_picture_and_array_give_the_same(tmp_path: Path) -> None:
    path = tmp_path / "noise.png"
    path.write_bytes(encoded(Image.fromarray(noise(7, 5))))
    for source in (path, str(path), path.read_bytes(), Image.open(path), noise(7, 5)):
        np.testing.assert_array_equal(pixels(source), noise(7, 5))


def test_grey_array_becomes_rgb() -> None:
    grey = noise(3, 4)[..., 0]
    np.testing.assert_array_equal(pixels(grey), np.stack([grey] * 3, axis=-1))
    np.testing.assert_array_equal(pixels(grey[::2, ::-1]), np.stack([grey[::2, ::-1]] * 3, axis=-1))


@pytest.mark.parametrize(
    ("array", "described"),
    [
        (np.zeros((4, 4, 3), np.float32), r"float32 \(4, 4, 3\)"),
        (np.zeros((4, 4), bool), r"bool \(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), r"uint8 \(4, 4, 4\)"),
        (np.zeros((4, 4, 1), np.uint8), r"uint8 \(4, 4, 1\)"),
        (np.zeros(4, np.uint8), r"uint8 \(4,\)"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"uint8 \(1, 4, 4, 3\)"),
        (np.zeros((0, 4, 3), np.uint8), r"uint8 \(0, 4, 3\)"),
    ],
)
def test_arrays_of_another_kind_are_refused(array: NDArray[np.uint8], described: str) -> None:
    with pytest.raises(ImageError, match=f"must be uint8 of shape .* not {described}"):
        load_image(array)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP"])
def test_truncated_file_is_named(tmp_path: Path, kind: str) -> None:
    content = encoded(Image.fromarray(noise(64, 64)), kind)
    path = tmp_path / "cut.bin"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ImageError, match=r"cut\.bin: damaged picture"):
        load_image(path)


def test_damage_that_a_library_names_by_a_number_only() -> None:
    with pytest.raises(ImageError, match=r"^the uploaded picture: damaged picture$"):
        load_image(b"II*\0broken")


def test_truncated_file_opened_by_the_caller(tmp_path: Path) -> None:
    content = encoded(Image.fromarray(noise(64, 64)), "JPEG")
    with pytest.raises(ImageError, match="the uploaded picture: damaged picture"):
        load_image(Image.open(io.BytesIO(content[: len(content) // 2])))


@pytest.mark.parametrize("kind", NOT_DECODED)
def test_anything_but_the_listed_formats_is_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ImageError, match=r"the uploaded picture: not a picture .*JPEG, PNG"):
        load_image(NOT_DECODED[kind])
    path = tmp_path / "disguised.png"
    path.write_bytes(NOT_DECODED[kind])
    with pytest.raises(UserError, match=r"disguised\.png: not a picture"):
        load_image(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"absent\.png: no such file"):
        load_image(tmp_path / "absent.png")
    with pytest.raises(ImageError, match=tmp_path.name):
        load_image(tmp_path)


def test_huge_picture_is_refused_undecoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    side = 30_000
    compressor = zlib.compressobj(1)
    row = bytes(1 + side // 8)
    stream = b"".join(compressor.compress(row * 1000) for _ in range(side // 1000)) + compressor.flush()
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(side, side) + chunk(b"IDAT", stream) + chunk(b"IEND", b""))
    assert path.stat().st_size < 1_000_000
    decoded = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: decoded.append(self))
    for source in (path, path.read_bytes()):
        with pytest.raises(ImageError, match="more pixels than the limit of 100,000,000; make it smaller"):
            load_image(source)
    assert not decoded


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_limit_of_pixels() -> None:
    just_over = png_header(10_001, 10_000) + chunk(b"IEND", b"")
    with pytest.raises(ImageError, match="10001 x 10000 pixels, more than the limit of 100,000,000"):
        load_image(just_over)
    assert load_image(encoded(Image.new("RGB", (10, 10))), max_pixels=100).size == (10, 10)
    for source in (encoded(Image.new("RGB", (10, 10))), Image.new("RGB", (10, 10))):
        with pytest.raises(ImageError, match="10 x 10 pixels, more than the limit of 99"):
            load_image(source, max_pixels=99)


def test_limit_of_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.bmp"
    path.write_bytes(encoded(Image.fromarray(noise(40, 40)), "BMP"))
    assert load_image(path).size == (40, 40)
    monkeypatch.setattr(opening, "MAX_BYTES", path.stat().st_size - 1)
    with pytest.raises(ImageError, match=r"large\.bmp: larger than .* MB; make it smaller"):
        load_image(path)


@pytest.mark.parametrize("kind", [2, 5, 7, 11])
def test_tag_of_a_wrong_type_is_damage(kind: int) -> None:
    content = encoded(Image.new("RGB", (4, 4)), "TIFF")
    strip_offsets = struct.pack("<HH", 273, 4)
    assert content.count(strip_offsets) == 1
    with pytest.raises(ImageError, match="damaged picture"):  # Pillow raises TypeError
        load_image(content.replace(strip_offsets, struct.pack("<HH", 273, kind)))


@pytest.mark.filterwarnings("ignore")  # Pillow warns of corrupt tags
def test_no_damage_raises_anything_but_image_error() -> None:
    """Overwrite a few bytes, many times: either a picture comes out or the one error that callers expect."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E], exif[0x011A] = 6, "hello", 72.0
    picture = Image.fromarray(noise(24, 20))
    whole = [encoded(picture, kind, exif=exif) for kind in ("JPEG", "PNG", "WEBP", "TIFF")]
    whole += [encoded(picture, "GIF"), encoded(picture, "BMP"), encoded(picture, "TIFF", compression="tiff_lzw")]
    dice = random.Random(0)
    readable = 0
    for number in range(2000):
        content = bytearray(whole[number % len(whole)])
        for _ in range(dice.choice([1, 2, 5, 20])):
            content[dice.randrange(min(len(content), 300))] = dice.randrange(256)
        try:
            readable += load_image(bytes(content)).mode == "RGB"
        except ImageError:
            continue
    assert 0 < readable < 2000


def drawing(size: int, box: tuple[int, int, int, int], width: int) -> Image.Image:
    """Black on white: a frame and one of its diagonals."""
    image = Image.new("RGB", (size, size), WHITE)
    draw = ImageDraw.Draw(image)
    draw.rectangle(box, outline=(0, 0, 0), width=width)
    draw.line(box, fill=(0, 0, 0), width=width)
    return image


def drawing_array() -> NDArray[np.uint8]:
    return np.asarray(drawing(32, (4, 6, 20, 22), 2))


@pytest.mark.parametrize("size", [32, 50])
@pytest.mark.parametrize("shape", [(50, 50), (7, 90), (300, 20), (1, 1)])
def test_prepared_pictures_are_square_uint8(shape: tuple[int, int], size: int) -> None:
    dot = np.full((*shape, 3), 255, np.uint8)
    dot[0, 0] = 0
    for modality, pixels in (("photo", noise(*shape)), ("sketch", dot)):
        for fit_strokes in (False, True):
            if modality == "sketch" and shape == (1, 1):  # nothing to see a dot against
                continue
            prepared = prepare(Image.fromarray(pixels), modality, size, fit_strokes)
            assert prepared.shape == (size, size, 3)
            assert prepared.dtype == np.uint8


def test_photo_is_only_resized() -> None:
    for picture in (noise(32, 32), 255 - drawing_array()):
        for fit_strokes in (False, True):
            np.testing.assert_array_equal(prepare(Image.fromarray(picture), "photo", 32, fit_strokes), picture)
    halves = np.zeros((64, 16, 3), np.uint8)
    halves[32:] = 200
    prepared = prepare(Image.fromarray(halves), "photo", 32)
    assert (prepared[:14] == 0).all()
    assert (prepared[18:] == 200).all()


def test_black_on_white_sketch_is_inverted_and_white_on_black_is_not() -> None:
    sketch = drawing_array()
    np.testing.assert_array_equal(prepare(Image.fromarray(sketch), "sketch", 32), 255 - sketch)
    np.testing.assert_array_equal(prepare(Image.fromarray(255 - sketch), "sketch", 32), 255 - sketch)


def test_strokes_that_reach_the_border_do_not_hide_the_paper() -> None:
    sketch = np.full((20, 20, 3), 255, np.uint8)
    sketch[:, 8:12] = 0  # 8 of the 80 border pixels are ink
    np.testing.assert_array_equal(prepare(Image.fromarray(sketch), "sketch", 20), 255 - sketch)


def test_small_drawing_in_a_corner_is_seen_like_a_large_one() -> None:
    large = drawing(256, (10, 10, 245, 245), 8)
    small = drawing(256, (130, 6, 247, 123), 4)
    seen_large, seen_small = (prepare(image, "sketch", 64, True).astype(float) for image in (large, small))
    assert np.abs(seen_large - seen_small).mean() < 6
    unfitted = prepare(small, "sketch", 64).astype(float)
    assert np.abs(seen_large - unfitted).mean() > 30


def test_cut_keeps_proportions_and_a_margin() -> None:
    image = Image.new("RGB", (50, 40))
    image.paste(WHITE, (10, 5, 30, 15))  # 20 wide, 10 high; the margin is round(0.06 * 20) = 1
    cut = cut_to_strokes(image)
    assert cut.size == (22, 22)
    assert cut.getbbox() == (1, 6, 21, 16)


@pytest.mark.parametrize("paper", [0, 120, 255])
def test_an_empty_drawing_is_told(paper: int) -> None:
    with pytest.raises(ImageError, match="nothing is drawn"):
        prepare(Image.new("RGB", (40, 30), (paper,) * 3), "sketch", 32, True)
    black = Image.new("RGB", (40, 30))
    assert cut_to_strokes(black).size == (40, 30)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_picture_size_is_that_of_the_upright_picture(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    file = io.BytesIO()
    Image.new("RGB", (40, 20)).save(file, kind, exif=exif)
    assert picture_size(file.getvalue()) == load_image(file.getvalue()).size


@pytest.mark.parametrize(
    ("size", "enough", "decoded"), [((1600, 1200), 384, (800, 600)), ((1600, 1200), 150, (200, 150))]
)
def test_a_large_jpeg_may_be_decoded_at_a_fraction_that_looks_the_same(
    size: tuple[int, int], enough: int, decoded: tuple[int, int]
) -> None:
    patches = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(patches).resize(size).save(file, "JPEG", quality=90)
    small, whole = load_image(file.getvalue(), enough=enough), load_image(file.getvalue())
    assert (small.size, whole.size) == (decoded, size)
    assert picture_size(file.getvalue()) == size
    ours, theirs = (prepare(image, "photo", enough // 2).astype(float) for image in (small, whole))
    assert np.abs(ours - theirs).mean() < 1  # grey levels, of 255


def test_what_is_not_much_larger_than_enough_stays_whole() -> None:
    file = io.BytesIO()
    Image.new("RGB", (500, 400)).save(file, "JPEG")
    assert load_image(file.getvalue(), enough=384).size == (500, 400)
    file = io.BytesIO()
    Image.new("RGB", (1600, 1200)).save(file, "PNG")
    assert load_image(file.getvalue(), enough=100).size == (1600, 1200)


@pytest.mark.parametrize("form", FORMATS)
def test_the_format_of_a_picture_file_is_told(form: str) -> None:
    content = encoded(Image.new("RGB", (40, 30), "red"), form)
    assert images.check_picture(content, 1200) == form
    with pytest.raises(opening.TooManyPixelsError, match="1,199"):
        images.check_picture(content, 1199)
    with pytest.raises(ImageError, match="not a picture"):
        images.check_picture(b"no picture", 1200)
