"""More ways a drawing arrives, with other faults and other parameters than `paper_ways`.

They were kept apart while reading was written, but not wholly: all were looked at and measured on the way. Two faults
were seen here and mended as kinds: the shadow of a hand was read as ink, and a margin and the ends of tilted lines
stayed. While the grain of crayon was worked on, smudged pencil, chalk on kraft and the notebook were measured too.
"""

import math

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from paper_ways import (
    BLACK,
    PHOTO,
    WHITE,
    Colour,
    Ink,
    Way,
    clouds,
    grained,
    grey,
    jpeg,
    laid,
    light,
    lines,
    on_desk,
    photographed,
    picture,
    printed,
    resized,
    thicker,
)

SHEET, PEN = (238.0, 236.0, 228.0), (45.0, 45.0, 70.0)


def wood(random: Generator, base: Colour) -> NDArray[np.float32]:
    """A desk of boards with grain along them: (H, W, 3)."""
    rows, columns = np.mgrid[0:PHOTO, 0:PHOTO] / PHOTO
    bend = clouds(random, (PHOTO, PHOTO), 4)
    grain = np.sin(2 * math.pi * (rows * random.uniform(20, 40) + 3 * bend)) * 0.5
    grain += 0.5 * clouds(random, (PHOTO, PHOTO), 160)
    seams = (columns * 0 + (rows * 4) % 1 < 0.012) * -1.5
    return (np.array(base) * (1 + 0.12 * (grain + seams))[..., None]).astype(np.float32)


def wooden_desk(ink: Ink, random: Generator) -> Image.Image:
    scene = on_desk(laid(resized(ink, PHOTO), SHEET, PEN), wood(random, (150, 105, 66)), random, 12, 0.04)
    return photographed(scene * light(random, (PHOTO, PHOTO), 0.35, 0.2)[..., None], random, 6)


def pale_wooden_desk(ink: Ink, random: Generator) -> Image.Image:
    scene = on_desk(laid(resized(ink, PHOTO), (248, 247, 242), PEN), wood(random, (205, 180, 145)), random, 10, 0.04)
    return photographed(scene * light(random, (PHOTO, PHOTO), 0.3, 0.2)[..., None], random, 4)


def hand_shadow(ink: Ink, random: Generator) -> Image.Image:
    shadow = Image.new("L", (PHOTO, PHOTO), 255)
    draw = ImageDraw.Draw(shadow)
    x, y = random.uniform(0.2, 0.8, 2) * PHOTO
    draw.ellipse((x - 150, y, x + 150, PHOTO + 200), 110)
    for finger in range(4):
        draw.line([(x - 110 + 70 * finger, y + 60), (x - 150 + 95 * finger, y - 170)], 110, 48)
    soft = (
        np.asarray(shadow.filter(ImageFilter.GaussianBlur(float(random.uniform(5, 14)))), np.float32)[..., None] / 255
    )
    return photographed(laid(resized(ink, PHOTO), SHEET, PEN) * soft, random)


def margin_ruled(ink: Ink, random: Generator) -> Image.Image:
    large = resized(ink, 600)
    sheet = printed(large, lines(large.shape, 46, 2, 60), (252, 251, 245), (120, 170, 200), (20, 30, 110))
    red = int(random.uniform(40, 90))
    sheet[:, red : red + 2] = (220, 90, 100)
    return picture(sheet + random.normal(0, 2, (600, 600, 1)))


def dark_ruled(ink: Ink, random: Generator) -> Image.Image:
    large = resized(ink, 400)
    return picture(printed(large, lines(large.shape, random.uniform(28, 50), 1, 9), WHITE, (60, 60, 60), BLACK))


def fine_squares(ink: Ink, random: Generator) -> Image.Image:
    large = resized(ink, 640)
    fine, coarse = lines(large.shape, 16, 1, 3, both=True), lines(large.shape, 80, 2, 3, both=True)
    return picture(printed(large, np.maximum(0.5 * fine, coarse), (250, 250, 246), (235, 150, 110), (30, 30, 40)))


def squares_on_a_desk(ink: Ink, random: Generator) -> Image.Image:
    large = resized(ink, PHOTO)
    ruling = lines(large.shape, random.uniform(30, 50), 2, 11, both=True)
    sheet = printed(large, ruling, (240, 240, 236), (150, 175, 205), (30, 40, 120))
    scene = on_desk(sheet, wood(random, (95, 62, 40)), random, 6, 0.02)
    return photographed(scene * light(random, (PHOTO, PHOTO), 0.3, 0.2)[..., None], random)


def ruled_photo(ink: Ink, random: Generator) -> Image.Image:
    large = resized(ink, PHOTO)
    ruling = lines(large.shape, random.uniform(38, 60), 2, 20)
    sheet = picture(printed(large, ruling, (240, 240, 236), (150, 170, 205), (40, 40, 60)))
    turned = sheet.rotate(random.uniform(-4, 4), Image.Resampling.BICUBIC, fillcolor=(240, 240, 236))
    return photographed(np.asarray(turned) * light(random, (PHOTO, PHOTO), 0.4, 0.2)[..., None], random)


def crumpled(ink: Ink, random: Generator) -> Image.Image:
    folds = Image.new("L", (PHOTO, PHOTO), 128)
    draw = ImageDraw.Draw(folds)
    for ends in random.uniform(-0.2, 1.2, (9, 4)) * PHOTO:
        draw.line([tuple(ends[:2]), tuple(ends[2:])], int(random.integers(70, 190)), int(random.integers(2, 7)))
    relief = np.asarray(folds.filter(ImageFilter.GaussianBlur(5)), np.float32)[..., None] / 128
    shade = 1 + 0.3 * (clouds(random, (PHOTO, PHOTO), 7) - 0.5)[..., None]
    return photographed(laid(resized(ink, PHOTO), SHEET, PEN) * relief * shade, random)


def faint_pencil_photo(ink: Ink, random: Generator) -> Image.Image:
    strokes = grained(resized(ink, PHOTO), random, 0.4, 300)
    sheet = laid(strokes, SHEET, (140, 140, 142))
    return photographed(sheet * light(random, (PHOTO, PHOTO), 0.3, 0.2)[..., None], random, 3, 85)


def smudged_pencil(ink: Ink, random: Generator) -> Image.Image:
    large = resized(ink, 512)
    smear = np.asarray(Image.fromarray((255 * large).astype(np.uint8)).filter(ImageFilter.BoxBlur(9)), np.float32) / 255
    strokes = np.maximum(grained(large, random, 0.3), 0.35 * smear)
    return picture(laid(strokes, grey(random, 240, 250), (90, 90, 90)) + random.normal(0, 2, (512, 512, 1)))


def whiteboard(ink: Ink, random: Generator) -> Image.Image:
    board = laid(thicker(resized(ink, PHOTO), 0.008), (215, 220, 225), (35, 60, 150))
    x, y = random.uniform(0, PHOTO, 2)
    rows, columns = np.mgrid[0:PHOTO, 0:PHOTO]
    glare = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * 90**2))[..., None]
    return photographed(board * (1 - glare) * 0.85 + 250 * glare, random, 4)


def kraft_and_chalk(ink: Ink, random: Generator) -> Image.Image:
    strokes = grained(thicker(resized(ink, 512), 0.006), random, 0.3)
    paper = laid(strokes, (168, 128, 88), (248, 246, 240))
    fibres = 22 * (clouds(random, (512, 512), 170) - 0.5)[..., None]
    return jpeg(picture(paper + fibres + random.normal(0, 4, (512, 512, 1))), 80)


def sticky_note(ink: Ink, random: Generator) -> Image.Image:
    scene = on_desk(
        laid(resized(ink, PHOTO), (250, 232, 100), (30, 30, 120)), wood(random, (220, 215, 208)), random, 10, 0
    )
    return photographed(scene * light(random, (PHOTO, PHOTO), 0.2, 0.2)[..., None], random)


def show_through(ink: Ink, random: Generator) -> Image.Image:
    large = resized(ink, 600)
    back = np.roll(large[:, ::-1], (40, -25), (0, 1))
    blurred = np.asarray(Image.fromarray((255 * back).astype(np.uint8)).filter(ImageFilter.GaussianBlur(2.5)))
    behind = blurred.astype(np.float32) / 255
    sheet = laid(large, (246, 244, 238), (40, 40, 50)) - 28 * behind[..., None]
    return jpeg(picture(sheet + random.normal(0, 3, (600, 600, 1))), 80)


def screenshot(ink: Ink, random: Generator) -> Image.Image:
    image = picture(laid(np.pad(resized(ink, 400), ((70, 50), (15, 15))), WHITE, BLACK))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, image.width, 48), (32, 33, 36))
    for x in (12, 50, image.width - 30):
        draw.ellipse((x, 14, x + 18, 32), (220, 220, 225))
    draw.rectangle((0, image.height - 26, image.width, image.height), (236, 236, 240))
    return image


def spiral_notebook(ink: Ink, random: Generator) -> Image.Image:
    large = np.pad(resized(ink, 560), ((0, 0), (70, 0)))
    ruling = lines(large.shape, 36, 1, 30)
    sheet = picture(printed(large, ruling, (248, 248, 244), (165, 180, 205), (35, 35, 60)))
    draw = ImageDraw.Draw(sheet)
    for y in range(20, 560, 40):
        draw.ellipse((14, y, 30, y + 16), (60, 60, 60))
    return jpeg(sheet, 80)


def crayon_on_kraft(ink: Ink, random: Generator) -> Image.Image:
    strokes = grained(thicker(resized(ink, PHOTO), 0.02), random, 0.7, 150)
    sheet = laid(strokes, (190, 155, 115), (40, 40, 60)) + 18 * (clouds(random, (PHOTO, PHOTO), 200) - 0.5)[..., None]
    return photographed(sheet * light(random, (PHOTO, PHOTO), 0.3, 0.2)[..., None], random)


def many_pens(ink: Ink, random: Generator) -> Image.Image:
    large = thicker(resized(ink, 512), 0.008)
    hue = clouds(random, (512, 512), 2)[..., None]
    pens = np.where(hue < 0.4, (220, 40, 40), np.where(hue < 0.6, (30, 140, 60), (40, 60, 200)))
    return picture((1 - large[..., None]) * 255 + large[..., None] * pens)


def large_and_thin(ink: Ink, random: Generator) -> Image.Image:
    large = resized(ink, 2400)
    thin = 1 - np.asarray(Image.fromarray((255 * (1 - large)).astype(np.uint8)).filter(ImageFilter.MaxFilter(5))) / 255
    return picture(laid(thin.astype(np.float32), WHITE, (30, 30, 30)))


def small_in_a_corner(ink: Ink, random: Generator) -> Image.Image:
    sheet = np.full((900, 1200, 3), 236, np.float32)
    top, left = int(random.integers(0, 500)), int(random.integers(0, 800))
    sheet[top : top + 400, left : left + 400] = laid(resized(ink, 400), (236, 236, 236), (40, 40, 60))
    return photographed(sheet * light(random, (900, 1200), 0.35, 0.2)[..., None], random, 4)


def framed_photo(ink: Ink, random: Generator) -> Image.Image:
    pixels = np.pad(laid(resized(ink, 560), (244, 242, 236), PEN), ((30, 30), (30, 30), (0, 0)), constant_values=240)
    wide = np.pad(pixels, ((45, 45), (45, 45), (0, 0)), constant_values=60) + random.normal(0, 4, (710, 710, 1))
    return photographed(wide * light(random, (710, 710), 0.2, 0.2)[..., None], random)


def grey_bars(ink: Ink, random: Generator) -> Image.Image:
    pixels = laid(resized(ink, 400), (250, 250, 250), BLACK)
    return jpeg(
        picture(np.pad(pixels, ((0, 0), (130, 130), (0, 0)), constant_values=float(random.uniform(20, 130)))), 80
    )


OTHER_WAYS: dict[str, Way] = {
    "wooden desk": wooden_desk,
    "pale wooden desk": pale_wooden_desk,
    "shadow of a hand": hand_shadow,
    "ruled, red margin": margin_ruled,
    "ruled in black": dark_ruled,
    "millimetre paper": fine_squares,
    "squared, on a desk": squares_on_a_desk,
    "photo of ruled paper": ruled_photo,
    "crumpled": crumpled,
    "faint pencil, photographed": faint_pencil_photo,
    "smudged pencil": smudged_pencil,
    "whiteboard with glare": whiteboard,
    "chalk on kraft paper": kraft_and_chalk,
    "sticky note": sticky_note,
    "back shows through": show_through,
    "screenshot": screenshot,
    "spiral notebook": spiral_notebook,
    "crayon on kraft, photo": crayon_on_kraft,
    "many pens": many_pens,
    "large and thin": large_and_thin,
    "small in a corner": small_in_a_corner,
    "in a picture frame": framed_photo,
    "grey bars": grey_bars,
}
