"""Scenes composed from photos, with the boxes of the things in them, to learn where things are.

Where the thing of a photo is, is known from `training.things`. Which one it is, nobody asks here. Many scenes are a
natural photo, or a part of it. On some of them further things lie, cut out along what is like a thing or under an edge
of some kind. Others have a ground that shows nothing, and patches that have such edges but show nothing: so an edge
alone makes no thing. And some are mosaics of photos.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from crossatnet.data.catalog import open_item
from crossatnet.model.regions import Box, area
from crossatnet.training.things import Seen

SIZES = ((512, 384), (384, 512), (512, 342), (448, 448), (512, 288))  # of a scene, in pixels
NATURAL, BUSY, MOSAIC = 0.4, 0.3, 0.08  # shares of scenes: a photo, one with further things on it, many photos
CLOSE = 0.5  # of photos: only a part around the thing is shown
WHOLLY = 0.6  # so much of a thing must be in that part
GRIDS = ((2, 1), (1, 2), (2, 2), (3, 2), (2, 3), (3, 3), (4, 3))  # columns and rows of a mosaic
EMPTY_CELLS = 0.25  # of a mosaic
MOST_THINGS, MOST_ON_PHOTO, MOST_PATCHES = 8, 4, 3
THING_AREA, PATCH_AREA = (0.02, 0.6), (0.02, 0.4)  # shares of the scene
CUT_OUT = 0.6  # of things: shown as far as they are like the photo's thing
MARGIN = (0.25, 0.35)  # about a thing at most, as shares of its sides: of one cut out, of one under an edge
CROP = (0.55, 1.0)  # of a photo's sides
PATCH = (128, 128)  # pixels
TRIES = 25  # to find a free place, at smaller and smaller sizes
EDGES = ("hard", "oval", "soft oval", "round", "faded")


class Composed(NamedTuple):
    """A picture, the boxes of its things, and whether it is known that there are no others outside of these."""

    picture: Image.Image
    boxes: tuple[Box, ...]
    is_complete: bool


class Thing(NamedTuple):
    """A picture of a thing, what of it is to be shown (255), and the box of the thing in it."""

    picture: Image.Image
    mask: Image.Image
    box: Box


def compose(photos: Sequence[Seen], random: Generator) -> Composed:
    """One scene from photos; the generator decides everything.

    Example:
        >>> import numpy as np
        >>> from crossatnet.data.catalog import Item
        >>> from crossatnet.training.scenes import SIZES, compose
        >>> from crossatnet.training.things import Seen
        >>> photo.save(tmp_path / "photo.png")
        >>> likeness = np.array([[1, 0], [0, 0]], dtype=np.float32)
        >>> seen = Seen(Item(tmp_path / "photo.png", "cup", "photo"), likeness, ((0, 0, 0.5, 0.5),))
        >>> compose([seen], np.random.default_rng(0)).picture.size in SIZES
        True
    """
    size, kind = SIZES[random.integers(len(SIZES))], random.random()
    if kind < NATURAL + BUSY:
        picture, boxes = view(any_photo(photos, random), random)
        canvas = picture.resize(size, Image.Resampling.BICUBIC)
        if kind >= NATURAL:
            boxes += scattered(canvas, photos, boxes, MOST_ON_PHOTO, random)
        return Composed(canvas, boxes, is_complete=False)
    canvas = ground(photos, size, random)
    if kind < NATURAL + BUSY + MOSAIC:
        return Composed(canvas, mosaic(canvas, photos, random), is_complete=True)
    taken = patches(canvas, photos, random)
    return Composed(canvas, scattered(canvas, photos, taken, MOST_THINGS, random), is_complete=True)


def view(photo: Seen, random: Generator) -> tuple[Image.Image, tuple[Box, ...]]:
    """A photo, or a part of it that has its largest thing; and the boxes of the things in it."""
    picture, boxes = open_item(photo.item), photo.boxes
    if random.random() < CLOSE:
        left, top, right, bottom = boxes[0]
        part = (*random.uniform(0, (left, top)).tolist(), *random.uniform((right, bottom), 1).tolist())
        inside = [(box, cut_at(part, box)) for box in boxes]
        boxes = tuple(seen for box, seen in inside if seen and area(seen) * area(part) >= WHOLLY * area(box))
        picture = crop(picture, part)
    if random.random() < 0.5:
        return ImageOps.mirror(picture), tuple((1 - right, top, 1 - left, bottom) for left, top, right, bottom in boxes)
    return picture, boxes


def mosaic(canvas: Image.Image, photos: Sequence[Seen], random: Generator) -> tuple[Box, ...]:
    """Fill the canvas with photos in a grid of uneven columns and rows; some cells show nothing."""
    columns, rows = (
        np.linspace(0, 1, count + 1) + np.array([0, *random.uniform(-0.2, 0.2, count - 1) / count, 0])
        for count in GRIDS[random.integers(len(GRIDS))]
    )
    found: list[Box] = []
    for left, right in pairwise(columns):
        for top, bottom in pairwise(rows):
            cell = (float(left), float(top), float(right), float(bottom))
            picture, boxes = ground(photos, PATCH, random), tuple[Box, ...]()
            if random.random() >= EMPTY_CELLS:
                picture, boxes = view(any_photo(photos, random), random)
            paste(canvas, picture, mask(picture.size, "hard", random), cell, random)
            found += [within(cell, box) for box in boxes]
    return tuple(found)


def patches(canvas: Image.Image, photos: Sequence[Seen], random: Generator) -> tuple[Box, ...]:
    """Put patches that show nothing on the canvas; the boxes of those on which nothing may lie."""
    taken: list[Box] = []
    for _ in range(random.integers(MOST_PATCHES + 1)):
        box = free_box(PATCH_AREA, random.uniform(0.5, 2) * canvas.height / canvas.width, taken, 0.0, random)
        if box is not None:
            paste(canvas, ground(photos, PATCH, random), mask(PATCH, any_edge(random), random), box, random)
            taken += [box] * int(random.random() < 0.6)
    return tuple(taken)


def scattered(
    canvas: Image.Image, photos: Sequence[Seen], taken: Sequence[Box], most: int, random: Generator
) -> tuple[Box, ...]:
    """Put up to so many things on the canvas, at places that are not taken."""
    full, boxes, gap = [*taken], list[Box](), random.uniform(-0.02, 0.03)
    for _ in range(random.integers(1, most + 1)):
        picture, shown, inner = any_thing(photos, random)
        ratio = picture.width / picture.height * random.uniform(0.85, 1.18) * canvas.height / canvas.width
        box = free_box(THING_AREA, ratio, full, gap, random)
        if box is not None:
            paste(canvas, picture, shown, box, random)
            full.append(box)
            boxes.append(within(box, inner))
    return tuple(boxes)


def any_thing(photos: Sequence[Seen], random: Generator) -> Thing:
    """The largest thing of one of the photos, cut out by what is like it, or under an edge."""
    photo = any_photo(photos, random)
    picture, box = open_item(photo.item), photo.boxes[0]
    if random.random() < CUT_OUT:
        around = grown(box, *[random.uniform(0, MARGIN[0])] * 2)
        shown = crop(picture, around)
        likeness = Image.fromarray(photo.likeness).resize(PATCH, Image.Resampling.BICUBIC)
        edges = tuple(share * side for share, side in zip(around, PATCH * 2, strict=True))
        like = np.asarray(likeness.resize(shown.size, Image.Resampling.BILINEAR, edges))  # type: ignore[arg-type]
        least, blur = random.uniform(0.12, 0.3), random.uniform(0.03, 0.2)
        seen = Image.fromarray((255 * np.clip((like - least) / blur + 0.5, 0, 1)).astype(np.uint8))
        return Thing(shown, seen, cut_at(around, box) or (0, 0, 1, 1))
    if random.random() < 0.5:
        shown = middle(picture, random)
    else:
        shown = crop(picture, grown(box, random.uniform(0, MARGIN[1]), random.uniform(0, MARGIN[1])))
    return Thing(shown, mask(shown.size, any_edge(random), random), (0, 0, 1, 1))


def middle(picture: Image.Image, random: Generator) -> Image.Image:
    """About the middle of a photo, of many sizes and shapes."""
    share, aspect = random.uniform(*CROP), random.uniform(0.75, 1.33)
    width, height = min(1, share * aspect**0.5), min(1, share / aspect**0.5)
    left, top = ((1 - side) * (0.5 + random.uniform(-0.3, 0.3)) for side in (width, height))
    return crop(picture, (left, top, left + width, top + height))


def crop(picture: Image.Image, box: Box) -> Image.Image:
    """The part of a picture in a box, one pixel each way at least."""
    left, top, right, bottom = (round(share * side) for share, side in zip(box, picture.size * 2, strict=True))
    left, top = min(left, picture.width - 1), min(top, picture.height - 1)
    return picture.crop((left, top, max(right, left + 1), max(bottom, top + 1)))


def ground(photos: Sequence[Seen], size: tuple[int, int], random: Generator) -> Image.Image:
    """What shows no thing: the corner of a photo enlarged, a gradient, noise of some grain, or one colour."""
    kind = random.integers(5)
    if kind <= 1:
        picture = open_item(any_photo(photos, random).item)
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


def paste(canvas: Image.Image, picture: Image.Image, shown: Image.Image, box: Box, random: Generator) -> None:
    """Put what is shown of a picture, a mask of its size, into a box of the canvas, in another light."""
    left, top, right, bottom = (round(share * side) for share, side in zip(box, canvas.size * 2, strict=True))
    size = (max(4, right - left), max(4, bottom - top))
    pasted = picture.resize(size, Image.Resampling.BICUBIC)
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        if random.random() < 0.5:
            pasted = enhance(pasted).enhance(random.uniform(0.65, 1.35))
    if random.random() < 0.15:
        pasted = pasted.filter(ImageFilter.GaussianBlur(random.uniform(0.3, 1.2)))
    canvas.paste(pasted, (left, top), shown.resize(size, Image.Resampling.BILINEAR))


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


def any_photo(photos: Sequence[Seen], random: Generator) -> Seen:
    """One of the photos."""
    return photos[int(random.integers(len(photos)))]


def free_box(
    areas: tuple[float, float], ratio: float, taken: Sequence[Box], gap: float, random: Generator
) -> Box | None:
    """A box at a free place, its area in a range, even in its logarithm, or smaller; `None` if none was found.

    `ratio` is its width over its height, in shares. Boxes may overlap by a negative `gap`.
    """
    share = float(np.exp(random.uniform(*np.log(areas))))
    for _ in range(TRIES):
        width, height = min(0.98, (share * ratio) ** 0.5), min(0.98, (share / ratio) ** 0.5)
        left, top = random.uniform(0, 1 - width), random.uniform(0, 1 - height)
        box = (left, top, left + width, top + height)
        if all(are_apart(box, other, gap) for other in taken):
            return box
        share *= 0.93
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


def cut_at(outer: Box, inner: Box) -> Box | None:
    """A box in shares of the picture, in shares of another box and cut at its edges; None if it lies outside.

    Example:
        >>> from crossatnet.training.scenes import cut_at
        >>> cut_at((0.5, 0, 1, 1), (0.75, 0.5, 2, 1)), cut_at((0.5, 0, 1, 1), (0, 0, 0.5, 1))
        ((0.5, 0.5, 1.0, 1.0), None)
    """
    width, height = outer[2] - outer[0], outer[3] - outer[1]
    across = [min(max((inner[side] - outer[0]) / width, 0.0), 1.0) for side in (0, 2)]
    down = [min(max((inner[side] - outer[1]) / height, 0.0), 1.0) for side in (1, 3)]
    return (across[0], down[0], across[1], down[1]) if across[0] < across[1] and down[0] < down[1] else None


def grown(box: Box, across: float, down: float) -> Box:
    """A box with a margin on each side, as shares of its own sides, as far as the picture goes.

    Example:
        >>> from crossatnet.training.scenes import grown
        >>> grown((0.5, 0.25, 1, 0.75), 0.5, 0.5)
        (0.25, 0.0, 1, 1.0)
    """
    more, higher = across * (box[2] - box[0]), down * (box[3] - box[1])
    return max(box[0] - more, 0), max(box[1] - higher, 0), min(box[2] + more, 1), min(box[3] + higher, 1)
