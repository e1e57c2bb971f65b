"""Scores of embeddings or hash codes, whatever made them, with all that a results table says of them.

Shapes: `Q` queries, `N` gallery items, `D` embedding, `B` bytes of a packed code, `K` copies, `C` classes.
"""

import hashlib
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from crossatnet.evaluation.metrics import RetrievalScores
from crossatnet.evaluation.ranking import evaluate, evaluate_codes
from crossatnet.system.errors import UserError

SEED = 0  # of every draw that an evaluation makes
RESAMPLES = 1000  # of the classes, for a confidence interval
TIMED_QUERIES = 200  # searches that a measured time is the median of
TIMED_HITS = 100  # hits that a timed search finds
ARRAYS = ("query", "query_class", "gallery", "gallery_class")


class Row(BaseModel):
    """The scores of one model."""

    model_config = ConfigDict(frozen=True)

    model: str
    dimension: int
    metrics: dict[str, float]
    per_class: dict[str, float]
    other_metrics: dict[str, float] = {}  # by other definitions, as the metric's name tells
    interval: tuple[float, float] | None = None  # of mAP@all, 95%
    with_duplicates: dict[str, float] | None = None  # the metrics if copies stay in the gallery; None: there are none
    seconds_per_query: float | None = None
    gallery_bytes: int | None = None


@dataclass(frozen=True)
class Task:
    """The classes of queries and gallery, which of them are one and the same picture, and copies left out.

    `same` (Q,) is the gallery row that is the query itself, or -1. `copied` (K,) are gallery rows that the data holds a
    second time, under `copied_class`.
    """

    query_class: Sequence[object] | NDArray[np.generic]
    gallery_class: Sequence[object] | NDArray[np.generic]
    same: NDArray[np.int64] | None = None
    copied: Sequence[int] = ()
    copied_class: Sequence[str] = ()


@dataclass(frozen=True)
class EmbeddingFile:
    """What a file of embeddings holds: embeddings (Q, D), (N, D), or codes (Q, B), (N, B), with their classes."""

    path: Path
    query: NDArray[Any]
    gallery: NDArray[Any]
    task: Task

    @property
    def task_digest(self) -> str:
        """SHA-256 of the classes of queries and gallery in their order: equal for two models put to one task."""
        lists = [
            np.asarray(classes).astype(str).tolist() for classes in (self.task.query_class, self.task.gallery_class)
        ]
        return hashlib.sha256(repr(lists).encode()).hexdigest()


def read_embeddings(path: Path) -> EmbeddingFile:
    """Read `query`, `query_class`, `gallery` and `gallery_class` from an .npz file, without unpickling anything.

    Raises `UserError` for another file, a missing array, an array of objects, and types or shapes that do not fit.
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
        array: NDArray[Any] = stored[name]
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


def score(
    model: str, dimension: int, query: NDArray[Any], gallery: NDArray[Any], task: Task, at: Sequence[int]
) -> tuple[Row, RetrievalScores]:
    """The row of a model, and the scores of every query that it sums up.

    Embeddings (Q, D), (N, D) are ranked by cosine, packed codes (Q, B), (N, B) by Hamming distance.

    Raises `UserError` as `ranking.evaluate` does.
    """
    judge = evaluate_codes if query.dtype == np.uint8 else evaluate
    scores = judge(query, task.query_class, gallery, task.gallery_class, at, same=task.same)
    row = as_row(model, dimension, scores)
    if len(task.copied):
        everything = np.concatenate([gallery, gallery[task.copied]])  # (N + K, D)
        classes = [*task.gallery_class, *task.copied_class]
        copies_too = judge(query, task.query_class, everything, classes, at, same=task.same).means()
        row = row.model_copy(update={"with_duplicates": copies_too})
    measured = {"seconds_per_query": seconds_per_query(query, gallery), "gallery_bytes": gallery.nbytes}
    return row.model_copy(update=measured), scores


def as_row(model: str, dimension: int, scores: RetrievalScores) -> Row:
    """One line of a results table."""
    metrics = scores.means()
    return Row(
        model=model,
        dimension=dimension,
        metrics=metrics,
        other_metrics={name: value for name, value in scores.all_means().items() if name not in metrics},
        per_class=scores.per_class(),
        interval=class_interval(scores.average_precision, scores.query_class),
    )


def class_interval(average_precision: NDArray[np.float64], query_class: NDArray[np.generic]) -> tuple[float, float]:
    """95% confidence interval of mAP@all, by the percentile bootstrap over classes (Efron 1979).

    Queries of one class resemble each other, and the question is how the score would be on other classes: so classes,
    with all their queries, are drawn with replacement, `RESAMPLES` times with seed `SEED`. Takes (Q,) and (Q,).
    """
    _, number, sizes = np.unique(query_class, return_inverse=True, return_counts=True)  # (Q,), (C,)
    sums = np.bincount(number, average_precision)  # (C,)
    drawn = np.random.default_rng(SEED).integers(0, len(sizes), (RESAMPLES, len(sizes)))  # (RESAMPLES, C)
    low, high = np.percentile(sums[drawn].sum(1) / sizes[drawn].sum(1), [2.5, 97.5])
    return float(low), float(high)


def seconds_per_query(query: NDArray[Any], gallery: NDArray[Any]) -> float:
    """Measured time in seconds of one exact search for the first `TIMED_HITS` of a gallery in memory.

    One query at a time, the median over the first `TIMED_QUERIES`; embeddings (Q, D), (N, D) of unit length by their
    dot product, packed codes (Q, B), (N, B) by Hamming distance. Embedding the query is not part of it.
    """
    hits, seconds = min(TIMED_HITS, len(gallery)), []
    for one in query[:TIMED_QUERIES]:
        begin = time.perf_counter()
        distance = np.bitwise_count(one ^ gallery).sum(1) if one.dtype == np.uint8 else -(gallery @ one)  # (N,)
        nearest = np.argpartition(distance, hits - 1)[:hits]
        nearest[np.argsort(distance[nearest])]
        seconds.append(time.perf_counter() - begin)
    return float(np.median(seconds))
