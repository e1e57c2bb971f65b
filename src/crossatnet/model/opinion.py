"""What the backbone still knows of ImageNet's classes, as a part of an embedding.

Training pulls the shared space towards the few seen classes. The backbone came from a thousand, and the loss term
`knowledge` keeps its opinion of a picture alive, in sketches too. Two pictures of a thing that no training has met may
be near to each other in this opinion: "a bit of a mug, a bit of a pitcher".

Shapes: `B` batch, `C h w` the backbone's map, `K` ImageNet classes, `E` numbers of the opinion, `D` the shared space.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from crossatnet.config import OPINION
from crossatnet.data.images import Modality
from crossatnet.model.backbones.efficientnet import ImageNetClassifier

CLASSES = 1000  # K


class Opinion(nn.Module):
    """Backbone maps to opinions: square roots of class probabilities, centred by modality and reduced to `OPINION`.

    The dot product of such roots is the Bhattacharyya coefficient of the two distributions. Centring takes away what
    all sketches, or all photos, are mistaken for. The means and directions are fitted by `training.opinion`.

    Example:
        >>> import torch
        >>> from crossatnet.model.opinion import Opinion
        >>> Opinion()(torch.randn(2, 320, 7, 7), "sketch").shape
        torch.Size([2, 256])
    """

    sketch_mean: Tensor
    photo_mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.classifier = ImageNetClassifier()
        self.register_buffer("sketch_mean", torch.zeros(CLASSES))
        self.register_buffer("photo_mean", torch.zeros(CLASSES))
        self.directions = nn.Linear(CLASSES, OPINION, bias=False)

    def forward(self, feature_map: Tensor, modality: Modality) -> Tensor:
        """Maps (B, C, h, w) -> opinions (B, E), L2-normalised."""
        mean = self.sketch_mean if modality == "sketch" else self.photo_mean
        centred = functional.normalize(self.roots(feature_map) - mean, dim=1)  # (B, K)
        return functional.normalize(self.directions(centred), dim=1)  # (B, E)

    def roots(self, feature_map: Tensor) -> Tensor:
        """Square roots of the probabilities of ImageNet's classes: maps (B, C, h, w) -> (B, K), of length 1."""
        logits: Tensor = self.classifier(feature_map)  # (B, K)
        return logits.softmax(1).sqrt()


def joined(embedding: Tensor, opinion: Tensor, weight: float) -> Tensor:
    """One embedding of what was learnt (B, D - E) and of the opinion (B, E), both of length 1: (B, D), of length 1.

    Its cosine is the first's plus `weight` squared times the opinion's, over their sum.

    Example:
        >>> import torch
        >>> from crossatnet.model.opinion import joined
        >>> joined(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0]]), weight=0.75)
        tensor([[0.8000, 0.0000, 0.6000]])
    """
    both = torch.cat([embedding, weight * opinion], dim=1)  # (B, D)
    return both / float((1 + weight * weight) ** 0.5)
