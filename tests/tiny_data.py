"""A data set small enough to train on in a test: outlines and coloured fillings of eight polygons."""

import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SEEN = ("triangle", "square", "star", "bar", "plus", "arrow")
UNSEEN = ("circle", "hourglass")
SIDE = 48


def _regular(corners: int) -> list[tuple[float, float]]:
    angles = [2 * math.pi * corner / corners for corner in range(corners)]
    return [(math.sin(angle), -math.cos(angle)) for angle in angles]


OUTLINES = {
    "triangle": _regular(3),
    "square": [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)],
    "star": [
        (x * (0.4 if index % 2 else 1), y * (0.4 if index % 2 else 1)) for index, (x, y) in enumerate(_regular(10))
    ],
    "bar": [(-1, -0.2), (1, -0.2), (1, 0.2), (-1, 0.2)],
    "plus": [
        *[(-0.3, -1), (0.3, -1), (0.3, -0.3), (1, -0.3), (1, 0.3), (0.3, 0.3)],
        *[(0.3, 1), (-0.3, 1), (-0.3, 0.3), (-1, 0.3), (-1, -0.3), (-0.3, -0.3)],
    ],
    "arrow": [(-1, -0.3), (0, -0.3), (0, -0.9), (1, 0), (0, 0.9), (0, 0.3), (-1, 0.3)],
    "circle": _regular(40),
    "hourglass": [(-0.8, -1), (0.8, -1), (-0.8, 1), (0.8, 1)],
}


def draw(name: str, modality: str, random: np.random.Generator) -> Image.Image:
    """One picture of a class, moved, scaled and, as a photo, coloured at random."""
    scale, shift = SIDE * random.uniform(0.28, 0.4), SIDE / 2 + random.uniform(-4, 4, 2)
    corners = [(float(shift[0] + scale * x), float(shift[1] + scale * y)) for x, y in OUTLINES[name]]
    if modality == "sketch":
        image = Image.new("RGB", (SIDE, SIDE), "white")
        ImageDraw.Draw(image).line([*corners, corners[0]], fill="black", width=2)
    else:
        pale, strong = (tuple(random.integers(*bounds, 3).tolist()) for bounds in ((180, 256), (0, 140)))
        image = Image.new("RGB", (SIDE, SIDE), pale)
        ImageDraw.Draw(image).polygon(corners, fill=strong)
    return image


def write_tiny(root: Path, pictures: int = 4, corrupt_unseen: bool = False) -> str:
    """Write `pictures` sketches and photos a class in the layout `folder`; returns the split's prefix, for a config.

    With `corrupt_unseen` the files of unseen classes are no pictures at all: nobody can read them unnoticed.
    """
    random = np.random.default_rng(7)
    for modality, folder in (("sketch", "sketches"), ("photo", "photos")):
        for name in SEEN + UNSEEN:
            (root / folder / name).mkdir(parents=True)
            for number in range(pictures):
                path = root / folder / name / f"{number}.png"
                if corrupt_unseen and name in UNSEEN:
                    path.write_bytes(f"no picture: {name} {number}".encode())
                else:
                    draw(name, modality, random).save(path)
    (root / "tiny.seen.txt").write_text("\n".join(SEEN) + "\n")
    (root / "tiny.unseen.txt").write_text("\n".join(UNSEEN) + "\n")
    return str(root / "tiny")
