"""Fine-grained scores against a loop, by hand, and where they tie."""

import numpy as np
import pytest
from numpy.typing import NDArray

from crossatnet.evaluation.instances import InstanceTask, evaluate_instances
from crossatnet.system.errors import UserError


def loop(
    distances: NDArray[np.float64], right: int, columns: NDArray[np.int64], at: tuple[int, ...]
) -> dict[str, float]:
    """One query: its right item is equally likely to have any rank of its tie."""
    own = distances[right]
    before = sum(distances[column] < own for column in columns)
    tied = sum(distances[column] == own for column in columns)
    ranks = [before + place for place in range(1, tied + 1)]
    accuracies = {f"acc@{k}": sum(rank <= k for rank in ranks) / len(ranks) for k in at}
    return {**accuracies, "MRR": sum(1 / rank for rank in ranks) / len(ranks)}


@pytest.mark.parametrize("kind", ["floats", "codes"])
@pytest.mark.parametrize("seed", range(4))
def test_equals_the_loop(seed: int, kind: str) -> None:
    random = np.random.default_rng(seed)
    gallery_class = np.arange(40) % 4
    gallery_instance = random.permutation(40)
    drawn_of = random.integers(40, size=30)
    query_class, query_instance = gallery_class[drawn_of], gallery_instance[drawn_of]
    if kind == "codes":
        query, gallery = (random.integers(8, size=(rows, 2)).astype(np.uint8) for rows in (30, 40))
        distances = np.bitwise_count(query[:, None] ^ gallery).sum(2)
    else:
        query, gallery = (random.integers(-2, 3, size=(rows, 3)) + np.array([0.0, 0.0, 5.0]) for rows in (30, 40))
        gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
        gallery[20:] = gallery[:20]  # with ties
        distances = -np.round(query @ gallery.T, 9)
    scores = evaluate_instances(query, query_class, query_instance, gallery, gallery_class, gallery_instance, at=(1, 5))
    for row, right in enumerate(drawn_of):
        inside = np.flatnonzero(gallery_class == query_class[row])
        expected = loop(distances[row], right, inside, (1, 5))
        overall = loop(distances[row], right, np.arange(40), (1, 5))
        expected |= {f"{name} (all)": value for name, value in overall.items()}
        assert {name: values[row] for name, values in scores.values.items()} == pytest.approx(expected, abs=1e-12)


def test_by_hand() -> None:
    """At 0, 20 and 90 degrees: the first two are cats. The dog's photo is nearest to nothing asked."""
    angles = np.radians([0, 20, 90])
    gallery = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = evaluate_instances(gallery[[1, 1]], ["cat", "dog"], ["a", "c"], gallery, ["cat", "cat", "dog"], list("abc"))
    assert found.values["acc@1"].tolist() == [0, 1]
    assert found.values["MRR"].tolist() == [1 / 2, 1]
    assert found.values["acc@1 (all)"].tolist() == [0, 0]
    assert found.values["acc@5 (all)"].tolist() == [1, 1]
    assert found.values["MRR (all)"].tolist() == pytest.approx([1 / 2, 1 / 3])
    assert found.per_class() == {"cat": 0.0, "dog": 1.0}


def test_queries_without_their_item_are_left_out() -> None:
    """An item of the same name in another class is another thing."""
    task = InstanceTask.of(["cat", "dog", "cat"], ["1", "1", "2"], ["cat", "cat", "dog"], ["2", "3", "3"])
    assert task.asked.tolist() == [2]
    scores = evaluate_instances(
        np.eye(3), ["cat", "dog", "cat"], ["1", "1", "2"], np.eye(3), ["cat", "cat", "dog"], ["2", "3", "3"]
    )
    assert len(scores.values["acc@1"]) == len(scores.query_class) == 1


def test_names_what_does_not_fit() -> None:
    with pytest.raises(UserError, match="no query's instance is in the gallery"):
        InstanceTask.of(["cat"], ["1"], ["cat"], ["2"])
    with pytest.raises(UserError, match="the gallery has the instance '1' of 'cat' twice"):
        InstanceTask.of(["cat"], ["1"], ["cat", "cat"], ["1", "1"])
    with pytest.raises(UserError, match=r"query has classes of shape \(1,\) but instances of \(2,\)"):
        InstanceTask.of(["cat"], ["1", "2"], ["cat"], ["1"])
