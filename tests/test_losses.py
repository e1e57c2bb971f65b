"""Losses against loops, by hand, and their gradients against finite differences."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from crossatnet.losses import classification, cross_modal_triplet
from oracles import losses as oracle


def unit(rows: int, dimension: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(rows, dimension, generator=generator, dtype=torch.float64), dim=1)


def labels(rows: int, classes: int, seed: int) -> Tensor:
    return torch.randint(classes, (rows,), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_classification_equals_the_loop(seed: int, temperature: float) -> None:
    embedding, prototypes, label = unit(9, 5, seed), unit(4, 5, seed + 100), labels(9, 4, seed)
    expected = oracle.classification(embedding.tolist(), prototypes.tolist(), label.tolist(), temperature)
    assert classification(embedding, prototypes, label, temperature).item() == pytest.approx(expected, rel=1e-9)


def test_classification_by_hand() -> None:
    """Two prototypes at a right angle, the embedding on the first: log(1 + exp(-1 / temperature)) if it is right."""
    prototypes = torch.eye(2)
    embedding = torch.tensor([[1.0, 0.0]])
    right = classification(embedding, prototypes, torch.tensor([0]), 0.5).item()
    wrong = classification(embedding, prototypes, torch.tensor([1]), 0.5).item()
    assert right == pytest.approx(math.log(1 + math.exp(-2)), rel=1e-6)
    assert wrong == pytest.approx(right + 2, rel=1e-6)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("classes", "margin"), [(1, 0.2), (2, 0.2), (4, 0.5), (12, 0.0)])
def test_triplet_equals_the_loop(seed: int, classes: int, margin: float) -> None:
    sketch, photo, label = unit(12, 3, seed), unit(12, 3, seed + 100), labels(12, classes, seed)
    expected = oracle.cross_modal_triplet(sketch.tolist(), photo.tolist(), label.tolist(), margin)
    assert cross_modal_triplet(sketch, photo, label, margin).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_triplet_by_hand() -> None:
    """Similarities [[.6, .8], [1, 0]], classes 0 and 1, margin .1: rows give .3 and 1.1, columns .5 and .9."""
    sketch = torch.tensor([[1.0, 0.0], [0.6, 0.8]], dtype=torch.float64)
    photo = torch.tensor([[0.6, 0.8], [0.8, -0.6]], dtype=torch.float64)
    similarity = [[0.6, 0.8], [1.0, 0.0]]
    torch.testing.assert_close((sketch @ photo.T).tolist(), similarity)
    expected = (0.3 + 1.1) / 2 + (0.5 + 0.9) / 2
    assert cross_modal_triplet(sketch, photo, torch.tensor([0, 1]), 0.1).item() == pytest.approx(expected)


def test_triplet_takes_the_hardest_of_each() -> None:
    """Similarities [[1, 0, .8], [1, 0, .8], [0, -1, .6]], classes 0 0 1, margin .1."""
    sketch = torch.tensor([[1.0, 0.0]] * 2 + [[0.0, 1.0]], dtype=torch.float64)
    photo = torch.tensor([[1.0, 0.0], [0.0, -1.0], [0.8, 0.6]], dtype=torch.float64)
    label = torch.tensor([0, 0, 1])
    rows = [0.1 + 0.8 - 0.0, 0.1 + 0.8 - 0.0, max(0.0, 0.1 + 0.0 - 0.6)]
    columns = [max(0.0, 0.1 + 0.0 - 1.0), max(0.0, 0.1 - 1.0 - 0.0), 0.1 + 0.8 - 0.6]
    expected = sum(rows) / 3 + sum(columns) / 3
    assert cross_modal_triplet(sketch, photo, label, 0.1).item() == pytest.approx(expected)


def test_triplet_is_zero_once_classes_are_apart_by_the_margin() -> None:
    sketch = photo = torch.eye(3, dtype=torch.float64)  # positives at 1, negatives at 0
    label = torch.arange(3)
    assert cross_modal_triplet(sketch, photo, label, 1.0).item() == 0.0
    assert cross_modal_triplet(sketch, photo, label, 1.25).item() == pytest.approx(2 * 0.25)


def test_an_anchor_without_negatives_counts_nothing_and_has_no_gradient() -> None:
    sketch, photo = unit(4, 3, 0).requires_grad_(), unit(4, 3, 1)
    loss = cross_modal_triplet(sketch, photo, torch.zeros(4, dtype=torch.long), 0.5)
    loss.backward()
    assert loss.item() == 0.0
    assert sketch.grad is not None
    assert sketch.grad.tolist() == [[0.0] * 3] * 4  # zeros, not NaN


@pytest.mark.parametrize("seed", range(5))
def test_triplet_is_symmetric_in_the_modalities(seed: int) -> None:
    sketch, photo, label = unit(10, 4, seed), unit(10, 4, seed + 50), labels(10, 3, seed)
    forward, backward = (cross_modal_triplet(*pair, label, 0.3) for pair in ((sketch, photo), (photo, sketch)))
    assert forward.item() > 0
    torch.testing.assert_close(forward, backward, atol=1e-12, rtol=0)


def test_gradients_equal_finite_differences() -> None:
    sketch, photo, prototypes = (unit(6, 4, seed).requires_grad_() for seed in (0, 1, 2))
    label = torch.tensor([0, 1, 2, 0, 1, 2])
    assert cross_modal_triplet(sketch, photo, label, 0.4).item() > 0
    assert torch.autograd.gradcheck(lambda s, p: cross_modal_triplet(s, p, label, 0.4), (sketch, photo))
    assert torch.autograd.gradcheck(lambda s, p: classification(s, p, label, 0.1), (sketch, prototypes))
