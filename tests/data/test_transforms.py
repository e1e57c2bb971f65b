from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from crossatnet.data import transforms
from crossatnet.data.images import Modality
from crossatnet.data.transforms import augment

SEEDS = range(40)  # as many as it takes to see how often something happens
FEW_SEEDS = range(8)  # for what must hold every time, but within measured bounds

always_true = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
any_seed = given(seed=st.integers(0, 2**64 - 1))


def sketch() -> Image.Image:
    """Black on white: a ring on the left, and nothing on the right or near the border."""
    image = Image.new("RGB", (96, 80), (255, 255, 255))
    ImageDraw.Draw(image).ellipse((20, 25, 45, 50), outline=(0, 0, 0), width=2)
    return image


def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(60, 200, (80, 96, 3), dtype=np.uint8))


def picture(modality: Modality) -> Image.Image:
    return sketch() if modality == "sketch" else photo()


def augmented(modality: Modality, seed: int) -> NDArray[np.uint8]:
    image = augment(picture(modality), modality, np.random.default_rng(seed))
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize("modality", ["sketch", "photo"])
@any_seed
@always_true
def test_size_stays_and_the_input_is_not_touched(modality: Modality, seed: int) -> None:
    image = picture(modality)
    before = image.tobytes()
    result = augment(image, modality, np.random.default_rng(seed))
    assert (result.size, result.mode) == (image.size, image.mode)
    assert image.tobytes() == before


@pytest.mark.parametrize("modality", ["sketch", "photo"])
def test_result_depends_on_the_generator_alone(modality: Modality) -> None:
    results = [augmented(modality, seed).tobytes() for seed in FEW_SEEDS]
    assert results == [augmented(modality, seed).tobytes() for seed in FEW_SEEDS]
    assert len(set(results)) == len(FEW_SEEDS)


def test_sketch_stays_on_white_paper() -> None:
    for seed in FEW_SEEDS:
        pixels = augmented("sketch", seed)
        border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        assert (border >= 250).mean() > 0.99, seed
        assert np.median(pixels) == 255


@pytest.fixture
def stays_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """No turning, moving and scaling, and no wiping either."""
    monkeypatch.setattr(transforms, "WIPED_SHARE", 0.0)
    monkeypatch.setattr(transforms, "MAX_ROTATION", 0.0)
    monkeypatch.setattr(transforms, "MAX_SHIFT", 0.0)
    monkeypatch.setattr(transforms, "SCALE_RANGE", (1.0, 1.0))


def line() -> Image.Image:
    """A level line, 2 pixels thick, from edge to edge."""
    image = Image.new("RGB", (96, 80), (255, 255, 255))
    image.paste((0, 0, 0), (0, 39, 96, 41))
    return image


@pytest.mark.usefixtures("stays_in_place")
def test_lines_wobble() -> None:
    for seed in FEW_SEEDS:
        ink = 255.0 - np.asarray(augment(line(), "sketch", np.random.default_rng(seed)))[:, 8:88, 0]
        heights = (ink * np.arange(80)[:, None]).sum(axis=0) / ink.sum(axis=0)
        assert 0.2 < np.ptp(heights) < 20, seed
        assert np.abs(np.diff(heights)).max() < 4, seed  # bent, not broken


@pytest.mark.usefixtures("stays_in_place")
def test_strokes_get_thinner_or_thicker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforms, "WOBBLE", 0.0)
    before = (255.0 - np.asarray(line())).sum()
    ratios = [(255.0 - np.asarray(augment(line(), "sketch", np.random.default_rng(seed)))).sum() for seed in SEEDS]
    kinds = Counter(round(ratio / before, 1) for ratio in ratios)
    assert set(kinds) == {0.5, 1.0, 2.0}  # half grey, as it was, 4 pixels thick
    assert min(kinds.values()) >= 3


def test_sketch_keeps_about_its_ink() -> None:
    before = (255.0 - np.asarray(sketch())).sum()
    ink = [(255.0 - augmented("sketch", seed)).sum() / before for seed in FEW_SEEDS]
    assert min(ink) > 0.25
    assert max(ink) < 3.5


def test_about_half_are_mirrored() -> None:
    ink = [255.0 - augmented("sketch", seed) for seed in SEEDS]
    right = sum(values[:, 48:].sum() > values[:, :48].sum() for values in ink)
    assert 10 <= right <= 30  # of 40: three standard deviations


def test_photos_vary_in_brightness_and_some_turn_grey() -> None:
    results = [augmented("photo", seed)[20:60, 24:72] for seed in SEEDS]
    grey = sum(bool(np.ptp(result, axis=2).max() == 0) for result in results)
    assert 1 <= grey <= 20  # one in five of 40
    assert np.ptp([result.mean() for result in results]) > 40


def hatching() -> Image.Image:
    """Many thin lines close together: every wipe takes pieces of several."""
    image = Image.new("RGB", (96, 80), (255, 255, 255))
    for left in range(10, 86, 5):
        ImageDraw.Draw(image).line((left, 10, left, 70), fill=(0, 0, 0))
    return image


def dots() -> Image.Image:
    """Two dots, of which one is a third of the ink."""
    image = Image.new("RGB", (96, 80), (255, 255, 255))
    image.paste((0, 0, 0), (20, 20, 22, 24))
    image.paste((0, 0, 0), (60, 20, 62, 22))
    return image


def faint() -> Image.Image:
    """A pencil's grey ring."""
    image = sketch()
    return Image.fromarray(np.maximum(np.asarray(image), 215))


def wiped(image: Image.Image, seed: int) -> Image.Image:
    return transforms._wipe_strokes(image, np.random.default_rng(seed))


@pytest.mark.parametrize("drawn", [sketch, line, hatching, dots, faint])
def test_wiping_leaves_most_of_the_ink(drawn: Callable[[], Image.Image]) -> None:
    image = drawn()
    before = np.asarray(image)
    shares = []
    for seed in SEEDS:
        after = np.asarray(wiped(image, seed))
        changed = (after != before).any(axis=2)
        assert (after[changed] == 255).all()  # paper, or as it was
        shares.append((255.0 - after).sum() / (255.0 - before).sum())
    assert min(shares) >= transforms.INK_KEPT == 0.7
    if drawn is dots:
        assert set(shares) == {1.0}  # without either dot less would be left
    else:
        assert sum(share < 0.99 for share in shares) > 20  # of 40: the other first wipes would have taken too much
    assert before.tobytes() == image.tobytes()


def test_wipes_follow_the_stroke() -> None:
    lengths = []
    for seed in SEEDS:
        ink = (np.asarray(wiped(line(), seed))[:, :, 0] == 0).sum(axis=0)  # of every column: 2 if it was not wiped
        assert (ink == 1).sum() <= 2 * transforms.MAX_WIPES  # all of the stroke's width goes, but for round ends
        gaps = "".join("x" if column < 2 else " " for column in ink).split()
        assert len(gaps) <= transforms.MAX_WIPES
        lengths += [len(gap) for gap in gaps]
    assert min(lengths) <= 8  # a touch of the eraser
    assert sum(length >= 16 for length in lengths) >= 12  # far longer than it is wide


@any_seed
@always_true
def test_wiping_leaves_what_is_no_drawing_on_white(seed: int) -> None:
    light_on_dark = Image.fromarray(255 - np.asarray(sketch()))
    for image in (light_on_dark, Image.new("RGB", (96, 80), (255, 255, 255)), Image.new("RGB", (1, 1))):
        assert wiped(image, seed).tobytes() == image.tobytes()


@pytest.mark.usefixtures("stays_in_place")
def test_some_sketches_are_wiped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforms, "WOBBLE", 0.0)
    monkeypatch.setattr(transforms, "WIPED_SHARE", 0.4)
    results = [np.asarray(augment(line(), "sketch", np.random.default_rng(seed))) for seed in SEEDS]
    broken = sum(bool((pixels.min(axis=0) == 255).any()) for pixels in results)  # a column without ink
    assert 7 <= broken <= 25  # four in ten of 40: three standard deviations


@pytest.mark.parametrize("size", [(96, 80), (1, 1), (2, 9), (7, 1)])
def test_stroke_width_filters_equal_those_of_pillow(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    for extreme, oracle in ((np.minimum, ImageFilter.MinFilter(3)), (np.maximum, ImageFilter.MaxFilter(3))):
        assert transforms._filtered(image, extreme).tobytes() == image.filter(oracle).tobytes()


def block() -> Image.Image:
    """A photo of a dark block before a mid grey wall, with a camera's noise."""
    pixels = np.full((80, 96, 3), 150)
    pixels[20:60, 30:70] = 60
    noise = np.random.default_rng(0).integers(-2, 3, pixels.shape)
    return Image.fromarray((pixels + noise).astype(np.uint8))


def test_edges_are_dark_lines_on_white() -> None:
    drawing = transforms._edges(block())
    assert (drawing.size, drawing.mode) == ((96, 80), "RGB")
    pixels = np.asarray(drawing)
    assert np.ptp(pixels, axis=2).max() == 0
    grey = pixels[:, :, 0]
    assert grey[25:55, 35:65].min() > 200  # inside the block
    assert grey[:14].min() > 200  # the wall
    for border in (grey[25:55, 28:32], grey[25:55, 68:72], grey[18:22, 35:65].T, grey[58:62, 35:65].T):
        assert border.min(axis=1).max() < 30


def test_plain_photo_has_no_edges() -> None:
    noise = np.random.default_rng(0).integers(148, 153, (80, 96, 3), dtype=np.uint8)
    assert np.asarray(transforms._edges(Image.fromarray(noise))).min() > 200


def test_some_photos_become_edges_pure_or_blended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforms, "COLOUR_RANGE", (1.0, 1.0))
    kinds: Counter[str] = Counter()
    for seed in range(100):
        inside = augment(block(), "photo", np.random.default_rng(seed)).crop((46, 36, 50, 44))
        level = float(np.asarray(inside).mean())  # 60 in the photo, 255 in the drawing
        kinds["photo" if level < 70 else "pure" if level > 245 else "blended"] += 1
    assert 8 <= kinds["pure"] + kinds["blended"] <= 32  # one in five of 100: three standard deviations
    assert min(kinds["pure"], kinds["blended"]) >= 3


@any_seed
@always_true
def test_paper_around_a_turned_photo_makes_no_edge(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(transforms, "EDGE_SHARE", 1.0)
    monkeypatch.setattr(transforms, "EDGE_BLEND_RANGE", (1.0, 1.0))
    result = augment(Image.new("RGB", (96, 80), (90, 120, 60)), "photo", np.random.default_rng(seed))
    assert np.asarray(result).min() == 255


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every sketch is wiped, and every photo becomes edges."""
    monkeypatch.setattr(transforms, "WIPED_SHARE", 1.0)
    monkeypatch.setattr(transforms, "EDGE_SHARE", 1.0)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("modality", ["sketch", "photo"])
def test_wipes_and_edges_depend_on_the_generator_alone(modality: Modality) -> None:
    results = [augmented(modality, seed).tobytes() for seed in FEW_SEEDS]
    assert results == [augmented(modality, seed).tobytes() for seed in FEW_SEEDS]
    assert len(set(results)) == len(FEW_SEEDS)


@pytest.mark.usefixtures("always")
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("modality", ["sketch", "photo"])
@pytest.mark.parametrize("size", [(1, 1), (2, 9), (9, 2), (3, 3), (5, 7)])
@pytest.mark.parametrize("kind", ["white", "black", "noise"])
def test_few_pixels_wiped_or_as_edges(kind: str, size: tuple[int, int], modality: Modality) -> None:
    for seed in FEW_SEEDS:
        random = np.random.default_rng(seed)
        low, high = {"white": (255, 256), "black": (0, 1), "noise": (0, 256)}[kind]
        pixels = random.integers(low, high, (*size[::-1], 3), dtype=np.uint8)
        result = augment(Image.fromarray(pixels), modality, random)
        assert (result.size, result.mode) == (size, "RGB")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("modality", ["sketch", "photo"])
@pytest.mark.parametrize("size", [(1, 1), (2, 9), (9, 2), (3, 3), (5, 7)])
def test_pictures_of_few_pixels(size: tuple[int, int], modality: Modality) -> None:
    for seed in FEW_SEEDS:
        result = augment(Image.new("RGB", size, (255, 255, 255)), modality, np.random.default_rng(seed))
        assert result.size == size
        if modality == "sketch":
            assert np.asarray(result).min() == 255  # a blank sheet stays blank


@pytest.mark.parametrize("modality", ["sketch", "photo"])
def test_nothing_is_mirrored_where_it_must_not_be(modality: Modality) -> None:
    """A picture black on the left stays so; mirrored by chance it would not, half of the time."""
    image = Image.new("RGB", (60, 60), "white")
    image.paste("black", (6, 10, 14, 50))
    sides = []
    for mirror in (True, False):
        views = [augment(image, modality, np.random.default_rng(seed), mirror) for seed in range(30)]
        grey = [np.asarray(view.convert("L"), dtype=float) for view in views]
        sides.append([one[:, :30].mean() < one[:, 30:].mean() for one in grey])
    assert not all(sides[0])
    assert all(sides[1])
