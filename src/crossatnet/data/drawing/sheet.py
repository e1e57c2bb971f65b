"""The sheet that a drawing is on, cut out of what lies around it: a desk, bars, a frame.

Letters: `H W` the sides of a picture, `h w` those of a small one on which the sheet is sought.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from crossatnet.data.drawing.spots import parts

Pixels = NDArray[np.uint8]  # (h, w, 3)
Corners = NDArray[np.float64]  # (4, 2): x and y of the upper left, upper right, lower right and lower left

SMALL_SIDE = 96  # pixels: strokes vanish, and a sheet's edge is still sharp
STROKES_GONE = 5  # pixels of a median filter that wipes the strokes of the small picture
STEPS = (48, 32, 22, 15, 10)  # grey levels that a sheet's edge rises by: the steepest edges that enclose a sheet count
BORDER_DIFFERS = 0.1  # of the border has another colour than most of the picture where there may be a desk
LEAST_SHARE, MOST_SHARE = 0.12, 0.93  # of the picture: less is no sheet, more is the whole picture
LIKENESS = 0.9  # of a sheet and the quadrilateral of its corners: area of both over area of either
DESK_DIFFERS = 12.0  # grey levels, from the sheet
FLAT, FLAT_SHARE = 2, 0.7  # grey levels, and share of what lies around: of one colour, as paper on a screen is
SEEN_INSIDE = 0.1  # of the inside has the colour of a flat surround, which then is the paper, and no desk
INSET = 0.012  # of a sheet's side: its edge and the shadow there are cut off too
BAR_SHARE = 0.94  # of a row's pixels are of one colour in a bar
BAR_RANGE = 40  # grey levels, about that colour, and from the paper's
BAR_MOST = 0.42  # of the picture, on each side
FRAME_REACH = 0.86  # of both sides of the picture: what a drawn frame spans
FRAME_WHOLE = 0.93  # of a frame's side is inked,
FRAME_WIDTH = 0.02  # within so much of the picture's longer side


def cut_sheet(image: Image.Image) -> Image.Image:
    """The sheet alone, upright and without perspective; the whole picture where no sheet stands out from a desk."""
    image = without_bars(image)
    corners = sheet_corners(image)
    return image if corners is None else _straightened(image, corners)


def without_bars(image: Image.Image) -> Image.Image:
    """A picture less the bars along its edges: rows and columns of one colour that is not the paper's."""
    grey = np.asarray(image.convert("L")).astype(np.int16)
    paper = int(np.argmax(np.bincount(grey[::2, ::2].ravel() // 8))) * 8 + 4
    top, bottom = _bars(grey, paper)
    left, right = _bars(grey[top : len(grey) - bottom].T, paper)
    if not top + bottom + left + right:
        return image
    return image.crop((left, top, image.width - right, image.height - bottom))


def _bars(grey: NDArray[np.int16], paper: int) -> tuple[int, int]:
    """How many rows are bars at the top and at the bottom."""
    found = []
    for rows in (grey, grey[::-1]):
        deep = 0
        while deep < BAR_MOST * len(rows) and _is_bar(rows[deep], paper):
            deep += 1
        is_whole = 0 < deep < BAR_MOST * len(rows)
        found.append(deep + 1 if is_whole else 0)  # one more, for its edge may be soft
    return found[0], found[1]


def _is_bar(row: NDArray[np.int16], paper: int) -> bool:
    level = np.median(row)
    return bool(abs(level - paper) > BAR_RANGE and (abs(row - level) <= BAR_RANGE).mean() >= BAR_SHARE)


def sheet_corners(image: Image.Image) -> Corners | None:
    """The corners of a sheet that lies on something else, in pixels; None where there is no such thing.

    In a small picture without strokes, edges steeper than a step part the picture into areas. The largest of those
    in the middle is a sheet if it looks like a quadrilateral and what is around it has another colour. Steps are tried
    from steep to gentle, so that a shadow across the sheet does not part it where the sheet's own edge is steeper.
    """
    width, height = image.size
    scale = max(height, width) / SMALL_SIDE
    if min(height, width) < 3 * STROKES_GONE or scale < 1:
        return None
    size = (max(STROKES_GONE, round(width / scale)), max(STROKES_GONE, round(height / scale)))
    small = image.convert("RGB").resize(size, Image.Resampling.BOX)
    if not _may_lie_on_a_desk(np.asarray(small)):
        return None
    plain = small.filter(ImageFilter.MedianFilter(STROKES_GONE))
    colours = np.asarray(plain).astype(np.int16)  # (h, w, 3)
    rise = _rise(plain)
    for step in STEPS:
        corners = _quadrilateral(colours, np.asarray(small), rise < step)
        if corners is not None:
            large: Corners = corners * np.array([width / size[0], height / size[1]])
            return large
    return None


def _may_lie_on_a_desk(colours: Pixels) -> bool:
    """Whether some of the border of a small picture (h, w, 3) differs from the usual colour in its middle."""
    height, width = colours.shape[:2]
    border = np.concatenate([colours[0], colours[-1], colours[:, 0], colours[:, -1]])
    middle = colours[height // 4 : -(height // 4), width // 4 : -(width // 4)]
    differs = abs(border - np.median(middle, axis=(0, 1))).max(axis=1) > min(STEPS)
    return bool(differs.mean() > BORDER_DIFFERS)


def _rise(plain: Image.Image) -> NDArray[np.int16]:
    """By how many grey levels the steepest channel differs within three pixels: (h, w)."""
    most = np.asarray(plain.filter(ImageFilter.MaxFilter(3))).astype(np.int16)
    least = np.asarray(plain.filter(ImageFilter.MinFilter(3))).astype(np.int16)
    rise: NDArray[np.int16] = (most - least).max(axis=2)
    return rise


def _quadrilateral(colours: NDArray[np.int16], drawn: Pixels, smooth: NDArray[np.bool_]) -> Corners | None:
    """The corners, in pixels of the small picture, of the smooth area (h, w) in the middle if it is a sheet.

    `colours` (h, w, 3) are without strokes, `drawn` with them.
    """
    height, width = smooth.shape
    areas = parts(smooth)
    middle = areas.label[height // 4 : -(height // 4), width // 4 : -(width // 4)]
    inside = middle[middle >= 0]
    if not len(inside):
        return None
    area = areas.label == np.bincount(inside).argmax()  # (h, w)
    filled = _between(area) & _between(area.T).T
    rows, columns = np.nonzero(area)
    ends = [(columns + rows).argmin(), (columns - rows).argmax(), (columns + rows).argmax(), (columns - rows).argmin()]
    corners = np.stack([columns[ends], rows[ends]], axis=1)  # (4, 2)
    canvas = Image.new("1", (width, height))
    ImageDraw.Draw(canvas).polygon([(int(x), int(y)) for x, y in corners], fill=1, outline=1)
    shape = np.asarray(canvas)
    if not LEAST_SHARE <= shape.mean() <= MOST_SHARE or (shape & filled).sum() < LIKENESS * (shape | filled).sum():
        return None
    around = ~np.asarray(canvas.convert("L").filter(ImageFilter.MaxFilter(5))).astype(bool)
    if around.sum() < 0.02 * around.size:
        return None
    sheet, desk = np.median(colours[area], axis=0), np.median(colours[around], axis=0)
    if abs(sheet - desk).max() < DESK_DIFFERS:
        return None
    like_desk = abs(drawn - desk).max(axis=2) <= FLAT  # (h, w)
    if like_desk[around].mean() >= FLAT_SHARE and like_desk[shape].mean() >= SEEN_INSIDE:
        return None  # a dense drawing of something with corners, on plain paper
    outwards = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])  # pixels have a size
    outer: Corners = (corners + outwards).astype(np.float64)
    return outer


def _between(area: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Each row filled from its first to its last marked pixel."""
    after = np.maximum.accumulate(area, axis=1)
    before = np.maximum.accumulate(area[:, ::-1], axis=1)[:, ::-1]
    return after & before


def _straightened(image: Image.Image, corners: Corners) -> Image.Image:
    """The picture inside four corners as a rectangle, less a rim of `INSET`."""
    sides = np.linalg.norm(corners - np.roll(corners, -1, axis=0), axis=1)  # top, right, bottom, left
    width, height = round((sides[0] + sides[2]) / 2), round((sides[1] + sides[3]) / 2)
    rim = INSET * max(width, height)
    target = np.array([[-rim, -rim], [width + rim, -rim], [width + rim, height + rim], [-rim, height + rim]])
    kind, how = Image.Transform.PERSPECTIVE, Image.Resampling.BILINEAR
    return image.transform((width, height), kind, _perspective(target, corners), how)


def _perspective(target: Corners, source: Corners) -> list[float]:
    """The eight coefficients by which Pillow finds the source point (u, v) of a target point (x, y).

    u = (a x + b y + c) / (g x + h y + 1) and v = (d x + e y + f) / (g x + h y + 1), from four pairs of points.
    """
    equations = []
    for (x, y), (u, v) in zip(target, source, strict=True):
        equations += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
    return [float(value) for value in np.linalg.solve(np.array(equations), source.ravel())]


def without_frame(ink: NDArray[np.float32]) -> NDArray[np.float32]:
    """Ink (H, W) less a frame drawn around everything: a straight line along each of the four sides of all ink."""
    marked = ink > 0.4
    rows, columns = np.flatnonzero(marked.any(axis=1)), np.flatnonzero(marked.any(axis=0))
    if not len(rows):
        return ink
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    if bottom - top < FRAME_REACH * ink.shape[0] or right - left < FRAME_REACH * ink.shape[1]:
        return ink
    box, wide = marked[top:bottom, left:right], max(2, round(FRAME_WIDTH * max(ink.shape)))
    depths = []
    for side in (box, box[::-1], box.T, box.T[::-1]):
        if side[:wide].any(axis=0).mean() < FRAME_WHOLE:
            return ink
        inked = np.flatnonzero(side[: 3 * wide].mean(axis=1) > 0.3)
        depths.append(int(inked[-1]) + 2 if len(inked) else wide)
    inside = np.s_[top + depths[0] : bottom - depths[1], left + depths[2] : right - depths[3]]
    within = marked[inside]
    if not within.any() or within[:2].any() or within[-2:].any() or within[:, :2].any() or within[:, -2:].any():
        return ink  # what touches the drawing is part of it
    framed = np.zeros_like(ink)
    framed[inside] = ink[inside]
    return framed
