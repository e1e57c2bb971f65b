"""A very simple model: a fixed random projection of the pixels."""

import os
import signal
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crossatnet.data.images import Modality, Picture, load_image, prepare
from crossatnet.model.regions import Regions

SIDE = 8
BATCH_SIZE = 8
BOXES = ((0, 0, 0.5, 1), (0.5, 0.5, 1, 1))  # of a picture's regions


class FakeModel:
    """Embeds by projection; codes are the signs of a second one. A picture's last bits depend on its batch.

    So do the real network's, as matrix products round by shape. Only so can a test show that a resumed run forms the
    same batches.
    """

    def __init__(
        self,
        dimension: int = 16,
        code_bits: int = 64,
        seed: int = 0,
        source: str = "",
        die_at_batch: int = -1,
        has_attention: bool = True,
        regions: bool = False,
        region_penalty: float = 0.05,
    ) -> None:
        self.regions = regions
        self.region_penalty = region_penalty
        self.region_settings = "halves and quarters"
        self.dimension = dimension
        self.code_bits = code_bits
        self.fingerprint = f"{seed:064x}"
        self.source = source
        self.name = f"fake-{seed}"
        self.has_attention = has_attention
        self.batch_size = BATCH_SIZE
        generator = np.random.default_rng(seed)
        self._projection = generator.standard_normal((SIDE * SIDE * 3, dimension))
        self._planes = generator.standard_normal((dimension, code_bits))
        self._batches_left = die_at_batch
        self.batch_sizes: list[int] = []
        self.guided_batch_sizes: list[int] = []

    def preprocess(self, picture: Picture, modality: Modality) -> NDArray[np.uint8]:
        pixels = prepare(load_image(picture), "photo", SIDE)
        return 255 - pixels if modality == "sketch" else pixels  # not read: noise is a query here

    def embed(self, pixels: NDArray[np.uint8], modality: Modality) -> NDArray[np.float32]:
        self.batch_sizes.append(len(pixels))
        return self._embed(pixels)

    def _embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        flat = pixels.reshape(len(pixels), -1) / 127.5 - 1.0
        embeddings = flat @ self._projection + 0.01 * flat.mean()
        return np.asarray(embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True), dtype=np.float32)

    def preprocess_with_regions(self, photo: Picture) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        image = load_image(photo)
        return prepare(image, "photo", SIDE), prepare(image, "photo", 2 * SIDE)

    def embed_with_regions(
        self, pixels: NDArray[np.uint8], full: Sequence[NDArray[np.uint8]]
    ) -> tuple[NDArray[np.float32], list[Regions]]:
        """The left half and the lower right quarter of each picture, but for what looks like the whole."""
        whole = self.embed(pixels, "photo")  # (N, D)
        found = []
        for photo, embedding in zip(full, whole, strict=True):
            parts = np.stack([photo[::2, :SIDE], photo[SIDE:, SIDE:]])
            embeddings = self._embed(parts)
            kept = embeddings @ embedding < 0.9
            found.append(Regions(np.array(BOXES, np.float32)[kept], embeddings[kept]))
        return whole, found

    def guide(
        self, sketch: NDArray[np.uint8], photos: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The sketch sees a photo only where the sketch is white."""
        self.guided_batch_sizes.append(len(photos))
        attention = (1.0 + sketch.mean(2)) / (1.0 + sketch.mean(2)).sum()  # (S, S)
        seen = (photos / 127.5 - 1.0) * attention[..., None]  # (N, S, S, 3)
        embeddings = seen.reshape(len(seen), -1) @ self._projection  # (N, D)
        query = (sketch / 127.5 - 1.0).reshape(-1) @ self._projection  # (D,)
        similarity = embeddings @ query / (np.linalg.norm(embeddings, axis=1) * np.linalg.norm(query))
        maps = np.broadcast_to(attention, (len(photos), 1, *attention.shape))
        return similarity.astype(np.float32), maps.astype(np.float32)

    def hash(self, embeddings: NDArray[np.float32]) -> NDArray[np.uint8]:
        if self._batches_left == 0:  # here, as a batch is hashed after those before it are stored
            os.kill(os.getpid(), signal.SIGKILL)
        self._batches_left -= 1
        return np.packbits(np.asarray(embeddings @ self._planes > 0), axis=1)
