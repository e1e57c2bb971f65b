"""A backbone by its name and stored settings."""

from typing import Any

from crossatnet.model.backbones.base import Backbone
from crossatnet.model.backbones.efficientnet import EfficientNetLite0
from crossatnet.system.errors import UserError


def make_backbone(name: str, config: dict[str, Any] | None = None) -> Backbone:
    """The architecture with random weights: EfficientNet-Lite0, or any other name by its stored `Backbone.config`.

    Example:
        >>> import torch
        >>> from crossatnet.model.backbones.build import make_backbone
        >>> backbone = make_backbone("efficientnet-lite0").eval()
        >>> with torch.inference_mode():
        ...     backbone(torch.zeros(1, 3, 64, 64)).shape
        torch.Size([1, 320, 2, 2])
    """
    if name == EfficientNetLite0.name:
        return EfficientNetLite0()
    if config is None:
        raise UserError(f"unknown backbone '{name}' without stored settings; known is '{EfficientNetLite0.name}'")
    from crossatnet.model.backbones.transformers import TransformersBackbone

    return TransformersBackbone(config)
