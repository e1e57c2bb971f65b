"""CrossATNet: sketches and photos into one shared space.

Shapes: `B` batch, `S` side of the input, `C h w` the backbone's map, `D` the shared space.
"""

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from crossatnet.config import ModelConfig
from crossatnet.data.images import ImageError, Modality, Picture, load_image, prepare
from crossatnet.errors import UserError
from crossatnet.model.attention import MeanPooler
from crossatnet.model.backbone import EfficientNetLite0
from crossatnet.model.hashing import SignHash, pack

MODALITIES: tuple[Modality, Modality] = ("sketch", "photo")


class CrossATNet(nn.Module):
    """Backbone, pooler, per-modality centring, one projection shared by both modalities, hash codes.

    Weights are random until loaded: `CrossATNet.from_pretrained(...)` gives a trained network.
    """

    sketch_centre: Tensor
    photo_centre: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.source = ""  # where it was loaded from: a packaged name or a folder
        self.name = "untrained"
        self.backbone = EfficientNetLite0()
        self.pooler = MeanPooler()
        for modality in MODALITIES:  # the training set's mean feature: what all sketches, or all photos, share
            self.register_buffer(f"{modality}_centre", torch.zeros(self.backbone.channels))
        self.dropout = nn.Dropout(config.dropout)
        self.projection = nn.Linear(self.backbone.channels, config.dimension, bias=False)
        self.hashing = SignHash(config.dimension)

    @classmethod
    def from_pretrained(cls, source: str | Path) -> "CrossATNet":
        """Load a checkpoint: a packaged name, a folder, or a hub id such as `owner/name`; in evaluation mode."""
        from crossatnet.checkpoint import load_checkpoint

        return load_checkpoint(source)

    # The network, step by step

    def forward(self, pictures: Tensor, modality: Modality) -> Tensor:
        """Prepared pictures (B, 3, S, S), 0..255 -> embeddings (B, D), L2-normalised."""
        return self.embed_map(self.backbone(pictures), modality)

    def embed_map(self, feature_map: Tensor, modality: Modality) -> Tensor:
        """Backbone maps (B, C, h, w) -> embeddings (B, D), L2-normalised."""
        pooled = self.pooler(feature_map) - self.centre(modality)  # (B, C)
        return functional.normalize(self.projection(self.dropout(pooled)), dim=1)  # (B, D)

    def centre(self, modality: Modality) -> Tensor:
        """The mean pooled feature (C,) of the modality's training pictures."""
        check_modality(modality)
        return self.sketch_centre if modality == "sketch" else self.photo_centre

    # What users call: pictures or arrays in, arrays out

    @property
    def dimension(self) -> int:
        """Size D of an embedding."""
        return self.config.dimension

    @property
    def code_bits(self) -> int:
        """Number of bits of a hash code."""
        return self.config.dimension

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.projection.weight.device

    @property
    def fingerprint(self) -> str:
        """Digest of settings and weights: equal only for networks that embed alike."""
        return digest(self, self.config.model_dump_json())

    def preprocess(self, picture: Picture, modality: Modality) -> NDArray[np.uint8]:
        """Read and shape one picture: (S, S, 3), `uint8`. Raises `ImageError`."""
        check_modality(modality)
        return prepare(load_image(picture), modality, self.config.image_size, self.config.fit_strokes)

    @torch.inference_mode()
    def embed(self, pixels: NDArray[np.uint8], modality: Modality) -> NDArray[np.float32]:
        """Preprocessed pictures (B, S, S, 3) -> embeddings (B, D), L2-normalised."""
        pictures = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2)  # (B, 3, S, S)
        return self(pictures, modality).float().cpu().numpy()  # type: ignore[no-any-return]

    @torch.inference_mode()
    def hash(self, embeddings: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Embeddings (B, D) -> packed hash codes (B, code_bits / 8)."""
        return pack(self.hashing(torch.from_numpy(embeddings).to(self.device)))

    def encode(
        self,
        images: Sequence[Picture],
        modality: Modality,
        batch_size: int = 32,
        bits: int | None = None,
        errors: Literal["warn", "raise"] = "warn",
    ) -> NDArray[np.float32] | NDArray[np.uint8]:
        """Embed pictures of any kind: paths, file contents, PIL images or arrays.

        Returns float32 (N, D), L2-normalised, or with `bits` packed codes, `uint8` (N, bits / 8). A picture that cannot
        be read is named in a warning and its row is NaN (zeros in codes); with `errors="raise"` it is an
        `ImageError`. Raises `UserError` for one picture in place of a list, and for a code length that this network
        does not have.
        """
        if isinstance(images, (str, bytes, Path, Image.Image)):
            raise UserError("encode takes a list of pictures; put a single one in brackets: encode([picture], ...)")
        if bits not in (None, self.code_bits):
            raise UserError(f"{self.name} has hash codes of {self.code_bits} bits, not {bits}")
        rows = np.full((len(images), self.dimension), np.nan, dtype=np.float32)
        for start in range(0, len(images), batch_size):
            readable: dict[int, NDArray[np.uint8]] = {}
            for index in range(start, min(start + batch_size, len(images))):
                try:
                    readable[index] = self.preprocess(images[index], modality)
                except ImageError as error:
                    if errors == "raise":
                        raise
                    warnings.warn(f"image {index} was left out: {error}", stacklevel=2)
            if readable:
                rows[list(readable)] = self.embed(np.stack(list(readable.values())), modality)
        if bits is None:
            return rows
        codes = self.hash(rows)
        codes[np.isnan(rows[:, 0])] = 0
        return codes


def check_modality(modality: str) -> None:
    """Raise `UserError` for anything but `sketch` and `photo`: a misspelt one must not count as the other."""
    if modality not in MODALITIES:
        raise UserError(f"unknown modality '{modality}': give 'sketch' or 'photo'")


def digest(module: nn.Module, *facts: str) -> str:
    """Hex digest of a module's weights and of further facts."""
    hashed = hashlib.sha256("\n".join(facts).encode())
    for name, tensor in sorted(module.state_dict().items()):
        hashed.update(f"{name} {tuple(tensor.shape)}".encode())
        hashed.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return hashed.hexdigest()
