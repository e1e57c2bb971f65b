"""However a drawing arrives, its strokes come out, white on black; where there are none, that is said."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from crossatnet.data.drawing import read as drawing
from crossatnet.data.drawing.read import NothingDrawnError, read_drawing
from crossatnet.data.images import load_image, prepare
from data.drawing.drawn import Ink, house, laid, overlap, picture

HOUSE = house()


def read(values: Ink | Image.Image) -> np.ndarray:
    image = values if isinstance(values, Image.Image) else picture(values)
    return np.asarray(read_drawing(image)).astype(int)


def light(side: int, slope: float) -> Ink:
    rows, columns = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    return (1 - slope * (rows + columns + 2) / 4 - 0.2 * (rows**2 + columns**2) / 2).astype(np.float32)


def test_a_clean_drawing_comes_out_as_it_is() -> None:
    np.testing.assert_array_equal(read(laid(HOUSE, 255, 0)), np.rint(255 * HOUSE))


@pytest.mark.parametrize("width", [0.008, 0.014, 0.02])
@pytest.mark.parametrize("side", [150, 224, 256])
def test_reading_what_was_read_changes_nothing(width: float, side: int) -> None:
    once = read_drawing(picture(laid(house(side, width), 240, 30)))
    np.testing.assert_array_equal(np.asarray(read_drawing(once.convert("RGB"))), np.asarray(once))
    np.testing.assert_array_equal(np.asarray(read_drawing(once)), np.asarray(once))  # grey pictures are read too


def test_inverted_drawings_have_the_same_strokes() -> None:
    for values in (laid(HOUSE, 255, 0), laid(HOUSE, 230, 20)):
        assert abs(read(values) - read(255 - values)).max() <= 3


@pytest.mark.parametrize("paper", [60, 90, 120, 160, 200, 254])
@pytest.mark.parametrize("share", [0.1, 0.4])
def test_the_tone_of_the_paper_changes_nothing(paper: int, share: float) -> None:
    got, expected = read(laid(HOUSE, paper, share * paper)), np.rint(255 * HOUSE)
    assert abs(got - expected).max() <= 2 + 255 / ((1 - share) * paper)  # a grey level of such paper, stretched


@pytest.mark.parametrize("side", [128, 256, 400, 1024])
def test_drawings_of_any_size_are_read_alike(side: int) -> None:
    assert overlap(read_drawing(picture(laid(house(side), 200, 40))), HOUSE) > 0.97


@pytest.mark.parametrize(("paper", "pen"), [((255, 240, 150), (30, 60, 160)), ((170, 130, 90), (250, 248, 240))])
def test_coloured_ink_on_coloured_paper(paper: tuple[int, ...], pen: tuple[int, ...]) -> None:
    values = (1 - HOUSE[..., None]) * np.array(paper) + HOUSE[..., None] * np.array(pen)
    assert abs(read(picture(values)) - np.rint(255 * HOUSE)).max() <= 8


def test_every_pen_of_a_drawing_is_seen() -> None:
    pens = np.array([[200, 30, 30], [30, 140, 50], [30, 50, 200], [240, 200, 0]])[np.arange(256) // 64]
    values = (1 - HOUSE[..., None]) * 255 + HOUSE[..., None] * pens
    got = read(picture(values))
    for part in range(4):
        columns = np.s_[:, 64 * part : 64 * part + 64]
        assert got[columns].sum() > 0.7 * (255 * HOUSE[columns]).sum()


@pytest.mark.parametrize("ink", [(255, 255, 255), (0, 0, 0), (220, 40, 40), (250, 240, 120)])
def test_transparency_is_paper_whatever_colour_the_ink_has(ink: tuple[int, int, int]) -> None:
    pixels = np.concatenate([np.broadcast_to(ink, (256, 256, 3)), 255 * HOUSE[..., None]], axis=2)
    content = io.BytesIO()
    Image.fromarray(np.rint(pixels).astype(np.uint8)).save(content, "PNG")
    image = load_image(content.getvalue(), modality="sketch")
    assert abs(np.asarray(read_drawing(image)).astype(int) - np.rint(255 * HOUSE)).max() <= 4


def test_a_filled_sticker_with_black_lines_keeps_its_lines() -> None:
    pixels = np.zeros((256, 256, 4), np.uint8)
    disc = Image.new("L", (256, 256))
    ImageDraw.Draw(disc).ellipse((30, 30, 226, 226), 255)
    inside = np.asarray(disc) > 0
    pixels[inside] = (255, 255, 255, 255)
    pixels[inside & (HOUSE > 0.5)] = (0, 0, 0, 255)
    got = np.asarray(read_drawing(load_image(Image.fromarray(pixels), modality="sketch"))) > 127
    assert (got & inside)[60:190, 60:190].sum() > 0.9 * (HOUSE[60:190, 60:190] > 0.5).sum()


def test_photographed_paper_is_evened_out() -> None:
    noise = np.random.default_rng(0).normal(0, 4, (480, 480))
    values = laid(house(480), 230, 60) * light(480, 0.5) + noise
    got = read_drawing(picture(values))
    assert overlap(got, HOUSE) > 0.95
    assert np.median(np.asarray(got)) == 0


def test_the_shadow_of_a_hand_is_no_stroke() -> None:
    shadow = Image.new("L", (480, 480), 255)
    ImageDraw.Draw(shadow).ellipse((250, 300, 480, 600), 140)
    soft = np.asarray(shadow.filter(ImageFilter.GaussianBlur(9)), np.float32) / 255
    noise = np.random.default_rng(0).normal(0, 3, (480, 480))
    assert overlap(read_drawing(picture(laid(house(480), 235, 40) * soft + noise)), HOUSE) > 0.9


@pytest.mark.parametrize("desk", [45, 120, 195])
@pytest.mark.parametrize("angle", [-7, 0, 6])
def test_a_sheet_is_cut_out_of_its_desk(desk: int, angle: int) -> None:
    noise = np.random.default_rng(0).normal(0, 4, (600, 600, 1))
    scene = Image.new("RGB", (600, 600), (desk, desk - 6, desk - 20))
    sheet = picture(laid(house(400), 240, 40)).convert("RGBA").rotate(angle, Image.Resampling.BICUBIC, expand=True)
    scene.paste(sheet, ((600 - sheet.width) // 2, (600 - sheet.height) // 2 + 10), sheet)
    got = read_drawing(picture(np.asarray(scene) + noise))
    assert overlap(got, HOUSE) > 0.95


@pytest.mark.parametrize("colour", [0, 60])
def test_bars_and_borders_go(colour: int) -> None:
    clean = laid(HOUSE, 255, 0)
    for bars in (((40, 40), (0, 0)), ((0, 0), (60, 30)), ((9, 9), (9, 9)), ((30, 0), (0, 0))):
        assert overlap(read_drawing(picture(np.pad(clean, bars, constant_values=colour))), HOUSE) > 0.99


def test_a_frame_around_the_drawing_goes_but_not_one_that_it_touches() -> None:
    apart = Image.new("RGB", (320, 320), "white")
    apart.paste(picture(laid(HOUSE, 255, 0)), (32, 32))
    ImageDraw.Draw(apart).rectangle((8, 8, 311, 311), outline=(0, 0, 0), width=3)
    assert overlap(read_drawing(apart), HOUSE) > 0.99
    ImageDraw.Draw(apart).line((8, 8, 100, 100), fill=(0, 0, 0), width=3)
    assert (read(apart)[8:11, 20:300] > 200).all()


def test_noise_and_specks_are_no_strokes() -> None:
    dice = np.random.default_rng(0)
    values = laid(house(500), 240, 30) + dice.normal(0, 5, (500, 500))
    for row, column in dice.integers(5, 495, (40, 2)):
        values[row : row + 2, column : column + 2] = 60
    assert overlap(read_drawing(picture(values)), HOUSE) > 0.97


@pytest.mark.parametrize("paper", [0, 40, 128, 255])
def test_a_plain_sheet_has_nothing_drawn(paper: int) -> None:
    with pytest.raises(NothingDrawnError, match="nothing is drawn here that can be read; draw some strokes"):
        read_drawing(Image.new("RGB", (256, 256), (paper,) * 3))
    with pytest.raises(NothingDrawnError):
        prepare(Image.new("RGBA", (64, 64)), "sketch", 32, True)


@pytest.mark.parametrize("seed", range(4))
def test_a_photo_of_an_empty_sheet_has_nothing_drawn(seed: int) -> None:
    noise = np.random.default_rng(seed).normal(0, 5, (480, 480))
    with pytest.raises(NothingDrawnError):
        read_drawing(picture(230 * light(480, 0.4) + noise))


def test_large_pictures_are_reduced() -> None:
    got = read_drawing(picture(laid(house(1500, 0.006), 220, 40)))
    assert max(got.size) == drawing.WORKING_SIDE
    assert overlap(got, HOUSE) > 0.9


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (3, 2), (60, 7), (7, 900)])
def test_pictures_of_any_shape(shape: tuple[int, int]) -> None:
    dice = np.random.default_rng(0)
    for values in (np.zeros(shape), dice.integers(0, 256, shape), dice.integers(0, 2, shape) * 255):
        try:
            assert read_drawing(picture(values)).mode == "L"
        except NothingDrawnError:
            continue


def test_thick_strokes_are_thinned_once() -> None:
    once = read_drawing(picture(laid(house(400, 0.045), 255, 0)))
    assert overlap(once, HOUSE, shift=5) > 0.9
    assert (np.asarray(once) > 127).mean() < 0.7 * (house(400, 0.045) > 0.5).mean()
    again = np.asarray(read_drawing(once.convert("RGB"))).astype(int)
    assert abs(again - np.asarray(once)).mean() < 2


def test_a_dense_drawing_with_corners_is_no_sheet_on_a_desk() -> None:
    """A house of thick lines fills its outline with ink; what is around it is the paper that shows inside too."""
    drawn = Image.new("RGB", (256, 256), "white")
    pen = ImageDraw.Draw(drawn)
    pen.rectangle((60, 60, 236, 194), outline="black", width=12)
    for left in range(80, 230, 24):
        pen.line((left, 76, left, 184), "black", 12)
    pen.line((35, 90, 35, 104), "black", 10)  # beside it
    read = read_drawing(drawn)
    assert read.size == drawn.size
    assert overlap(read, 1 - np.asarray(drawn.convert("L"), np.float32) / 255) > 0.7  # thick pens are thinned
