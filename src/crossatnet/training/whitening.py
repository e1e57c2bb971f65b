"""Whitening: what varies within classes counts for less.

Shapes: `N` embeddings, `K` classes, `D` the shared space.
"""

import torch
from torch import Tensor

from crossatnet.training.hash_codes import class_means

RIDGE = 0.1  # of the mean variance, added to each direction's: those without variance must not be blown up


@torch.no_grad()
def whitening(embeddings: Tensor, label: Tensor, power: float) -> Tensor:
    r"""Within-class covariance to the power -`power` (after WCCN, Hatch et al., Interspeech 2006, whose power is 1/2).

    $A = (C / v + r I)^{-p}$, $C = \frac{1}{N} \sum_i (z_i - m_{y_i})(z_i - m_{y_i})^T$ with m the classes' means over
    both modalities, v the mean of C's diagonal, r `RIDGE` and p `power`

    A network trained to tell seen classes apart stretches the few directions that do so; unseen classes differ in
    others as well, which count for more once directions are divided by a power of their spread within a class.

    Args: embeddings (N, D) and label (N,), of the TRAINING set only, both modalities; power 0..0.5, where 0 gives the
    identity. Returns A (D, D), symmetric, in the embeddings' type; it is computed in float64.
    Raises `ValueError` for embeddings that are none or not finite, unless there is a label for each, and where nothing
    varies within a class.

    Example:
        >>> import torch
        >>> from crossatnet.training.whitening import whitening
        >>> whitening(torch.randn(20, 4), torch.arange(20) % 2, power=0.5).shape
        torch.Size([4, 4])
    """
    if embeddings.ndim != 2 or not len(embeddings) or not embeddings.isfinite().all():
        raise ValueError(f"embeddings to be whitened must be finite (N, D), N > 0; got {tuple(embeddings.shape)}")
    if label.shape != embeddings.shape[:1]:
        raise ValueError(f"{len(embeddings)} embeddings have {len(label)} labels: give one for each")
    label = torch.unique(label, return_inverse=True)[1]  # 0..K-1
    rows = embeddings.double()
    residual = rows - class_means(rows, label)[label]  # (N, D)
    covariance = residual.T @ residual / len(rows)  # (D, D)
    spread = covariance.diagonal().mean()
    if not spread > torch.finfo(embeddings.dtype).eps ** 2:
        raise ValueError("nothing varies within a class: whitening needs more than one embedding of a class")
    variance, direction = torch.linalg.eigh(covariance / spread)  # (D,), (D, D)
    scale = (variance.clamp(min=0) + RIDGE).pow(-power)  # (D,)
    matrix: Tensor = (direction * scale) @ direction.T  # (D, D)
    return matrix.to(embeddings.dtype)
