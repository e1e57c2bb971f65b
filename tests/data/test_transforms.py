from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from crossatnet.data import transforms
from crossatnet.data.images import Modality
from crossatnet.data.transforms import augment

SEEDS = range(40)


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
def test_size_stays_and_the_input_is_not_touched(modality: Modality) -> None:
    image = picture(modality)
    before = image.tobytes()
    for seed in SEEDS:
        result = augment(image, modality, np.random.default_rng(seed))
        assert (result.size, result.mode) == (image.size, image.mode)
        assert image.tobytes() == before


@pytest.mark.parametrize("modality", ["sketch", "photo"])
def test_result_depends_on_the_generator_alone(modality: Modality) -> None:
    results = [augmented(modality, seed).tobytes() for seed in SEEDS]
    assert results == [augmented(modality, seed).tobytes() for seed in SEEDS]
    assert len(set(results)) == len(SEEDS)


def test_sketch_stays_on_white_paper() -> None:
    for seed in SEEDS:
        pixels = augmented("sketch", seed)
        border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        assert (border >= 250).mean() > 0.99, seed
        assert np.median(pixels) == 255


@pytest.fixture
def stays_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """No turning, moving and scaling."""
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
    for seed in SEEDS:
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
    ink = [(255.0 - augmented("sketch", seed)).sum() / before for seed in SEEDS]
    assert min(ink) > 0.3
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


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("modality", ["sketch", "photo"])
@pytest.mark.parametrize("size", [(1, 1), (2, 9), (9, 2), (3, 3), (5, 7)])
def test_pictures_of_few_pixels(size: tuple[int, int], modality: Modality) -> None:
    for seed in range(10):
        result = augment(Image.new("RGB", size, (255, 255, 255)), modality, np.random.default_rng(seed))
        assert result.size == size
        if modality == "sketch":
            assert np.asarray(result).min() == 255  # a blank sheet stays blank
