"""Results: the scores of models with everything a reader must know about them, and their JSON file.

Shapes: `Q` queries, `N` gallery items, `D` embedding, `B` bytes of a packed code, `K` copies, `C` classes.
"""

import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from crossatnet.evaluation.instances import InstanceScores, evaluate_instances
from crossatnet.evaluation.metrics import RetrievalScores
from crossatnet.evaluation.protocol import SEED, ZERO_SHOT, Task
from crossatnet.evaluation.ranking import Classes, evaluate, evaluate_codes
from crossatnet.model.interface import GUIDED
from crossatnet.system.errors import UserError
from crossatnet.system.files import write_whole
from crossatnet.system.version import __version__

RESAMPLES = 1000  # of the classes, for a confidence interval
TIMED_QUERIES = 200  # a measured time is the median of so many searches
TIMED_HITS = 100  # of a timed search
DEFINITIONS = {
    "mAP@all": "mean over queries of plain average precision on the whole gallery, cosine similarity",
    "P@k": "relevant items among the first k, divided by k",
    "mAP@k": "over the first k; divided by (hits) among them, (min(k, R)) or (R), R relevant items in the gallery",
    "hash codes": "Hamming distance; expectations over random orders within ties",
    "asymmetric": "a query's signed distances from the hyperplanes times a picture's bits as +1 and -1",
    "ties": "similarities are compared exactly; expectations over random orders within ties, (VOC) takes ties whole",
    "guided": f"the first {GUIDED} hits of the cosine ranking, re-ordered by the mean of cosine and guided cosine",
    "interval": f"95% of mAP@all, percentile bootstrap over classes, {RESAMPLES} resamples, seed {SEED}",
    "with_duplicates": "the same metrics with copies of gallery pictures left in the gallery, behind all others",
    "seconds_per_query": f"one exact search for {TIMED_HITS} hits by numpy, median of up to {TIMED_QUERIES} queries",
}

INSTANCE_DEFINITIONS = {
    "acc@k": "share of sketches whose own photo is among the first k photos of its class, cosine similarity",
    "MRR": "mean reciprocal rank of the sketch's own photo among the photos of its class",
    "(all)": "among the photos of all classes of the test",
    "interval": f"95% of acc@1, percentile bootstrap over classes, {RESAMPLES} resamples, seed {SEED}",
    **{name: DEFINITIONS[name] for name in ("hash codes", "ties", "seconds_per_query")},
    "guided": f"photos re-ordered by the mean of cosine and guided cosine: all of a class of up to {GUIDED}, else the"
    f" first {GUIDED}",
}
Level = Literal["class", "instance"]


class PerQuery(BaseModel):
    """The score of every query by the first metric, and the place of its class among the sorted names of classes.

    Both are numbers in a line of text: as lists they would take a line each.
    """

    model_config = ConfigDict(frozen=True)

    scores: str
    classes: str

    @classmethod
    def of(cls, scores: NDArray[np.float64], query_class: NDArray[np.generic]) -> "PerQuery":
        """The scores (Q,) of queries of these classes (Q,), to seven decimals."""
        number = np.unique(query_class.astype(str), return_inverse=True)[1]
        written = " ".join(f"{score:.7f}".rstrip("0").rstrip(".") for score in scores.tolist())
        return cls(scores=written, classes=" ".join(map(str, number.tolist())))

    def arrays(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Scores (Q,) and numbers of classes (Q,)."""
        return np.array(self.scores.split(), dtype=np.float64), np.array(self.classes.split(), dtype=np.int64)


class Row(BaseModel):
    """The scores of one model."""

    model_config = ConfigDict(frozen=True)

    model: str
    dimension: int
    metrics: dict[str, float]
    per_class: dict[str, float]
    other_metrics: dict[str, float] = {}  # by other definitions, which the metric's name says
    interval: tuple[float, float] | None = None  # of mAP@all, 95%
    with_duplicates: dict[str, float] | None = None  # None if the gallery has no copies
    seconds_per_query: float | None = None
    gallery_bytes: int | None = None
    per_query: PerQuery | None = None  # in results since then


class Results(BaseModel):
    """What was evaluated, how, and the scores; written as JSON."""

    model_config = ConfigDict(frozen=True)

    checkpoint: str
    fingerprint: str
    data: str
    split: str
    direction: str = "sketch->photo"
    setting: str = ZERO_SHOT
    level: Level = "class"  # of what is right: the query's class, or the very thing
    queries: int
    gallery: int
    classes: int
    unusable: list[str]
    duplicates: list[str]
    definitions: dict[str, str] = DEFINITIONS
    rows: list[Row] = Field(min_length=1)
    seed: int
    software: str = f"crossatnet {__version__}, torch {torch.__version__}"
    machine: str = ""
    date: str = ""

    @property
    def headline(self) -> str:
        """The metric that intervals and differences are of."""
        return "acc@1" if self.level == "instance" else "mAP@all"


WRITTEN: TypeAdapter[Results | list[Results]] = TypeAdapter(Results | Annotated[list[Results], Field(min_length=1)])


def score(
    model: str, dimension: int, query: NDArray[Any], gallery: NDArray[Any], task: Task, at: Sequence[int]
) -> tuple[Row, RetrievalScores]:
    """The row of a model, and the scores of every query, which the row sums up.

    Embeddings (Q, D), (N, D) are ranked by cosine, packed codes (Q, B), (N, B) by Hamming distance.

    Raises `UserError` as `ranking.evaluate` does.

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.protocol import Task
        >>> from crossatnet.evaluation.results import score
        >>> row, scores = score("mine", 2, np.eye(2), np.eye(2), Task(["cat", "dog"], ["cat", "dog"]), at=(1,))
        >>> row.metrics["mAP@all"]
        1.0
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


def score_instances_of(
    model: str, dimension: int, query: NDArray[Any], gallery: NDArray[Any], lists: Sequence[Classes]
) -> tuple[Row, InstanceScores]:
    """As `score`, for fine-grained retrieval; `lists` are query_class, query_instance, gallery_class, gallery_instance.

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.results import score_instances_of
        >>> names = [["cat", "cat"], ["tom", "kit"]]
        >>> score_instances_of("mine", 2, np.eye(2), np.eye(2), [*names, *names])[0].metrics["acc@1"]
        1.0
    """
    query_class, query_instance, gallery_class, gallery_instance = lists
    scores = evaluate_instances(query, query_class, query_instance, gallery, gallery_class, gallery_instance)
    row = as_instance_row(model, dimension, scores)
    measured = {"seconds_per_query": seconds_per_query(query, gallery), "gallery_bytes": gallery.nbytes}
    return row.model_copy(update=measured), scores


def as_instance_row(model: str, dimension: int, scores: InstanceScores) -> Row:
    """One line of a table of fine-grained results."""
    return Row(
        model=model,
        dimension=dimension,
        metrics=scores.means(),
        per_class=scores.per_class(),
        interval=class_interval(scores.values["acc@1"], scores.query_class),
        per_query=PerQuery.of(scores.values["acc@1"], scores.query_class),
    )


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
        per_query=PerQuery.of(scores.average_precision, scores.query_class),
    )


def class_interval(average_precision: NDArray[np.float64], query_class: NDArray[np.generic]) -> tuple[float, float]:
    """95% confidence interval of mAP@all, by the percentile bootstrap over classes (Efron 1979).

    Queries of one class resemble each other, and the interval is to say how the score would be on other classes. So
    classes, with all their queries, are drawn with replacement, `RESAMPLES` times with seed `SEED`. Takes (Q,) and
    (Q,).

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.results import class_interval
        >>> class_interval(np.array([1.0, 1.0, 1.0]), np.array(["cat", "cat", "dog"]))
        (1.0, 1.0)
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

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.results import seconds_per_query
        >>> seconds_per_query(np.eye(2), np.eye(2)) > 0
        True
    """
    hits, seconds = min(TIMED_HITS, len(gallery)), []
    for one in query[:TIMED_QUERIES]:
        begin = time.perf_counter()
        distance = np.bitwise_count(one ^ gallery).sum(1) if one.dtype == np.uint8 else -(gallery @ one)  # (N,)
        nearest = np.argpartition(distance, hits - 1)[:hits]
        nearest[np.argsort(distance[nearest])]
        seconds.append(time.perf_counter() - begin)
    return float(np.median(seconds))


def save_results(results: Results | Sequence[Results], path: Path) -> None:
    """Write results as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, results_json(results) + "\n")


def results_json(results: Results | Sequence[Results]) -> str:
    """Results as a JSON object; those of several directions and settings as a list of objects."""
    several = [results] if isinstance(results, Results) else results
    written = [each.model_dump_json(indent=1) for each in several]
    return written[0] if len(written) == 1 else f"[{','.join(written)}]"


def load_results(path: Path) -> list[Results]:
    """What `crossatnet evaluate -o` wrote, one `Results` a direction and setting; `UserError` for another file."""
    try:
        read = WRITTEN.validate_json(path.read_bytes())
    except ValidationError as error:
        raise UserError(
            f"{path}: not results of `crossatnet evaluate CHECKPOINT -o FILE`, or of another version of them"
            f" ({_first_fault(error)}); write them again"
        ) from error
    return read if isinstance(read, list) else [read]


def _first_fault(error: ValidationError) -> str:
    """What is wrong, and where in the file; of the two forms that a file may have, in that which it comes nearer to."""
    fault = max(error.errors(), key=lambda fault: len(fault["loc"]))
    where = ".".join(str(part) for part in fault["loc"] if not str(part)[0].isupper() and "[" not in str(part))
    return f"{where}: {fault['msg']}" if where else fault["msg"]


def machine() -> str:
    """What the figures were measured on."""
    threads = torch.get_num_threads()
    processor = "CPU, 1 thread" if threads == 1 else f"CPU, {threads} threads"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else processor
    return f"{platform.system()} {platform.machine()}, {device}"
