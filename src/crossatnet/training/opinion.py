"""Fits the part of an embedding that is the backbone's opinion, on the pictures of a trained network's classes.

Shapes: `N` pictures of both modalities, `K` ImageNet classes, `E` numbers of the opinion, `D` the shared space.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from crossatnet.config import OPINION
from crossatnet.data.images import Modality
from crossatnet.model.interface import MODALITIES
from crossatnet.model.network import CrossATNet
from crossatnet.training.whitening import whitening

WHITENED = 0.4  # power of the spread within classes that opinions are divided by; chosen on held-out SEEN classes


@torch.no_grad()
def add_opinion(
    network: CrossATNet, weight: float, embeddings: Tensor, roots: Mapping[Modality, Tensor], labels: Tensor
) -> tuple[CrossATNet, Tensor]:
    """A network like this one whose embeddings also hold its opinion, and those of the given pictures (N, D).

    What was learnt and the opinion keep the directions in which these pictures differ most (principal components
    through the origin).

    Args: `network` without an opinion; its weight; the network's embeddings (N, D), whitened; the square `roots` of
    ImageNet's probabilities (N, K), by modality, and labels (N,), in the order of `MODALITIES`, of the TRAINING set
    only. The hash codes of the network returned are still to be fitted.
    """
    config = network.config.model_copy(update={"opinion": weight})
    opinionated = CrossATNet(config).eval()
    assert opinionated.opinion is not None
    opinionated.opinion.classifier.load_imagenet_weights()
    means = {modality: roots[modality].mean(0) for modality in MODALITIES}  # (K,)
    centred = torch.cat([functional.normalize(roots[each] - means[each], dim=1) for each in MODALITIES])  # (N, K)
    directions = principal(centred, OPINION)  # (E, K)
    directions = whitening(centred @ directions.T, labels, WHITENED) @ directions  # (E, K)
    learnt = principal(embeddings, config.dimension - OPINION)  # (D - E, D)
    state = {
        **{name: tensor for name, tensor in network.distinct_state().items() if not name.startswith("hashing.")},
        **{f"opinion.{name}": tensor for name, tensor in opinionated.opinion.state_dict().items()},
        **{f"opinion.{modality}_mean": means[modality] for modality in MODALITIES},
        "opinion.directions.weight": directions,
        **{f"hashing.{name}": tensor for name, tensor in opinionated.hashing.state_dict().items()},
    }
    for name in ("projection.weight", "sketch_projection.weight"):
        if name in state:
            state[name] = learnt @ state[name]
    opinionated.load_distinct_state(state)
    opinion = functional.normalize(centred @ directions.T, dim=1)  # (N, E)
    return opinionated, opinionated.with_opinion(functional.normalize(embeddings @ learnt.T, dim=1), opinion)


def principal(rows: Tensor, number: int) -> Tensor:
    """The directions in which rows (N, D) are longest, most first: orthonormal (number, D)."""
    moment = rows.double().T @ rows.double() / len(rows)  # (D, D)
    vectors: Tensor = torch.linalg.eigh(moment)[1]  # (D, D), by growing length
    return vectors.flip(1)[:, :number].T.to(rows.dtype)
