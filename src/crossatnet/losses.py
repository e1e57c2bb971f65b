"""Losses: one function an equation.

Shapes: `B` pairs in a batch, `K` classes, `D` the shared space. Embeddings and prototypes are L2-normalised, so
a dot product is a cosine similarity.
"""

import torch
from torch import Tensor
from torch.nn import functional


def classification(embedding: Tensor, prototypes: Tensor, label: Tensor, temperature: float) -> Tensor:
    r"""Cosine softmax over class prototypes (the sibling paper's classification loss; cosine form is our reading).

    $L = -\frac{1}{B} \sum_i \log \frac{\exp(z_i \cdot p_{y_i} / \tau)}{\sum_k \exp(z_i \cdot p_k / \tau)}$

    Args: embedding (B, D), prototypes (K, D), label (B,) in 0..K-1, temperature $\tau$ > 0. Returns a scalar.
    """
    return functional.cross_entropy(embedding @ prototypes.T / temperature, label)


def cross_modal_triplet(sketch: Tensor, photo: Tensor, label: Tensor, margin: float) -> Tensor:
    r"""Two-way cross-modal triplet loss with the hardest positive and negative of the batch.

    $L = T(s, p) + T(p, s)$ with
    $T(a, b) = \frac{1}{B} \sum_i [m + \max_{j: y_j \ne y_i} a_i \cdot b_j - \min_{j: y_j = y_i} a_i \cdot b_j]_+$

    The abstract asks for a cross-modal triplet; both directions are the sibling paper's (ZSCMR); batch-hard mining is
    Hermans et al. (2017). An anchor without a negative in the batch counts as 0.

    Args: sketch and photo (B, D), row i of both of class label[i]; label (B,); margin m in cosine. Returns a scalar.
    """
    similarity = sketch @ photo.T  # (B, B)
    same = label[:, None] == label[None, :]  # (B, B), symmetric
    return _hardest(similarity, same, margin) + _hardest(similarity.T, same, margin)


def _hardest(similarity: Tensor, same: Tensor, margin: float) -> Tensor:
    positive = similarity.masked_fill(~same, torch.inf).amin(1)  # (B,)
    negative = similarity.masked_fill(same, -torch.inf).amax(1)  # (B,)
    return functional.relu(margin + negative - positive).mean()
