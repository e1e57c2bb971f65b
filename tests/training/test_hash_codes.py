"""Hyperplanes fitted to training embeddings, against loops, numpy and by hand."""

import math
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from crossatnet.evaluation.ranking import evaluate_codes
from crossatnet.training import hash_codes
from crossatnet.training.hash_codes import itq, learned

Planes = tuple[Tensor, Tensor]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def uneven(rows: int, dimension: int) -> Tensor:
    """Float64 embeddings whose variance falls from direction to direction, away from the origin."""
    return (normal(rows, dimension) * torch.linspace(3, 0.3, dimension) + 1).double()


@cache
def clusters() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """20 classes in 64-d with noise: 25 embeddings of each to fit to, then 10 others of each, with labels."""
    centres = normal(20, 64)
    label = torch.arange(20).repeat(35)
    embeddings = functional.normalize(centres[label] + 1.2 * normal(len(label), 64, seed=1), dim=1)
    return embeddings[:500], label[:500], embeddings[500:], label[500:]


def codes(embeddings: Tensor, planes: Planes) -> Tensor:
    weight, offset = planes
    return embeddings @ weight.T > offset


def quantisation_error(embeddings: Tensor, weight: Tensor) -> float:
    """The squared distance between the centred embeddings' projections and their signs."""
    projected = (embeddings - embeddings.mean(0)) @ weight.T
    return float((projected - (projected > 0).double().mul(2).sub(1)).square().sum())


def retrieval(planes: Planes) -> float:
    """mAP of the clusters' later embeddings as queries, the earlier as gallery; ties in order of the random rows."""
    gallery, gallery_label, queries, query_label = clusters()
    order = torch.randperm(len(gallery), generator=torch.Generator().manual_seed(9))
    gallery_codes, gallery_label = codes(gallery[order], planes), gallery_label[order]
    scores = []
    for code, label in zip(codes(queries, planes), query_label, strict=True):
        ranking = (gallery_codes ^ code).sum(1).argsort(stable=True)
        hits = gallery_label[ranking] == label
        scores.append(float((hits.cumsum(0) / torch.arange(1, len(hits) + 1))[hits].mean()))
    return float(np.mean(scores))


@cache
def learned_planes() -> Planes:
    embeddings, label, _, _ = clusters()
    return learned(embeddings, label, 16, seed=3, steps=300)


# ITQ


@pytest.mark.parametrize("bits", [1, 8, 24])
def test_itq_weight_has_orthonormal_rows_and_centres(bits: int) -> None:
    embeddings = uneven(200, 24)
    weight, offset = itq(embeddings, bits)
    assert (weight.shape, offset.shape, weight.dtype) == ((bits, 24), (bits,), torch.float64)
    torch.testing.assert_close(weight @ weight.T, torch.eye(bits).double(), atol=1e-10, rtol=0)
    torch.testing.assert_close(offset, weight @ embeddings.mean(0))


def test_itq_stays_in_the_first_principal_directions() -> None:
    embeddings = uneven(300, 24)
    weight, _ = itq(embeddings, 8)
    principal = torch.linalg.svd(embeddings - embeddings.mean(0)).Vh[:8]
    torch.testing.assert_close(weight.T @ weight, principal.T @ principal, atol=1e-8, rtol=0)


def test_itq_error_never_rises_and_ends_below_that_of_pca() -> None:
    embeddings = uneven(300, 24)
    errors = [quantisation_error(embeddings, itq(embeddings, 16, iterations)[0]) for iterations in range(30)]
    assert all(after <= before + 1e-8 for before, after in pairwise(errors))
    assert errors[-1] < errors[0]
    principal = torch.linalg.svd(embeddings - embeddings.mean(0)).Vh[:16]
    assert errors[-1] < quantisation_error(embeddings, principal)


def test_itq_by_hand() -> None:
    """Points at (±2, 0) and (0, ±1): along the axes one bit of each is a toss-up, at 45 degrees all four differ."""
    points = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]], dtype=torch.float64)
    for seed in range(5):
        weight, offset = itq(points + 3, 2, seed=seed)
        torch.testing.assert_close(weight.abs(), torch.full((2, 2), math.sqrt(0.5)).double())
        assert len(codes(points + 3, (weight, offset)).unique(dim=0)) == 4


def test_itq_is_the_same_for_the_same_seed_and_leaves_global_randomness_alone() -> None:
    embeddings = uneven(100, 12)
    state = torch.get_rng_state()
    first, again, other = itq(embeddings, 8, seed=4), itq(embeddings, 8, seed=4), itq(embeddings, 8, seed=5)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert torch.equal(torch.get_rng_state(), state)


def test_itq_codes_do_not_depend_on_where_embeddings_lie_nor_on_their_scale() -> None:
    embeddings = uneven(150, 12)
    before = codes(embeddings, itq(embeddings, 8))
    for moved in (embeddings + 5, embeddings * 4, embeddings - normal(12).double()):
        assert torch.equal(codes(moved, itq(moved, 8)), before)
    twice = torch.cat([embeddings, embeddings])
    assert torch.equal(codes(embeddings, itq(twice, 8)), before)


def test_itq_spreads_fewer_directions_over_all_bits() -> None:
    embeddings = uneven(300, 24)
    weight, offset = itq(embeddings, 16, directions=6)
    assert torch.linalg.matrix_rank(weight) == 6
    principal = torch.linalg.svd(embeddings - embeddings.mean(0)).Vh[:6]
    torch.testing.assert_close(weight.T @ weight, principal.T @ principal, atol=1e-8, rtol=0)
    share = codes(embeddings, (weight, offset)).double().mean(0)
    assert ((share > 0.3) & (share < 0.7)).all()


@pytest.mark.parametrize(("bits", "directions"), [(12, 12), (16, 6), (40, 24)])
def test_itq_equals_rotating_directions_filled_up_with_zeros(bits: int, directions: int) -> None:
    """The oracle pads the components to as many as bits, rotates them by a square matrix, and is plain NumPy."""
    embeddings = uneven(300, 24)
    weight, offset = itq(embeddings, bits, iterations=5, seed=2, directions=directions)
    centred = (embeddings - embeddings.mean(0)).numpy()
    basis = np.zeros((24, bits))
    basis[:, :directions] = np.linalg.svd(centred)[2][:directions].T
    first = torch.linalg.eigh(torch.from_numpy(centred.T @ centred)).eigenvectors.flip(1)[:, :directions].numpy()
    basis[:, :directions] *= np.sign((basis[:, :directions] * first).sum(0))  # a direction may point either way
    start = torch.randn(bits, bits, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    rotation = torch.linalg.qr(start).Q.numpy()
    for _ in range(5):
        signs = np.where(centred @ basis @ rotation > 0, 1.0, -1.0)
        left, _, right = np.linalg.svd((centred @ basis).T @ signs)
        rotation = left @ right
    np.testing.assert_allclose(weight, (basis @ rotation).T, atol=1e-8)
    np.testing.assert_allclose(offset, weight @ embeddings.mean(0), atol=1e-8)


def test_a_code_is_of_half_as_many_directions_as_bits_but_of_16_at_least() -> None:
    assert [hash_codes.directions_of(bits) for bits in (16, 24, 32, 40, 64, 512)] == [16, 16, 16, 20, 32, 256]


def test_itq_of_half_the_directions_retrieves_better_where_the_others_are_noise() -> None:
    """32 bits of classes that differ in 16 directions; in the other 48 there is noise alone."""
    label = torch.arange(40).repeat(30)
    centres = functional.pad(normal(40, 16), (0, 48))
    rows = centres[label] * 2 + normal(len(label), 64, seed=1)
    part = torch.arange(len(label)) < 600
    scores = []
    for directions in (32, hash_codes.directions_of(32)):
        found = codes(rows, itq(rows[part], 32, directions=directions)).numpy()
        packed, own = np.packbits(found, axis=1), label.numpy()
        test = evaluate_codes(packed[~part], own[~part], packed[part], own[part])
        scores.append(test.means()["mAP@all"])
    assert scores[1] > 1.1 * scores[0]


@pytest.mark.parametrize(("rows", "rank"), [(100, 5), (10, 32), (1, 32)])
def test_itq_of_embeddings_of_low_rank(rows: int, rank: int) -> None:
    embeddings = normal(rows, rank) @ normal(rank, 32, seed=1)
    weight, offset = itq(embeddings, 16)
    assert weight.isfinite().all()
    assert offset.isfinite().all()
    torch.testing.assert_close(weight @ weight.T, torch.eye(16), atol=1e-5, rtol=0)
    distinct = len(codes(embeddings, (weight, offset)).unique(dim=0))
    assert distinct >= min(rows, 2**5 + 1)  # more than one bit for each of five directions could tell apart


@pytest.mark.parametrize("rows", [60, 600])
def test_itq_of_512_bits_in_512_dimensions(rows: int) -> None:
    embeddings = functional.normalize(normal(rows, 40) @ normal(40, 512, seed=1), dim=1)
    weight, offset = itq(embeddings, 512, iterations=2)
    torch.testing.assert_close(weight @ weight.T, torch.eye(512), atol=1e-5, rtol=0)
    assert len(codes(embeddings, (weight, offset)).unique(dim=0)) == rows


def test_itq_of_more_bits_than_dimensions_is_a_tight_frame() -> None:
    embeddings = normal(80, 6)
    weight, offset = itq(embeddings, 32)
    torch.testing.assert_close(weight.T @ weight, torch.eye(6), atol=1e-5, rtol=0)
    found = codes(embeddings, (weight, offset))
    assert len(found.unique(dim=0)) > len(codes(embeddings, itq(embeddings, 6)).unique(dim=0))


@pytest.mark.parametrize("broken", [torch.zeros(0, 4), torch.zeros(4), torch.full((3, 4), torch.nan)])
def test_itq_refuses_embeddings_it_cannot_fit(broken: Tensor) -> None:
    with pytest.raises(ValueError, match="must be finite"):
        itq(broken, 2)


@pytest.mark.parametrize("directions", [0, 9])
def test_itq_refuses_directions_out_of_range(directions: int) -> None:
    with pytest.raises(ValueError, match="8 bits"):
        itq(normal(30, 12), 8, directions=directions)


# Learned codes


def test_learned_codes_retrieve_better_than_random_hyperplanes_and_within_reach_of_itq() -> None:
    embeddings, _, _, _ = clusters()
    weight = normal(16, 64, seed=5)
    chance = retrieval((weight, weight @ embeddings.mean(0)))
    quantised = retrieval(itq(embeddings, 16))
    assert retrieval(learned_planes()) >= chance
    assert retrieval(learned_planes()) >= quantised - 0.05
    assert quantised > chance


def test_training_lowers_the_loss() -> None:
    embeddings, label, _, _ = clusters()
    target = functional.normalize(hash_codes.pull(embeddings, label) - embeddings.mean(0), dim=1)
    losses = []
    for weight, offset in (learned(embeddings, label, 16, seed=3, steps=0), learned_planes()):
        relaxed = torch.tanh(embeddings @ weight.T - offset)
        prototypes = hash_codes.class_means(functional.normalize(relaxed, dim=1), label)
        losses.append(hash_codes.code_loss(relaxed, target, prototypes, label).item())
    assert losses[1] < 0.95 * losses[0]


def test_learned_codes_are_the_same_for_the_same_seed_and_leave_global_randomness_alone() -> None:
    embeddings, label, _, _ = clusters()
    state = torch.get_rng_state()
    first, again, other = (learned(embeddings, label, 16, seed=seed, steps=20) for seed in (3, 3, 4))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert torch.equal(torch.get_rng_state(), state)


def test_learned_bits_are_balanced_also_on_embeddings_not_fitted_to() -> None:
    for embeddings in clusters()[::2]:
        share = codes(embeddings, learned_planes()).float().mean(0)
        assert ((share > 0.25) & (share < 0.75)).all()


def test_learned_codes_take_any_numbers_as_labels() -> None:
    embeddings, label, _, _ = clusters()
    plain, odd = (learned(embeddings, numbers, 16, steps=5) for numbers in (label, label * 7 + 3))
    assert torch.equal(plain[0], odd[0])


def test_learned_works_without_gradients_and_on_tensors_of_inference_mode() -> None:
    embeddings, label, _, _ = clusters()
    expected = learned(embeddings, label, 16, steps=5)[0]
    with torch.no_grad():
        assert torch.equal(learned(embeddings, label, 16, steps=5)[0], expected)
    with torch.inference_mode():
        inferred = embeddings + 0
    weight, offset = learned(inferred, label, 16, steps=5)
    assert torch.equal(weight, expected)
    assert not weight.requires_grad
    assert not offset.requires_grad


@pytest.mark.parametrize(("rows", "dimension", "bits"), [(1, 8, 16), (3, 8, 16), (40, 64, 32), (20, 512, 512)])
def test_learned_from_few_embeddings(rows: int, dimension: int, bits: int) -> None:
    weight, offset = learned(normal(rows, dimension), torch.arange(rows) % 3, bits, steps=3)
    assert (weight.shape, offset.shape) == ((bits, dimension), (bits,))
    assert weight.isfinite().all()
    assert offset.isfinite().all()


def test_learned_wants_a_label_for_each_embedding() -> None:
    with pytest.raises(ValueError, match="5 embeddings have 4 labels"):
        learned(normal(5, 8), torch.zeros(4, dtype=torch.long), 16)


# Parts of the loss


def test_similarity_equals_the_loop() -> None:
    code, embedding = (functional.normalize(normal(6, 5, seed=seed).double(), dim=1) for seed in (0, 1))
    total = 0.0
    for i in range(6):
        for j in range(6):
            if i != j:
                wanted = min(1.0, max(-1.0, hash_codes.SPREAD * float(embedding[i] @ embedding[j])))
                total += (float(code[i] @ code[j]) - wanted) ** 2
    assert hash_codes.similarity(code, embedding).item() == pytest.approx(total / 30)
    assert hash_codes.similarity(code[:1], embedding[:1]).item() == 0


def test_gradients_of_the_loss_equal_finite_differences() -> None:
    relaxed = torch.tanh(normal(5, 4).double()).requires_grad_()
    prototypes = normal(3, 4, seed=1).double().requires_grad_()
    embedding, label = functional.normalize(normal(5, 6, seed=2).double(), dim=1), torch.tensor([0, 1, 2, 0, 1])
    assert torch.autograd.gradcheck(
        lambda codes, centres: hash_codes.code_loss(codes, embedding, centres, label), (relaxed, prototypes)
    )


def test_pulls_half_way_to_the_mean_of_the_class() -> None:
    rows, label = torch.tensor([[0.0, 0.0], [4.0, 8.0], [1.0, 1.0]]), torch.tensor([1, 1, 0])
    assert hash_codes.class_means(rows, label).tolist() == [[1.0, 1.0], [2.0, 4.0]]
    assert hash_codes.pull(rows, label).tolist() == [[1.0, 2.0], [3.0, 6.0], [1.0, 1.0]]
