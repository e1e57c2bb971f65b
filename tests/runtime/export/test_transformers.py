"""Small random vision transformers of the library `transformers` as ONNX: the same embeddings as torch's."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from crossatnet.config import ModelConfig
from crossatnet.model.checkpoint import Provenance
from crossatnet.model.network import CrossATNet
from crossatnet.model.weights import save_checkpoint
from crossatnet.runtime.export.checkpoint import export_checkpoint
from crossatnet.runtime.load import load
from tiny_data import SEEN, draw

pytest.importorskip("transformers", reason="the extra 'backbones' is not installed")

SLOW = pytest.mark.scale
SIZES = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "patch_size": 16}


@pytest.mark.parametrize(
    ("model_type", "more"),
    [
        ("dinov2", {"image_size": 48}),  # other than the 32 below: position embeddings are interpolated
        pytest.param("siglip_vision_model", {"image_size": 32}, marks=SLOW),  # a value inside has the output's name
        pytest.param("siglip2_vision_model", {"num_patches": 9}, marks=SLOW),
    ],
)
def test_the_onnx_form_gives_what_torch_gives(model_type: str, more: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    stored = {"network": {"model_type": model_type, **SIZES, **more}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    config = ModelConfig(
        backbone="small", backbone_config=stored, image_size=32, dimension=16, code_lengths=(16,), attention_heads=0
    )
    network = CrossATNet(config).eval()
    network.hashing.set(16, torch.randn(16, 16), torch.randn(16) / 10)
    provenance = Provenance(
        **{"data": "tiny", "layout": "folder", "split": "tiny", "training_classes": SEEN, "validation_classes": ()},
        **{"seed": 0, "epochs": 1, "validation_map": 0.5},
    )
    save_checkpoint(tmp_path / "small", network, "small", provenance, [])
    export_checkpoint(tmp_path / "small", tmp_path / "small")
    given, expected = (load(tmp_path / "small", runtime) for runtime in ("onnx", "torch"))
    assert given.fingerprint == expected.fingerprint
    for modality in ("sketch", "photo"):
        pictures = [draw(name, modality, np.random.default_rng(0)) for name in SEEN]
        for count in (1, len(SEEN)):
            embeddings = given.encode(pictures[:count], modality)
            np.testing.assert_allclose(embeddings, expected.encode(pictures[:count], modality), atol=1e-5)
        assert np.abs(embeddings - embeddings[0]).max() > 1e-3
