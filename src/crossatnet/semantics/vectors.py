"""Class vectors: what the names of classes mean, from the packaged table or from a file of the user's own.

Nothing about a class that was not asked for enters the result, so that training may ask for the seen classes while
the unseen ones stay unknown: rows are picked and scaled one by one, with no mean or other statistic over a table.

Shapes: `K` classes, `N` rows of a table, `V` its width, 384 in the packaged one.
"""

import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from crossatnet.data.arrays import stored_array
from crossatnet.data.names import canonical
from crossatnet.semantics.senses import sense_of
from crossatnet.system.errors import UserError

PACKAGED = "gloss"
GLOSS_TABLE = Path(__file__).parent / "gloss.npz"  # made by tools/make_class_vectors.py
FILLERS = frozenset({"a", "an", "and", "at", "for", "in", "of", "on", "the", "to", "with"})
LONGEST_LINE = 1 << 20  # bytes; a table's longest rows hold some 10,000
OTHER_TABLES = (
    "name a .npz file with the arrays `names` and `vectors`, or a .txt or .vec file of word vectors (GloVe, word2vec)"
)

UNREADABLE = (OSError, ValueError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error)  # a bad .npz

Vector = NDArray[np.float64]  # (V,)


def class_vectors(names: Sequence[str], source: str | Path = PACKAGED) -> NDArray[np.float32]:
    """The vector of every class, L2-normalised, in the order of `names`: (K, V).

    `source` is one of:

    - `"gloss"`: the packaged table, MiniLM sentence embeddings of "name: WordNet definition" for the classes of every
      packaged split;
    - a `.npz` file with the arrays `names` (N,) and `vectors` (N, V), one row a class;
    - a `.txt` or `.vec` file of word vectors, in the text format of GloVe or word2vec, see `word_vector`.

    Names are canonicalised first, so `"car"` and `"car_sedan"` give the same row. A table's other rows are never
    used: what they hold cannot change the result.

    Raises `UserError` for classes without a vector, all of them named; for a vector that is not finite or is zero;
    and for a file that is missing, damaged, of another kind, of the wrong shapes, or with a name in it twice.

    Example:
        >>> from crossatnet.semantics import class_vectors
        >>> class_vectors(["zebra", "horse"]).shape
        (2, 384)
    """
    classes = [canonical(name) for name in names]
    if not classes:
        raise UserError("no classes to find vectors for; name at least one")
    path = GLOSS_TABLE if source == PACKAGED else Path(source)
    if not path.is_file():
        raise UserError(f"no class vectors '{source}'; say '{PACKAGED}' for the packaged ones, or {OTHER_TABLES}")
    match path.suffix.lower():
        case ".npz":
            found = _read_classes(path, classes)
        case ".txt" | ".vec":
            words = _read_words(path, {form for name in classes for form in _forms(name)})
            found = {name: vector for name in classes if (vector := word_vector(name, words)) is not None}
        case _:
            raise UserError(f"{path}: not a kind of class vectors that is known; {OTHER_TABLES}")
    if missing := sorted(set(classes) - set(found)):
        where = "the packaged table, which knows the classes of the packaged splits" if path == GLOSS_TABLE else path
        raise UserError(f"no vector for {', '.join(missing)} in {where}; rename these classes, or {OTHER_TABLES}")
    return np.stack([_unit(found[name], f"{path}: the vector of {name}") for name in classes])  # (K, V)


def word_vector(name: str, words: dict[str, Vector]) -> Vector | None:
    """A class's vector from those of words, or None where the table lacks them.

    The phrases that stand for the class in `senses.csv` are tried, then its own name: first each phrase as one word
    ("hot_air_balloon", "hot-air-balloon", "hotairballoon"), then each as the mean of its words' vectors, where all of
    them must be there; fillers such as "of" or "with" are left out if the table lacks any word of the phrase.

    Args: name in canonical spelling, words the table in lower case.

    Example:
        >>> import numpy as np
        >>> from crossatnet.semantics.vectors import word_vector
        >>> words = {"hot": np.array([1.0, 0.0]), "air": np.array([0.0, 1.0]), "balloon": np.array([1.0, 1.0])}
        >>> word_vector("hot_air_balloon", words).round(2).tolist()
        [0.67, 0.67]
    """
    for phrases in _phrases(name):
        for phrase in phrases:
            for form in _joined(phrase):
                if form in words:
                    return words[form]
        for phrase in phrases:
            for chosen in (phrase, [word for word in phrase if word not in FILLERS]):
                if chosen and all(word in words for word in chosen):
                    mean: Vector = np.mean([words[word] for word in chosen], axis=0)
                    return mean
    return None


def _phrases(name: str) -> Iterator[list[list[str]]]:
    """Phrases that stand for a class, as lists of words: those of its sense, then its name."""
    yield [re.findall(r"[^\W_]+", phrase.lower()) for phrase in sense_of(name).phrases]
    yield [name.split("_")]


def _joined(words: Sequence[str]) -> tuple[str, str, str]:
    return "_".join(words), "-".join(words), "".join(words)


def _forms(name: str) -> Iterator[str]:
    """Every word of a table that could have a part in the vector of a class."""
    for phrases in _phrases(name):
        for phrase in phrases:
            yield from _joined(phrase)
            yield from phrase


def _unit(vector: Vector, what: str) -> NDArray[np.float32]:
    # Scaling by the largest value first keeps the squares of very large and very small values in range.
    largest = np.abs(vector).max()
    if not np.isfinite(largest) or largest == 0:
        raise UserError(f"{what} is {'zero' if largest == 0 else 'not finite'}; mend or leave out that row")
    scaled = vector / largest
    unit: NDArray[np.float32] = (scaled / np.linalg.norm(scaled)).astype(np.float32)
    return unit


def _read_classes(path: Path, classes: Iterable[str]) -> dict[str, Vector]:
    """The rows of a table of classes that are among `classes`."""
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("not a .npz file inside")
        with np.load(path, allow_pickle=False) as file:
            names, vectors = stored_array(file, "names"), stored_array(file, "vectors")
    except KeyError as error:
        raise UserError(f"{path}: {error.args[0]}; class vectors need the arrays `names` and `vectors`") from error
    except UNREADABLE as error:
        raise UserError(f"{path}: cannot be read as class vectors ({error}); save it again with numpy.savez") from error
    if names.ndim != 1 or names.dtype.kind != "U":
        raise UserError(f"{path}: `names` is {_kind(names)}, not a list of texts (N,)")
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu" or vectors.shape[1] == 0:
        raise UserError(f"{path}: `vectors` is {_kind(vectors)}, not numbers (N, V)")
    if len(names) != len(vectors):
        raise UserError(f"{path}: {len(names)} names but {len(vectors)} vectors; each name needs one row")
    rows: dict[str, int] = {}
    for row, name in enumerate(canonical(str(name)) for name in names):
        if name in rows:
            raise UserError(f"{path}: {name} in rows {rows[name]} and {row} (aliases count as one class); keep one")
        rows[name] = row
    return {name: vectors[rows[name]].astype(np.float64) for name in classes if name in rows}


def _kind(array: NDArray[np.generic]) -> str:
    return f"an array {array.shape} of {array.dtype}"


def _read_words(path: Path, needed: set[str]) -> dict[str, Vector]:
    """The vectors of the words in `needed`, lower case, from a text file of any size, read line by line.

    A word in lower case goes before the same word in another case; between other cases the file's order decides.
    """
    try:
        with path.open("rb") as file:
            return _pick_words(path, file, needed)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the file and its rights") from error


def _pick_words(path: Path, file: BinaryIO, needed: set[str]) -> dict[str, Vector]:
    found: dict[str, Vector] = {}
    exact: dict[str, int] = {}  # words that were found in lower case, and their rows
    promised = rows = width = 0
    for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), 1):
        if len(line) == LONGEST_LINE:
            raise UserError(f"{path}, row {number}: too long for a word and its numbers; is this a text file?")
        if number == 1:
            promised, width = _shape(path, line)
            if promised:
                continue
        rows += not line.isspace()
        word = line.partition(b" ")[0].decode("utf-8", "replace")
        lower = word.lower()
        if lower not in needed:
            continue
        text, *numbers = line.rstrip().rsplit(b" ", width)
        if len(numbers) == width and b" " in text:
            continue  # GloVe has a few entries of several words, such as "email name@domain.com"
        if word == lower and word in exact:
            raise UserError(f"{path}: '{word}' in rows {exact[word]} and {number}; keep one")
        vector = _parse(path, number, numbers, width)
        if word == lower:
            exact[word] = number
            found[word] = vector
        else:
            found.setdefault(lower, vector)
    if promised and rows != promised:
        raise UserError(f"{path}: row 1 promises {promised} words, but there are {rows}; get the file again")
    return found


def _shape(path: Path, first: bytes) -> tuple[int, int]:
    """Number of words, 0 where the file does not say, and width of a text table, from its first row."""
    fields = first.split()
    if len(fields) == 2 and all(field.isdigit() and len(field) < 12 for field in fields):
        promised, width = int(fields[0]), int(fields[1])
        if not (promised and 0 < width < LONGEST_LINE):
            raise UserError(f"{path}, row 1: a table of {promised} words of {width} numbers holds nothing of use")
        return promised, width
    if len(fields) < 2:
        raise UserError(f"{path}, row 1: neither a word and its numbers nor the two counts of a word2vec file")
    return 0, len(fields) - 1


def _parse(path: Path, number: int, texts: Sequence[bytes], width: int) -> Vector:
    try:
        vector = np.array([float(text) for text in texts])  # (V,)
    except ValueError as error:
        raise UserError(f"{path}, row {number}: not a word and its numbers ({error})") from error
    if len(vector) != width:
        raise UserError(f"{path}, row {number}: {len(vector)} numbers, not {width} as in row 1; get the file again")
    return vector
