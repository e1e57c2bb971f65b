"""Ways a drawing arrives, made by code from a clean one: paper, light, desks, printed lines, pens and file formats.

Letters: `H W` the sides of a picture. A clean drawing is an array (H, W) of ink, 0 paper to 1 black. Every way takes
ink and a random generator and gives a picture. `WAYS` were looked at while reading was written. `OTHER_WAYS`, of
`paper_other_ways`, have other parameters and other faults.
"""

import io
import math
from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Ink = NDArray[np.float32]  # (H, W), 0..1
Colour = tuple[float, float, float]
Way = Callable[[Ink, Generator], Image.Image]
WHITE, BLACK = (255.0, 255.0, 255.0), (0.0, 0.0, 0.0)
PHOTO = 720  # longest side of a photographed drawing, in pixels


def resized(ink: Ink, side: int) -> Ink:
    """Ink on a square of another side."""
    image = Image.fromarray(ink).resize((side, side), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(image), 0, 1)


def laid(ink: Ink, paper: Colour, pen: Colour) -> NDArray[np.float32]:
    """Ink of one colour on paper of another: (H, W, 3)."""
    return (1 - ink[..., None]) * np.array(paper, np.float32) + ink[..., None] * np.array(pen, np.float32)


def picture(pixels: NDArray[np.floating]) -> Image.Image:
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def grey(random: Generator, low: float, high: float) -> Colour:
    level = float(random.uniform(low, high))
    return (level, level, level)


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=quality)
    return Image.open(io.BytesIO(file.getvalue())).convert("RGB")


def clouds(random: Generator, shape: tuple[int, int], cells: int) -> Ink:
    """Smooth random values 0..1 with about `cells` bumps along a side."""
    coarse = Image.fromarray(random.random((cells + 2, cells + 2)).astype(np.float32))
    return np.asarray(coarse.resize(shape[::-1], Image.Resampling.BICUBIC))


def light(random: Generator, shape: tuple[int, int], slope: float, vignette: float) -> Ink:
    """How much light falls where: a slope in any direction and darker corners, 1 at the brightest."""
    rows, columns = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    angle = random.uniform(0, 2 * math.pi)
    across = rows * math.sin(angle) + columns * math.cos(angle)
    fall = 1 - slope * (across + 1.4) / 2.8 - vignette * (rows**2 + columns**2) / 2
    return np.clip(fall, 0.05, 1).astype(np.float32)


def photographed(pixels: NDArray[np.floating], random: Generator, noise: float = 5, quality: int = 80) -> Image.Image:
    """What a phone adds: a little blur, noise and JPEG."""
    image = picture(pixels).filter(ImageFilter.GaussianBlur(random.uniform(0.4, 1.0)))
    grainy = np.asarray(image, np.float32) + random.normal(0, noise, (*image.size[::-1], 1))
    return jpeg(picture(grainy), quality)


def thicker(ink: Ink, share: float) -> Ink:
    """Strokes grown by a round pen of a share of the side."""
    radius = max(1, round(ink.shape[0] * share / 2))
    image = Image.fromarray((255 * ink).astype(np.uint8))
    for _ in range(radius):
        image = image.filter(ImageFilter.MaxFilter(3))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius / 3)), np.float32) / 255


def grained(ink: Ink, random: Generator, amount: float, cells: int = 200) -> Ink:
    """Ink that the paper's grain breaks: `amount` 0 leaves it whole, 1 takes half of it."""
    grain = clouds(random, ink.shape, cells) + random.normal(0, 0.15, ink.shape)
    return (ink * np.clip((grain - 0.5 * amount) * 4 + 0.5, 0, 1)).astype(np.float32)


def on_desk(
    sheet: NDArray[np.floating], desk: NDArray[np.floating], random: Generator, turn: float, tilt: float
) -> NDArray[np.float32]:
    """A sheet (H, W, 3) put on a desk (H, W, 3), turned by up to `turn` degrees, its corners moved by `tilt`."""
    height, width = desk.shape[:2]
    share = random.uniform(0.6, 0.82)
    angle = math.radians(random.uniform(-turn, turn))
    half = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * np.array([width, height]) * share / 2
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    corners = half @ rotation.T + np.array([width, height]) / 2 + random.uniform(-tilt, tilt, (4, 2)) * width
    corners += random.uniform(-0.04, 0.04, 2) * width
    source = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * np.array(sheet.shape[1::-1])
    coefficients = perspective(corners, source)
    kind, how = Image.Transform.PERSPECTIVE, Image.Resampling.BICUBIC
    moved = picture(sheet).transform((width, height), kind, coefficients, how)
    inside = Image.new("L", (sheet.shape[1], sheet.shape[0]), 255).transform((width, height), kind, coefficients, how)
    mask = np.asarray(inside, np.float32)[..., None] / 255
    shade = np.asarray(inside.filter(ImageFilter.GaussianBlur(8)), np.float32)[..., None] / 255
    return mask * np.asarray(moved, np.float32) + (1 - mask) * desk * (1 - 0.35 * shade)


def perspective(target: NDArray[np.floating], source: NDArray[np.floating]) -> list[float]:
    """The eight coefficients by which Pillow finds the source point of each target point, from four pairs (4, 2)."""
    rows = []
    for (x, y), (u, v) in zip(target, source, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
    return [float(value) for value in np.linalg.solve(np.array(rows), source.ravel())]


def plain_desk(random: Generator, low: float, high: float, tint: float = 12) -> NDArray[np.float32]:
    base = random.uniform(low, high) + random.uniform(-tint, tint, 3)
    texture = 10 * (clouds(random, (PHOTO, PHOTO), 40) - 0.5) + random.normal(0, 3, (PHOTO, PHOTO))
    return (base + texture[..., None]).astype(np.float32)


def lines(shape: tuple[int, int], spacing: float, width: int, offset: float, both: bool = False) -> Ink:
    """Printed lines, `spacing` pixels apart: (H, W), 0..1."""
    image = Image.new("L", shape[::-1])
    draw = ImageDraw.Draw(image)
    for y in np.arange(offset, shape[0], spacing):
        draw.line([(0, y), (shape[1], y)], 255, width)
    for x in np.arange(offset, shape[1], spacing) if both else ():
        draw.line([(x, 0), (x, shape[0])], 255, width)
    return np.asarray(image, np.float32) / 255


def printed(ink: Ink, ruling: Ink, paper: Colour, print_colour: Colour, pen: Colour) -> NDArray[np.float32]:
    """A drawing on paper with printed lines: (H, W, 3)."""
    under = laid(ruling, paper, print_colour)
    return (1 - ink[..., None]) * under + ink[..., None] * np.array(pen, np.float32)


# The ways that were looked at


def grey_paper(ink: Ink, random: Generator) -> Image.Image:
    paper = grey(random, 110, 225)
    return picture(laid(ink, paper, (0.1 * paper[0],) * 3))


def dark_paper(ink: Ink, random: Generator) -> Image.Image:
    return picture(laid(ink, grey(random, 60, 100), grey(random, 5, 25)))


def pencil(ink: Ink, random: Generator) -> Image.Image:
    strokes = grained(resized(ink, 512), random, 0.5)
    return picture(laid(strokes, grey(random, 235, 252), grey(random, 100, 150)) + random.normal(0, 2, (512, 512, 1)))


def photo_of_sheet(ink: Ink, random: Generator) -> Image.Image:
    shape = (PHOTO, PHOTO)
    sheet = laid(resized(ink, PHOTO), (235, 230, 220), (50, 50, 60))
    return photographed(sheet * light(random, shape, 0.45, 0.3)[..., None], random)


def dark_desk(ink: Ink, random: Generator) -> Image.Image:
    sheet = laid(resized(ink, PHOTO), (240, 238, 232), (40, 40, 50))
    scene = on_desk(sheet, plain_desk(random, 25, 90), random, 8, 0.03)
    return photographed(scene * light(random, (PHOTO, PHOTO), 0.25, 0.1)[..., None], random)


def light_desk(ink: Ink, random: Generator) -> Image.Image:
    sheet = laid(resized(ink, PHOTO), (245, 244, 240), (40, 40, 50))
    scene = on_desk(sheet, plain_desk(random, 160, 205), random, 8, 0.03)
    return photographed(scene * light(random, (PHOTO, PHOTO), 0.2, 0.1)[..., None], random)


def ruled(ink: Ink, random: Generator) -> Image.Image:
    large = resized(ink, 512)
    ruling = lines(large.shape, random.uniform(24, 42), int(random.integers(1, 3)), random.uniform(0, 24))
    return picture(printed(large, ruling, (250, 250, 248), (150, 175, 215), (25, 25, 35)))


def squared(ink: Ink, random: Generator) -> Image.Image:
    large = resized(ink, 512)
    ruling = lines(large.shape, random.uniform(18, 34), 1, random.uniform(0, 18), both=True)
    return picture(printed(large, ruling, (250, 250, 248), (165, 185, 215), (25, 25, 35)))


def transparent(pen: Colour) -> Way:
    def way(ink: Ink, random: Generator) -> Image.Image:
        colour = np.broadcast_to(np.array(pen, np.float32), (*ink.shape, 3))
        return picture(np.concatenate([colour, 255 * ink[..., None]], axis=2))

    return way


def black_frame(ink: Ink, random: Generator) -> Image.Image:
    pixels = laid(ink, WHITE, BLACK)
    wide = int(ink.shape[0] * random.uniform(0.015, 0.05))
    framed = np.zeros_like(pixels)
    framed[wide:-wide, wide:-wide] = pixels[wide:-wide, wide:-wide]
    return picture(framed)


def drawn_frame(ink: Ink, random: Generator) -> Image.Image:
    wide = int(ink.shape[0] * random.uniform(0.1, 0.2))
    image = picture(laid(np.pad(ink, wide), WHITE, BLACK))
    inset = random.uniform(0.25, 0.6) * wide
    ImageDraw.Draw(image).rectangle((inset, inset, image.width - inset, image.height - inset), outline=0, width=3)
    return image


def black_bars(ink: Ink, random: Generator) -> Image.Image:
    pixels = laid(ink, WHITE, BLACK)
    wide = int(ink.shape[0] * random.uniform(0.08, 0.25))
    sides = ((wide, wide), (0, 0)) if random.random() < 0.5 else ((0, 0), (wide, wide))
    return picture(np.pad(pixels, (*sides, (0, 0))))


def crayon(ink: Ink, random: Generator) -> Image.Image:
    strokes = grained(thicker(resized(ink, 512), random.uniform(0.012, 0.025)), random, 0.8, 120)
    pen = tuple(random.permutation([200.0, 60.0, random.uniform(20, 160)]))
    return picture(laid(strokes, (252, 250, 246), pen) + random.normal(0, 2, (512, 512, 1)))


def marker(ink: Ink, random: Generator) -> Image.Image:
    strokes = thicker(resized(ink, 512), random.uniform(0.015, 0.035))
    pen = tuple(random.permutation([190.0, 40.0, random.uniform(20, 120)]))
    return jpeg(picture(laid(strokes, (250, 250, 250), pen)), 85)


def poor_jpeg(ink: Ink, random: Generator) -> Image.Image:
    return jpeg(picture(laid(ink, WHITE, BLACK)), int(random.integers(8, 25)))


def coloured_paper(ink: Ink, random: Generator) -> Image.Image:
    paper = tuple(random.permutation([250.0, random.uniform(170, 240), random.uniform(110, 190)]))
    pen = tuple(random.permutation([140.0, 40.0, random.uniform(10, 60)]))
    return picture(laid(ink, paper, pen) + random.normal(0, 2, (*ink.shape, 1)))


def chalkboard(ink: Ink, random: Generator) -> Image.Image:
    chalk = grained(thicker(resized(ink, 512), 0.006), random, 0.45)
    board = laid(chalk, (38, 66, 52), (225, 228, 220)) + 30 * (clouds(random, (512, 512), 5) - 0.5)[..., None]
    return jpeg(picture(board + random.normal(0, 4, (512, 512, 1))), 85)


def turned_photo(ink: Ink, random: Generator) -> Image.Image:
    sheet = picture(laid(resized(ink, PHOTO), (225, 222, 210), (45, 45, 60)))
    turned = sheet.rotate(random.uniform(-8, 8), Image.Resampling.BICUBIC, fillcolor=(225, 222, 210))
    return photographed(np.asarray(turned) * light(random, (PHOTO, PHOTO), 0.35, 0.2)[..., None], random, 7, 70)


def scan_with_specks(ink: Ink, random: Generator) -> Image.Image:
    large = resized(ink, 640)
    image = picture(laid(large, (244, 243, 240), (30, 30, 30)) + random.normal(0, 3, (640, 640, 1)))
    draw = ImageDraw.Draw(image)
    for x, y, radius in random.uniform((0, 0, 0.4), (640, 640, 1.8), (40, 3)):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), (70, 70, 70))
    return image


def low_contrast(ink: Ink, random: Generator) -> Image.Image:
    paper = grey(random, 205, 240)
    return picture(laid(ink, paper, (paper[0] - random.uniform(22, 40),) * 3) + random.normal(0, 1, (*ink.shape, 1)))


def light_on_dark(ink: Ink, random: Generator) -> Image.Image:
    return picture(laid(ink, grey(random, 0, 50), WHITE))


WAYS: dict[str, Way] = {
    "grey paper": grey_paper,
    "dark paper": dark_paper,
    "pencil": pencil,
    "photographed sheet": photo_of_sheet,
    "on a dark desk": dark_desk,
    "on a light desk": light_desk,
    "ruled": ruled,
    "squared": squared,
    "white ink, transparent": transparent(WHITE),
    "black ink, transparent": transparent(BLACK),
    "red ink, transparent": transparent((215, 40, 40)),
    "black frame": black_frame,
    "drawn frame": drawn_frame,
    "black bars": black_bars,
    "crayon": crayon,
    "marker": marker,
    "poor JPEG": poor_jpeg,
    "coloured paper and ink": coloured_paper,
    "chalkboard": chalkboard,
    "turned phone photo": turned_photo,
    "scan with specks": scan_with_specks,
    "low contrast": low_contrast,
    "light on dark": light_on_dark,
}
