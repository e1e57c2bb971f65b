"""Drawings as strokes: Google's Quick, Draw! files, and strokes drawn as a picture.

Shapes: `P` the points of one stroke, each (x, y) with y growing downwards, in the units of whoever drew it.
"""

import gzip
import zlib
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from crossatnet.data.pictures.colours import PAPER
from crossatnet.system.documents import parse_json
from crossatnet.system.errors import ImageError

Drawing = tuple[NDArray[np.float32], ...]  # strokes (P, 2), in the order drawn

INK = 0
PEN_WIDTH = 0.012  # of the picture's side: measured 1.2% on Sketchy's sketches, 0.8% on TU-Berlin's
MARGIN = 0.1  # of the picture's side, on each edge: Sketchy's strokes span 66% of it, TU-Berlin's 78% (medians)
SUPERSAMPLING = 4  # ink is drawn this many times larger and averaged down, for smooth edges
SUFFIX, PACKED = ".ndjson", ".ndjson.gz"
LONGEST_LINE = 100_000_000  # bytes
MOST_UNPACKED = 8_000_000_000  # bytes: the largest raw file of Quick, Draw! has under one
STROKE_FILES_OPEN = 512  # more than the 345 classes of Quick, Draw!


class QuickDrawRow(NamedTuple):
    """One line of a Quick, Draw! file. `recognized`: the game guessed right what was drawn."""

    word: str
    key_id: str
    recognized: bool
    drawing: Drawing


def read_ndjson(path: Path, recognized_only: bool = False) -> list[QuickDrawRow]:
    """Read a Quick, Draw! file, simplified (strokes `[xs, ys]`) or raw (`[xs, ys, milliseconds]`).

    Raises `ImageError`, a `UserError`, for a missing file and for a malformed line, naming file and line.

    Example:
        >>> from crossatnet.data.strokes import read_ndjson
        >>> line = '{"word": "line", "key_id": "1", "recognized": true, "drawing": [[[0, 9], [0, 9]]]}'
        >>> _ = (tmp_path / "line.ndjson").write_text(line)
        >>> read_ndjson(tmp_path / "line.ndjson")[0].drawing[0].tolist()
        [[0.0, 0.0], [9.0, 9.0]]
    """
    rows = [_parse(line, f"{path}, line {number}") for number, line in _lines(path)]
    return [row for row in rows if row.recognized or not recognized_only]


@dataclass(frozen=True)
class StrokeFile:
    """A Quick, Draw! file of which single drawings are read by their row, counted from 0 as `read_ndjson` lists them.

    `lines` holds the line number of every row and `offsets` the byte where that line starts.

    Example:
        >>> from crossatnet.data.strokes import StrokeFile
        >>> line = '{"word": "line", "key_id": "1", "recognized": true, "drawing": [[[0, 9], [0, 9]]]}'
        >>> _ = (tmp_path / "line.ndjson").write_text(line)
        >>> file = StrokeFile.open(tmp_path / "line.ndjson")
        >>> len(file), file.read(0).word, file.image(0).size
        (1, 'line', (256, 256))
    """

    path: Path
    lines: NDArray[np.int64]
    offsets: NDArray[np.int64]

    @staticmethod
    def open(path: Path) -> "StrokeFile":
        """Find where the rows start, remembered until the file changes. Raises `ImageError` if it is missing."""
        with _plain_errors(path):
            status = path.stat()
            return _index(path, status.st_mtime_ns, status.st_size)

    def __len__(self) -> int:
        return len(self.offsets)

    def read(self, row: int) -> QuickDrawRow:
        """Read one row; raises `ImageError` if there is no such row or it is malformed."""
        if not 0 <= row < len(self):
            raise ImageError(f"{self.path}: no drawing {row + 1}; it has {len(self)}, counted from 1")
        with _plain_errors(self.path), _opened(self.path) as file:
            file.seek(int(self.offsets[row]))
            line = file.readline(LONGEST_LINE)
        return _parse(line, f"{self.path}, line {self.lines[row]}")

    def image(self, row: int) -> Image.Image:
        """One row drawn with the defaults of `render`; raises `ImageError`, naming the line, for an empty drawing."""
        drawing = self.read(row).drawing
        if not drawing:
            raise ImageError(f"{self.path}, line {self.lines[row]}: a drawing without strokes; leave it out")
        return render(drawing)


def is_stroke_file(path: str | Path) -> bool:
    """Whether a file's name says that it holds strokes.

    Example:
        >>> from crossatnet.data.strokes import is_stroke_file
        >>> is_stroke_file("owl.ndjson.gz"), is_stroke_file("owl.png")
        (True, False)
    """
    return str(path).endswith((SUFFIX, PACKED))


def word_of(path: Path) -> str | None:
    """What the drawings of a file show, as its first row says; None where there is none that can be read.

    Example:
        >>> from crossatnet.data.strokes import word_of
        >>> _ = (tmp_path / "a.ndjson").write_text('{"word": "owl", "key_id": "1", "recognized": true, "drawing": []}')
        >>> word_of(tmp_path / "a.ndjson")
        'owl'
    """
    with suppress(ImageError), closing(_lines(path)) as lines:
        for number, line in lines:
            return _parse(line, f"{path}, line {number}").word or None
    return None


def named_drawing(name: str) -> Drawing | None:
    """The drawing that `FILE.ndjson:3`, the third in a file of strokes, or `FILE.ndjson`, the first, names.

    None for the name of another file. Raises `ImageError` for one that is not there, and for a number that is none.

    Example:
        >>> from crossatnet.data.strokes import named_drawing
        >>> line = '{"word": "line", "key_id": "1", "recognized": true, "drawing": [[[0, 9], [0, 9]]]}'
        >>> _ = (tmp_path / "line.ndjson").write_text(line)
        >>> len(named_drawing("line.ndjson:1")), named_drawing("line.png") is None
        (1, True)
    """
    path, colon, number = name.rpartition(":")
    if not colon or not is_stroke_file(path):
        path, number = name, "1"
    if not is_stroke_file(path):
        return None
    if not number.isascii() or not number.isdigit() or int(number) < 1:
        raise ImageError(f"{name}: give the number of a drawing, from 1, after the colon")
    return StrokeFile.open(Path(path)).read(int(number) - 1).drawing


def render(drawing: Drawing, size: int = 256, width: float = PEN_WIDTH, margin: float = MARGIN) -> Image.Image:
    """Draw strokes in black on white paper: RGB, `size` x `size` pixels.

    The drawing is scaled to the paper, centred, its proportions kept. `width` of the pen and `margin`, the white
    left on each edge, are shares of the side. A stroke of one point becomes a dot. Raises `ImageError` for a drawing
    without points, and for measures that leave no room to draw.

    Example:
        >>> import numpy as np
        >>> from crossatnet.data.strokes import render
        >>> roof = np.array([[0, 10], [10, 0], [20, 10]], dtype=np.float32)
        >>> render((roof,), size=64).size
        (64, 64)
    """
    if not drawing or not all(len(stroke) for stroke in drawing):
        raise ImageError("a drawing without strokes, or with a stroke without points; leave it out")
    room = 1 - 2 * margin - width  # the pen's centre stays half its width inside the margin
    if size < 1 or width <= 0 or margin < 0 or room <= 0:
        raise ImageError(
            f"nothing can be drawn with size {size}, width {width} and margin {margin}; the size must be positive, and"
            " the width and two margins together less than 1"
        )
    side = size * SUPERSAMPLING
    points = np.concatenate(drawing).astype(np.float64)
    low, high = points.min(0), points.max(0)
    extent = float((high - low).max())
    scale = side * room / extent if extent > 0 else 0.0
    paper = Image.new("L", (side, side), PAPER[0])  # half the time of three equal channels
    for stroke in drawing:
        _draw_stroke(ImageDraw.Draw(paper), (stroke - (low + high) / 2) * scale + side / 2, side * width)
    return paper.reduce(SUPERSAMPLING).convert("RGB")


def _draw_stroke(draw: ImageDraw.ImageDraw, points: NDArray[np.float64], width: float) -> None:
    """Draw one stroke (P, 2), in pixels, with round ends and corners: a disc on every point, bars between them."""
    corners = [(float(x), float(y)) for x, y in points]
    if len(corners) > 1:
        draw.line(corners, INK, max(1, round(width)))
    for x, y in corners:
        draw.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), INK)


@lru_cache(maxsize=STROKE_FILES_OPEN)
def _index(path: Path, modified: int, size: int) -> StrokeFile:
    """The rows of one state of a file, which differs from its other states in `modified` (ns) or `size` (bytes)."""
    lines: list[int] = []
    offsets: list[int] = []
    offset = 0
    with _opened(path) as file:
        for number, line in enumerate(_bounded(path, file), 1):
            if line.strip():
                lines.append(number)
                offsets.append(offset)
            offset += len(line)
    return StrokeFile(path, np.array(lines, np.int64), np.array(offsets, np.int64))


def _lines(path: Path) -> Generator[tuple[int, bytes]]:
    """The lines that hold something, with their numbers from 1."""
    with _plain_errors(path), _opened(path) as file:
        yield from ((number, line) for number, line in enumerate(_bounded(path, file), 1) if line.strip())


def _opened(path: Path) -> BufferedReader | gzip.GzipFile:
    """A file of strokes, unpacked where it is packed."""
    return gzip.open(path, "rb") if path.name.endswith(PACKED) else path.open("rb")


def _bounded(path: Path, file: BufferedReader | gzip.GzipFile) -> Iterator[bytes]:
    """The lines of a file that does not unpack to more than anybody draws."""
    size = 0
    while line := file.readline(LONGEST_LINE):
        size += len(line)
        if size > MOST_UNPACKED:
            raise ImageError(f"{path}: more than {MOST_UNPACKED // 1_000_000_000} GB of strokes; cut it into parts")
        yield line


@contextmanager
def _plain_errors(path: Path) -> Iterator[None]:
    """Turns what reading a file of strokes may raise into `ImageError`."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{path}: cannot be read ({reason}); give a Quick, Draw! file (.ndjson)") from error


def _parse(line: bytes, where: str) -> QuickDrawRow:
    try:
        row = parse_json(line)
    except ValueError as error:  # not JSON, or not UTF-8
        raise ImageError(f"{where}: not JSON ({error}); download the file again or delete the line") from error
    if not isinstance(row, dict):
        raise ImageError(f"{where}: not a JSON object; is this a Quick, Draw! file?")
    for key, kind in (("word", str), ("key_id", str), ("recognized", bool), ("drawing", list)):
        if not isinstance(row.get(key), kind):
            raise ImageError(f"{where}: '{key}' is missing or not a {kind.__name__}; is this a Quick, Draw! file?")
    strokes = tuple(_stroke(stroke, f"{where}, stroke {index}") for index, stroke in enumerate(row["drawing"], 1))
    return QuickDrawRow(row["word"], row["key_id"], row["recognized"], strokes)


def _stroke(value: object, where: str) -> NDArray[np.float32]:
    """One stroke (P, 2) from its JSON value; times, the third list of the raw format, are checked and dropped."""
    if not isinstance(value, list) or len(value) not in (2, 3):
        raise ImageError(f"{where}: not [xs, ys] or [xs, ys, times]; correct or delete the line")
    try:
        numbers = np.asarray(value)
    except ValueError as error:
        raise ImageError(f"{where}: its lists differ in length; correct or delete the line") from error
    if numbers.ndim != 2 or numbers.shape[1] == 0 or numbers.dtype.kind not in "iuf":
        raise ImageError(f"{where}: not lists of numbers with one point at least; correct or delete the line")
    with np.errstate(over="ignore"):  # what overflows becomes infinite and is refused below
        stroke = numbers[:2].T.astype(np.float32)  # (P, 2)
    if not np.isfinite(stroke).all():
        raise ImageError(f"{where}: a coordinate is not a finite number; correct or delete the line")
    return stroke
