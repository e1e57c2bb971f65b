"""Pictures to embed: made-up ones, and copies of some of a folder's."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

GRAIN = 8.0  # of a camera: grey levels, standard deviation


def patches(random: np.random.Generator, columns: int, rows: int, size: tuple[int, int]) -> Image.Image:
    """Soft patches of colour, so many across and down; `size` is (width, height) in pixels."""
    return Image.fromarray(random.integers(0, 256, (rows, columns, 3), dtype=np.uint8)).resize(size)


def grained(picture: Image.Image, grain: NDArray[np.floating[Any]]) -> Image.Image:
    """A picture with noise laid on; `grain` in grey levels (H, W, 1)."""
    return Image.fromarray(np.clip(np.asarray(picture) + grain, 0, 255).astype(np.uint8))


def enlarged(picture: Image.Image, size: tuple[int, int], random: np.random.Generator) -> Image.Image:
    """A picture in a larger size, (width, height), with the grain of a camera laid on."""
    smooth = picture.resize(size, Image.Resampling.LANCZOS)
    return grained(smooth, random.standard_normal((size[1], size[0], 1), np.float32) * GRAIN)


def make_photos(target: Path, size: str, count: int) -> Path:
    """JPEG files of a size such as 800x600: patches with some noise, which take as long to decode as photos."""
    width, height = map(int, size.split("x"))
    target.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        soft = patches(random, 16, 12, (width, height))
        grained(soft, random.normal(0, GRAIN, (height, width, 1))).save(target / f"{number:05}.jpg", quality=90)
    return target


def evenly(files: Sequence[Any], count: int) -> Sequence[Any]:
    """At most `count` of the files, evenly chosen."""
    return files[:: max(1, len(files) // count)][:count]


def copy_evenly(target: Path, files: Sequence[Path], count: int) -> Path:
    """A folder with copies of some of the files."""
    target.mkdir()
    for number, file in enumerate(evenly(files, count)):
        (target / f"{number:05}{file.suffix}").write_bytes(file.read_bytes())
    return target
