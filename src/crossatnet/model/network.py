"""CrossATNet: sketches and photos into one shared space.

Shapes: `B` batch, `S` side of the input, `C h w` the backbone's map, `M` attention heads, `D` the shared space.
"""

import copy
import hashlib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from crossatnet.config import ModelConfig
from crossatnet.data.images import ImageError, Modality, Picture, load_image, prepare
from crossatnet.data.photos import read_photo
from crossatnet.errors import UserError
from crossatnet.model.attention import MeanPooler, Pooled, make_pooler
from crossatnet.model.backbone import Backbone, make_backbone
from crossatnet.model.hashing import HashCodes, pack

MODALITIES: tuple[Modality, Modality] = ("sketch", "photo")


class Guided(NamedTuple):
    """What a sketch sees in photos."""

    similarity: NDArray[np.float32]  # (B,), cosine
    attention: NDArray[np.float32]  # (B, M, h, w); every head sums to 1 over the map


class CrossATNet(nn.Module):
    """Backbone, attention, per-modality centring, projection, hash codes.

    With `shared_encoder` one backbone and one projection serve both modalities; otherwise sketches have their own. With
    `sketch_statistics` sketches share the weights, and are normalised by batch-norm statistics of their own.
    Weights are random until loaded: `CrossATNet.from_pretrained(...)` gives a trained network.
    """

    sketch_centre: Tensor
    photo_centre: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.source = ""  # where it was loaded from: a packaged name or a folder
        self.name = "untrained"
        self.backbone = make_backbone(config.backbone, config.backbone_config)
        channels = self.backbone.channels
        self.mean_pooler = MeanPooler()
        self.pooler = make_pooler(channels, config.attention_heads)
        for modality in MODALITIES:  # the training set's mean feature: what all sketches, or all photos, share
            self.register_buffer(f"{modality}_centre", torch.zeros(channels))
        self.dropout = nn.Dropout(config.dropout)
        self.projection = nn.Linear(channels, config.dimension, bias=False)
        self.sketch_backbone = None if config.shared_encoder else copy.deepcopy(self.backbone)
        if config.shared_encoder and config.sketch_statistics:
            self.sketch_backbone = copy.deepcopy(
                self.backbone, {id(weight): weight for weight in self.backbone.parameters()}
            )
        self.sketch_projection = None if config.shared_encoder else copy.deepcopy(self.projection)
        self.hashing = HashCodes(config.dimension, config.code_lengths)

    @classmethod
    def from_pretrained(cls, source: str | Path) -> "CrossATNet":
        """Load a checkpoint: a packaged name, a folder, or a hub id such as `owner/name`; in evaluation mode."""
        from crossatnet.checkpoint import load_checkpoint

        return load_checkpoint(source)

    # The network, step by step

    def forward(self, pictures: Tensor, modality: Modality) -> Tensor:
        """Prepared pictures (B, 3, S, S), 0..255 -> embeddings (B, D), L2-normalised."""
        return self.embed_map(self.encoder(modality)(pictures), modality)

    def embed_map(self, feature_map: Tensor, modality: Modality) -> Tensor:
        """Backbone maps (B, C, h, w) -> embeddings (B, D), each picture seen alone."""
        return self.embed_pooled(self.pool(feature_map, modality).feature, modality)

    def pool(self, feature_map: Tensor, modality: Modality, sketch: Tensor | None = None) -> Pooled:
        """Backbone maps (B, C, h, w) -> features (B, C) and attention maps (B, M, h, w).

        A sketch is pooled by its mean. A photo is pooled by attention: the gallery's, which sees it alone, or, with the
        pooled features of sketches (B, C), the sketch-guided one.
        """
        check_modality(modality)
        if modality == "sketch":
            return self.mean_pooler.forward(feature_map)
        return self.pooler.forward(feature_map, None if sketch is None else sketch - self.sketch_centre)

    def embed_pooled(self, feature: Tensor, modality: Modality) -> Tensor:
        """Pooled features (B, C) -> embeddings (B, D), L2-normalised."""
        centred = self.dropout(feature - self.centre(modality))  # (B, C)
        return functional.normalize(self.projector(modality)(centred), dim=1)  # (B, D)

    def distinct_state(self) -> dict[str, Tensor]:
        """As `state_dict`, with weights that both encoders share under one name only."""
        again = {f"sketch_backbone.{name}" for name in self._shared()}
        return {name: tensor for name, tensor in self.state_dict().items() if name not in again}

    def load_distinct_state(self, state: Mapping[str, Tensor]) -> None:
        """Load what `distinct_state` gave. Raises `RuntimeError` for names and shapes that do not fit."""
        again = {
            f"sketch_backbone.{name}": state[f"backbone.{name}"]
            for name in self._shared()
            if f"backbone.{name}" in state
        }
        self.load_state_dict({**state, **again})

    def _shared(self) -> list[str]:
        """Names, within a backbone, of the weights that both encoders share although they are two."""
        if self.sketch_backbone is None or not self.config.shared_encoder:
            return []
        return [name for name, _ in self.backbone.named_parameters()]

    @property
    def has_attention(self) -> bool:
        """Whether a sketch can guide what is taken from a photo."""
        return self.config.attention_heads > 0

    def encoder(self, modality: Modality) -> Backbone:
        """The backbone of a modality."""
        check_modality(modality)
        return self.backbone if modality == "photo" or self.sketch_backbone is None else self.sketch_backbone

    def projector(self, modality: Modality) -> nn.Linear:
        """The projection of a modality."""
        check_modality(modality)
        return self.projection if modality == "photo" or self.sketch_projection is None else self.sketch_projection

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
        """Number of bits of a gallery's hash codes: the longest that the network has."""
        return max(self.config.code_lengths)

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
        if modality == "photo":
            return read_photo(picture, self._side(modality))
        return self.shape(load_image(picture), modality)

    def shape(self, image: Image.Image, modality: Modality) -> NDArray[np.uint8]:
        """An RGB picture as the network takes it: (S, S, 3), `uint8`. S is `image_size`, or `photo_size` for photos."""
        return prepare(image, modality, self._side(modality), self.config.fit_strokes)

    def _side(self, modality: Modality) -> int:
        return (self.config.photo_size if modality == "photo" else 0) or self.config.image_size

    @property
    def piece(self) -> int:
        """How many pictures at a time `embed` takes fastest, called by several threads.

        On a CPU few: the maps of more outgrow its caches, and are so large that the system makes them anew each time.
        """
        return 4 if self.device.type == "cpu" else 32

    @torch.inference_mode()
    def embed(self, pixels: NDArray[np.uint8], modality: Modality) -> NDArray[np.float32]:
        """Preprocessed pictures (B, S, S, 3) -> embeddings (B, D), L2-normalised."""
        embeddings = self.embed_map(self.map(pixels, modality), modality)  # (B, D)
        if modality == "sketch" and self.config.mirror_sketches:
            mirrored = np.ascontiguousarray(pixels[:, :, ::-1])
            embeddings = functional.normalize(
                embeddings + self.embed_map(self.map(mirrored, modality), modality), dim=1
            )
        return embeddings.float().cpu().numpy()

    @torch.inference_mode()
    def hash(self, embeddings: NDArray[np.float32], bits: int | None = None) -> NDArray[np.uint8]:
        """Embeddings (B, D) -> packed hash codes (B, bits / 8), of `code_bits` bits by default."""
        length = self.code_bits if bits is None else bits
        return pack(self.hashing(torch.from_numpy(embeddings).to(self.device), length))

    @torch.inference_mode()
    def guide(self, sketch: NDArray[np.uint8], photos: NDArray[np.uint8]) -> Guided:
        """Look at photos (B, S, S, 3) through the eyes of one sketch (S, S, 3), both preprocessed.

        The sketch's query attends over each photo's map. Returns the cosine (B,) between the sketch's embedding and
        each guided photo embedding, and the attention maps (B, M, h, w).
        """
        return self.guide_maps(self.map(sketch[None], "sketch"), self.map(photos, "photo"))

    @torch.inference_mode()
    def guide_maps(self, sketch: Tensor, photos: Tensor) -> Guided:
        """As `guide`, for the backbone's maps of the sketch (1, C, h, w) and of the photos (B, C, h, w)."""
        feature = self.pool(sketch, "sketch").feature  # (1, C)
        pooled = self.pool(photos, "photo", feature)
        similarity = self.embed_pooled(pooled.feature, "photo") @ self.embed_pooled(feature, "sketch")[0]  # (B,)
        return Guided(similarity.float().cpu().numpy(), pooled.attention.float().cpu().numpy())

    @torch.inference_mode()
    def map(self, pixels: NDArray[np.uint8], modality: Modality) -> Tensor:
        """Preprocessed pictures (B, S, S, 3) -> the backbone's maps (B, C, h, w)."""
        pictures = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2)  # (B, 3, S, S)
        feature_map: Tensor = self.encoder(modality)(pictures)
        return feature_map

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
        if bits is not None:
            self.hashing.check(bits)
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
        codes = self.hash(rows, bits)
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
