"""Whitening against loops, scipy and by hand."""

import numpy as np
import pytest
import torch
from scipy.linalg import fractional_matrix_power
from torch import Tensor
from torch.nn import functional

from crossatnet.evaluation.ranking import evaluate
from crossatnet.training.whitening import RIDGE, whitening


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


@pytest.mark.parametrize("power", [0.0, 0.25, 0.5])
def test_equals_the_loop_and_scipy(power: float) -> None:
    rows, label = normal(30, 5) * torch.linspace(3, 0.1, 5), torch.tensor([0, 1, 2] * 10)
    covariance = np.zeros((5, 5))
    for row, own in zip(rows, label, strict=True):
        same = [other for other, its in zip(rows, label, strict=True) if its == own]
        residual = (row - sum(same) / len(same)).numpy()
        covariance += np.outer(residual, residual) / len(rows)
    spread = sum(covariance[d, d] for d in range(5)) / 5
    expected = fractional_matrix_power(covariance / spread + RIDGE * np.eye(5), -power)
    np.testing.assert_allclose(whitening(rows, label, power), expected, atol=1e-10)


def test_by_hand() -> None:
    """Within classes the first axis varies nine times as much as the second: variances 1.8 and 0.2 of the mean."""
    rows = torch.tensor([[3.0, 1.0], [-3.0, -1.0], [3.0, -1.0], [-3.0, 1.0]]).double() + 7
    scale = whitening(rows, torch.zeros(4), 0.5)
    torch.testing.assert_close(scale, torch.diag(torch.tensor([1.9, 0.3]).double() ** -0.5))


def test_half_a_power_makes_all_directions_vary_alike_but_for_the_ridge() -> None:
    rows, label = normal(4000, 6) * torch.linspace(3, 1, 6).double(), torch.arange(4000) % 4
    residual = rows @ whitening(rows, label, 0.5)
    residual -= torch.stack([residual[label == own].mean(0) for own in range(4)])[label]
    variance = torch.linalg.eigvalsh(residual.T @ residual / 4000)
    assert variance.max() / variance.min() < 1.4 < (3 / 1) ** 2


def test_does_not_depend_on_scale_labels_order_or_where_classes_lie() -> None:
    rows, label = normal(60, 8), torch.arange(60) % 6
    expected = whitening(rows, label, 0.25)
    torch.testing.assert_close(whitening(rows * 50, label, 0.25), expected)
    torch.testing.assert_close(whitening(rows, label * 7 - 3, 0.25), expected)
    torch.testing.assert_close(whitening(rows + normal(6, 8, seed=1)[label] * 9, label, 0.25), expected)
    torch.testing.assert_close(whitening(rows.flip(0), label.flip(0), 0.25), expected)


def test_finds_classes_that_it_has_not_seen_better() -> None:
    """Seen and unseen classes differ alike in all directions, but a few are noisier than the rest."""
    noise = torch.cat([torch.full((4,), 6.0), torch.full((28,), 1.0)]).double()
    centres, label = normal(40, 32), torch.arange(40).repeat(20)
    rows = centres[label] + noise * normal(800, 32, seed=1)
    seen = label < 20
    matrix = whitening(rows[seen], label[seen], 0.25)
    scores = []
    for part in (rows[~seen], rows[~seen] @ matrix):
        part, own = functional.normalize(part, dim=1).numpy(), label[~seen].numpy()
        scores.append(evaluate(part[:200], own[:200], part[200:], own[200:]).means()["mAP@all"])
    assert scores[1] > 1.2 * scores[0]


def test_directions_without_variance_are_not_blown_up() -> None:
    rows, label = normal(40, 3) @ normal(3, 64, seed=1), torch.arange(40) % 5
    matrix = whitening(rows.float(), label, 0.25)
    assert matrix.dtype == torch.float32
    assert torch.linalg.matrix_norm(matrix, 2) <= RIDGE**-0.25 + 1e-4
    torch.testing.assert_close(matrix, matrix.T)


@pytest.mark.parametrize("broken", [torch.zeros(0, 4), torch.zeros(4), torch.full((3, 4), torch.nan)])
def test_refuses_embeddings_it_cannot_whiten(broken: Tensor) -> None:
    with pytest.raises(ValueError, match="must be finite"):
        whitening(broken, torch.zeros(len(broken)), 0.25)


def test_wants_a_label_for_each_embedding_and_two_of_a_class() -> None:
    with pytest.raises(ValueError, match="5 embeddings have 4 labels"):
        whitening(normal(5, 8), torch.zeros(4), 0.25)
    with pytest.raises(ValueError, match="nothing varies within a class"):
        whitening(normal(5, 8).float(), torch.arange(5), 0.25)
