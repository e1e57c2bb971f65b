"""Augmentation: another plausible version of a picture, drawn from a random generator."""

import math

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from crossatnet.data.images import Modality
from crossatnet.data.pictures.colours import PAPER

MAX_ROTATION = 10.0  # degrees
MAX_SHIFT = 0.06  # share of the side
SCALE_RANGE = (0.85, 1.1)
WOBBLE_CELLS = 4  # the sheet is bent on a grid of this many cells a side
WOBBLE = 0.02  # standard deviation of a grid point's displacement, as a share of the side
COLOUR_RANGE = (0.6, 1.4)
WIPED_SHARE = 0.4  # of the sketches
MAX_WIPES = 4
INK_KEPT = 0.7  # share of a sketch's ink, at least, that wiping leaves
WIPE_STEP = 0.04  # a wipe follows its stroke in steps of this share of the side
MAX_WIPE_STEPS = 8
WALKED_POINTS = 1000  # of the inked pixels, about so many are kept as points to step on: all would take long
ERASER_RANGE = (0.03, 0.06)  # its diameter, as a share of the side
EDGE_SHARE = 0.2  # of the photos
EDGE_BLEND_RANGE = (0.3, 0.8)  # weight of the edges over the photo
EDGE_BLUR = 0.006  # radius of the smoothing before edges are sought, as a share of the side
BLACK_PERCENTILE = 94  # the steepest 6% are drawn black,
FAINT_EDGE = 200.0  # but nothing less steep than this, in squared grey levels: no drawing of a plain photo's noise


def augment(image: Image.Image, modality: Modality, random: Generator, mirror: bool = True) -> Image.Image:
    """One augmented version of an RGB picture, of the same size.

    Both modalities: mirrored half the time unless `mirror` is off, turned, moved and scaled a little. Sketches:
    stretches of some strokes are wiped away, the sheet is bent so that lines wobble, and strokes get thinner or
    thicker. Photos: brightness, contrast and saturation vary, one in five turns grey, and one in five becomes a drawing
    of its edges, pure or over the photo.

    Example:
        >>> import numpy as np
        >>> from crossatnet.data.transforms import augment
        >>> augment(sketch, "sketch", np.random.default_rng(0)).size
        (100, 80)
    """
    if modality == "photo":  # before it is turned, for the border of the paper that shows then is no edge
        image = _recolour(image, random)
    if random.random() < 0.5 and mirror:
        image = ImageOps.mirror(image)
    image = _affine(image, random)
    if modality == "photo":
        return image
    if random.random() < WIPED_SHARE:
        image = _wipe_strokes(image, random)
    return _stroke_width(_wobble(image, random), random)


def _recolour(image: Image.Image, random: Generator) -> Image.Image:
    for enhancer in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhancer(image).enhance(float(random.uniform(*COLOUR_RANGE)))
    if random.random() < 0.2:
        image = ImageOps.grayscale(image).convert("RGB")
    if random.random() < EDGE_SHARE:
        drawing = _edges(image)
        image = drawing if random.random() < 0.5 else Image.blend(image, drawing, random.uniform(*EDGE_BLEND_RANGE))
    return image


def _edges(image: Image.Image) -> Image.Image:
    """Dark lines on white where the grey of the smoothed photo changes steeply."""
    smooth = image.convert("L").filter(ImageFilter.GaussianBlur(EDGE_BLUR * max(image.size)))
    grey = np.pad(np.asarray(smooth, dtype=np.float32), 1, mode="edge")  # (H + 2, W + 2)
    across, down = grey[1:-1, 2:] - grey[1:-1, :-2], grey[2:, 1:-1] - grey[:-2, 1:-1]  # (H, W)
    steepness = across**2 + down**2
    black = max(float(np.percentile(steepness, BLACK_PERCENTILE)), FAINT_EDGE)
    return Image.fromarray((255 * (1 - np.minimum(steepness / black, 1))).astype(np.uint8)).convert("RGB")


def _affine(image: Image.Image, random: Generator) -> Image.Image:
    angle = math.radians(random.uniform(-MAX_ROTATION, MAX_ROTATION))
    scale = random.uniform(*SCALE_RANGE)
    centre = np.array(image.size) / 2
    shift = random.uniform(-MAX_SHIFT, MAX_SHIFT, 2) * np.array(image.size)
    inverse = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]) / scale
    offset = centre - inverse @ (centre + shift)  # output pixel -> input pixel
    matrix = (inverse[0, 0], inverse[0, 1], offset[0], inverse[1, 0], inverse[1, 1], offset[1])
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=PAPER)


def _wobble(image: Image.Image, random: Generator) -> Image.Image:
    width, height = image.size
    grid = np.stack(
        np.meshgrid(np.linspace(0, width, WOBBLE_CELLS + 1), np.linspace(0, height, WOBBLE_CELLS + 1)), axis=-1
    )  # (WOBBLE_CELLS + 1, WOBBLE_CELLS + 1, 2)
    bent = grid + random.normal(0, WOBBLE * max(width, height), grid.shape)
    mesh = []
    for row in range(WOBBLE_CELLS):
        for column in range(WOBBLE_CELLS):
            box = (*grid[row, column].astype(int), *grid[row + 1, column + 1].astype(int))
            if box[0] == box[2] or box[1] == box[3]:  # a picture of few pixels has fewer than WOBBLE_CELLS cells
                continue
            corners = (bent[row, column], bent[row + 1, column], bent[row + 1, column + 1], bent[row, column + 1])
            mesh.append((box, tuple(float(value) for corner in corners for value in corner)))
    return image.transform(image.size, Image.Transform.MESH, mesh, Image.Resampling.BILINEAR, fillcolor=PAPER)


def _wipe_strokes(image: Image.Image, random: Generator) -> Image.Image:
    """Wipe up to `MAX_WIPES` stretches of strokes, as an eraser does; `INK_KEPT` of the ink or more is left.

    Ink is what is darker than white. A picture that is mostly dark is no drawing on white, and stays as it is.
    """
    ink = 255.0 - np.asarray(image.convert("L"))  # (H, W)
    inked = np.argwhere(ink > max(ink.max() / 2, 1))[:, ::-1]  # (P, 2): x and y
    if not 0 < len(inked) < ink.size / 2:
        return image
    inked = inked[:: 1 + len(inked) // WALKED_POINTS]
    side = max(image.size)
    wiped = Image.new("L", image.size)
    for _ in range(random.integers(1, MAX_WIPES, endpoint=True)):
        more = wiped.copy()
        pencil, radius = ImageDraw.Draw(more), side * random.uniform(*ERASER_RANGE) / 2
        walk = _walk(inked, side * WIPE_STEP, random)
        pencil.line(walk, 255, max(1, round(2 * radius)))
        for x, y in walk:  # round ends and corners
            pencil.ellipse((x - radius, y - radius, x + radius, y + radius), 255)
        if ink[np.asarray(more) > 0].sum() > (1 - INK_KEPT) * ink.sum():
            break
        wiped = more
    return Image.composite(Image.new("RGB", image.size, PAPER), image, wiped)


def _walk(inked: NDArray[np.int64], step: float, random: Generator) -> list[tuple[int, int]]:
    """Points along a stroke: from an inked point to another about a step away, as straight ahead as the ink goes."""
    here, heading = inked[random.integers(len(inked))], random.normal(size=2)
    walk = [(int(here[0]), int(here[1]))]
    for _ in range(random.integers(MAX_WIPE_STEPS, endpoint=True)):
        offsets = inked - here  # (P, 2)
        distances = np.hypot(offsets[:, 0], offsets[:, 1])
        near = np.flatnonzero(abs(distances - step) < step / 2)
        ahead = offsets[near] @ heading / distances[near]
        if not (ahead > 0).any():  # the stroke ends here
            break
        chosen = near[ahead.argmax()]
        here, heading = inked[chosen], offsets[chosen]
        walk.append((int(here[0]), int(here[1])))
    return walk


def _stroke_width(image: Image.Image, random: Generator) -> Image.Image:
    """Black strokes on white grow under a minimum filter; the maximum filter may erase them, so it is blended."""
    choice = random.random()
    if choice < 0.3:
        return _filtered(image, np.minimum)
    if choice < 0.5:
        return Image.blend(image, _filtered(image, np.maximum), 0.5)
    return image


def _filtered(image: Image.Image, extreme: np.ufunc) -> Image.Image:
    """The extreme of 3 x 3 pixels; Pillow's `MinFilter` gives the same and takes twenty times as long."""
    pixels = np.pad(np.asarray(image), ((1, 1), (1, 1), (0, 0)), mode="edge")  # (H + 2, W + 2, 3)
    rows = extreme(extreme(pixels[:-2], pixels[1:-1]), pixels[2:])  # (H, W + 2, 3)
    return Image.fromarray(extreme(extreme(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:]))
