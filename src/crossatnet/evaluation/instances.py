"""Fine-grained retrieval: does a sketch find the very photo that it was drawn of?

Shapes: `Q` queries, `N` gallery items, `q n` those of one ranking.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossatnet.evaluation.classes import as_text
from crossatnet.evaluation.metrics import RetrievalScores, Values
from crossatnet.evaluation.ranking import Classes, evaluate, evaluate_codes
from crossatnet.system.errors import UserError

AT = (1, 5, 10)
Rows = NDArray[np.int64]
Judge = Callable[[Rows, Rows, NDArray[np.int64], NDArray[np.int64]], RetrievalScores]
"""Scores of some queries (q,) in a part of the gallery (n,), given the number of the thing that each one shows."""


@dataclass(frozen=True)
class InstanceTask:
    """Class and instance of queries (Q,) and gallery (N,): the one right answer to a query is the item of its instance.

    `asked` are the queries that have one; others are left out.

    Example:
        >>> from crossatnet.evaluation.instances import InstanceTask
        >>> InstanceTask.of(["cat", "cat"], ["tom", "kit"], ["cat", "dog"], ["tom", "rex"]).asked.tolist()
        [0]
    """

    query_class: NDArray[np.generic]
    gallery_class: NDArray[np.generic]
    query_number: NDArray[np.int64]  # of the instance
    gallery_number: NDArray[np.int64]
    asked: Rows

    @classmethod
    def of(
        cls, query_class: Classes, query_instance: Classes, gallery_class: Classes, gallery_instance: Classes
    ) -> "InstanceTask":
        """A task from lists. Instances are those of their class: equal names in two classes are two things.

        Raises `UserError` for lists that do not fit, a gallery that has an instance twice, and if no query's instance
        is in the gallery.
        """
        lists = {"query": (query_class, query_instance), "gallery": (gallery_class, gallery_instance)}
        named: dict[str, list[tuple[object, object]]] = {}
        classes: dict[str, NDArray[np.generic]] = {}
        for name, (of, instances) in lists.items():
            classes[name], things = as_text(of, f"{name}_class"), as_text(instances, f"{name}_instance")
            if things.shape != classes[name].shape or things.ndim != 1:
                raise UserError(f"{name} has classes of shape {classes[name].shape} but instances of {things.shape}")
            named[name] = list(zip(classes[name].tolist(), things.tolist(), strict=True))
        number: dict[tuple[object, object], int] = {}
        for thing in named["gallery"]:
            if thing in number:
                raise UserError(f"the gallery has the instance {thing[1]!r} of {thing[0]!r} twice; leave one out")
            number[thing] = len(number)
        sought = np.array([number.get(thing, -1) for thing in named["query"]], dtype=np.int64)
        if not (sought >= 0).any():
            raise UserError(
                "no query's instance is in the gallery; give queries and gallery the same names of instances"
            )
        return cls(classes["query"], classes["gallery"], sought, np.arange(len(number)), np.flatnonzero(sought >= 0))


@dataclass(frozen=True)
class InstanceScores:
    """Scores of every query that was asked, in the queries' order; the first is the one that others are judged by.

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.instances import evaluate_instances
        >>> names = [["cat", "cat"], ["tom", "kit"]]
        >>> scores = evaluate_instances(np.eye(2), *names, np.eye(2), *names, at=(1,))
        >>> scores.means()
        {'acc@1': 1.0, 'MRR': 1.0, 'acc@1 (all)': 1.0, 'MRR (all)': 1.0}
        >>> scores.per_class()
        {'cat': 1.0}
    """

    values: Values  # (q,) of each definition that `means` names
    query_class: NDArray[np.generic]  # (q,)

    def means(self) -> dict[str, float]:
        """Means over queries: `acc@k` and `MRR` within the class, those with `(all)` in the whole gallery."""
        return {name: float(values.mean()) for name, values in self.values.items()}

    def per_class(self) -> dict[str, float]:
        """The first value, acc@1 within the class by default, of the queries of each class."""
        first = next(iter(self.values.values()))
        return {str(name): float(first[self.query_class == name].mean()) for name in np.unique(self.query_class)}


def evaluate_instances(
    query: NDArray[Any],
    query_class: Classes,
    query_instance: Classes,
    gallery: NDArray[Any],
    gallery_class: Classes,
    gallery_instance: Classes,
    at: Sequence[int] = AT,
) -> InstanceScores:
    r"""Whether queries find the gallery item of their own instance: embeddings by cosine, packed codes by Hamming.

    Shapes as in `ranking.evaluate`. Of a query whose one right item has rank r, acc@k is $[r \le k]$ and the reciprocal
    rank $1 / r$. "Within the class" the gallery is that of the query's class, as the field defines fine-grained
    zero-shot retrieval (Yelamarthi et al. 2018; CLIP-AT, Sain et al. 2023); "(all)" is the gallery of all classes. In a
    tie both are expectations over its orders. Raises `UserError` as `InstanceTask.of` and `ranking.evaluate` do.

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.instances import evaluate_instances
        >>> names = [["cat", "cat"], ["tom", "kit"]]
        >>> evaluate_instances(np.eye(2)[::-1], *names, np.eye(2), *names, at=(1,)).means()["MRR"]
        0.5
    """
    judge = evaluate_codes if query.dtype == np.uint8 else evaluate

    def judged(rows: Rows, columns: Rows, asked: Rows, searched: Rows) -> RetrievalScores:
        return judge(query[rows], asked, gallery[columns], searched, at)

    task = InstanceTask.of(query_class, query_instance, gallery_class, gallery_instance)
    return score_instances(task, judged, judged, at)


def score_instances(task: InstanceTask, within: Judge, overall: Judge, at: Sequence[int] = AT) -> InstanceScores:
    """The scores of any way of ranking: one judge ranks a class for its own queries, one the whole gallery for all.

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.instances import InstanceTask, score_instances
        >>> from crossatnet.evaluation.ranking import evaluate_similarity
        >>> task = InstanceTask.of(["cat", "dog"], ["tom", "rex"], ["cat", "dog"], ["tom", "rex"])
        >>> def judge(rows, columns, asked, searched):
        ...     return evaluate_similarity(np.array([[0, 1], [0, 1]])[rows][:, columns], asked, searched, (1,))
        >>> score_instances(task, judge, judge, (1,)).means()
        {'acc@1': 1.0, 'MRR': 1.0, 'acc@1 (all)': 0.5, 'MRR (all)': 0.75}
    """
    columns, asked_class = np.arange(len(task.gallery_number)), task.query_class[task.asked]
    whole = _values(overall(task.asked, columns, task.query_number[task.asked], task.gallery_number), at)
    inner = {name: np.empty(len(task.asked)) for name in whole}
    for name in np.unique(asked_class):
        places, part = np.flatnonzero(asked_class == name), np.flatnonzero(task.gallery_class == name)
        rows = task.asked[places]
        for metric, values in _values(
            within(rows, part, task.query_number[rows], task.gallery_number[part]), at
        ).items():
            inner[metric][places] = values
    return InstanceScores({**inner, **{f"{name} (all)": values for name, values in whole.items()}}, asked_class)


def _values(scores: RetrievalScores, at: Sequence[int]) -> Values:
    """With one right item, P@k is acc@k / k, and average precision the reciprocal rank."""
    return {**{f"acc@{k}": scores.precision_at[k] * k for k in at}, "MRR": scores.average_precision}
