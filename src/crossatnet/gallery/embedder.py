"""What a gallery needs of a model. Any model that embeds pictures can fill and search a gallery.

Letters: `N` pictures, `S` side of the network's input, `D` embedding dimension, `M` attention heads,
`h w` the backbone's map.
"""

import importlib
import sys
from pathlib import Path
from textwrap import shorten
from typing import Any, Protocol, TypeGuard, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from crossatnet.data.images import Modality, Picture
from crossatnet.gallery.backend import MadeWith
from crossatnet.model.checkpoint import packaged_checkpoints
from crossatnet.model.framing import FindsRegions
from crossatnet.model.regions import MOST_REGIONS
from crossatnet.system.errors import UserError, did_you_mean


class Embedder(Protocol):
    """The part of `CrossATNet` that a gallery uses."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of weights and configuration: equal for two models that give equal embeddings."""

    @property
    def source(self) -> str:
        """Packaged name or absolute folder the model was loaded from; empty for a model that is no checkpoint."""

    @property
    def name(self) -> str:
        """The model's name in messages."""

    @property
    def dimension(self) -> int:
        """`D`, the length of an embedding."""

    @property
    def code_bits(self) -> int:
        """Length of a hash code in bits, a multiple of 8."""

    @property
    def has_attention(self) -> bool:
        """Whether `guide` can be called."""

    @property
    def batch_size(self) -> int:
        """The number of pictures at a time with which `embed` is fastest, called by several threads."""

    def preprocess(self, picture: Picture, modality: Modality, /) -> NDArray[np.uint8]:
        """One picture as the network's input, (S, S, 3). Raises `ImageError` if it cannot be read."""

    def embed(self, pixels: NDArray[np.uint8], modality: Modality, /) -> NDArray[np.float32]:
        """Pixels (N, S, S, 3) to L2-normalised embeddings (N, D); called from several threads at once."""

    def guide(
        self, sketch: NDArray[np.uint8], photos: NDArray[np.uint8], /
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What a sketch (S, S, 3) sees in photos (N, S, S, 3): cosines (N,) and attention maps (N, M, h, w)."""

    def hash(self, embeddings: NDArray[np.float32], /) -> NDArray[np.uint8]:
        """Embeddings (N, D) to packed codes (N, code_bits // 8)."""


class RegionEmbedder(Embedder, FindsRegions, Protocol):
    """A model that finds regions of photos besides."""


def finds_regions(model: Embedder) -> TypeGuard[RegionEmbedder]:
    """Whether a model finds regions of photos; `Embedder` does not ask for it.

    Example:
        >>> from crossatnet.gallery import TwoTowers
        >>> from crossatnet.gallery.embedder import finds_regions
        >>> def mean(pixels):
        ...     return pixels.reshape(len(pixels), -1, 3).mean(1)
        >>> finds_regions(TwoTowers(mean, mean, name="colour", version="1", side=32))
        False
    """
    return bool(getattr(model, "regions", False))


def penalty_of(model: Embedder) -> float:
    """What is taken from the cosines of regions, if a model has them.

    Example:
        >>> from crossatnet.gallery import TwoTowers
        >>> from crossatnet.gallery.embedder import penalty_of
        >>> def mean(pixels):
        ...     return pixels.reshape(len(pixels), -1, 3).mean(1)
        >>> penalty_of(TwoTowers(mean, mean, name="colour", version="1", side=32))
        0.0
    """
    return model.region_penalty if finds_regions(model) else 0.0


FACTS = {
    **{"fingerprint": str, "source": str, "name": str, "has_attention": bool},
    **{"dimension": int, "code_bits": int, "batch_size": int},
}
MEMBERS = tuple(name for name in vars(Embedder) if not name.startswith("_"))


def load_embedder(place: str) -> Embedder:
    """The model that a user names by an import path, `MODULE:OBJECT`, found as Python finds modules, and here.

    The object is an `Embedder`, or a class or function that gives one when it is called without arguments. Nothing
    stored in a gallery is ever imported: only what the user names. Raises `UserError` if there is no such module or
    object, if importing or calling it fails, and as `check_embedder` does.

    Example:
        >>> from crossatnet.gallery.embedder import load_embedder
        >>> _ = (tmp_path / "mine.py").write_text('''
        ... from crossatnet import CrossATNet
        ...
        ... def model():
        ...     return CrossATNet.from_pretrained("crossatnet-open", runtime="onnx")
        ... ''')
        >>> load_embedder("mine:model").dimension
        512
    """
    where = f"--embedder {place}"
    module_name, _, path = place.partition(":")
    parts = (*module_name.split("."), *path.split("."))
    if module_name.endswith(".py") or not all(part.isidentifier() for part in parts):
        raise UserError(f"{where}: give MODULE:OBJECT, such as towers:model for `model` in towers.py")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # last, so that nothing here hides what is installed
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:  # whatever a stranger's module raises
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}."):
            raise UserError(f"{where}: no module '{error.name}', neither installed nor in {Path.cwd()}") from error
        raise UserError(f"{where}: importing {module_name} fails: {_reason(error)}") from error
    for name in path.split("."):
        if not hasattr(found, name):
            known = [other for other in vars(found) if not other.startswith("_")]
            raise UserError(f"{where}: {module_name} has no '{path}'; {did_you_mean(name, known)}")
        found = getattr(found, name)
    if isinstance(found, type) or (callable(found) and not hasattr(found, "embed")):
        try:
            found = found()
        except Exception as error:  # the same
            raise UserError(f"{where}: calling {path}() fails: {_reason(error)}") from error
    return check_embedder(found, where)


def check_embedder(model: object, where: str) -> Embedder:
    """The model, if it can make a gallery: it has all of `Embedder`, and a trial with two small pictures goes well.

    `where` says in messages whose model it is. Raises `UserError` that names the first fault.

    Example:
        >>> from crossatnet.gallery.embedder import check_embedder
        >>> check_embedder("a text", "mine")
        Traceback (most recent call last):
        crossatnet.system.errors.UserError: mine: a str is no Embedder, it lacks fingerprint, source, name, dimension, \
code_bits, has_attention, batch_size, preprocess, embed, guide, hash; crossatnet.gallery.TwoTowers makes one of two \
functions
    """
    kind = type(model).__name__
    try:
        missing = [name for name in MEMBERS if not hasattr(model, name)]
        if not missing:
            fitting = cast(Embedder, model)
            fault = _fault_of_facts(fitting) or _fault_of_trial(fitting)
    except Exception as error:  # whatever a stranger's model raises
        raise UserError(f"{where}: a {kind} fails on a trial: {_reason(error)}") from error
    if missing:
        raise UserError(
            f"{where}: a {kind} is no Embedder, it lacks {', '.join(missing)};"
            " crossatnet.gallery.TwoTowers makes one of two functions"
        )
    if fault:
        raise UserError(f"{where}: {fault}")
    return fitting


def _fault_of_facts(model: Embedder) -> str:
    """What is wrong with what a model says of itself; empty if nothing is."""
    for name, kind in FACTS.items():
        value = getattr(model, name)
        if not isinstance(value, kind):
            return f"{name} is {value!r}, not of type {kind.__name__}"
    if not model.fingerprint:
        return "fingerprint is empty; give a text that differs between models that embed differently"
    if model.dimension < 1 or model.batch_size < 1:
        return f"dimension is {model.dimension} and batch_size {model.batch_size}; both must be 1 or more"
    if model.code_bits < 8 or model.code_bits % 8:
        return f"code_bits is {model.code_bits}, not a multiple of 8"
    return ""


def _fault_of_trial(model: Embedder) -> str:
    """What is wrong with what a model makes of a drawing and a photo; empty if nothing is."""
    pixels: dict[Modality, NDArray[np.uint8]] = {}
    for modality, picture in _trial_pictures().items():
        pixels[modality] = shaped = model.preprocess(picture, modality)
        side = len(shaped)
        if fault := _fault_of_array(shaped, (side, side, 3), np.uint8):
            return f"preprocess of a {modality} gives {fault}"
        embeddings = model.embed(np.stack([shaped, shaped]), modality)
        if fault := _fault_of_array(embeddings, (2, model.dimension), np.float32):
            return f"embed of two {modality} pictures gives {fault}"
        lengths = np.linalg.norm(embeddings, axis=1)
        if not np.allclose(lengths, 1, atol=1e-3):  # not a number, too
            return f"embed of a {modality} gives an embedding of length {lengths[0]:.3g}, not 1"
        if fault := _fault_of_array(model.hash(embeddings), (2, model.code_bits // 8), np.uint8):
            return f"hash of two embeddings gives {fault}"
    if finds_regions(model):
        shaped, full = model.preprocess_with_regions(_trial_pictures()["photo"])
        if not np.array_equal(shaped, pixels["photo"]):
            return "preprocess_with_regions of a photo gives other pixels than preprocess"
        whole, (regions,) = model.embed_with_regions(shaped[None], [full])
        count = len(regions.boxes)
        fault = _fault_of_array(whole, (1, model.dimension), np.float32) or _fault_of_array(
            regions.embeddings, (count, model.dimension), np.float32
        )
        if fault or count > MOST_REGIONS:
            return f"embed_with_regions of one photo gives {fault or f'{count} regions; most are {MOST_REGIONS}'}"
    if model.has_attention:
        similarity, attention = model.guide(pixels["sketch"], pixels["photo"][None])
        if similarity.shape != (1,) or attention.ndim != 4 or len(attention) != 1:
            return (
                f"guide with one photo gives shapes {similarity.shape} and {attention.shape}, not (1,) and (1, M, h, w)"
            )
    return ""


def _fault_of_array(found: object, shape: tuple[int, ...], kind: type[np.generic]) -> str:
    expected = f"expected is an array of {kind.__name__} {shape}"
    if not isinstance(found, np.ndarray):
        return f"a {type(found).__name__}; {expected}"
    return "" if found.shape == shape and found.dtype == kind else f"{found.dtype} {found.shape}; {expected}"


def _trial_pictures() -> dict[Modality, Image.Image]:
    """A cross drawn on paper, and a photo of a slope of grey."""
    drawing = Image.new("RGB", (96, 96), "white")
    for corners in ((20, 20, 76, 76), (20, 76, 76, 20)):
        ImageDraw.Draw(drawing).line(corners, "black", 4)
    return {"sketch": drawing, "photo": Image.linear_gradient("L").resize((96, 96)).convert("RGB")}


def _reason(error: Exception) -> str:
    """An error of a stranger's code on one line."""
    message = shorten(str(error), 300, placeholder=" ...")
    return message if isinstance(error, UserError) else f"{type(error).__name__}: {message}".removesuffix(": ")


def check_same_model(gallery: str, made_with: MadeWith, model: Embedder) -> None:
    """Raise `UserError` if a gallery was made with another model, or its regions were found in another way.

    Example:
        >>> from crossatnet import CrossATNet
        >>> from crossatnet.gallery.backend import MadeWith
        >>> from crossatnet.gallery.embedder import check_same_model
        >>> model = CrossATNet.from_pretrained("crossatnet-open", runtime="onnx")
        >>> check_same_model("my.gallery", MadeWith("f00", "", "towers", 512, 512), model)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        crossatnet.system.errors.UserError: my.gallery: made with checkpoint towers (f00), but the model given is ...
    """
    if model.fingerprint != made_with.fingerprint and model.source == made_with.source != "":
        raise UserError(
            f"{gallery}: made with an older {made_with.name} ({made_with.fingerprint[:12]}); this version has"
            f" {model.fingerprint[:12]}. Index the pictures into a new gallery, or install the version that made it"
        )
    if model.fingerprint != made_with.fingerprint:
        raise UserError(
            f"{gallery}: made with checkpoint {made_with.name} ({made_with.fingerprint[:12]}), but the model given"
            f" is {model.name} ({model.fingerprint[:12]}); give {made_with.source or made_with.name},"
            " or index the pictures into another file"
        )
    if made_with.regions and finds_regions(model) and model.region_settings != made_with.region_settings:
        before, now = made_with.region_settings or "an older version", model.region_settings
        raise UserError(
            f"{gallery}: its regions were found with {before}, but {model.name} finds them with {now};"
            " index the pictures into a new gallery"
        )


def check_stored_source(gallery: str, made_with: MadeWith) -> None:
    """Raise `UserError` unless a gallery names a packaged checkpoint or a folder here as what made it.

    A gallery may come from anybody, so what it says must not lead to the hub or to any import.

    Example:
        >>> from crossatnet.gallery.backend import MadeWith
        >>> from crossatnet.gallery.embedder import check_stored_source
        >>> check_stored_source("my.gallery", MadeWith("f00", "crossatnet-open", "crossatnet-open", 512, 512))
        >>> from_anybody = MadeWith("f00", "owner/name", "name", 512, 512)
        >>> check_stored_source("my.gallery", from_anybody)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        crossatnet.system.errors.UserError: my.gallery: made with 'owner/name', no packaged checkpoint and ...
    """
    source = made_with.source
    if not source:
        raise UserError(
            f"{gallery}: made with the model {made_with.name}, which was not saved; pass it to Gallery.open,"
            " or name it again with --embedder MODULE:OBJECT"
        )
    if source not in packaged_checkpoints() and not Path(source).is_absolute():
        raise UserError(
            f"{gallery}: made with '{shorten(source, 80)}', no packaged checkpoint and no absolute folder, so it is not"
            " loaded; give a checkpoint that you trust: --checkpoint"
        )
