"""Class prototypes against loops and by hand."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from crossatnet.training import losses
from crossatnet.training.prototypes import HIDDEN, FreePrototypes, GraphPrototypes
from oracles import prototypes as oracle

CLASSES, WIDTH, DIMENSION = 7, 5, 4


def noise(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_graph(seed: int) -> Tensor:
    """Not symmetric, so that a row and a column cannot be confused; some edges are missing."""
    weights = noise(CLASSES, CLASSES, seed=seed).abs()
    return weights * (weights > 0.5) + torch.eye(CLASSES, dtype=torch.float64)


def graph_prototypes(vectors: Tensor, adjacency: Tensor, offset: Tensor | None = None) -> GraphPrototypes:
    torch.manual_seed(0)
    prototypes = GraphPrototypes(vectors, adjacency, DIMENSION).double()
    if offset is not None:
        with torch.no_grad():
            prototypes.offset.copy_(offset)
    return prototypes


def test_prototypes_are_unit_rows_of_the_weights() -> None:
    prototypes = FreePrototypes(3, 2)
    with torch.no_grad():
        prototypes.weight.copy_(torch.tensor([[3.0, 4.0], [0.0, -2.0], [0.5, 0.0]]))
    torch.testing.assert_close(prototypes(), torch.tensor([[0.6, 0.8], [0.0, -1.0], [1.0, 0.0]]))


def test_prototypes_start_apart_and_learn() -> None:
    torch.manual_seed(0)
    prototypes = FreePrototypes(20, 64)
    similarity = prototypes() @ prototypes().T - torch.eye(20)
    assert similarity.abs().max() < 0.6
    target = functional.normalize(torch.randn(20, 64), dim=1)
    before = (prototypes() * target).sum(1)
    (-before.sum()).backward()
    with torch.no_grad():
        prototypes.weight -= 0.1 * prototypes.weight.grad
    assert ((prototypes() * target).sum(1) > before).all()


@pytest.mark.parametrize("seed", range(3))
def test_graph_convolution_equals_the_loop(seed: int) -> None:
    offset = noise(CLASSES, DIMENSION, seed=seed + 200)
    prototypes = graph_prototypes(noise(CLASSES, WIDTH, seed=seed), random_graph(seed + 100), offset)
    expected = oracle.graph_prototypes(
        prototypes.vectors.tolist(),
        prototypes.adjacency.tolist(),
        prototypes.first.weight.tolist(),
        prototypes.second.weight.tolist(),
        offset.tolist(),
    )
    torch.testing.assert_close(prototypes(), torch.tensor(expected, dtype=torch.float64))


def test_graph_convolution_by_hand() -> None:
    """Two classes that share everything, and one alone; hidden units copy the vectors, and so does the output."""
    adjacency = torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    prototypes = GraphPrototypes(torch.tensor([[6.0, 0.0], [0.0, 8.0], [5.0, -5.0]]), adjacency, 2)
    with torch.no_grad():
        for layer in (prototypes.first, prototypes.second):
            torch.nn.init.eye_(layer.weight)
    # rows 0 and 1: the mean (3, 4), twice the same; row 2: the rectified (5, 0)
    torch.testing.assert_close(prototypes(), torch.tensor([[0.6, 0.8], [0.6, 0.8], [1.0, 0.0]]))
    with torch.no_grad():
        prototypes.offset.copy_(torch.tensor([[1.0, -1.0], [0.0, 0.0], [-5.0, 2.0]]))
    # (3, 4) + (1, -1) = (4, 3); (5, 0) + (-5, 2) = (0, 2)
    torch.testing.assert_close(prototypes(), torch.tensor([[0.8, 0.6], [0.6, 0.8], [0.0, 1.0]]))


def train(prototypes: GraphPrototypes, weights: list[nn.Parameter], embedding: Tensor, label: Tensor) -> None:
    optimizer = torch.optim.Adam(weights, 0.02)
    for _ in range(40):
        optimizer.zero_grad()
        losses.classification(embedding, prototypes(), label, 0.1).backward()
        optimizer.step()


def test_offsets_tell_twins_in_the_graph_apart() -> None:
    """Classes 0 and 1 have the same vector and the same neighbours, so the layers alone cannot tell them apart."""
    vectors, adjacency = noise(4, WIDTH, seed=0), torch.eye(4, dtype=torch.float64)
    vectors[1], adjacency[:2, :2] = vectors[0], 0.5
    prototypes, label = graph_prototypes(vectors, adjacency), torch.arange(4)
    embedding = functional.normalize(torch.eye(4, dtype=torch.float64) + 0.1, dim=1)  # of four pictures, one a class
    assert prototypes.offset.count_nonzero() == 0
    torch.testing.assert_close(prototypes()[0], prototypes()[1])
    train(prototypes, [prototypes.first.weight, prototypes.second.weight], embedding, label)
    torch.testing.assert_close(prototypes()[0], prototypes()[1])
    train(prototypes, list(prototypes.parameters()), embedding, label)
    assert (prototypes()[0] - prototypes()[1]).norm() > 0.5
    assert torch.equal((embedding @ prototypes().T).argmax(1), label)


def test_an_offset_moves_its_own_class_alone() -> None:
    vectors, adjacency = noise(CLASSES, WIDTH, seed=0), random_graph(1)
    offset = torch.zeros(CLASSES, DIMENSION, dtype=torch.float64)
    offset[2] = 1
    moved = (graph_prototypes(vectors, adjacency, offset)() - graph_prototypes(vectors, adjacency)()).norm(dim=1)
    assert moved.nonzero().flatten().tolist() == [2]


@pytest.mark.parametrize("seed", range(3))
def test_permuting_the_classes_permutes_the_prototypes(seed: int) -> None:
    vectors, adjacency = noise(CLASSES, WIDTH, seed=seed), random_graph(seed + 100)
    offset = noise(CLASSES, DIMENSION, seed=seed)
    order = torch.randperm(CLASSES, generator=torch.Generator().manual_seed(seed))
    expected = graph_prototypes(vectors, adjacency, offset)()[order]
    permuted = graph_prototypes(vectors[order], adjacency[order][:, order], offset[order])
    torch.testing.assert_close(permuted(), expected)
    assert not torch.allclose(graph_prototypes(vectors[order], adjacency, offset[order])(), expected)


def test_without_edges_every_class_stands_alone() -> None:
    vectors = noise(CLASSES, WIDTH, seed=0)
    together = graph_prototypes(vectors, torch.eye(CLASSES, dtype=torch.float64))
    hidden = (vectors @ together.first.weight.T).clamp(min=0)
    torch.testing.assert_close(together(), functional.normalize(hidden @ together.second.weight.T, dim=1))
    for number in range(CLASSES):
        alone = graph_prototypes(vectors[[number]], torch.ones(1, 1, dtype=torch.float64))
        torch.testing.assert_close(alone(), together()[[number]])


def test_a_class_knows_its_neighbours_and_theirs() -> None:
    """On a chain 0 - 1 - 2 - 3, what changes at class 0 is felt by two layers at 1 and 2, and not at 3."""
    vectors = noise(4, WIDTH, seed=0)
    chain = (torch.arange(4)[:, None] - torch.arange(4)).abs().le(1).double() / 2
    changed = vectors.clone()
    changed[0] += 1
    moved = (graph_prototypes(changed, chain)() - graph_prototypes(vectors, chain)()).norm(dim=1)
    assert (moved[:3] > 0.01).all()
    assert moved[3] == 0


@pytest.mark.parametrize("scale", [0.001, 1.0, 1000.0])
def test_graph_prototypes_have_unit_length(scale: float) -> None:
    offset = scale * noise(CLASSES, DIMENSION, seed=2)
    prototypes = graph_prototypes(scale * noise(CLASSES, WIDTH, seed=0), random_graph(1), offset)()
    assert prototypes.shape == (CLASSES, DIMENSION)
    torch.testing.assert_close(prototypes.norm(dim=1), torch.ones(CLASSES, dtype=torch.float64))


@pytest.mark.parametrize("shape", [(CLASSES, CLASSES - 1), (CLASSES - 1, CLASSES), (CLASSES + 1, CLASSES + 1)])
def test_a_graph_of_another_number_of_classes_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"{CLASSES} class vectors need a square graph of as many"):
        GraphPrototypes(torch.zeros(CLASSES, WIDTH), torch.zeros(shape), DIMENSION)


def test_graph_prototypes_learn_by_their_layers_and_offsets() -> None:
    prototypes = graph_prototypes(noise(CLASSES, WIDTH, seed=0), random_graph(1))
    assert {name: tuple(weight.shape) for name, weight in prototypes.named_parameters()} == {
        "first.weight": (HIDDEN, WIDTH),
        "second.weight": (DIMENSION, HIDDEN),
        "offset": (CLASSES, DIMENSION),
    }
    target = functional.normalize(noise(CLASSES, DIMENSION, seed=2), dim=1)
    before = (prototypes() * target).sum()
    (-before).backward()
    with torch.no_grad():
        for weight in prototypes.parameters():
            assert weight.grad is not None
            assert weight.grad.norm() > 0
            weight -= 0.01 * weight.grad
    assert (prototypes() * target).sum() > before
    assert not prototypes.vectors.requires_grad
    assert not prototypes.adjacency.requires_grad


def test_gradients_equal_finite_differences() -> None:
    prototypes = graph_prototypes(noise(CLASSES, WIDTH, seed=0), random_graph(1))

    def of(second: Tensor, offset: Tensor) -> Tensor:
        result: Tensor = torch.func.functional_call(prototypes, {"second.weight": second, "offset": offset}, ())
        return result

    weights = noise(DIMENSION, HIDDEN, seed=2).requires_grad_(), noise(CLASSES, DIMENSION, seed=3).requires_grad_()
    assert torch.autograd.gradcheck(of, weights, fast_mode=True)
