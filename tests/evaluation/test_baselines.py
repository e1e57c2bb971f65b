"""Baselines are the original backbone, compared with the same steps by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch

from crossatnet.config import ModelConfig
from crossatnet.evaluation.baselines import frozen_baselines
from crossatnet.model.interface import MODALITIES
from crossatnet.model.network import CrossATNet
from crossatnet.system.errors import UserError
from tiny_data import UNSEEN


def test_frozen_baselines_are_the_pooled_features(network: CrossATNet, root: Path) -> None:
    baselines = frozen_baselines(network)
    assert set(baselines) == {"frozen backbone, centred", "frozen backbone, raw"}
    photos = [path for name in sorted(UNSEEN) for path in sorted((root / "photos" / name).glob("*.png"))]
    pixels = np.stack([network.preprocess(path, "photo") for path in photos])
    with torch.inference_mode():
        maps = network.backbone(torch.from_numpy(pixels).permute(0, 3, 1, 2)).numpy()
    pooled = maps.reshape(len(maps), 320, -1).sum(2) / (maps.shape[2] * maps.shape[3])
    for name, expected in (("raw", pooled), ("centred", pooled - network.photo_centre.numpy())):
        expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
        embeddings = baselines[f"frozen backbone, {name}"].encode(photos, "photo")
        np.testing.assert_allclose(embeddings, expected, atol=1e-5)


def test_frozen_baselines_owe_nothing_to_training(network: CrossATNet) -> None:
    changed = CrossATNet(network.config).eval()
    changed.load_state_dict(network.state_dict())
    torch.nn.init.normal_(changed.projection.weight)
    torch.nn.init.normal_(changed.backbone.stem[0].weight)
    for name, baseline in frozen_baselines(network).items():
        assert frozen_baselines(changed)[name].fingerprint == baseline.fingerprint


def test_frozen_baselines_refuse_another_backbone(network: CrossATNet) -> None:
    other = CrossATNet(network.config)
    other.name = "large"
    other.config = network.config.model_copy(update={"backbone": "owner/vision-transformer"})
    with pytest.raises(
        UserError, match=r"no baseline for large: it does not hold the original weights of owner/vision-transformer"
    ):
        frozen_baselines(other)


def test_frozen_baselines_have_no_opinion(network: CrossATNet) -> None:
    settings = {**network.config.model_dump(), "dimension": 288, "opinion": 1.0}
    opinionated = CrossATNet(ModelConfig.model_validate(settings)).eval()
    opinionated.load_state_dict(network.backbone.state_dict(prefix="backbone."), strict=False)
    for modality in MODALITIES:
        opinionated.centre(modality).copy_(network.centre(modality))
    for name, baseline in frozen_baselines(opinionated).items():
        assert baseline.fingerprint == frozen_baselines(network)[name].fingerprint
