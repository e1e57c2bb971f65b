"""Scenes composed from photos: things cut out of their photos, several on one canvas, each with a known box.

A thing is the central crop of a photo, as the benchmark's photos show one thing in their middle. It is pasted with a
hard edge, or under a soft oval. What lies behind is a texture from the corner of another photo, a gradient, noise or
plain paint. A scene depends on its number alone.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFilter

from crossatnet.data.catalog import Item, open_item
from crossatnet.training.scenes import are_apart

BINS = ((0.04, 0.08), (0.08, 0.15), (0.15, 0.30), (0.30, 0.60))  # of the first thing, as shares of the canvas
LARGEST_FURTHER = 0.30  # the same, of a further thing
MOST_THINGS = 6
CANVASES = ((640, 480), (480, 640), (640, 427), (560, 560))  # pixels
CROP_RANGE = (0.7, 0.9)  # of each side of the photo that a thing is cut from
ASPECT_RANGE = (0.75, 1.33)
SOFT_SHARE = 0.5  # of the things, pasted under a soft oval
TRIES = 40  # to find a free place for a thing, which gets smaller at each
GAP = 0.02  # of the canvas, between things


class Thing(NamedTuple):
    """A thing in a scene: its class, and its box (left, top, right, bottom) in shares of the canvas."""

    class_name: str
    box: tuple[float, float, float, float]

    @property
    def area(self) -> float:
        """Its share of the canvas."""
        left, top, right, bottom = self.box
        return (right - left) * (bottom - top)


class Scene(NamedTuple):
    """A composed picture and what is in it, the wanted thing first."""

    picture: Image.Image
    things: tuple[Thing, ...]


def scenes(photos: Sequence[Item], per_bin: int, seed: int = 0) -> list[Scene]:
    """So many scenes for each class of the photos and each bin of sizes of its thing; further things are of others."""
    classes = sorted({photo.class_name for photo in photos})
    by_class = {name: [photo for photo in photos if photo.class_name == name] for name in classes}
    wanted = [(name, size) for name in classes for size in BINS for _ in range(per_bin)]
    return [
        compose(*each, number, by_class, np.random.default_rng((seed, number))) for number, each in enumerate(wanted)
    ]


def compose(
    wanted: str, size: tuple[float, float], number: int, photos: dict[str, list[Item]], random: Generator
) -> Scene:
    """One scene with a thing of a class, of a size in a range of shares of the canvas, among others."""
    canvas = background(photos, CANVASES[random.integers(len(CANVASES))], random)
    names = [name for name in photos if name != wanted]
    count = 1 + number % MOST_THINGS
    chosen = [wanted, *(str(name) for name in random.choice(names, count - 1, replace=False))]
    things: list[Thing] = []
    for place, name in enumerate(chosen):
        low, high = size if place == 0 else (BINS[0][0], LARGEST_FURTHER)
        box = free_box(low, high, canvas.size, [thing.box for thing in things], random)
        if box is None:
            continue
        paste(canvas, photos[name][random.integers(len(photos[name]))], box, random)
        things.append(Thing(name, box))
    return Scene(canvas, tuple(things))


def free_box(
    low: float,
    high: float,
    canvas: tuple[int, int],
    taken: list[tuple[float, float, float, float]],
    random: Generator,
) -> tuple[float, float, float, float] | None:
    """A free box with a share of the canvas between `low` and `high`, even in its logarithm; `None` if none is free."""
    area = float(np.exp(random.uniform(np.log(low), np.log(high))))
    for _ in range(TRIES):
        aspect = random.uniform(*ASPECT_RANGE) * canvas[1] / canvas[0]  # in shares, not in pixels
        width, height = min((area * aspect) ** 0.5, 1.0), min((area / aspect) ** 0.5, 1.0)
        left, top = random.uniform(0, 1 - width), random.uniform(0, 1 - height)
        box = (left, top, left + width, top + height)
        if all(are_apart(box, other, GAP) for other in taken):
            return box
        area = max(low, area * 0.95)
    return None


def paste(canvas: Image.Image, photo: Item, box: tuple[float, float, float, float], random: Generator) -> None:
    """Put the central crop of a photo into a box of the canvas."""
    picture = open_item(photo)
    left, top, right, bottom = (round(share * side) for share, side in zip(box, canvas.size * 2, strict=True))
    side = random.uniform(*CROP_RANGE) * min(picture.size)
    aspect = (right - left) / (bottom - top)
    crop_width, crop_height = side * min(1, aspect), side * min(1, 1 / aspect)
    middle = picture.width / 2, picture.height / 2
    crop = (
        *(middle[0] - crop_width / 2, middle[1] - crop_height / 2),
        *(middle[0] + crop_width / 2, middle[1] + crop_height / 2),
    )
    thing = picture.resize((right - left, bottom - top), Image.Resampling.BICUBIC, box=crop)
    mask = Image.new("L", thing.size, 255)
    if random.random() < SOFT_SHARE:
        mask = Image.new("L", thing.size)
        ImageDraw.Draw(mask).ellipse((0, 0, *thing.size), 255)
        mask = mask.filter(ImageFilter.GaussianBlur(min(thing.size) * 0.05))
    canvas.paste(thing, (left, top), mask)


def background(photos: dict[str, list[Item]], size: tuple[int, int], random: Generator) -> Image.Image:
    """A canvas: the corner of a photo enlarged, a gradient, soft noise, or one colour."""
    kind = random.integers(4)
    if kind == 0:
        name = sorted(photos)[random.integers(len(photos))]
        picture = open_item(photos[name][random.integers(len(photos[name]))])
        share = random.uniform(0.15, 0.3)  # of each side: the thing itself is in the middle
        right, low = random.integers(2, size=2)
        left, top = right * (1 - share) * picture.width, low * (1 - share) * picture.height
        corner = (left, top, left + share * picture.width, top + share * picture.height)
        return picture.resize(size, Image.Resampling.BICUBIC, box=corner)
    if kind == 1:
        colours = random.integers(0, 256, (2, 2, 3), dtype=np.uint8)
        return Image.fromarray(colours).resize(size, Image.Resampling.BILINEAR)
    if kind == 2:
        grain = random.integers(60, 200, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
        return Image.fromarray(grain).resize(size, Image.Resampling.BICUBIC)
    return Image.new("RGB", size, tuple(int(value) for value in random.integers(0, 256, 3)))
