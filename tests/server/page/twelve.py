"""Twelve things as a person draws them with a mouse: curves on paper of 1024 units, 60 to 200 points each."""

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Stroke = list[list[float]]

STEP = 34  # units between two points
TREMOR = 0.006 * 1024  # units: of a shaky hand


def arc(x: float, y: float, wide: float, high: float, start: float = 0, end: float = 360) -> NDArray[np.float64]:
    """An arc around (x, y), angles in degrees clockwise from the right."""
    angles = np.radians(np.linspace(start, end, max(5, round(abs(end - start) / 360 * 3.3 * (wide + high) / STEP))))
    return np.stack([x + wide * np.cos(angles), y + high * np.sin(angles)], axis=1)


def lines(*corners: tuple[float, float]) -> NDArray[np.float64]:
    """Straight from corner to corner."""
    parts = [np.array(corners[:1], float)]
    for begin, end in itertools.pairwise(corners):
        pieces = max(1, round(float(np.hypot(end[0] - begin[0], end[1] - begin[1])) / (2 * STEP)))
        share = np.arange(1, pieces + 1)[:, None] / pieces
        parts.append(np.array(begin) + share * (np.array(end) - np.array(begin)))
    return np.concatenate(parts)


def curve(*through: tuple[float, float]) -> NDArray[np.float64]:
    """A smooth curve through these points (Catmull and Rom, 1974)."""
    points = np.array([through[0], *through, through[-1]], float)
    parts = [points[1:2]]
    for p0, p1, p2, p3 in zip(points, points[1:], points[2:], points[3:], strict=False):
        pieces = max(1, round(float(np.hypot(*(p2 - p1))) / STEP))
        t = np.arange(1, pieces + 1)[:, None] / pieces
        parts.append(
            0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3)
        )
    return np.concatenate(parts)


def mirrored(shape: NDArray[np.float64], axis: float) -> NDArray[np.float64]:
    """A shape mirrored at the upright line `axis`."""
    return shape * np.array([-1, 1]) + np.array([2 * axis, 0])


def wheels(y: float, radius: float, *centres: float) -> Iterator[NDArray[np.float64]]:
    """Circles at one height."""
    for x in centres:
        yield arc(x, y, radius, radius)


WING = curve((512, 420), (400, 250), (200, 190), (120, 300), (200, 460), (360, 500), (500, 490))
LOWER_WING = curve((500, 500), (360, 540), (250, 640), (290, 780), (400, 780), (480, 640), (510, 540))
DRAWINGS: dict[str, list[NDArray[np.float64]]] = {
    "airplane": [
        curve((90, 540), (130, 490), (260, 465), (620, 460), (880, 440)),
        curve((90, 540), (150, 575), (300, 590), (620, 585), (800, 545), (905, 490), (880, 440)),
        lines((880, 440), (930, 290), (860, 290), (770, 450)),
        lines((420, 520), (610, 760), (690, 760), (590, 525)),
        lines((450, 463), (600, 300), (660, 300), (590, 460)),
        curve((140, 500), (190, 505), (210, 480)),
    ],
    "apple": [
        curve(
            *((512, 350), (430, 290), (300, 300), (220, 420), (230, 600), (320, 780), (430, 850), (512, 820)),
            *((600, 850), (700, 780), (790, 600), (800, 420), (720, 300), (600, 290), (512, 350)),
        ),
        curve((512, 350), (515, 270), (550, 190)),
        curve((530, 270), (600, 190), (710, 190), (650, 270), (530, 270)),
    ],
    "bicycle": [
        *wheels(660, 170, 270, 760),
        lines((270, 660), (420, 400), (680, 400), (490, 660), (270, 660)),
        lines((490, 660), (390, 340)),
        lines((330, 335), (450, 335)),
        lines((760, 660), (650, 310)),
        curve((650, 310), (720, 290), (770, 320)),
        arc(490, 660, 36, 36),
    ],
    "butterfly": [
        WING,
        mirrored(WING, 512),
        LOWER_WING,
        mirrored(LOWER_WING, 512),
        arc(512, 520, 26, 150),
        curve((505, 372), (470, 280), (400, 230)),
        curve((519, 372), (554, 280), (624, 230)),
    ],
    "chair": [
        lines((340, 140), (330, 560), (700, 560), (690, 140), (340, 140)),
        lines((330, 560), (250, 660), (640, 660), (700, 560)),
        lines((250, 660), (250, 920)),
        lines((640, 660), (640, 920)),
        lines((700, 560), (705, 830)),
        lines((350, 670), (350, 820)),
        lines((342, 280), (692, 280)),
        lines((340, 420), (692, 420)),
    ],
    "cup": [
        arc(450, 330, 250, 60),
        curve((200, 330), (215, 560), (270, 720), (350, 790)),
        curve((700, 330), (685, 560), (630, 720), (550, 790)),
        curve((350, 790), (450, 815), (550, 790)),
        curve((690, 430), (800, 400), (860, 490), (800, 610), (650, 660)),
        curve((686, 490), (760, 470), (795, 510), (755, 575), (665, 600)),
    ],
    "elephant": [
        curve((360, 330), (480, 270), (650, 270), (800, 330), (860, 460), (850, 620)),
        curve((850, 620), (850, 800), (760, 810), (745, 650), (640, 660), (530, 650)),
        curve((530, 650), (530, 810), (440, 810), (425, 660), (400, 560)),
        curve((360, 330), (270, 300), (190, 350), (160, 470), (150, 620), (130, 740), (180, 760)),
        curve((180, 760), (215, 700), (225, 590), (260, 560), (330, 570), (400, 540)),
        curve((330, 340), (300, 430), (330, 540), (430, 540), (460, 430), (420, 340), (340, 340)),
        arc(250, 410, 14, 14),
        curve((240, 575), (250, 630), (300, 650)),
        curve((855, 430), (905, 500), (900, 580)),
    ],
    "eyeglasses": [
        arc(310, 520, 170, 150),
        arc(714, 520, 170, 150),
        curve((480, 500), (512, 470), (544, 500)),
        curve((140, 500), (90, 470), (70, 400)),
        curve((884, 500), (934, 470), (954, 400)),
    ],
    "fish": [
        curve((110, 520), (240, 380), (430, 320), (620, 380), (760, 500)),
        curve((110, 520), (240, 650), (430, 710), (620, 650), (760, 520)),
        curve((760, 510), (850, 420), (930, 350), (890, 510), (930, 680), (850, 610), (760, 510)),
        arc(240, 470, 22, 22),
        curve((330, 380), (370, 510), (330, 650)),
        curve((420, 325), (500, 220), (600, 260), (590, 365)),
        curve((450, 560), (540, 570), (570, 620), (480, 610), (450, 560)),
        curve((120, 545), (165, 560), (190, 545)),
    ],
    "guitar": [
        curve(
            *((470, 470), (380, 450), (330, 540), (380, 620), (330, 700), (340, 850), (512, 920), (684, 850)),
            *((694, 700), (644, 620), (694, 540), (644, 450), (554, 470)),
        ),
        arc(512, 660, 66, 66),
        lines((480, 595), (485, 180), (539, 180), (544, 595)),
        lines((485, 180), (465, 80), (559, 80), (539, 180)),
        lines((440, 800), (584, 800)),
        lines((505, 180), (505, 800)),
        lines((522, 180), (522, 800)),
    ],
    "mushroom": [
        curve((160, 520), (180, 340), (330, 200), (512, 170), (700, 200), (850, 340), (870, 520)),
        curve((160, 520), (330, 570), (512, 580), (700, 570), (870, 520)),
        curve((410, 575), (430, 720), (390, 850), (512, 880), (640, 850), (600, 720), (615, 575)),
        arc(380, 360, 52, 44),
        arc(600, 310, 60, 48),
        arc(720, 430, 40, 34),
        arc(500, 460, 42, 36),
    ],
    "umbrella": [
        curve((130, 520), (180, 320), (340, 190), (512, 160), (690, 190), (845, 320), (895, 520)),
        curve((130, 520), (195, 460), (260, 520)),
        curve((260, 520), (340, 455), (420, 520)),
        curve((420, 520), (512, 455), (604, 520)),
        curve((604, 520), (690, 455), (765, 520)),
        curve((765, 520), (830, 460), (895, 520)),
        curve((512, 495), (512, 700), (512, 850), (470, 900), (420, 870), (415, 820)),
        curve((512, 160), (380, 300), (260, 520)),
        curve((512, 160), (640, 300), (765, 520)),
        lines((512, 160), (512, 110)),
    ],
}


def strokes_of(name: str, shaky: bool = False) -> list[Stroke]:
    """A drawing's strokes; a shaky hand misses every point by a little."""
    random = np.random.default_rng(sorted(DRAWINGS).index(name))
    return [(stroke + random.normal(0, TREMOR, stroke.shape) * shaky).round(1).tolist() for stroke in DRAWINGS[name]]
