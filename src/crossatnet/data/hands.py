"""Drawing again, as another hand would: strokes found in a sketch, and drawn with other habits.

Hands differ in how wide their lines are, how smooth, how far apart their points, how they tremble, where they leave
gaps and stop early, what they leave out and how well they place one stroke beside the other.

Shapes: `H W` a picture, `P` the points of one stroke, each (x, y) with y growing downwards, in pixels.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from crossatnet.data.images import Modality
from crossatnet.data.pictures.colours import PAPER
from crossatnet.data.snapshots import snapshot
from crossatnet.data.tracing import resampled, thin, trace
from crossatnet.data.transforms import augment

Stroke = NDArray[np.float32]

SIDE = 224  # pixels that strokes are sought and drawn in
SUPERSAMPLING = 2
FAINT_INK = 0.3  # as a share of the darkest: fainter is paper, or the edge of a line
WIDTH_RANGE = (0.004, 0.025)  # of the pen, as a share of the side, even on a logarithmic scale
STEP_RANGE = (0.01, 0.12)  # between the points of a stroke, as a share of the side, likewise
STRAIGHT_SHARE = 0.4  # of the drawings: points joined by straight lines, the others by smooth ones
TREMOR = 0.006  # standard deviation of a point's displacement, as a share of the side, at most
MISPLACED = 0.02  # standard deviation of a stroke's displacement, likewise
RESIZED = 0.08  # and of the logarithm of its size
STRETCHED = 0.15  # of the logarithm of the drawing's height over its width
BENT = 0.03  # amplitude of the waves that bend the whole drawing, as a share of the side
DROPPED_SHARE, STOPPED_SHARE, GAP_SHARE = 0.08, 0.15, 0.1  # of the strokes, at most
SHORTEST = 0.02  # strokes shorter than this share of the side are kept one time in two
TEXTURED_SHARE = 0.2  # of the drawings: crayon or pencil


def vary(
    image: Image.Image, modality: Modality, random: Generator, hands: float = 0.0, mirror: bool = True
) -> Image.Image:
    """A version of an RGB picture to train on: `augment`, and before it, for a share `hands`, more.

    These sketches are drawn again by another hand, and these photos taken another way.
    """
    if hands and random.random() < hands:
        image = redraw(image, random) if modality == "sketch" else snapshot(image, random)
    return augment(image, modality, random, mirror)


def redraw(image: Image.Image, random: Generator) -> Image.Image:
    """A dark-on-white sketch drawn again by another hand: RGB, `SIDE` pixels square; a blank one stays as it is."""
    strokes = strokes_of(image)
    return draw(strokes, random) if strokes else image


def strokes_of(image: Image.Image) -> list[Stroke]:
    """The strokes of a dark-on-white sketch, in pixels of a square of `SIDE` that its longer side fills."""
    grey = np.asarray(_squared(image.convert("L"), 255), dtype=np.float32)
    darkest = float(grey.min())
    if darkest > 200:
        return []
    return trace(thin(grey < 255 - FAINT_INK * (255 - darkest)))


def draw(strokes: Sequence[Stroke], random: Generator) -> Image.Image:
    """Strokes drawn by some hand, in black on white."""
    step = SIDE * math.exp(random.uniform(*np.log(STEP_RANGE)))
    skill = random.random()  # 0: a sure hand that misplaces nothing
    straight = random.random() < STRAIGHT_SHARE
    drawn = []
    for stroke in _kept(strokes, random):
        even = resampled(stroke, step, random)
        coarse = even + random.normal(0, TREMOR * SIDE * skill, even.shape)
        middle = coarse.mean(0)
        size = math.exp(random.normal(0, RESIZED * skill))
        coarse = (coarse - middle) * size + middle + random.normal(0, MISPLACED * SIDE * skill, 2)
        drawn.append(coarse if straight else smooth(coarse))
    bent = [bend(stroke, waves) for waves in [_waves(random, skill)] for stroke in drawn]
    width = SIDE * math.exp(random.uniform(*np.log(WIDTH_RANGE)))
    picture = pen(_on_paper(bent, width), width)
    return textured(picture, random) if random.random() < TEXTURED_SHARE else picture


def smooth(stroke: NDArray[np.float64]) -> NDArray[np.float64]:
    """A stroke (P, 2) with its corners cut twice, its ends kept (Chaikin, 1974)."""
    for _ in range(2):
        if len(stroke) < 3:
            return stroke
        first, second = stroke[:-1], stroke[1:]
        cut = np.stack([0.75 * first + 0.25 * second, 0.25 * first + 0.75 * second], axis=1).reshape(-1, 2)
        stroke = np.concatenate([stroke[:1], cut[1:-1], stroke[-1:]])
    return stroke


def bend(stroke: NDArray[np.float64], waves: NDArray[np.float64]) -> NDArray[np.float64]:
    """A stroke (P, 2) where long waves and an uneven scale move each place of the paper."""
    stretch, amplitude, phase = waves[0], waves[1], waves[2]  # each (2,)
    moved: NDArray[np.float64] = stroke * np.exp(stretch)
    moved += amplitude * np.sin(stroke[:, ::-1] / SIDE * 2 * math.pi + phase)
    return moved


def pen(strokes: Sequence[NDArray[np.float64]], width: float) -> Image.Image:
    """Strokes in black on white, with a pen of this width in pixels and round ends."""
    paper = Image.new("L", (SIDE * SUPERSAMPLING,) * 2, PAPER[0])
    pencil, thickness = ImageDraw.Draw(paper), width * SUPERSAMPLING
    for stroke in strokes:
        points = [(float(x), float(y)) for x, y in stroke * SUPERSAMPLING]
        pencil.line(points, 0, max(1, round(thickness)), joint="curve" if thickness > 3 else None)
        for x, y in (points[0], points[-1]) if thickness > 3 else ():
            pencil.ellipse((x - thickness / 2, y - thickness / 2, x + thickness / 2, y + thickness / 2), 0)
    return paper.reduce(SUPERSAMPLING).convert("RGB")


def textured(picture: Image.Image, random: Generator) -> Image.Image:
    """Grey and grainy lines, as of crayon or pencil."""
    grey = 255 - np.asarray(picture.convert("L"), dtype=np.float32)
    coarse = random.random((SIDE // 2, SIDE // 2), dtype=np.float32).repeat(2, 0).repeat(2, 1)
    grain = np.clip(1.6 * coarse + random.uniform(-0.3, 0.5), 0, 1) * random.uniform(0.5, 1)
    return Image.fromarray((255 - grey * grain).astype(np.uint8)).convert("RGB")


def _kept(strokes: Sequence[Stroke], random: Generator) -> list[Stroke]:
    """The strokes without those that are left out, broken off and interrupted; at least the longest."""
    dropped, stopped, broken = (random.random() * most for most in (DROPPED_SHARE, STOPPED_SHARE, GAP_SHARE))
    kept: list[Stroke] = []
    for stroke in strokes:
        length = _length(stroke)
        if random.random() < (0.5 if length < SHORTEST * SIDE else dropped * SIDE / (SIDE + 4 * length)):
            continue
        if len(stroke) > 8 and random.random() < stopped:
            stroke = stroke[: int(len(stroke) * random.uniform(0.6, 0.95))]
        if len(stroke) > 16 and random.random() < broken:
            start = int(random.integers(4, len(stroke) - 8))
            kept.append(stroke[:start])
            stroke = stroke[start + int(random.integers(2, 8)) :]
        kept.append(stroke)
    drawable = [stroke for stroke in kept if len(stroke) > 1]
    return drawable or [max(strokes, key=len).repeat(2, axis=0)]


def _waves(random: Generator, skill: float) -> NDArray[np.float64]:
    """How the paper is bent: logarithms of scale, amplitudes and phases, one each for x and y: (3, 2)."""
    stretch = random.normal(0, STRETCHED * skill) / 2
    return np.array([(stretch, -stretch), random.normal(0, BENT * SIDE * skill, 2), random.uniform(0, 2 * math.pi, 2)])


def _on_paper(strokes: Sequence[NDArray[np.float64]], width: float) -> list[NDArray[np.float64]]:
    """Strokes moved, and made smaller if they must be, to lie on the paper."""
    points = np.concatenate(strokes)
    low, high = points.min(0), points.max(0)
    scale = min(1.0, (SIDE - 2 * width - 4) / max(float((high - low).max()), 1.0))
    return [(stroke - (low + high) / 2) * scale + SIDE / 2 for stroke in strokes]


def _length(stroke: Stroke) -> float:
    offsets = stroke[1:] - stroke[:-1]
    return float(np.hypot(offsets[:, 0], offsets[:, 1]).sum())


def _fitted(image: Image.Image) -> Image.Image:
    """The picture with its longer side `SIDE` pixels long."""
    scale = SIDE / max(image.size)
    size = [max(2, round(side * scale)) for side in image.size]
    return image.resize((size[0], size[1]), Image.Resampling.BILINEAR, reducing_gap=2.0)


def _squared(image: Image.Image, paper: int) -> Image.Image:
    """The picture in the middle of a square of `SIDE` pixels."""
    small = _fitted(image)
    square = Image.new(image.mode, (SIDE, SIDE), paper)
    square.paste(small, ((SIDE - small.width) // 2, (SIDE - small.height) // 2))
    return square
