"""Losses against loops, by hand, and their gradients against finite differences."""

import math
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from crossatnet.training import losses
from crossatnet.training.losses import Mining
from crossatnet.training.objective import NO_RIVAL
from oracles import losses as oracle

ROWS, CLASSES = 12, 4
MINING: list[Mining] = ["hard", "semi-hard", "all"]


def noise(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit(rows: int, dimension: int, seed: int) -> Tensor:
    return functional.normalize(noise(rows, dimension, seed=seed), dim=1)


def labels(rows: int, classes: int, seed: int) -> Tensor:
    return torch.randint(classes, (rows,), generator=torch.Generator().manual_seed(seed))


def quarters(rows: int, columns: int, seed: int) -> Tensor:
    """Numbers on a coarse grid: their products are exact and often tie."""
    return (noise(rows, columns, seed=seed) * 4).round().clamp(-4, 4) / 4


def maps(seed: int) -> Tensor:
    return noise(ROWS, 3, 5, seed=seed).softmax(-1)


def sparse(attention: Tensor) -> Tensor:
    kept = attention.where(attention > 0.1, 0)
    return kept / kept.sum(-1, keepdim=True)


class Case(NamedTuple):
    """A loss on random input. Of `inputs`, those with ROWS rows make up the batch."""

    name: str
    inputs: Callable[[int], tuple[Tensor, ...]]
    settings: tuple[float, ...] = ()

    def loss(self, *inputs: Tensor) -> Tensor:
        result: Tensor = getattr(losses, self.name)(*inputs, *self.settings)
        return result

    def expected(self, *inputs: Tensor) -> float:
        value: float = getattr(oracle, self.name)(*(tensor.tolist() for tensor in inputs), *self.settings)
        return value


def classified(seed: int) -> tuple[Tensor, ...]:
    return unit(ROWS, 5, seed), unit(CLASSES, 5, seed + 100), labels(ROWS, CLASSES, seed)


def relaxed(seed: int, bits: int = 6) -> tuple[Tensor, ...]:
    return (noise(ROWS, bits, seed=seed).tanh(),)


CASES = {
    "classification, sharp": Case("classification", classified, (0.05,)),
    "classification": Case("classification", classified, (1.0,)),
    "ranking": Case("ranking", lambda seed: (noise(ROWS, seed=seed), noise(ROWS, seed=seed + 100)), (0.3,)),
    "latent": Case("latent", classified),
    "reconstruction": Case("reconstruction", lambda seed: (noise(ROWS, 7, seed=seed), noise(ROWS, 7, seed=seed + 100))),
    "feature agreement": Case("feature_agreement", lambda seed: (noise(ROWS, 5, seed=seed), unit(ROWS, 5, seed + 100))),
    "map agreement": Case("map_agreement", lambda seed: (maps(seed), maps(seed + 100))),
    "map agreement, sparse": Case("map_agreement", lambda seed: (maps(seed), sparse(maps(seed + 100)))),
    "quantisation": Case("quantisation", relaxed),
    "bit balance": Case("bit_balance", relaxed),
    "decorrelation": Case("decorrelation", relaxed),
    "decorrelation, one bit": Case("decorrelation", lambda seed: relaxed(seed, 1)),
    "knowledge": Case("knowledge", lambda seed: (noise(ROWS, 8, seed=seed), noise(ROWS, 8, seed=seed + 100)), (1.0,)),
    "knowledge, soft": Case(
        "knowledge", lambda seed: (3 * noise(ROWS, 8, seed=seed), 3 * noise(ROWS, 8, seed=seed + 100)), (4.0,)
    ),
}
STOPPED = [name for name in CASES if name.startswith(("reconstruction", "feature", "map", "knowledge"))]
each_case = pytest.mark.parametrize("name", CASES)
each_mining = pytest.mark.parametrize("mining", MINING)


@each_case
@pytest.mark.parametrize("seed", range(10))
def test_each_loss_equals_the_loop(name: str, seed: int) -> None:
    case = CASES[name]
    inputs = case.inputs(seed)
    loss = case.loss(*inputs)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(case.expected(*inputs), rel=1e-9, abs=1e-12)


@each_case
@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_the_batch_changes_nothing(name: str, seed: int) -> None:
    case = CASES[name]
    inputs, order = case.inputs(seed), torch.randperm(ROWS, generator=torch.Generator().manual_seed(seed))
    shuffled = [tensor[order] if len(tensor) == ROWS else tensor for tensor in inputs]
    torch.testing.assert_close(case.loss(*shuffled), case.loss(*inputs), atol=1e-12, rtol=1e-12)


@each_case
def test_gradients_equal_finite_differences(name: str) -> None:
    """A stopped side is held: finite differences would see through the stop."""
    inputs = CASES[name].inputs(0)
    for tensor in inputs[:1] if name in STOPPED else inputs:
        tensor.requires_grad_(tensor.is_floating_point())
    assert torch.autograd.gradcheck(CASES[name].loss, inputs)


@pytest.mark.parametrize("name", STOPPED)
def test_no_gradient_reaches_the_stopped_side(name: str) -> None:
    learner, stopped = (tensor.requires_grad_() for tensor in CASES[name].inputs(0))
    CASES[name].loss(learner, stopped).backward()
    assert stopped.grad is None
    assert learner.grad is not None
    assert learner.grad.norm() > 0


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("ranking", (torch.tensor([0.9, 0.3]), torch.tensor([0.5, -0.4]))),
        ("latent", (torch.eye(3)[[2, 0, 2]], torch.eye(3), torch.tensor([2, 0, 2]))),
        ("reconstruction", (noise(4, 3, seed=0), 3 * noise(4, 3, seed=0))),
        ("feature agreement", (2 * noise(4, 3, seed=0), noise(4, 3, seed=0))),
        ("map agreement", (maps(0), maps(0))),
        ("map agreement, sparse", (sparse(maps(0)), sparse(maps(0)))),
        ("quantisation", (torch.tensor([[1.0, -1.0], [-1.0, -1.0]]),)),
        ("bit balance", (torch.tensor([[1.0, -0.5], [-1.0, 0.5]]),)),
        ("decorrelation", (torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]),)),
        ("knowledge, soft", (noise(4, 5, seed=0) + 7, noise(4, 5, seed=0))),  # softmax does not see a shift
    ],
)
def test_zero_at_the_ideal(name: str, inputs: tuple[Tensor, ...]) -> None:
    learner = inputs[0].clone().requires_grad_()
    loss = CASES[name].loss(learner, *inputs[1:])
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-12)
    assert learner.grad is not None
    assert learner.grad.isfinite().all()


@pytest.mark.parametrize(
    ("loss", "arguments", "expected"),
    [
        (losses.ranking, (torch.tensor([0.9, 0.2]), torch.tensor([0.1, 0.4]), 0.3), (0.0 + 0.5) / 2),
        (losses.latent, (torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.eye(2), torch.tensor([1, 0])), (1 + 0.4) / 2),
        (losses.reconstruction, (torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[5.0, 0], [-2, 0]])), 2.4 / 2),
        (losses.feature_agreement, (torch.tensor([[0.0, 2.0]]), torch.tensor([[0.6, 0.8]])), 0.2),
        (
            losses.map_agreement,
            (torch.tensor([[[0.5, 0.5], [0.25, 0.75]]]), torch.tensor([[[1.0, 0.0], [0.5, 0.5]]])),
            (math.log(2) + 0.5 * math.log(2) + 0.5 * math.log(2 / 3)) / 2,
        ),
        (losses.quantisation, (torch.tensor([[0.5, -1.0], [0.0, -0.5]]),), (0.25 + 0 + 1 + 0.25) / 4),
        (losses.bit_balance, (torch.tensor([[1.0, 0.5], [1.0, -0.5]]),), (1 + 0) / 2),
        (losses.decorrelation, (torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]),), 2 * 0.5**2 / 6),
        (
            losses.knowledge,
            (torch.tensor([[0.0, 0.0]]), torch.tensor([[2 * math.log(3), 0.0]]), 2.0),
            4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5)),  # the teacher says 3 to 1, the student 1 to 1
        ),
    ],
)
def test_by_hand(loss: Callable[..., Tensor], arguments: tuple[Tensor | float, ...], expected: float) -> None:
    assert loss(*arguments).item() == pytest.approx(expected, rel=1e-6)


def test_classification_by_hand() -> None:
    """Two prototypes at a right angle, the embedding on the first: log(1 + exp(-1 / temperature)) if it is right."""
    prototypes = torch.eye(2)
    embedding = torch.tensor([[1.0, 0.0]])
    right = losses.classification(embedding, prototypes, torch.tensor([0]), 0.5).item()
    wrong = losses.classification(embedding, prototypes, torch.tensor([1]), 0.5).item()
    assert right == pytest.approx(math.log(1 + math.exp(-2)), rel=1e-6)
    assert wrong == pytest.approx(right + 2, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_map_that_underflowed_costs_much_but_stays_finite(dtype: torch.dtype) -> None:
    gallery = torch.tensor([[[0.0, 1.0]]], dtype=dtype, requires_grad=True)
    loss = losses.map_agreement(gallery, torch.tensor([[[1.0, 0.0]]], dtype=dtype))
    loss.backward()
    assert loss.item() == pytest.approx(-math.log(torch.finfo(dtype).tiny), rel=1e-2)
    assert gallery.grad is not None
    assert gallery.grad.isfinite().all()


def test_features_of_zeros_and_confident_logits_stay_finite() -> None:
    decoded = torch.zeros(2, 3, requires_grad=True)
    student = torch.tensor([[1000.0, 0.0, -1000.0]], requires_grad=True)
    (losses.reconstruction(decoded, torch.ones(2, 3)) + losses.knowledge(student, -student, 1.0)).backward()
    assert decoded.grad is not None
    assert student.grad is not None
    assert decoded.grad.isfinite().all()
    torch.testing.assert_close(student.grad, torch.tensor([[1.0, 0.0, -1.0]]))


def class_margins(classes: int, seed: int) -> Tensor:
    """Not symmetric, so that anchor and negative cannot be confused."""
    return quarters(classes, classes, seed).abs()


@each_mining
@pytest.mark.parametrize("with_class_margin", [False, True])
@pytest.mark.parametrize("draw", [unit, quarters])
@pytest.mark.parametrize(("classes", "margin"), [(1, 0.25), (2, 0.25), (4, 0.5), (12, 0.0)])
@pytest.mark.parametrize("seed", range(5))
def test_triplet_equals_the_loop(
    mining: Mining,
    with_class_margin: bool,
    draw: Callable[[int, int, int], Tensor],
    classes: int,
    margin: float,
    seed: int,
) -> None:
    sketch, photo, label = draw(ROWS, 3, seed), draw(ROWS, 3, seed + 100), labels(ROWS, classes, seed)
    extra = class_margins(classes, seed) if with_class_margin else None
    rows = extra.tolist() if extra is not None else None
    expected = oracle.cross_modal_triplet(sketch.tolist(), photo.tolist(), label.tolist(), margin, mining, rows)
    actual = losses.cross_modal_triplet(sketch, photo, label, margin, mining, extra)
    assert actual.shape == ()
    assert actual.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@each_mining
def test_triplet_by_hand(mining: Mining) -> None:
    """Similarities [[.6, .8], [1, 0]], classes 0 and 1, margin .1: rows give .3 and 1.1, columns .5 and .9.

    One triplet an anchor, and its negative the nearer, so every mining takes the same.
    """
    sketch = torch.tensor([[1.0, 0.0], [0.6, 0.8]], dtype=torch.float64)
    photo = torch.tensor([[0.6, 0.8], [0.8, -0.6]], dtype=torch.float64)
    torch.testing.assert_close((sketch @ photo.T).tolist(), [[0.6, 0.8], [1.0, 0.0]])
    loss = losses.cross_modal_triplet(sketch, photo, torch.tensor([0, 1]), 0.1, mining)
    assert loss.item() == pytest.approx((0.3 + 1.1) / 2 + (0.5 + 0.9) / 2)


@pytest.mark.parametrize(
    ("mining", "rows", "columns"),
    [
        # rows: anchor 0 of positives 1 and 0 meets .8, as does anchor 1; anchor 2 of positive .6 meets 0 and -1
        ("hard", (0.9 + 0.9 + 0.0) / 3, (0.0 + 0.0 + 0.3) / 3),
        # .8 is farther than 1 but beyond the margin; nothing is farther than 0, so the easiest, .8, stands in
        ("semi-hard", (0.0 + 0.9 + 0.0 + 0.9 + 0.0) / 5, (0.0 + 0.0 + 0.0 + 0.0 + 0.3) / 5),
        ("all", (0.9 + 0.9) / 2, (0.3 + 0.3) / 2),
    ],
)
def test_triplet_takes_what_its_mining_says(mining: Mining, rows: float, columns: float) -> None:
    """Similarities [[1, 0, .8], [1, 0, .8], [0, -1, .6]], classes 0 0 1, margin .1."""
    sketch = torch.tensor([[1.0, 0.0]] * 2 + [[0.0, 1.0]], dtype=torch.float64)
    photo = torch.tensor([[1.0, 0.0], [0.0, -1.0], [0.8, 0.6]], dtype=torch.float64)
    loss = losses.cross_modal_triplet(sketch, photo, torch.tensor([0, 0, 1]), 0.1, mining)
    assert loss.item() == pytest.approx(rows + columns)


@pytest.mark.parametrize(
    ("mining", "plain", "with_class_margin"),
    [
        ("hard", 0.4 / 5, 0.5 / 5),
        ("semi-hard", 0.2 / 5, 0.5 / 5),
        ("all", (0.4 + 0.3 + 0.2) / 3, (0.4 + 0.3 + 0.2 + 0.5) / 4),
    ],
)
def test_a_negative_counts_by_its_similarity_and_the_margin_of_its_class(
    mining: Mining, plain: float, with_class_margin: float
) -> None:
    """One sketch at .5 of its photo and .6, .5 (a tie, so not farther), .4, .1 of others; the other four are safe."""
    similarity = 5 * torch.eye(5, dtype=torch.float64)
    similarity[1:, 0] = -1
    similarity[0] = torch.tensor([0.5, 0.6, 0.5, 0.4, 0.1], dtype=torch.float64)
    inputs = torch.eye(5, dtype=torch.float64), similarity.T, torch.arange(5)  # not unit, to write them by hand
    extra = torch.zeros(5, 5, dtype=torch.float64)
    extra[0, 4], extra[4, 0] = 0.6, 1.0  # row: of the anchor's class, against the negative's
    assert losses.cross_modal_triplet(*inputs, 0.3, mining).item() == pytest.approx(plain)
    assert losses.cross_modal_triplet(*inputs, 0.3, mining, extra).item() == pytest.approx(with_class_margin)


@each_mining
def test_triplet_is_zero_once_classes_are_apart_by_the_margin(mining: Mining) -> None:
    sketch = photo = torch.eye(3, dtype=torch.float64)  # positives at 1, negatives at 0
    label = torch.arange(3)
    assert losses.cross_modal_triplet(sketch, photo, label, 1.0, mining).item() == 0.0
    assert losses.cross_modal_triplet(sketch, photo, label, 1.25, mining).item() == pytest.approx(2 * 0.25)
    quarter = torch.full((3, 3), 0.25)
    assert losses.cross_modal_triplet(sketch, photo, label, 1.0, mining, quarter).item() == pytest.approx(2 * 0.25)


@each_mining
@pytest.mark.parametrize("class_margin", [None, torch.ones(1, 1)])
def test_an_anchor_without_negatives_counts_nothing_and_has_no_gradient(
    mining: Mining, class_margin: Tensor | None
) -> None:
    sketch, photo = unit(4, 3, 0).requires_grad_(), unit(4, 3, 1)
    loss = losses.cross_modal_triplet(sketch, photo, torch.zeros(4, dtype=torch.long), 0.5, mining, class_margin)
    loss.backward()
    assert loss.item() == 0.0
    assert sketch.grad is not None
    assert sketch.grad.tolist() == [[0.0] * 3] * 4  # zeros, not NaN


@each_mining
@pytest.mark.parametrize("seed", range(5))
def test_triplet_is_symmetric_in_the_modalities_and_blind_to_order(mining: Mining, seed: int) -> None:
    sketch, photo, label = unit(ROWS, 4, seed), unit(ROWS, 4, seed + 50), labels(ROWS, 3, seed)
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(seed))
    extra = class_margins(3, seed)
    loss = losses.cross_modal_triplet(sketch, photo, label, 0.3, mining, extra)
    swapped = losses.cross_modal_triplet(photo, sketch, label, 0.3, mining, extra)
    shuffled = losses.cross_modal_triplet(sketch[order], photo[order], label[order], 0.3, mining, extra)
    assert loss.item() > 0
    torch.testing.assert_close(swapped, loss, atol=1e-12, rtol=0)
    torch.testing.assert_close(shuffled, loss, atol=1e-12, rtol=0)


@each_mining
@pytest.mark.parametrize("extra", [None, class_margins(3, 0)])
def test_triplet_gradients_equal_finite_differences(mining: Mining, extra: Tensor | None) -> None:
    sketch, photo = (unit(6, 4, seed).requires_grad_() for seed in (0, 1))
    label = torch.tensor([0, 1, 2, 0, 1, 2])
    assert losses.cross_modal_triplet(sketch, photo, label, 0.4, mining, extra).item() > 0
    assert torch.autograd.gradcheck(
        lambda s, p: losses.cross_modal_triplet(s, p, label, 0.4, mining, extra), (sketch, photo)
    )


def test_an_unknown_mining_is_refused() -> None:
    with pytest.raises(ValueError, match="'easy': use hard, semi-hard or all"):
        losses.cross_modal_triplet(unit(2, 3, 0), unit(2, 3, 1), torch.arange(2), 0.5, "easy")  # type: ignore[arg-type]


def test_relatives_are_no_wrong_answers() -> None:
    """The softmax is over the classes that are not related to the right one, by a loop over them."""
    generator = torch.Generator().manual_seed(0)
    embedding = functional.normalize(torch.randn(6, 4, generator=generator), dim=1)
    prototypes = functional.normalize(torch.randn(5, 4, generator=generator), dim=1)
    label = torch.tensor([0, 1, 2, 3, 4, 0])
    related = torch.zeros(5, 5, dtype=torch.bool)
    for one, other in ((0, 1), (2, 4)):
        related[one, other] = related[other, one] = True
    total = 0.0
    for row, right in zip(embedding.tolist(), label.tolist(), strict=True):
        logits = {k: oracle.dot(row, prototypes[k].tolist()) / 0.3 for k in range(5) if not related[right, k]}
        total -= math.log(math.exp(logits[right]) / sum(math.exp(logit) for logit in logits.values()))
    value = losses.classification(embedding, prototypes, label, 0.3, related).item()
    assert value == pytest.approx(total / 6, rel=1e-5)


@pytest.mark.parametrize("mining", ["hard", "semi-hard", "all"])
def test_relatives_are_no_rivals_of_a_positive(mining: losses.Mining) -> None:
    """A photo of a relative, the same as the sketch, costs nothing; one of another class does."""
    sketch = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    photo = torch.tensor([[0.6, 0.8], [1.0, 0.0]])
    label = torch.tensor([0, 1])
    margin = NO_RIVAL * torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    assert losses.cross_modal_triplet(sketch, photo, label, 0.2, mining).item() > 0
    assert losses.cross_modal_triplet(sketch, photo, label, 0.2, mining, margin).item() == 0
