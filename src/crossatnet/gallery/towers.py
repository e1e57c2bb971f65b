"""Galleries made by any model with two towers: a function for drawings, and one for photos.

Shapes: `N` pictures, `S` side of a tower's input, `D` embedding dimension, `R` bits of a hash code.
"""

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossatnet.data.drawing.read import WORKING_SIDE
from crossatnet.data.images import Modality, Picture, load_image, prepare
from crossatnet.data.photos import read_photo
from crossatnet.model.interface import CannotGuideError, check_modality
from crossatnet.system.errors import UserError

Tower = Callable[[NDArray[np.uint8]], Any]  # (N, S, S, 3) -> anything that numpy takes for floats (N, D)


class TwoTowers:
    """Two functions as an `Embedder` of galleries; give one function twice for a model with one tower.

    A tower takes RGB pictures in 0 to 255 (N, S, S, 3) and gives embeddings (N, D) of any length; several threads call
    it at once. A drawing is read as people make them and cut to its strokes, which come black on white. Hash codes are
    signs of random directions, so they keep less than a checkpoint's own of the same length.

    `version` is any text that changes whenever the embeddings do, such as hashes of the weights: by it a gallery knows
    the model again. Raises `UserError` for towers that fail, or that do not give embeddings of one dimension D.

    Example:
        >>> from crossatnet import Gallery
        >>> from crossatnet.gallery import TwoTowers
        >>> def darkness(pixels):  # how dark each part of a picture is: no good model, but a short one
        ...     return 256.0 - pixels.reshape(len(pixels), 8, 4, 8, 4, 3).mean((2, 4, 5)).reshape(len(pixels), 64)
        >>> model = TwoTowers(darkness, darkness, name="darkness", version="1", side=32)
        >>> pixels = model.preprocess(sketch, "sketch")
        >>> embeddings = model.embed(pixels[None], "sketch")
        >>> embeddings.shape, model.hash(embeddings).shape, model.has_attention
        ((1, 64), (1, 64), False)
        >>> (tmp_path / "seen").mkdir()
        >>> photo.save(tmp_path / "seen" / "house.png")
        >>> with Gallery.create(tmp_path / "towers.gallery", model) as gallery:
        ...     gallery.add_folder(tmp_path / "seen").added, len(gallery.search(sketch))
        (1, 1)
        >>> model.guide(pixels, pixels[None])
        Traceback (most recent call last):
        crossatnet.model.interface.CannotGuideError: darkness has no attention
    """

    source = ""  # a gallery keeps no way to load it again
    has_attention = False

    def __init__(
        self,
        sketch: Tower,
        photo: Tower,
        *,
        name: str,
        version: str,
        side: int = 224,
        code_bits: int = 512,
        batch_size: int = 8,
    ) -> None:
        if not (name and version):
            raise UserError("two towers need a name for messages, and a version that changes when embeddings do")
        if side < 1 or batch_size < 1 or code_bits < 8 or code_bits % 8:
            raise UserError(f"{name}: side and batch_size must be 1 or more, code_bits a multiple of 8")
        self.name, self.side, self.code_bits, self.batch_size = name, side, code_bits, batch_size
        self._towers: dict[Modality, Tower] = {"sketch": sketch, "photo": photo}
        blank = np.full((1, side, side, 3), 255, np.uint8)
        found = {modality: self._run(blank, modality).shape[1] for modality in self._towers}
        if found["sketch"] != found["photo"]:
            raise UserError(
                f"{name}: the tower of drawings gives {found['sketch']} numbers and that of photos {found['photo']};"
                " both must embed into one space"
            )
        self.dimension = found["photo"]
        self._directions = np.random.default_rng(0).standard_normal((self.dimension, code_bits))
        facts = f"two towers\n{version}\n{side} {self.dimension} {code_bits}\n".encode()
        self.fingerprint = hashlib.sha256(facts + self._directions.tobytes()).hexdigest()

    def preprocess(self, picture: Picture, modality: Modality) -> NDArray[np.uint8]:
        """One picture as a tower takes it, (S, S, 3). Raises `ImageError` if it cannot be read."""
        check_modality(modality)
        if modality == "photo":
            return read_photo(picture, self.side)
        drawing = load_image(picture, enough=WORKING_SIDE, modality=modality)
        return 255 - prepare(drawing, modality, self.side, fit_strokes=True)

    def embed(self, pixels: NDArray[np.uint8], modality: Modality) -> NDArray[np.float32]:
        """Pixels (N, S, S, 3) to L2-normalised embeddings (N, D). Raises `UserError` if the tower fails."""
        check_modality(modality)
        embeddings = self._run(pixels, modality)  # (N, D)
        lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)  # (N, 1)
        if not (np.isfinite(lengths).all() and lengths.all()):
            raise UserError(f"{self.name}: the tower of {modality} pictures gives embeddings without a direction")
        return np.asarray(embeddings / lengths, np.float32)

    def hash(self, embeddings: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Embeddings (N, D) to packed codes (N, R / 8): on which side of R random planes each lies."""
        return np.packbits(embeddings @ self._directions > 0, axis=1)

    def guide(
        self, sketch: NDArray[np.uint8], photos: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Two towers have no attention: raises `CannotGuideError`."""
        raise CannotGuideError(f"{self.name} has no attention")

    def _run(self, pixels: NDArray[np.uint8], modality: Modality) -> NDArray[np.float64]:
        """What a tower gives (N, D), of any length."""
        tower = f"{self.name}: the tower of {modality} pictures"
        try:
            given = np.asarray(self._towers[modality](pixels), np.float64)
        except Exception as error:  # whatever a stranger's function raises
            raise UserError(f"{tower} fails: {type(error).__name__}: {' '.join(str(error).split())}") from error
        if given.ndim != 2 or len(given) != len(pixels) or not given.shape[1]:
            raise UserError(f"{tower} gives shape {given.shape} for {len(pixels)} pictures, not ({len(pixels)}, D)")
        return given
