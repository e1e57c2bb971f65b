"""The score of any other model: from a file of its embeddings or hash codes.

Shapes: `Q` queries, `N` gallery items, `D` embedding, `B` bytes of a packed code.
"""

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossatnet.data.arrays import stored_array
from crossatnet.data.hashes import content_hash
from crossatnet.evaluation.protocol import SEED, Task
from crossatnet.evaluation.results import Results, machine, score
from crossatnet.system.errors import UserError

ARRAYS = ("query", "query_class", "gallery", "gallery_class")


@dataclass(frozen=True)
class EmbeddingFile:
    """What a file of embeddings holds: embeddings (Q, D), (N, D), or codes (Q, B), (N, B), with their classes."""

    path: Path
    query: NDArray[Any]
    gallery: NDArray[Any]
    task: Task

    @property
    def task_hash(self) -> str:
        """Hash of the classes of queries and gallery in their order: equal for two models with the same task."""
        lists = [
            np.asarray(classes).astype(str).tolist() for classes in (self.task.query_class, self.task.gallery_class)
        ]
        return hashlib.sha256(repr(lists).encode()).hexdigest()


def evaluate_embeddings(path: Path, at: Sequence[int] = (100, 200)) -> Results:
    """Score a file of embeddings or codes of any model, as `read_embeddings` takes it.

    The file does not name its data. So `data` is a hash of the classes of queries and gallery, and only files with the
    same task can be compared. Raises `UserError` for a file that cannot be scored.

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.embeddings import evaluate_embeddings
        >>> file = tmp_path / "mine.npz"
        >>> np.savez(file, query=np.eye(2), query_class=["cat", "dog"], gallery=np.eye(2), gallery_class=["cat", "dog"])
        >>> evaluate_embeddings(file, at=(1,)).rows[0].metrics
        {'mAP@all': 1.0, 'P@1': 1.0}
    """
    file = read_embeddings(path)
    dimension = file.query.shape[1] * (8 if file.query.dtype == np.uint8 else 1)
    try:
        row, _ = score(path.stem, dimension, file.query, file.gallery, file.task, at)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return Results(
        checkpoint=path.name,
        fingerprint=content_hash(path.read_bytes()),
        data=f"classes {file.task_hash[:16]}",
        split="as in the file",
        direction="query->gallery",
        setting="as in the file",
        queries=len(file.query),
        gallery=len(file.gallery),
        classes=len(row.per_class),
        unusable=[],
        duplicates=[],
        rows=[row],
        seed=SEED,
        machine=machine(),
        date=datetime.now(UTC).date().isoformat(),
    )


def read_embeddings(path: Path) -> EmbeddingFile:
    """Read `query`, `query_class`, `gallery` and `gallery_class` from an .npz file, without unpickling anything.

    Raises `UserError` for another file, a missing array, an array of objects, and types or shapes that do not fit.

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.embeddings import read_embeddings
        >>> file = tmp_path / "mine.npz"
        >>> np.savez(file, query=np.eye(2), query_class=["cat", "dog"], gallery=np.eye(2), gallery_class=["cat", "dog"])
        >>> read_embeddings(file).query.shape
        (2, 2)
    """
    arrays = {}
    try:
        with np.load(path, allow_pickle=False) as stored:
            if missing := [name for name in ARRAYS if name not in stored.files]:
                raise UserError(f"{path}: no array {', '.join(missing)}; it needs {', '.join(ARRAYS)}")
            for name in ARRAYS:
                arrays[name] = _read(path, name, stored)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; write one with numpy.savez({', '.join(ARRAYS)})") from error
    except UserError:
        raise
    except (ValueError, AttributeError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not an .npz file, or damaged; write one with numpy.savez") from error
    query, query_class, gallery, gallery_class = arrays.values()
    if (query.dtype == np.uint8) != (gallery.dtype == np.uint8):
        raise UserError(f"{path}: query is {query.dtype}, gallery {gallery.dtype}; give codes for both or for none")
    return EmbeddingFile(path, query, gallery, Task(query_class, gallery_class))


def _read(path: Path, name: str, stored: Any) -> NDArray[Any]:
    """One array of the file, of a type and number of axes that can be scored."""
    try:
        array = stored_array(stored, name)
    except ValueError as error:
        raise UserError(f"{path}: {name} cannot be read ({error}); save numbers or strings, not objects") from error
    if name.endswith("_class"):
        if array.ndim != 1 or array.dtype.kind not in "iuUS":
            raise UserError(
                f"{path}: {name} must be integers or strings of shape (rows,), not {array.dtype}{array.shape}"
            )
    elif array.ndim != 2 or not array.size or not (array.dtype.kind == "f" or array.dtype == np.uint8):
        raise UserError(
            f"{path}: {name} must be floats of shape (rows, dimensions), or packed codes, uint8 of shape (rows, bytes),"
            f" not {array.dtype}{array.shape}"
        )
    return array
