"""How photos come: cut close, with the thing small in the picture, blurred, and of few pixels."""

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageFilter

CLOSE_SHARE, SMALL_SHARE = 0.4, 0.2  # of the photos
CLOSE_RANGE = (0.6, 0.95)  # what is left of each side
SMALL_RANGE = (1.1, 1.7)  # how much wider and higher the scene is than the photo
BLURRED_SHARE, COARSE_SHARE = 0.1, 0.3
BLUR_RANGE = (0.003, 0.01)  # radius, as a share of the longer side
COARSE_RANGE = (56, 120)  # pixels of each side


def snapshot(image: Image.Image, random: Generator) -> Image.Image:
    """Another photo of what an RGB photo shows, of the same size."""
    size, choice = image.size, random.random()
    if choice < CLOSE_SHARE:
        image = _close(image, random)
    elif choice < CLOSE_SHARE + SMALL_SHARE:
        image = _small(image, random)
    if random.random() < BLURRED_SHARE:
        image = image.filter(ImageFilter.GaussianBlur(max(image.size) * random.uniform(*BLUR_RANGE)))
    if random.random() < COARSE_SHARE:
        side = int(random.integers(*COARSE_RANGE))
        image = image.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return image.resize(size, Image.Resampling.BILINEAR)


def _close(image: Image.Image, random: Generator) -> Image.Image:
    share = random.uniform(*CLOSE_RANGE)
    left, top = random.uniform(0, 1 - share, 2)
    box = (left * image.width, top * image.height, (left + share) * image.width, (top + share) * image.height)
    return image.resize(image.size, Image.Resampling.BILINEAR, box=box)


def _small(image: Image.Image, random: Generator) -> Image.Image:
    """The photo in a larger picture of its mean colour."""
    scale = random.uniform(*SMALL_RANGE)
    colour = tuple(int(value) for value in np.asarray(image.resize((1, 1), Image.Resampling.BOX))[0, 0])
    scene = Image.new("RGB", (round(image.width * scale), round(image.height * scale)), colour)
    left, top = random.uniform(0, 1, 2) * (scene.width - image.width, scene.height - image.height)
    scene.paste(image, (int(left), int(top)))
    return scene
