"""The figures of a row: those of the ranking, an interval, copies left in, time and size."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from crossatnet.evaluation.protocol import SEED, Task
from crossatnet.evaluation.ranking import evaluate
from crossatnet.evaluation.results import RESAMPLES, class_interval, score, seconds_per_query

CLASSES = np.array(["ant", "bee", "cat"])


def drawn(**changes: Any) -> dict[str, NDArray[Any]]:
    """Arrays of a file: 5 queries, 9 gallery items, 4 dimensions."""
    random = np.random.default_rng(1)
    return {
        "query": random.normal(size=(5, 4)).astype(np.float32),
        "query_class": CLASSES[[0, 1, 2, 0, 1]],
        "gallery": random.normal(size=(9, 4)).astype(np.float32),
        "gallery_class": CLASSES[[0, 1, 2] * 3],
        **changes,
    }


def test_the_interval_is_that_of_a_loop_over_drawn_classes() -> None:
    random = np.random.default_rng(3)
    names = random.choice(list("abcdefg"), 60)  # classes of different sizes, in random order
    precision = random.uniform(size=60)
    generator, every, means = np.random.default_rng(SEED), sorted(set(names)), []
    for _ in range(RESAMPLES):
        pooled: list[float] = []
        for index in generator.integers(0, len(every), len(every)):
            pooled += [value for value, name in zip(precision, names, strict=True) if name == every[index]]
        means.append(sum(pooled) / len(pooled))
    assert class_interval(precision, names) == pytest.approx(np.percentile(means, [2.5, 97.5]))


def test_the_interval_of_one_class_is_its_mean() -> None:
    assert class_interval(np.array([0.25, 0.75]), np.array(["a", "a"])) == (0.5, 0.5)


def test_copies_are_scored_without_and_with() -> None:
    arrays = drawn()
    task = Task(arrays["query_class"], arrays["gallery_class"], copied=[2, 0], copied_class=["cat", "bee"])
    row, _ = score("any", 4, arrays["query"], arrays["gallery"], task, (3,))
    assert row.metrics == evaluate(*arrays.values(), at=(3,)).means()
    gallery = np.concatenate([arrays["gallery"], arrays["gallery"][2:3], arrays["gallery"][0:1]])
    classes = [*arrays["gallery_class"], "cat", "bee"]
    assert row.with_duplicates == evaluate(arrays["query"], arrays["query_class"], gallery, classes, at=(3,)).means()
    assert row.with_duplicates != row.metrics
    without, _ = score("any", 4, arrays["query"], arrays["gallery"], Task(*list(arrays.values())[1::2]), (3,))
    assert without.with_duplicates is None


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_search_is_timed_and_weighed(dtype: type) -> None:
    query, gallery = np.ones((3, 8), dtype=dtype), np.ones((300, 8), dtype=dtype)
    assert 0 < seconds_per_query(query, gallery) < 1
    assert 0 < seconds_per_query(query, gallery[:1]) < 1  # fewer items than hits
    row, _ = score("any", 8, query, gallery, Task(["a"] * 3, ["a"] * 300), (1,))
    assert row.gallery_bytes == 300 * 8 * np.dtype(dtype).itemsize
    assert row.seconds_per_query is not None
