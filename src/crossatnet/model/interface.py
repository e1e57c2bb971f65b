"""The interface of all models, in every runtime: from pictures to embeddings, hash codes and attention maps.

Nothing here imports torch. The network in `model.network` and the ONNX form in `runtime.onnx_model` implement it.

Letters: `N` pictures, `S` side of the input, `H W` a photo that parts are cut from, `D` the shared space,
`M` attention heads, `h w` the backbone's map, `R` bits of a hash code.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crossatnet.config import ModelConfig
from crossatnet.data.images import Modality, Picture, prepare, read_sketch
from crossatnet.data.photos import read_photo, read_photo_in_full
from crossatnet.model.confidence import Confidence
from crossatnet.model.regions import METHOD, Regions
from crossatnet.system.errors import ImageError, UserError

MODALITIES: tuple[Modality, Modality] = ("sketch", "photo")


GUIDED = 50  # hits that guided re-ranking re-orders; in a gallery, at least as many as are asked for


class Guided(NamedTuple):
    """The result of a sketch's attention over photos."""

    similarity: NDArray[np.float32]  # (N,), cosine
    attention: NDArray[np.float32]  # (N, M, h, w); every head sums to 1 over the map


class PictureModel(ABC):
    """A trained model in any runtime. `runtime.load.load` loads one.

    Example:
        >>> from crossatnet import CrossATNet
        >>> model = CrossATNet.from_pretrained("crossatnet-open", runtime="onnx")
        >>> pixels = model.preprocess(sketch, "sketch")
        >>> pixels.shape == model.shape(sketch, "sketch").shape
        True
        >>> embeddings = model.embed(pixels[None], "sketch")
        >>> embeddings.shape, model.hash(embeddings).shape
        ((1, 512), (1, 64))
        >>> weight, offset = model.hyperplanes(64)
        >>> weight.shape, offset.shape
        ((64, 512), (64,))
        >>> seen = model.guide(pixels, model.preprocess(photo, "photo")[None])
        >>> seen.similarity.shape
        (1,)
    """

    config: ModelConfig
    source: str  # where it was loaded from: a packaged name or a folder
    name: str
    confidence: Confidence | None = None  # how sure a hit is, by the fit beside the weights, if there is one

    # # Implemented by each runtime

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Hash of settings and weights, the same in every runtime: if equal, the embeddings are too."""

    @property
    @abstractmethod
    def batch_size(self) -> int:
        """The number of pictures at a time with which `embed` is fastest, called by several threads."""

    @abstractmethod
    def embed(self, pixels: NDArray[np.uint8], modality: Modality) -> NDArray[np.float32]:
        """Preprocessed pictures (N, S, S, 3) -> embeddings (N, D), L2-normalised."""

    @abstractmethod
    def embed_with_regions(
        self, pixels: NDArray[np.uint8], full: Sequence[NDArray[np.uint8]]
    ) -> tuple[NDArray[np.float32], list[Regions]]:
        """Photos as `preprocess_with_regions` gives them -> embeddings (N, D), equal to `embed`'s, and their regions.

        `pixels` (N, S, S, 3) are looked at for the whole, and parts are cut from each photo in `full` (H, W, 3). Only a
        model that has `regions` can do it.

        Example:
            >>> from crossatnet import CrossATNet
            >>> model = CrossATNet.from_pretrained("crossatnet-open", runtime="onnx")
            >>> pixels, full = model.preprocess_with_regions(photo)
            >>> embeddings, (regions,) = model.embed_with_regions(pixels[None], [full])
            >>> embeddings.shape, regions.boxes.shape[1]
            ((1, 512), 4)
        """

    @abstractmethod
    def guide(self, sketch: NDArray[np.uint8], photos: NDArray[np.uint8]) -> Guided:
        """Compare photos (N, S, S, 3) with one sketch (S, S, 3) by its attention; both are preprocessed.

        The sketch's query attends over each photo's map. Returns the cosine (N,) between the sketch's embedding and
        each guided photo embedding, and the attention maps (N, M, h, w).
        """

    @abstractmethod
    def hyperplanes(self, bits: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The hyperplanes of the codes of one length R: weight (R, D) and offset (R,)."""

    # # The same for all runtimes

    @property
    def dimension(self) -> int:
        """Size D of an embedding."""
        return self.config.dimension

    @property
    def code_bits(self) -> int:
        """Number of bits of a gallery's hash codes: the network's longest."""
        return max(self.config.code_lengths)

    @property
    def has_attention(self) -> bool:
        """Whether a sketch can guide the attention over a photo."""
        return self.config.attention_heads > 0

    @property
    def regions(self) -> bool:
        """Whether photos have regions, for a thing that is only a part of one."""
        return self.config.region_size is not None

    @property
    def region_penalty(self) -> float:
        """What a region's cosine loses before it is compared with that of the whole photo."""
        return self.config.region_penalty

    @property
    def region_settings(self) -> str:
        """How regions are found, as a text; a gallery's must all be found alike."""
        return f"{METHOD}, {self.config.region_size} px"

    def preprocess(self, picture: Picture, modality: Modality) -> NDArray[np.uint8]:
        """Read and shape one picture: (S, S, 3), `uint8`. Raises `ImageError`."""
        check_modality(modality)
        if modality == "photo":
            return read_photo(picture, side_of(self.config, modality))
        return read_sketch(picture, side_of(self.config, modality), self.config.fit_strokes)

    def preprocess_with_regions(self, photo: Picture) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """One photo as `embed_with_regions` takes it: as by `preprocess`, (S, S, 3), and as decoded for it, (H, W, 3).

        Parts are cut from the latter. Raises `ImageError`.

        Example:
            >>> from crossatnet import CrossATNet
            >>> model = CrossATNet.from_pretrained("crossatnet-open", runtime="onnx")
            >>> [pixels.shape for pixels in model.preprocess_with_regions(photo)]
            [(224, 224, 3), (90, 120, 3)]
        """
        return read_photo_in_full(photo, side_of(self.config, "photo"))

    def shape(self, image: Image.Image, modality: Modality) -> NDArray[np.uint8]:
        """An RGB picture as the network takes it: (S, S, 3), `uint8`. S is `image_size`, or `photo_size` for photos."""
        return prepare(image, modality, side_of(self.config, modality), self.config.fit_strokes)

    def hash(self, embeddings: NDArray[np.float32], bits: int | None = None) -> NDArray[np.uint8]:
        """Embeddings (N, D) -> packed hash codes (N, R / 8), of `code_bits` bits by default.

        Raises `UserError` for a code length that the model does not have.
        """
        return np.packbits(self.projections(embeddings, bits) > 0, axis=1)

    def projections(self, embeddings: NDArray[np.float32], bits: int | None = None) -> NDArray[np.float32]:
        """Signed distances of embeddings (N, D) from the hyperplanes of their codes, (N, R); a bit is the sign of one.

        A query's projections times a picture's code as +1 and -1 compare both asymmetrically: only the picture is
        reduced to bits (Gordo et al., 2014). Raises `UserError` for a code length that the model does not have.

        Example:
            >>> import numpy as np
            >>> from crossatnet import CrossATNet
            >>> model = CrossATNet.from_pretrained("crossatnet-open", runtime="onnx")
            >>> embeddings = model.encode([sketch], "sketch")
            >>> np.array_equal(np.packbits(model.projections(embeddings, 64) > 0, axis=1), model.hash(embeddings, 64))
            True
        """
        length = self.code_bits if bits is None else bits
        check_code_length(length, self.config.code_lengths)
        weight, offset = self.hyperplanes(length)
        return np.asarray(embeddings @ weight.T - offset, np.float32)

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
        be read is reported in a warning, and its row is NaN (zeros in codes); with `errors="raise"` an `ImageError` is
        raised. Raises `UserError` for one picture in place of a list, and for a code length that this network does not
        have.

        Example:
            >>> from crossatnet import CrossATNet
            >>> model = CrossATNet.from_pretrained("crossatnet-open", runtime="onnx")
            >>> model.encode([sketch], "sketch").shape
            (1, 512)
            >>> model.encode([sketch], "sketch", bits=64).shape
            (1, 8)
        """
        if isinstance(images, (str, bytes, Path, Image.Image)):
            raise UserError("encode takes a list of pictures; put a single one in brackets: encode([picture], ...)")
        if bits is not None:
            check_code_length(bits, self.config.code_lengths)
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


class CannotGuideError(UserError):
    """Guided re-ranking is impossible: the model has no attention, or the query is not a single drawing."""


class Attentive(Protocol):
    """The part of a model that `check_attention` needs."""

    @property
    def name(self) -> str:
        """The model's name in messages."""

    @property
    def has_attention(self) -> bool:
        """Whether a sketch can guide the attention over a photo."""


def check_attention(model: Attentive, purpose: str) -> None:
    """Raise `CannotGuideError` if the model has no attention; `purpose` completes its message.

    Example:
        >>> from crossatnet import CrossATNet
        >>> from crossatnet.model.interface import check_attention
        >>> check_attention(CrossATNet.from_pretrained("crossatnet-open", runtime="onnx"), "to guide")
    """
    if not model.has_attention:
        raise CannotGuideError(f"{model.name} has no attention {purpose}")


def side_of(config: ModelConfig, modality: Modality) -> int:
    """The side S, in pixels, of a modality's pictures as the network takes them.

    Example:
        >>> from crossatnet.config import ModelConfig
        >>> from crossatnet.model.interface import side_of
        >>> config = ModelConfig(image_size=224, photo_size=256)
        >>> side_of(config, "sketch"), side_of(config, "photo")
        (224, 256)
    """
    return (config.photo_size if modality == "photo" else 0) or config.image_size


def check_modality(modality: str) -> None:
    """Raise `UserError` for anything but `sketch` and `photo`, so that a misspelt name is not taken for the other.

    Example:
        >>> from crossatnet.model.interface import check_modality
        >>> check_modality("drawing")
        Traceback (most recent call last):
        crossatnet.system.errors.UserError: unknown modality 'drawing': give 'sketch' or 'photo'
    """
    if modality not in MODALITIES:
        raise UserError(f"unknown modality '{modality}': give 'sketch' or 'photo'")


def check_code_length(bits: int, lengths: Sequence[int]) -> None:
    """Raise `UserError` for a code length that is not among `lengths`.

    Example:
        >>> from crossatnet.model.interface import check_code_length
        >>> check_code_length(65, (64, 128))
        Traceback (most recent call last):
        crossatnet.system.errors.UserError: no hash codes of 65 bits; there are 64, 128
    """
    if bits not in lengths:
        raise UserError(f"no hash codes of {bits} bits; there are {', '.join(map(str, lengths))}")
