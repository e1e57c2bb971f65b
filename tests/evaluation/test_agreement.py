"""Our definitions beside those of four libraries: where they agree, and each difference that docs/protocol.md lists."""

import numpy as np
import pytest
import pytrec_eval
import torch
from numpy.typing import NDArray
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from sklearn.metrics import average_precision_score
from torchmetrics.functional.retrieval import (
    retrieval_average_precision,
    retrieval_precision,
    retrieval_r_precision,
    retrieval_reciprocal_rank,
)

from crossatnet.evaluation.metrics import RetrievalScores
from crossatnet.evaluation.ranking import evaluate, evaluate_similarity

QUERIES, ITEMS, CLASSES = 20, 90, 6
Task = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]


def task(seed: int = 0, ties: bool = False) -> Task:
    """Similarities (Q, N) that float32 holds exactly, all different or with many ties, and classes."""
    random = np.random.default_rng(seed)
    most = 12 if ties else QUERIES * ITEMS
    places = random.integers(most, size=(QUERIES, ITEMS)) if ties else random.permutation(most).reshape(QUERIES, ITEMS)
    return places / 4096, np.arange(QUERIES) % CLASSES, np.arange(ITEMS) % CLASSES


def ours(of: Task, at: tuple[int, ...] = (5, 10)) -> RetrievalScores:
    return evaluate_similarity(of[0], of[1], of[2], at)


def relevant(of: Task) -> NDArray[np.bool_]:
    return of[1][:, None] == of[2]


# scikit-learn


def by_sklearn(of: Task) -> list[float]:
    return [average_precision_score(hits, row) for hits, row in zip(relevant(of), of[0], strict=True)]


@pytest.mark.parametrize("seed", range(3))
def test_scikit_learn_agrees(seed: int) -> None:
    assert ours(task(seed)).average_precision == pytest.approx(by_sklearn(task(seed)), abs=1e-12)


def test_scikit_learn_takes_ties_whole() -> None:
    """That is our `mAP@all (scikit-learn)`; the expectation over their orders is higher here."""
    tied = task(ties=True)
    scores = ours(tied)
    assert scores.values["mAP@all (scikit-learn)"] == pytest.approx(by_sklearn(tied), abs=1e-12)
    assert abs(scores.means()["mAP@all"] - np.mean(by_sklearn(tied))) > 0.005


# trec_eval


def by_trec(of: Task, names: set[str], documents: list[str] | None = None) -> dict[str, list[float]]:
    """Values of trec_eval by the names of its measures, for documents of these names."""
    ids = documents or [f"d{column:04}" for column in range(of[0].shape[1])]
    judged = {
        f"q{row:03}": {ids[column]: int(hit) for column, hit in enumerate(hits)}
        for row, hits in enumerate(relevant(of))
    }
    run = {f"q{row:03}": dict(zip(ids, values.tolist(), strict=True)) for row, values in enumerate(of[0])}
    found = pytrec_eval.RelevanceEvaluator(judged, names).evaluate(run)
    return {name: [found[query][name] for query in sorted(found)] for name in found["q000"]}


@pytest.mark.parametrize("seed", range(3))
def test_trec_eval_agrees(seed: int) -> None:
    found = by_trec(task(seed), {"map", "Rprec", "P.5,10", "map_cut.5,10"})
    values = ours(task(seed)).values
    names = {"map": "mAP@all", "Rprec": "R-precision", "P_5": "P@5", "P_10": "P@10"}
    names |= {"map_cut_5": "mAP@5 (R)", "map_cut_10": "mAP@10 (R)"}
    for theirs, name in names.items():
        assert values[name] == pytest.approx(found[theirs], abs=1e-12), name


def test_trec_eval_orders_ties_by_the_names_of_documents() -> None:
    """So other names give other scores; ours depend on no name and no order, and lie between its extremes."""
    tied = task(ties=True)
    rising, falling = (
        np.mean(by_trec(tied, {"map"}, names)["map"])
        for names in ([f"d{n:04}" for n in range(ITEMS)], [f"d{9999 - n}" for n in range(ITEMS)])
    )
    assert abs(rising - falling) > 0.001
    means = ours(tied).all_means()
    for value in (rising, falling):
        assert means["mAP@all (pessimistic)"] <= value <= means["mAP@all (optimistic)"]


def test_trec_eval_keeps_similarities_in_float32() -> None:
    """What differs in the ninth decimal ties there, and is ordered by name; here it is in its order."""
    close = (np.array([[0.5, 0.5 + 1e-9]]), np.array([0]), np.array([0, 1]))
    assert ours(close).average_precision.tolist() == [0.5]
    assert {by_trec(close, {"map"}, names)["map"][0] for names in (["a", "b"], ["b", "a"])} == {0.5, 1.0}


# torchmetrics


def by_torchmetrics(of: Task, metric: object, **options: object) -> list[float]:
    return [
        float(metric(torch.from_numpy(row).float(), torch.from_numpy(hits), **options))  # type: ignore[operator]
        for row, hits in zip(of[0], relevant(of), strict=True)
    ]


@pytest.mark.parametrize("seed", range(3))
def test_torchmetrics_agrees(seed: int) -> None:
    values = ours(task(seed)).values
    assert values["mAP@all"] == pytest.approx(by_torchmetrics(task(seed), retrieval_average_precision), abs=1e-6)
    assert values["R-precision"] == pytest.approx(by_torchmetrics(task(seed), retrieval_r_precision), abs=1e-6)
    assert values["P@10"] == pytest.approx(by_torchmetrics(task(seed), retrieval_precision, top_k=10), abs=1e-6)


def test_torchmetrics_divides_average_precision_at_k_by_the_hits_found() -> None:
    """The lenient one: not those divided by min(k, R) or R."""
    found = by_torchmetrics(task(), retrieval_average_precision, top_k=10)
    values = ours(task()).values
    assert values["mAP@10 (hits)"] == pytest.approx(found, abs=1e-6)
    assert np.mean(found) > 1.2 * values["mAP@10 (min(k, R))"].mean()


def test_torchmetrics_can_divide_precision_by_the_gallery_where_it_is_shorter_than_k() -> None:
    of = task()
    short = (of[0][:, :8], of[1], of[2][:8])
    values = ours(short, (20,)).values["P@20"]
    assert values == pytest.approx(by_torchmetrics(short, retrieval_precision, top_k=20), abs=1e-6)
    adaptive = by_torchmetrics(short, retrieval_precision, top_k=20, adaptive_k=True)
    assert values * 20 / 8 == pytest.approx(adaptive, abs=1e-6)


def test_torchmetrics_orders_ties_somehow() -> None:
    """Its value of a collapsed model depends on the gallery's order; ours does not."""
    tied = (np.zeros((1, 40)), np.array([1]), np.sort(np.arange(40) % 2))
    turned = (tied[0], tied[1], tied[2][::-1].copy())
    hits = torch.from_numpy(tied[2] == 1)
    ones = torch.ones(40)
    first, second = (float(retrieval_average_precision(ones, part)) for part in (hits, hits.flip(0)))
    assert first != pytest.approx(second, abs=0.1)
    assert ours(tied).average_precision.tolist() == ours(turned).average_precision.tolist()


def test_torchmetrics_scores_a_query_without_a_relevant_item_as_nothing_and_we_refuse_it() -> None:
    none = (np.array([[0.1, 0.2]]), np.array([7]), np.array([0, 1]))
    assert by_torchmetrics(none, retrieval_average_precision) == [0.0]
    assert by_torchmetrics(none, retrieval_reciprocal_rank) == [0.0]
    with pytest.raises(ValueError, match="the gallery has no item of class 7"):
        ours(none)


# pytorch-metric-learning


def embedded(seed: int = 0) -> tuple[NDArray[np.float32], ...]:
    random = np.random.default_rng(seed)
    rows = (random.standard_normal((size, 8)).astype(np.float32) for size in (QUERIES, ITEMS))
    return tuple(part / np.linalg.norm(part, axis=1, keepdims=True) for part in rows)


def by_metric_learning(query: NDArray[np.float32], gallery: NDArray[np.float32], **options: object) -> dict[str, float]:
    calculator = AccuracyCalculator(device=torch.device("cpu"), **options)
    labels = (torch.arange(QUERIES) % CLASSES, torch.arange(ITEMS) % CLASSES)
    found: dict[str, float] = calculator.get_accuracy(
        torch.from_numpy(query), labels[0], torch.from_numpy(gallery), labels[1]
    )
    return found


@pytest.mark.parametrize("seed", range(3))
def test_metric_learning_agrees_on_embeddings_of_length_one(seed: int) -> None:
    query, gallery = embedded(seed)
    relevant_items = ITEMS // CLASSES
    names = ("mean_average_precision", "mean_average_precision_at_r", "r_precision", "precision_at_1")
    found = by_metric_learning(query, gallery, include=names, k=ITEMS)
    scores = evaluate(query, np.arange(QUERIES) % CLASSES, gallery, np.arange(ITEMS) % CLASSES, (1, relevant_items))
    means = scores.all_means()
    expected = {
        "mean_average_precision": means["mAP@all"],
        "mean_average_precision_at_r": means[f"mAP@{relevant_items} (R)"],
        "r_precision": means["R-precision"],
        "precision_at_1": means["P@1"],
    }
    assert {name: found[name] for name in names} == pytest.approx(expected, abs=1e-6)


def test_metric_learning_stops_at_k_and_divides_by_all_relevant_items() -> None:
    """With its k below the gallery's size, its mean average precision is our `mAP@k (R)`."""
    query, gallery = embedded()
    found = by_metric_learning(query, gallery, include=("mean_average_precision",), k=10)["mean_average_precision"]
    means = evaluate(query, np.arange(QUERIES) % CLASSES, gallery, np.arange(ITEMS) % CLASSES, (10,)).all_means()
    assert found == pytest.approx(means["mAP@10 (R)"], abs=1e-6)
    assert found < means["mAP@10 (hits)"] - 0.1


def test_metric_learning_ranks_by_euclidean_distance_by_default() -> None:
    """Which is the order of cosines for embeddings of length one alone."""
    query, gallery = embedded()
    gallery = gallery * np.random.default_rng(1).uniform(0.3, 3, (ITEMS, 1)).astype(np.float32)
    found = by_metric_learning(query, gallery, include=("mean_average_precision",), k=ITEMS)["mean_average_precision"]
    classes = np.arange(QUERIES) % CLASSES, np.arange(ITEMS) % CLASSES
    by_distance = evaluate(query, classes[0], gallery, classes[1], distance="euclidean").means()["mAP@all"]
    assert found == pytest.approx(by_distance, abs=1e-6)
    assert abs(found - evaluate(query, classes[0], gallery, classes[1]).means()["mAP@all"]) > 0.005


def test_metric_learning_orders_ties_somehow() -> None:
    """Its value of a collapsed model depends on the gallery's order; ours does not."""
    rows = np.ones((40, 8), dtype=np.float32)
    gallery_class = np.sort(np.arange(40) % 2)
    calculator = AccuracyCalculator(include=("mean_average_precision",), k=40, device=torch.device("cpu"))
    query = torch.from_numpy(rows[:1])
    theirs, values = [], []
    for labels in (gallery_class, gallery_class[::-1].copy()):
        found = calculator.get_accuracy(query, torch.tensor([1]), torch.from_numpy(rows), torch.from_numpy(labels))
        theirs.append(found["mean_average_precision"])
        values.append(evaluate(rows[:1], [1], rows, labels).average_precision.tolist())
    assert theirs[0] != pytest.approx(theirs[1], abs=0.1)
    assert values[0] == values[1]


def test_metric_learning_leaves_out_a_query_without_a_relevant_item_and_we_refuse_it() -> None:
    query, gallery = embedded()
    calculator = AccuracyCalculator(include=("mean_average_precision",), k=ITEMS, device=torch.device("cpu"))
    labels = np.arange(QUERIES) % CLASSES, np.arange(ITEMS) % CLASSES
    asked = np.where(np.arange(QUERIES) == 0, 99, labels[0])
    found = calculator.get_accuracy(*map(torch.from_numpy, (query, asked, gallery, labels[1])))
    others = evaluate(query[1:], labels[0][1:], gallery, labels[1]).means()["mAP@all"]
    assert found["mean_average_precision"] == pytest.approx(others, abs=1e-6)
    with pytest.raises(ValueError, match="the gallery has no item of class 99"):
        evaluate(query, asked, gallery, labels[1])
