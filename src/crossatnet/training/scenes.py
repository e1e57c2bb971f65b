"""Scenes composed from photos, with the boxes of the things in them, to learn where things are.

A thing is the middle of a photo of a seen class, as such photos show one thing in their middle. Which one it is, nobody
asks here. Things lie on all kinds of grounds, under all kinds of edges, and among patches that have such edges but show
nothing: so an edge alone makes no thing. Some scenes are mosaics of photos, and many are one photo as it is, whose
only thing is the one in its middle.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from crossatnet.data.catalog import Item, open_item
from crossatnet.model.regions import Box

SIZES = ((512, 384), (384, 512), (512, 342), (448, 448), (512, 288))  # of a scene, in pixels
PLAIN, MOSAIC = 0.3, 0.12  # shares of scenes
MIDDLE: Box = (0.1, 0.1, 0.9, 0.9)  # where the thing of a photo is, about
GRIDS = ((2, 1), (1, 2), (2, 2), (3, 2), (2, 3), (3, 3), (4, 3))  # columns and rows of a mosaic
EMPTY_CELLS = 0.25  # of a mosaic
MOST_THINGS, MOST_PATCHES = 8, 3
THING_AREA, PATCH_AREA = (0.02, 0.6), (0.02, 0.4)  # shares of the scene
CROP = (0.55, 1.0)  # of a photo's sides
TRIES = 25  # to find a free place, at smaller and smaller sizes
EDGES = ("hard", "oval", "soft oval", "round", "faded")


class Composed(NamedTuple):
    """A picture and the boxes of its things."""

    picture: Image.Image
    boxes: tuple[Box, ...]


def compose(photos: Sequence[Item], random: Generator) -> Composed:
    """One scene from photos; the generator decides everything.

    Example:
        >>> import numpy as np
        >>> from crossatnet.data.catalog import Item
        >>> from crossatnet.training.scenes import SIZES, compose
        >>> photo.save(tmp_path / "photo.png")
        >>> item = Item(tmp_path / "photo.png", "cup", "photo")
        >>> compose([item], np.random.default_rng(0)).picture.size in SIZES
        True
    """
    size, kind = SIZES[random.integers(len(SIZES))], random.random()
    if kind < PLAIN:
        whole = random.random() < 0.5
        picture = any_photo(photos, random)
        return Composed(
            (picture if whole else middle(picture, random)).resize(size, Image.Resampling.BICUBIC), (MIDDLE,)
        )
    canvas = ground(photos, size, random)
    if kind < PLAIN + MOSAIC:
        return Composed(canvas, mosaic(canvas, photos, random))
    return Composed(canvas, scattered(canvas, photos, random))


def mosaic(canvas: Image.Image, photos: Sequence[Item], random: Generator) -> tuple[Box, ...]:
    """Fill the canvas with photos in a grid of uneven columns and rows; some cells show nothing."""
    columns, rows = (
        np.linspace(0, 1, count + 1) + np.array([0, *random.uniform(-0.2, 0.2, count - 1) / count, 0])
        for count in GRIDS[random.integers(len(GRIDS))]
    )
    boxes: list[Box] = []
    for left, right in pairwise(columns):
        for top, bottom in pairwise(rows):
            cell = (float(left), float(top), float(right), float(bottom))
            if random.random() < EMPTY_CELLS:
                paste(canvas, ground(photos, (64, 64), random), cell, "hard", random)
                continue
            paste(canvas, middle(any_photo(photos, random), random), cell, "hard", random)
            boxes.append(within(cell, MIDDLE))
    return tuple(boxes)


def scattered(canvas: Image.Image, photos: Sequence[Item], random: Generator) -> tuple[Box, ...]:
    """Put patches that show nothing on the canvas, then things, at free places."""
    shape = canvas.height / canvas.width
    taken: list[Box] = []
    for _ in range(random.integers(MOST_PATCHES + 1)):
        box = free_box(PATCH_AREA, random.uniform(0.5, 2) * shape, taken, 0.0, random)
        if box is not None:
            paste(canvas, ground(photos, (64, 64), random), box, any_edge(random), random)
            taken += [box] * int(random.random() < 0.6)  # on the others things may lie
    boxes, gap = [], random.uniform(-0.02, 0.03)
    for _ in range(random.integers(1, MOST_THINGS + 1)):
        thing = middle(any_photo(photos, random), random)
        box = free_box(THING_AREA, thing.width / thing.height * random.uniform(0.85, 1.18) * shape, taken, gap, random)
        if box is not None:
            paste(canvas, thing, box, any_edge(random), random)
            taken.append(box)
            boxes.append(box)
    return tuple(boxes)


def middle(picture: Image.Image, random: Generator) -> Image.Image:
    """About the middle of a photo, of many sizes and shapes."""
    share, aspect = random.uniform(*CROP), random.uniform(0.75, 1.33)
    width, height = min(1, share * aspect**0.5), min(1, share / aspect**0.5)
    left, top = ((1 - side) * (0.5 + random.uniform(-0.3, 0.3)) for side in (width, height))
    edges = (left, top, left + width, top + height)
    corners = [round(edge * side) for edge, side in zip(edges, picture.size * 2, strict=True)]
    return picture.crop((corners[0], corners[1], max(corners[2], corners[0] + 1), max(corners[3], corners[1] + 1)))


def ground(photos: Sequence[Item], size: tuple[int, int], random: Generator) -> Image.Image:
    """What shows no thing: the corner of a photo enlarged, a gradient, noise of some grain, or one colour."""
    kind = random.integers(5)
    if kind <= 1:
        picture = any_photo(photos, random)
        share = random.uniform(0.12, 0.3)  # of each side: the thing itself is in the middle
        left, top = (float(random.integers(2) * (1 - share)) for _ in range(2))
        width, height = picture.size
        corner = (left * width, top * height, (left + share) * width, (top + share) * height)
        return picture.resize(size, Image.Resampling.BICUBIC, box=corner)
    if kind == 2:
        colours = random.integers(0, 256, (2, 2, 3), dtype=np.uint8)
        return Image.fromarray(colours).resize(size, Image.Resampling.BILINEAR)
    if kind == 3:
        grain = int(random.integers(4, 40))
        noise = random.integers(-60, 60, (max(2, size[1] // grain), max(2, size[0] // grain), 3))
        colours = np.clip(random.integers(0, 256, 3) + noise, 0, 255).astype(np.uint8)
        return Image.fromarray(colours).resize(size, Image.Resampling.BICUBIC)
    return Image.new("RGB", size, tuple(int(value) for value in random.integers(0, 256, 3)))


def paste(canvas: Image.Image, picture: Image.Image, box: Box, edge: str, random: Generator) -> None:
    """Put a picture into a box of the canvas, in another light, under an edge."""
    left, top, right, bottom = (round(share * side) for share, side in zip(box, canvas.size * 2, strict=True))
    shown = picture.resize((max(4, right - left), max(4, bottom - top)), Image.Resampling.BICUBIC)
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        if random.random() < 0.5:
            shown = enhance(shown).enhance(random.uniform(0.65, 1.35))
    if random.random() < 0.15:
        shown = shown.filter(ImageFilter.GaussianBlur(random.uniform(0.3, 1.2)))
    canvas.paste(shown, (left, top), mask(shown.size, edge, random))


def mask(size: tuple[int, int], edge: str, random: Generator) -> Image.Image:
    """What shows of a picture of this size under an edge, one of `EDGES`: 255 inside."""
    if edge == "hard":
        return Image.new("L", size, 255)
    inside, (width, height) = Image.new("L", size), size
    pen = ImageDraw.Draw(inside)
    if edge.endswith("oval"):
        pen.ellipse((0, 0, *size), 255)
    elif edge == "round":
        pen.rounded_rectangle((0, 0, width - 1, height - 1), int(min(size) * random.uniform(0.1, 0.4)), 255)
    else:
        pen.rectangle((0.08 * width, 0.08 * height, 0.92 * width, 0.92 * height), 255)
    if edge == "oval":
        return inside
    return inside.filter(ImageFilter.GaussianBlur(min(size) * random.uniform(0.01, 0.08)))


def any_edge(random: Generator) -> str:
    """One of `EDGES`."""
    return EDGES[random.integers(len(EDGES))]


def any_photo(photos: Sequence[Item], random: Generator) -> Image.Image:
    """One of the photos, opened."""
    return open_item(photos[int(random.integers(len(photos)))])


def free_box(
    areas: tuple[float, float], ratio: float, taken: Sequence[Box], gap: float, random: Generator
) -> Box | None:
    """A box at a free place, its area in a range, even in its logarithm, or smaller; `None` if none was found.

    `ratio` is its width over its height, in shares. Boxes may overlap by a negative `gap`.
    """
    area = float(np.exp(random.uniform(*np.log(areas))))
    for _ in range(TRIES):
        width, height = min(0.98, (area * ratio) ** 0.5), min(0.98, (area / ratio) ** 0.5)
        left, top = random.uniform(0, 1 - width), random.uniform(0, 1 - height)
        box = (left, top, left + width, top + height)
        if all(are_apart(box, other, gap) for other in taken):
            return box
        area *= 0.93
    return None


def are_apart(one: Box, other: Box, gap: float) -> bool:
    """Whether two boxes have a gap between them."""
    beside = one[2] + gap <= other[0] or other[2] + gap <= one[0]
    return beside or one[3] + gap <= other[1] or other[3] + gap <= one[1]


def within(outer: Box, inner: Box) -> Box:
    """A box in shares of another box, in shares of the picture.

    Example:
        >>> from crossatnet.training.scenes import within
        >>> within((0.5, 0, 1, 1), (0.5, 0.5, 1, 1))
        (0.75, 0.5, 1.0, 1)
    """
    width, height = outer[2] - outer[0], outer[3] - outer[1]
    left, top, right, bottom = inner
    return outer[0] + left * width, outer[1] + top * height, outer[0] + right * width, outer[1] + bottom * height
