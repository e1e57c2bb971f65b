"""Augmentation: another plausible version of a picture, drawn from a random generator."""

import math

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from crossatnet.data.images import PAPER, Modality

MAX_ROTATION = 10.0  # degrees
MAX_SHIFT = 0.06  # share of the side
SCALE_RANGE = (0.85, 1.1)
WOBBLE_CELLS = 4  # the sheet is bent on a grid of this many cells a side
WOBBLE = 0.02  # standard deviation of a grid point's displacement, as a share of the side
COLOUR_RANGE = (0.6, 1.4)


def augment(image: Image.Image, modality: Modality, random: Generator) -> Image.Image:
    """One augmented version of an RGB picture, of the same size.

    Both modalities: mirrored half the time, turned, moved and scaled a little. Sketches: the sheet is bent so that
    lines wobble, and strokes get thinner or thicker. Photos: brightness, contrast and saturation vary, and one in
    five turns grey.
    """
    if random.random() < 0.5:
        image = ImageOps.mirror(image)
    image = _affine(image, random)
    if modality == "sketch":
        return _stroke_width(_wobble(image, random), random)
    for enhancer in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhancer(image).enhance(float(random.uniform(*COLOUR_RANGE)))
    return ImageOps.grayscale(image).convert("RGB") if random.random() < 0.2 else image


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


def _stroke_width(image: Image.Image, random: Generator) -> Image.Image:
    """Black strokes on white grow under a minimum filter; the maximum filter may erase them, so it is blended."""
    choice = random.random()
    if choice < 0.3:
        return image.filter(ImageFilter.MinFilter(3))
    if choice < 0.5:
        return Image.blend(image, image.filter(ImageFilter.MaxFilter(3)), 0.5)
    return image
