"""The baselines of a checkpoint: the backbone it started from, not trained further, as a retrieval model."""

import torch

from crossatnet.config import ModelConfig
from crossatnet.model.backbones.efficientnet import EfficientNetLite0
from crossatnet.model.interface import MODALITIES
from crossatnet.model.network import CrossATNet
from crossatnet.system.errors import UserError


def frozen_baselines(network: CrossATNet) -> dict[str, CrossATNet]:
    """The original ImageNet backbone as a retrieval model, raw and with the checkpoint's centring.

    Both are the same network with mean pooling and an identity for a projection, so every other step is shared. The
    centred one has the sketches' own statistics too, where the checkpoint has them. Raises `UserError` for another
    backbone than EfficientNet-Lite0, as a checkpoint does not hold its original weights.
    """
    if network.config.backbone != EfficientNetLite0.name:
        raise UserError(
            f"no baseline for {network.name}: it does not hold the original weights of {network.config.backbone}"
        )
    plain = {"dimension": network.backbone.channels, "attention_heads": 0, "shared_encoder": True, "opinion": 0.0}
    pretrained = EfficientNetLite0().load_imagenet_weights().state_dict()
    baselines = {}
    for name in ("frozen backbone, centred", "frozen backbone, raw"):
        centred = name.endswith("centred")
        statistics = network.config.sketch_statistics if centred else 0.0
        settings = {**network.config.model_dump(), **plain, "sketch_statistics": statistics}
        baseline = CrossATNet(ModelConfig.model_validate(settings)).eval()
        baseline.backbone.load_state_dict(pretrained)
        torch.nn.init.eye_(baseline.projection.weight)
        if centred:
            for modality in MODALITIES:
                baseline.encoder(modality).load_state_dict(
                    dict(network.encoder(modality).named_buffers()), strict=False
                )
                baseline.centre(modality).copy_(network.centre(modality))
        baselines[name] = baseline.to(network.device)
    return baselines
