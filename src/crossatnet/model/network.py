"""CrossATNet: sketches and photos into one shared space.

Shapes: `E` numbers of the opinion, `B` batch, `S` side of the input, `H W` a photo that parts are cut from,
`C h w` the backbone's map, `F i j` its finer map, `M` attention heads, `D` the shared space, `R` bits of a hash code.
"""

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from crossatnet.config import OPINION, ModelConfig
from crossatnet.data.images import Modality
from crossatnet.model.attention import MeanPooler, Pooled, make_pooler
from crossatnet.model.backbones.base import Backbone
from crossatnet.model.backbones.build import make_backbone
from crossatnet.model.hashing import HashCodes
from crossatnet.model.interface import MODALITIES, Guided, PictureModel, check_modality, side_of
from crossatnet.model.opinion import Opinion, joined
from crossatnet.model.proposals import Proposer
from crossatnet.model.regions import Regions, found_in
from crossatnet.system.errors import UserError


class CrossATNet(nn.Module, PictureModel):
    """Backbone, attention, centring for each modality, projection, the backbone's opinion, hash codes.

    With `shared_encoder` both modalities share one backbone and one projection; otherwise sketches have their own. With
    `sketch_statistics` sketches share the weights, but have batch-norm statistics of their own. Weights are random
    until loaded: `load_network` gives a trained network.
    """

    sketch_centre: Tensor
    photo_centre: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.source = ""
        self.name = "untrained"
        self.backbone = make_backbone(config.backbone, config.backbone_config)
        channels = self.backbone.channels
        self.mean_pooler = MeanPooler()
        self.pooler = make_pooler(channels, config.attention_heads)
        for modality in MODALITIES:  # the training set's mean feature, which all sketches, or all photos, share
            self.register_buffer(f"{modality}_centre", torch.zeros(channels))
        self.dropout = nn.Dropout(config.dropout)
        self.opinion = Opinion() if config.opinion else None
        learnt = config.dimension - (OPINION if self.opinion else 0)
        self.projection = nn.Linear(channels, learnt, bias=False)
        self.sketch_backbone = None if config.shared_encoder else copy.deepcopy(self.backbone)
        if config.shared_encoder and config.sketch_statistics:
            self.sketch_backbone = copy.deepcopy(
                self.backbone, {id(weight): weight for weight in self.backbone.parameters()}
            )
        self.sketch_projection = None if config.shared_encoder else copy.deepcopy(self.projection)
        self.hashing = HashCodes(config.dimension, config.code_lengths)
        self.proposer = Proposer(self.backbone) if config.region_size else None
        self._runtime = "torch"
        self._compiled: dict[Modality, Callable[[Tensor], tuple[Tensor, Tensor]]] = {}

    def forward(self, pictures: Tensor, modality: Modality) -> Tensor:
        """Prepared pictures (B, 3, S, S), 0..255 -> embeddings (B, D), L2-normalised."""
        return self.embed_map(self.encoder(modality)(pictures), modality)

    def embed_map(self, feature_map: Tensor, modality: Modality) -> Tensor:
        """Backbone maps (B, C, h, w) -> embeddings (B, D), each picture seen alone."""
        return self.embed_seen(self.pool(feature_map, modality).feature, feature_map, modality)

    def embed_seen(self, feature: Tensor, feature_map: Tensor, modality: Modality) -> Tensor:
        """Pooled features (B, C) and the maps (B, C, h, w) that they are of -> embeddings (B, D)."""
        learnt = self.embed_pooled(feature, modality)
        return learnt if self.opinion is None else self.with_opinion(learnt, self.opinion(feature_map, modality))

    def with_opinion(self, learnt: Tensor, opinion: Tensor) -> Tensor:
        """What was learnt (..., D - E) and the backbone's opinion (..., E) -> embeddings (..., D)."""
        return joined(learnt, opinion, self.config.opinion)

    def pool(self, feature_map: Tensor, modality: Modality, sketch: Tensor | None = None) -> Pooled:
        """Backbone maps (B, C, h, w) -> features (B, C) and attention maps (B, M, h, w).

        A sketch is pooled by its mean. A photo is pooled by attention: by the gallery's query, without a sketch; or
        guided by the pooled features of sketches (B, C), if given.
        """
        check_modality(modality)
        if modality == "sketch":
            return self.mean_pooler.forward(feature_map)
        return self.pooler.forward(feature_map, None if sketch is None else sketch - self.sketch_centre)

    def embed_pooled(self, feature: Tensor, modality: Modality) -> Tensor:
        """Pooled features (..., C) -> embeddings (..., D), L2-normalised; with an opinion, what was learnt."""
        centred = self.dropout(feature - self.centre(modality))  # (..., C)
        return functional.normalize(self.projector(modality)(centred), dim=-1)  # (..., D)

    def distinct_state(self) -> dict[str, Tensor]:
        """As `state_dict`, but weights that both encoders share appear under one name only."""
        again = {f"sketch_backbone.{name}" for name in self._shared()}
        return {name: tensor for name, tensor in self.state_dict().items() if name not in again}

    def load_distinct_state(self, state: Mapping[str, Tensor]) -> None:
        """Load a result of `distinct_state`. Raises `RuntimeError` for names and shapes that do not fit."""
        again = {
            f"sketch_backbone.{name}": state[f"backbone.{name}"]
            for name in self._shared()
            if f"backbone.{name}" in state
        }
        self.load_state_dict({**state, **again})

    def _shared(self) -> list[str]:
        """Names, within a backbone, of the weights that the two encoders share."""
        if self.sketch_backbone is None or not self.config.shared_encoder:
            return []
        return [name for name, _ in self.backbone.named_parameters()]

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

    # # The methods for users, from arrays to arrays; `PictureModel` has the rest

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.projection.weight.device

    @property
    def fingerprint(self) -> str:
        """Hash of settings and weights: equal only for networks that give equal embeddings."""
        later = set() if self.config.opinion else {"opinion"}  # a setting that older checkpoints do not have
        # the embedding of a whole picture does not depend on regions
        later |= {name for name in ModelConfig.model_fields if name.startswith("region_")}
        return fingerprint_of(self, self.config.model_dump_json(exclude=later), without="proposer.")

    @property
    def batch_size(self) -> int:
        """Few on a CPU: the maps of more pictures exceed its caches, and the system allocates them again each time."""
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
    def embed_with_regions(
        self, pixels: NDArray[np.uint8], full: Sequence[NDArray[np.uint8]]
    ) -> tuple[NDArray[np.float32], list[Regions]]:
        """Photos (B, S, S, 3), each also in full (H, W, 3) -> embeddings (B, D), those of `embed`, and their regions.

        Both are as `preprocess_with_regions` gives them.
        """
        side = self.config.region_size
        assert side is not None, "asked only where there are regions"
        finer, feature_map = self.maps(pixels, "photo")
        embeddings = self.embed_map(feature_map, "photo").float().cpu().numpy()  # (B, D)
        proposals = self.proposals(finer, feature_map).float().cpu().numpy()  # (B, 5, i, j)
        embed = partial(self.embed, modality="photo")
        return embeddings, [found_in(*photo, side, embed) for photo in zip(full, proposals, embeddings, strict=True)]

    def proposals(self, finer: Tensor, feature_map: Tensor) -> Tensor:
        """What both maps of photos, (B, F, i, j) and (B, C, h, w), say of where things are: (B, 5, i, j)."""
        assert self.proposer is not None, "asked only where there are regions"
        found: Tensor = self.proposer(finer, feature_map)
        return found

    def hyperplanes(self, bits: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The hyperplanes of the codes of one length R: weight (R, D) and offset (R,)."""
        weight, offset = (self.hashing.get_buffer(f"{name}_{bits}").float().cpu() for name in ("weight", "offset"))
        return weight.numpy(), offset.numpy()

    @torch.inference_mode()
    def guide(self, sketch: NDArray[np.uint8], photos: NDArray[np.uint8]) -> Guided:
        """Compare photos (B, S, S, 3) with one sketch (S, S, 3) by its attention; both are preprocessed."""
        return self.guide_maps(self.map(sketch[None], "sketch"), self.map(photos, "photo"))

    @torch.inference_mode()
    def guide_maps(self, sketch: Tensor, photos: Tensor) -> Guided:
        """As `guide`, for the backbone's maps of the sketch (1, C, h, w) and of the photos (B, C, h, w)."""
        feature = self.pool(sketch, "sketch").feature  # (1, C)
        pooled = self.pool(photos, "photo", feature)
        similarity = (
            self.embed_seen(pooled.feature, photos, "photo") @ self.embed_seen(feature, sketch, "sketch")[0]
        )  # (B,)
        return Guided(similarity.float().cpu().numpy(), pooled.attention.float().cpu().numpy())

    @torch.inference_mode()
    def map(self, pixels: NDArray[np.uint8], modality: Modality) -> Tensor:
        """Preprocessed pictures (B, S, S, 3) -> the backbone's maps (B, C, h, w), float32."""
        return self.maps(pixels, modality)[1]

    @torch.inference_mode()
    def maps(self, pixels: NDArray[np.uint8], modality: Modality) -> tuple[Tensor, Tensor]:
        """Preprocessed pictures (B, S, S, 3) -> the finer maps (B, F, i, j) and the maps (B, C, h, w), float32."""
        pictures = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2)  # (B, 3, S, S)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._runtime == "torch-bf16"):
            finer, feature_map = self._compiled.get(modality, self.encoder(modality).both)(pictures)
        return finer.float(), feature_map.float()

    def use(self, runtime: str) -> None:
        """Compute maps by `torch`, `torch-bf16` or `torch-compile` from now on. Raises `UserError` if it fails."""
        self._runtime = runtime
        self._compiled.clear()
        if runtime != "torch-compile":
            return
        try:
            for modality in MODALITIES:
                self._compiled[modality] = torch.compile(self.encoder(modality).both, dynamic=True)
                self.map(np.zeros((2, *[side_of(self.config, modality)] * 2, 3), np.uint8), modality)
        except Exception as error:  # torch raises many unrelated types; the user needs one line
            reason = str(error).strip().splitlines()[0]
            raise UserError(
                f"torch-compile does not work here ({reason}); install a C++ compiler, or take another --runtime"
            ) from error


def fingerprint_of(module: nn.Module, *facts: str, without: str | None = None) -> str:
    """Hash of a module's weights and of further texts, 64 hexadecimal digits.

    The weights of names that begin with `without` do not count.
    """
    hashed = hashlib.sha256("\n".join(facts).encode())
    for name, tensor in sorted(module.state_dict().items()):
        if without and name.startswith(without):
            continue
        hashed.update(f"{name} {tuple(tensor.shape)}".encode())
        hashed.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return hashed.hexdigest()
