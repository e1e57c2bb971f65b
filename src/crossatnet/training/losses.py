r"""Losses: one function an equation.

Shapes: `B` pairs in a batch, `K` classes, `D` the shared space, `C` feature channels, `H` attention heads, `P`
positions of a map, `R` bits, `M` teacher classes, `N` anchor-positive pairs. Embeddings and prototypes are
L2-normalised, so a dot product is a cosine similarity. $sg$ is the stop-gradient and $[x]_+ = \max(0, x)$.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Mining = Literal["hard", "semi-hard", "all"]
PATCHES = 2  # a side, of a map that is shuffled


def classification(
    embedding: Tensor, prototypes: Tensor, label: Tensor, temperature: float, related: Tensor | None = None
) -> Tensor:
    r"""Cosine softmax over class prototypes (the sibling paper's classification loss; cosine form is our reading).

    $L = -\frac{1}{B} \sum_i \log \frac{\exp(z_i \cdot p_{y_i} / \tau)}{\sum_k \exp(z_i \cdot p_k / \tau)}$

    The sum is over the classes k that are not `related` to $y_i$, its own among them: a relative is no wrong answer
    (ours).

    Args: embedding (B, D), prototypes (K, D), label (B,) in 0..K-1, temperature $\tau$ > 0; related (K, K), false on
    the diagonal; None relates none. Returns a scalar.

    Example:
        >>> import torch
        >>> from crossatnet.training.losses import classification
        >>> embedding = torch.eye(2)
        >>> classification(embedding, embedding, torch.tensor([0, 1]), temperature=1.0)
        tensor(0.3133)
    """
    logits = embedding @ prototypes.T / temperature  # (B, K)
    if related is not None:
        logits = logits.masked_fill(related[label], -torch.inf)
    return functional.cross_entropy(logits, label)


def cross_modal_triplet(
    sketch: Tensor,
    photo: Tensor,
    label: Tensor,
    margin: float,
    mining: Mining = "hard",
    class_margin: Tensor | None = None,
) -> Tensor:
    r"""Two-way cross-modal triplet loss over the triplets that `mining` picks from the batch.

    $L = T(s, p) + T(p, s)$, where $T(a, b)$ averages $[r_{in} - a_i \cdot b_j]_+$ over anchors i, positives j
    ($y_j = y_i$) and negatives n ($y_n \ne y_i$), and $r_{in} = m + \Delta_{y_i y_n} + a_i \cdot b_n$ is how strongly n
    rivals the positives of i:

    - "hard": $T(a, b) = \frac{1}{B} \sum_i [\max_n r_{in} - \min_j a_i \cdot b_j]_+$, batch-hard of Hermans et al.
      (2017). An anchor without a negative counts as 0.
    - "semi-hard": mean over all pairs (i, j). Each meets the largest $r_{in}$ among the negatives farther than its
      positive ($a_i \cdot b_n < a_i \cdot b_j$; Schroff et al., 2015); one beyond the margin makes 0. Where no
      negative is farther, the pair meets the smallest $r_{in}$, as in TensorFlow's version, so that it still learns.
      A pair without a negative counts as 0.
    - "all": mean over all triplets (i, j, n) whose term is above 0 (the non-zero batch-all of Hermans et al.); 0 if
      there are none.

    The abstract asks for a cross-modal triplet; both directions are the sibling paper's (ZSCMR); mining and $\Delta$,
    a margin to grow with semantic distance and to fall below every similarity for relatives, are ours. "semi-hard" and
    "all" hold N x B numbers.

    Args: sketch and photo (B, D), row i of both of class label[i]; label (B,); margin m in cosine; class_margin
    $\Delta$ (K, K), row the anchor's class and column the negative's; None adds nothing. Returns a
    scalar.

    Example:
        >>> import torch
        >>> from crossatnet.training.losses import cross_modal_triplet
        >>> sketch, photo = torch.eye(2), torch.tensor([[1.0, 0.0], [0.6, 0.8]])
        >>> cross_modal_triplet(sketch, photo, torch.tensor([0, 1]), margin=0.5)
        tensor(0.2000)
    """
    similarity = sketch @ photo.T  # (B, B)
    same = label[:, None] == label[None, :]  # (B, B), symmetric
    required = margin if class_margin is None else margin + class_margin[label][:, label]  # (B, B) anchor, negative
    return _one_way(similarity, required, same, mining) + _one_way(similarity.T, required, same, mining)


def _one_way(similarity: Tensor, required: float | Tensor, same: Tensor, mining: Mining) -> Tensor:
    rival = similarity + required  # (B, B)
    match mining:
        case "hard":
            return _hardest(similarity, rival, same)
        case "semi-hard":
            return _semi_hard(similarity, rival, same)
        case "all":
            return _all(similarity, rival, same)
    raise ValueError(f"Unknown mining {mining!r}: use hard, semi-hard or all.")


def _hardest(similarity: Tensor, rival: Tensor, same: Tensor) -> Tensor:
    positive = similarity.masked_fill(~same, torch.inf).amin(1)  # (B,)
    negative = rival.masked_fill(same, -torch.inf).amax(1)  # (B,)
    return functional.relu(negative - positive).mean()


def _semi_hard(similarity: Tensor, rival: Tensor, same: Tensor) -> Tensor:
    anchor, counterpart = same.nonzero(as_tuple=True)  # (N,)
    positive = similarity[anchor, counterpart]  # (N,)
    negative, rival = ~same[anchor], rival[anchor]  # (N, B)
    farther = negative & (similarity[anchor] < positive[:, None])  # (N, B)
    hardest = rival.masked_fill(~farther, -torch.inf).amax(1)  # (N,)
    easiest = rival.masked_fill(~negative, torch.inf).amin(1)  # (N,)
    none_farther = negative.any(1) & ~farther.any(1)  # (N,); without any negative, hardest is -inf and counts 0
    return functional.relu(torch.where(none_farther, easiest, hardest) - positive).mean()


def _all(similarity: Tensor, rival: Tensor, same: Tensor) -> Tensor:
    anchor, counterpart = same.nonzero(as_tuple=True)  # (N,)
    positive = similarity[anchor, counterpart]  # (N,)
    term = functional.relu(rival[anchor] - positive[:, None]).masked_fill(same[anchor], 0)  # (N, B)
    return term.sum() / term.count_nonzero().clamp(min=1)


def instance_triplet(sketch: Tensor, photo: Tensor, label: Tensor, instance: Tensor, margin: float) -> Tensor:
    r"""Two-way triplet loss within the class: a sketch and the photo it was drawn of, above other photos of its class.

    $L = T(s, p) + T(p, s)$ with $T(a, b) = \frac{1}{B} \sum_i [m + \max_n a_i \cdot b_n - a_i \cdot b_i]_+$ over the
    rows n of the same class and another instance; an anchor without one counts as 0. The triplet of fine-grained
    retrieval (Yu et al. 2016), with the hardest negative of the batch; that it stands beside the class's is ours.

    Args: sketch and photo (B, D), row i of both showing instance[i] of class label[i]; label and instance (B,); margin
    m in cosine. Returns a scalar.

    Example:
        >>> import torch
        >>> from crossatnet.training.losses import instance_triplet
        >>> sketch, photo = torch.eye(2), torch.tensor([[1.0, 0.0], [0.6, 0.8]])
        >>> one_class, things = torch.tensor([0, 0]), torch.tensor([0, 1])
        >>> instance_triplet(sketch, photo, one_class, things, margin=0.5)
        tensor(0.2000)
    """
    similarity = sketch @ photo.T  # (B, B)
    rival = (label[:, None] == label) & (instance[:, None] != instance)  # (B, B), symmetric
    own = similarity.diagonal()  # (B,)
    hardest = [side.masked_fill(~rival, -torch.inf).amax(1) for side in (similarity, similarity.T)]
    return sum((functional.relu(margin + negative - own).mean() for negative in hardest), start=own.new_zeros(()))


def shuffle_patches(maps: Tensor, order: Tensor) -> Tensor:
    """Maps cut into `PATCHES` x `PATCHES` patches and put together in another order (the patch shuffling of CLIP-AT).

    Sain et al. (2023) shuffle patches of the pictures; those of a map are ours. Rows and columns that do not fill a
    patch, at the lower and right border, stay where they are.

    Args: maps (B, C, h, w); order (PATCHES^2,), for every place the patch that comes there. Returns (B, C, h, w).

    Example:
        >>> import torch
        >>> from crossatnet.training.losses import shuffle_patches
        >>> shuffle_patches(torch.arange(4.0).reshape(1, 1, 2, 2), torch.tensor([3, 2, 1, 0]))
        tensor([[[[3., 2.],
                  [1., 0.]]]])
    """
    height, width = (side // PATCHES for side in maps.shape[2:])
    shuffled = maps.clone()
    for place, patch in enumerate(order.tolist()):
        (to_row, to_column), (row, column) = divmod(place, PATCHES), divmod(patch, PATCHES)
        shuffled[..., to_row * height : (to_row + 1) * height, to_column * width : (to_column + 1) * width] = maps[
            ..., row * height : (row + 1) * height, column * width : (column + 1) * width
        ]
    return shuffled


def ranking(positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    r"""A sketch's guided similarity with its counterpart above that with a photo of another class (ours).

    $L = \frac{1}{B} \sum_i [m + n_i - p_i]_+$

    Args: positive p and negative n (B,), cosines of the same sketches; margin m in cosine. Returns a scalar.

    Example:
        >>> import torch
        >>> from crossatnet.training.losses import ranking
        >>> ranking(torch.tensor([0.9, 0.5]), torch.tensor([0.1, 0.5]), margin=0.2)
        tensor(0.1000)
    """
    return functional.relu(margin + negative - positive).mean()


def latent(embedding: Tensor, prototypes: Tensor, label: Tensor) -> Tensor:
    r"""Pull embeddings to their class's prototype (the sibling paper's latent loss; cosine form is ours).

    $L = \frac{1}{B} \sum_i (1 - z_i \cdot p_{y_i})$, in 0..2; embeddings and prototypes both move.

    Args: embedding (B, D), prototypes (K, D), label (B,) in 0..K-1. Returns a scalar.

    Example:
        >>> import torch
        >>> from crossatnet.training.losses import latent
        >>> latent(torch.eye(2), torch.eye(2), torch.tensor([0, 0]))
        tensor(0.5000)
    """
    return (1 - (embedding * prototypes[label]).sum(1)).mean()


def reconstruction(decoded: Tensor, target: Tensor) -> Tensor:
    r"""Features of one modality decoded from the other's embedding (the sibling paper's decoder loss; cosine is ours).

    $L = \frac{1}{B} \sum_i (1 - \cos(d_i, sg(t_i)))$, in 0..2; rows need not be normalised.

    Args: decoded and target (B, C); the target gets no gradient. Returns a scalar.

    Example:
        >>> import torch
        >>> from crossatnet.training.losses import reconstruction
        >>> reconstruction(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 3.0]]))
        tensor(1.)
    """
    return _cosine_distance(decoded, target.detach())


def feature_agreement(gallery: Tensor, guided: Tensor) -> Tensor:
    r"""The photo's own feature agrees with the sketch-guided one, which it stands in for at indexing (ours).

    $L = \frac{1}{B} \sum_i (1 - \cos(g_i, sg(u_i)))$, in 0..2; rows need not be normalised.

    Args: gallery g and guided u (B, D); the guided side gets no gradient. Returns a scalar.

    Example:
        >>> import torch
        >>> from crossatnet.training.losses import feature_agreement
        >>> feature_agreement(torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 0.0]]))
        tensor(0.)
    """
    return _cosine_distance(gallery, guided.detach())


def _cosine_distance(first: Tensor, second: Tensor) -> Tensor:
    return (1 - functional.cosine_similarity(first, second, dim=1)).mean()


def map_agreement(gallery_map: Tensor, guided_map: Tensor) -> Tensor:
    r"""The photo's own attention looks where the sketch-guided attention looks (ours).

    $L = \frac{1}{B H} \sum_{i, h} KL(sg(u_{ih}) \| g_{ih})$ over B photos and H heads, in nats, with
    $KL(u \| g) = \sum_p u_p \log \frac{u_p}{g_p}$ and $0 \log 0 = 0$. g is held above the smallest normal number of
    its type, so a position that underflowed to 0 costs much but stays finite.

    Args: gallery_map g and guided_map u (B, H, P), not negative, each row summing to 1; the guided side gets no
    gradient. Returns a scalar.

    Example:
        >>> import torch
        >>> from crossatnet.training.losses import map_agreement
        >>> uniform = torch.full((1, 1, 4), 0.25)
        >>> map_agreement(uniform, torch.tensor([[[1.0, 0.0, 0.0, 0.0]]]))
        tensor(1.3863)
    """
    log_gallery = gallery_map.clamp(min=torch.finfo(gallery_map.dtype).tiny).log()  # (B, H, P)
    return functional.kl_div(log_gallery, guided_map.detach(), reduction="none").sum(-1).mean()


def quantisation(relaxed: Tensor) -> Tensor:
    r"""Draw relaxed bits to -1 and 1, so that taking their sign loses little (ours; the abstract asks for hash codes).

    $L = \frac{1}{B R} \sum_{i, r} (|b_{ir}| - 1)^2$ over B rows and R bits

    Args: relaxed b (B, R) in -1..1. Returns a scalar in 0..1.

    Example:
        >>> import torch
        >>> from crossatnet.training.losses import quantisation
        >>> quantisation(torch.tensor([[1.0, -0.5]]))
        tensor(0.1250)
    """
    return (relaxed.abs() - 1).square().mean()


def bit_balance(relaxed: Tensor) -> Tensor:
    r"""Each bit is on for half of the batch (ours; a condition of Spectral Hashing, Weiss et al., 2008).

    $L = \frac{1}{R} \sum_r (\frac{1}{B} \sum_i b_{ir})^2$ over R bits

    Args: relaxed b (B, R) in -1..1. Returns a scalar in 0..1.

    Example:
        >>> import torch
        >>> from crossatnet.training.losses import bit_balance
        >>> bit_balance(torch.tensor([[1.0, 1.0], [1.0, -1.0]]))
        tensor(0.5000)
    """
    return relaxed.mean(0).square().mean()


def decorrelation(relaxed: Tensor) -> Tensor:
    r"""No bit repeats another (ours; a condition of Spectral Hashing, Weiss et al., 2008).

    $L = \frac{1}{R (R - 1)} \sum_{q \ne r} (\frac{1}{B} \sum_i b_{iq} b_{ir})^2$ over R bits; 0 for a single bit

    Args: relaxed b (B, R) in -1..1. Returns a scalar in 0..1.

    Example:
        >>> import torch
        >>> from crossatnet.training.losses import decorrelation
        >>> decorrelation(torch.tensor([[1.0, 1.0], [-1.0, -1.0]]))
        tensor(1.)
    """
    rows, bits = relaxed.shape
    correlation = relaxed.T @ relaxed / rows  # (R, R)
    off_diagonal = correlation - correlation.diagonal().diag()  # (R, R)
    return off_diagonal.square().sum() / max(bits * (bits - 1), 1)


def knowledge(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    r"""Keep what the pretrained network knew (ours; distillation of Hinton et al., 2015).

    $L = \frac{T^2}{B} \sum_i KL(softmax(sg(t_i) / T) \| softmax(s_i / T))$, in nats. $T^2$ keeps the size of the
    gradient when T changes. That keeping ImageNet knowledge helps unseen classes is SAKE's finding (Liu et al., 2019).

    Args: student_logits s and teacher_logits t (B, M), the teacher gets no gradient; temperature T > 0. Returns a
    scalar.

    Example:
        >>> import torch
        >>> from crossatnet.training.losses import knowledge
        >>> logits = torch.tensor([[2.0, 0.0]])
        >>> knowledge(logits, logits, temperature=2.0)
        tensor(0.)
    """
    student = functional.log_softmax(student_logits / temperature, dim=1)  # (B, M)
    teacher = functional.log_softmax(teacher_logits.detach() / temperature, dim=1)  # (B, M)
    return temperature**2 * functional.kl_div(student, teacher, reduction="batchmean", log_target=True)
