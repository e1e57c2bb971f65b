"""Hyperplanes of hash codes, fitted on training embeddings: by iterative quantisation, or learned.

Shapes: `N` embeddings, `B` batch, `K` classes (of `itq`: directions), `D` the shared space, `R` bits.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from crossatnet.training.losses import bit_balance, classification, decorrelation, quantisation

FEWEST_DIRECTIONS = 16  # of the embeddings that a code is of
# Learned codes: chosen on seen classes held out of the fit (sketchy-mini, 64 bits).
SIMILARITY_WEIGHT = 10.0
CLASSIFICATION_WEIGHT = 0.1  # more of it separates the seen classes at the cost of others
QUANTISATION_WEIGHT = 0.1
BALANCE_WEIGHT = 0.1
DECORRELATION_WEIGHT = 0.1
TEMPERATURE = 0.1  # of the cosine softmax in code space
PULL = 0.5  # how far embeddings are moved to their class's mean: what varies within a class is not worth bits
SPREAD = 1.5  # similarities asked of the codes over those of the embeddings: few bits are noisy, so spread them out
FIT_BATCH = 256
LEARNING_RATE = 1e-3


def directions_of(bits: int) -> int:
    """Of how many principal directions a code should be: half as many as bits, but at least `FEWEST_DIRECTIONS`.

    Signs are noisy, so two bits a direction find more than one bit each of twice as many (chosen on seen classes held
    out of training). At most `bits` for every length that `HashCodes` takes.

    Example:
        >>> from crossatnet.training.hash_codes import directions_of
        >>> directions_of(16), directions_of(128)
        (16, 64)
    """
    return max(FEWEST_DIRECTIONS, bits // 2)


@torch.no_grad()
def itq(
    embeddings: Tensor, bits: int, iterations: int = 50, seed: int = 0, directions: int | None = None
) -> tuple[Tensor, Tensor]:
    r"""Iterative quantisation (Gong and Lazebnik, CVPR 2011): rotate the principal components towards their signs.

    $\min_{B, Q} \|B - V Q\|_F^2$ over signs B (N, R) and Q (K, R) with $Q Q^T = I$; V (N, K) are the centred embeddings
    in their first K principal directions. B = sign(V Q) and Q from the SVD of $V^T B$ (Procrustes) take turns.

    K is `directions` (R by default), at most D; Q spreads them over all bits. So any R will do: directions without
    variance, as with N < D, count as components, and with more bits than directions the hyperplanes are a tight frame.
    With K = R, Q is a rotation and weight has orthonormal rows.

    Args: embeddings (N, D), of the TRAINING set only; bits R; iterations of the two steps; directions 1..R. Computed in
    float64; the same for the same seed on the same machine. Returns weight (R, D) and offset (R,) of the hyperplanes,
    in the embeddings' type. Raises `ValueError` for embeddings that are none or not finite, and for directions out of
    range.

    Example:
        >>> import torch
        >>> from crossatnet.training.hash_codes import itq
        >>> weight, offset = itq(torch.randn(100, 32), bits=16)
        >>> weight.shape, offset.shape
        (torch.Size([16, 32]), torch.Size([16]))
    """
    if embeddings.ndim != 2 or not len(embeddings) or not embeddings.isfinite().all():
        raise ValueError(f"embeddings to fit hash codes to must be finite (N, D), N > 0; got {tuple(embeddings.shape)}")
    kept = min(bits if directions is None else directions, embeddings.shape[1])
    if not 0 < kept <= bits:
        raise ValueError(f"{bits} bits of {kept} directions: give at least 1 and at most as many as bits")
    mean = embeddings.double().mean(0)  # (D,)
    centred = embeddings.double() - mean  # (N, D)
    principal = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(1)[:, :kept]  # (D, K), most variance first
    components = centred @ principal  # (N, K)
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(bits, bits, generator=generator, dtype=torch.float64)
    rotation = torch.linalg.qr(start).Q[:kept].to(embeddings.device)  # (K, R)
    for _ in range(iterations):
        signs = (components @ rotation > 0).double() * 2 - 1  # (N, R)
        left, _, right = torch.linalg.svd(components.T @ signs, full_matrices=False)  # (K, K), (K,), (K, R)
        rotation = left @ right  # (K, R)
    weight = (principal @ rotation).T  # (R, D)
    return weight.to(embeddings.dtype), (weight @ mean).to(embeddings.dtype)


@torch.enable_grad()
def learned(embeddings: Tensor, label: Tensor, bits: int, seed: int = 0, steps: int = 600) -> tuple[Tensor, Tensor]:
    r"""Hashing head, trained after the network by Adam on `code_loss` (the abstract asks for hash codes; ours).

    Relaxed codes $b = \tanh(\beta (W z - c))$, with $\beta$ such that arguments have a root mean square of 1 at the
    start, which is ITQ in `directions_of(R)` directions. ITQ and the similarities see embeddings that were moved by
    `PULL` to their class's mean; the codes themselves are of the embeddings as they are.

    Args: embeddings (N, D) and label (N,), of the TRAINING set only, both modalities; bits R; steps 0 for the start.
    The same for the same seed on the same machine. Returns weight (R, D) and offset (R,) of the hyperplanes, as `itq`.
    Raises `ValueError` for embeddings that are none or not finite, and unless there is a label for each.

    Example:
        >>> import torch
        >>> from crossatnet.training.hash_codes import learned
        >>> weight, offset = learned(torch.randn(40, 32), torch.arange(40) % 4, bits=16, steps=3)
        >>> weight.shape, offset.shape
        (torch.Size([16, 32]), torch.Size([16]))
    """
    if label.shape != embeddings.shape[:1]:
        raise ValueError(f"{len(embeddings)} embeddings have {len(label)} labels: give one for each")
    embeddings = embeddings.detach().clone()  # a tensor made in inference mode could not be trained on
    label = torch.unique(label, return_inverse=True)[1]  # 0..K-1
    pulled = pull(embeddings, label)  # (N, D)
    weight, offset = itq(pulled, bits, seed=seed, directions=directions_of(bits))
    sharpness = 1 / (embeddings @ weight.T - offset).square().mean().sqrt().clamp(min=1e-12)  # beta
    weight, offset = (weight * sharpness).requires_grad_(), (offset * sharpness).requires_grad_()
    with torch.no_grad():
        relaxed = torch.tanh(embeddings @ weight.T - offset)  # (N, R)
        prototypes = class_means(functional.normalize(relaxed, dim=1), label)  # (K, R)
    prototypes.requires_grad_()
    pulled = functional.normalize(pulled - embeddings.mean(0), dim=1)  # (N, D), dot products are cosines
    optimiser = torch.optim.Adam([weight, offset, prototypes], lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(steps, 1))
    for rows in _batches(len(embeddings), steps, seed):
        chosen = rows.to(embeddings.device)
        relaxed = torch.tanh(embeddings[chosen] @ weight.T - offset)  # (B, R)
        loss = code_loss(relaxed, pulled[chosen], prototypes, label[chosen])
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
    return weight.detach(), offset.detach()


def code_loss(relaxed: Tensor, embedding: Tensor, prototypes: Tensor, label: Tensor) -> Tensor:
    r"""What `learned` makes smaller: the weighted sum of five terms (ours), the weights being this module's constants.

    Similarity, classification of the normalised codes over prototypes in code space, quantisation, bit balance and
    decorrelation.

    Args: relaxed (B, R) in -1..1, L2-normalised embedding (B, D), prototypes (K, R) of any length, label (B,) in
    0..K-1. Returns a scalar.

    Example:
        >>> import torch
        >>> from crossatnet.training.hash_codes import code_loss
        >>> relaxed, embedding = torch.tanh(torch.randn(6, 16)), torch.nn.functional.normalize(torch.randn(6, 8), dim=1)
        >>> bool(code_loss(relaxed, embedding, torch.randn(3, 16), torch.arange(6) % 3) > 0)
        True
    """
    code = functional.normalize(relaxed, dim=1)  # (B, R)
    return (
        SIMILARITY_WEIGHT * similarity(code, embedding)
        + CLASSIFICATION_WEIGHT * classification(code, functional.normalize(prototypes, dim=1), label, TEMPERATURE)
        + QUANTISATION_WEIGHT * quantisation(relaxed)
        + BALANCE_WEIGHT * bit_balance(relaxed)
        + DECORRELATION_WEIGHT * decorrelation(relaxed)
    )


def similarity(code: Tensor, embedding: Tensor) -> Tensor:
    r"""Codes are as alike as their embeddings, times `SPREAD` (ours).

    $L = \frac{1}{B (B - 1)} \sum_{i \ne j} (b_i \cdot b_j - [s\, z_i \cdot z_j]_{-1}^{1})^2$ with s `SPREAD`

    Args: code b (B, R) and embedding z (B, D), both L2-normalised. Returns a scalar; 0 for a batch of one.

    Example:
        >>> import torch
        >>> from crossatnet.training.hash_codes import similarity
        >>> similarity(torch.eye(2), torch.eye(2))
        tensor(0.)
    """
    target = (SPREAD * embedding @ embedding.T).clamp(-1, 1)  # (B, B)
    error = (code @ code.T - target).square()  # (B, B)
    return (error.sum() - error.diagonal().sum()) / max(len(code) * (len(code) - 1), 1)


def pull(embeddings: Tensor, label: Tensor) -> Tensor:
    """Move embeddings (N, D) by `PULL` of the way to the mean of their class; label (N,) in 0..K-1.

    Example:
        >>> import torch
        >>> from crossatnet.training.hash_codes import pull
        >>> pull(torch.tensor([[0.0, 0.0], [0.0, 4.0]]), torch.tensor([0, 0]))
        tensor([[0., 1.],
                [0., 3.]])
    """
    return torch.lerp(embeddings, class_means(embeddings, label)[label], PULL)


def class_means(rows: Tensor, label: Tensor) -> Tensor:
    """Rows (N, D) -> the mean of each class (K, D); label (N,) takes every value of 0..K-1.

    Example:
        >>> import torch
        >>> from crossatnet.training.hash_codes import class_means
        >>> class_means(torch.tensor([[0.0, 2.0], [4.0, 2.0]]), torch.tensor([0, 0]))
        tensor([[2., 2.]])
    """
    member = functional.one_hot(label).to(rows.dtype)  # (N, K)
    return member.T @ rows / member.sum(0)[:, None]  # (K, D)


def _batches(rows: int, steps: int, seed: int) -> Iterator[Tensor]:
    """`steps` batches of row numbers, each row once before any comes again; a short rest of an epoch is left out."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.long)
    size = min(FIT_BATCH, rows)
    for _ in range(steps):
        if len(order) < size:
            order = torch.randperm(rows, generator=generator)
        yield order[:size]
        order = order[size:]
