"""A checkpoint computed by ONNX Runtime, without torch.

Letters: `N` pictures, `S` side of the input, `H W` a photo that parts are cut from, `P` side of a part, `D` the shared
space, `C h w` the backbone's map, `M` attention heads, `R` bits of a hash code, or regions of a photo.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from crossatnet.data.images import Modality
from crossatnet.model.checkpoint import WEIGHTS, locate, read_config, source_of
from crossatnet.model.interface import Guided, PictureModel, check_modality
from crossatnet.model.regions import Regions, found_in
from crossatnet.runtime.onnx_files import AGAIN, OnnxPart, PhotoPart, halves, read_form, read_part, stored_tensors
from crossatnet.system.errors import UserError
from crossatnet.system.threads import computing_threads

LOG_ERRORS_ONLY = 3


class OnnxModel(PictureModel):
    """The ONNX form of a checkpoint; its files are read when they are first needed. Safe to call from threads."""

    def __init__(self, source: str | Path, photo: PhotoPart | Callable[["OnnxModel"], PhotoPart] = "photo") -> None:
        """Open the form of a checkpoint; `photo` is the file that embeds photos, or a function that chooses it later.

        Raises `UserError` if a file is missing, damaged, of another version or of another checkpoint.
        """
        self._folder = locate(source)
        checkpoint = read_config(self._folder)
        self.config, self.name = checkpoint.model, checkpoint.name
        self.source = source_of(source, self._folder)
        self.form, self._weights = read_form(self._folder, self.config)
        self._choice = photo
        self._graphs: dict[OnnxPart, bytes] = {}
        self._start()
        if isinstance(photo, str):
            self._graph(photo)  # a bad file that was asked for by name is refused at once

    def _start(self) -> None:
        self._sessions: dict[OnnxPart, onnxruntime.InferenceSession] = {}
        self._hyperplanes: dict[int, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
        self._lock = threading.RLock()
        self._threads = computing_threads()
        self._pool = ThreadPoolExecutor(self._threads, "photos")

    def __getstate__(self) -> dict[str, Any]:
        """The state for other machines: all files, and the choice made here, so that all machines compute the same."""
        chosen = self.photo_part
        for part in self.form.files:
            self._graph(part)
        here = ("_sessions", "_hyperplanes", "_lock", "_pool")  # made again by `_start`
        kept = {name: value for name, value in vars(self).items() if name not in here}
        return {**kept, "_choice": chosen}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._start()

    @property
    def fingerprint(self) -> str:
        """Hash of settings and weights, equal to the network's, as galleries are searched by either."""
        return self.form.fingerprint

    @property
    def photo_part(self) -> PhotoPart:
        """The file that embeds photos; chosen now if it is not chosen yet."""
        with self._lock:
            if not isinstance(self._choice, str):
                self._choice = self._choice(self)
            return self._choice

    @property
    def batch_size(self) -> int:
        """Few: each picture is computed on its own, while other threads go on reading."""
        return 4

    def embed(self, pixels: NDArray[np.uint8], modality: Modality) -> NDArray[np.float32]:
        """Preprocessed pictures (N, S, S, 3) -> embeddings (N, D), L2-normalised."""
        check_modality(modality)
        if modality == "photo":
            return self.embed_photos(pixels, self.photo_part)
        embeddings: NDArray[np.float32] = self._run("sketch", "embedding", pixels=pixels)
        return embeddings

    def embed_photos(self, pixels: NDArray[np.uint8], part: PhotoPart) -> NDArray[np.float32]:
        """As `embed`, by the given file for photos."""
        return np.concatenate([*self._each(part, "embedding", pixels)])  # (N, D)

    def embed_with_regions(
        self, pixels: NDArray[np.uint8], full: Sequence[NDArray[np.uint8]]
    ) -> tuple[NDArray[np.float32], list[Regions]]:
        """Photos (N, S, S, 3), each also in full (H, W, 3) -> embeddings (N, D), those of `embed`, and their regions.

        Both are as `preprocess_with_regions` gives them.
        """
        side = self.config.region_size
        assert side is not None, "asked only where there are regions"
        first = self._session(self.photo_part)
        second = self._session("regions-int8" if self.photo_part == "photo-int8" else "regions")

        def embed(parts: NDArray[np.uint8]) -> NDArray[np.float32]:
            return np.concatenate([second.run(["embedding"], {"pixels": part[None]})[0] for part in parts])

        def looked_at(row: int) -> tuple[NDArray[np.float32], Regions]:
            whole, proposals = first.run(["embedding", "proposals"], {"pixels": pixels[row : row + 1]})
            return whole, found_in(full[row], proposals[0], whole[0], side, embed)

        wholes, regions = zip(*self._pool.map(looked_at, range(len(pixels))), strict=True)
        return np.concatenate(wholes), [*regions]

    def guide(self, sketch: NDArray[np.uint8], photos: NDArray[np.uint8]) -> Guided:
        """Compare photos (N, S, S, 3) with one sketch (S, S, 3) by its attention; both are preprocessed."""
        feature = self._run("sketch", "feature", pixels=sketch[None])  # (1, C)
        maps = np.concatenate([*self._each(self.photo_part, "map", photos)])  # (N, C, h, w)
        similarity, attention = self._session("guided").run(
            ["similarity", "attention"], {"feature": feature, "map": maps}
        )
        return Guided(similarity, attention)

    def hyperplanes(self, bits: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The hyperplanes of the codes of one length R: weight (R, D) and offset (R,)."""
        with self._lock:
            if bits not in self._hyperplanes:  # kept, as every search needs them
                tensors = stored_tensors(self._weights)
                weight, offset = (tensors[f"hashing.{name}_{bits}"] for name in ("weight", "offset"))
                self._hyperplanes[bits] = halves(self._weights, weight), halves(self._weights, offset)
            return self._hyperplanes[bits]

    def _each(self, part: OnnxPart, output: str, pixels: NDArray[np.uint8]) -> list[Any]:
        """One output for each picture (N, S, S, 3); several pictures are computed at once, each on one core.

        A single picture stays in the core's cache, which is faster than a batch, and its result depends on no other
        picture.
        """
        session = self._session(part)
        return [
            *self._pool.map(lambda row: session.run([output], {"pixels": pixels[row : row + 1]})[0], range(len(pixels)))
        ]

    def _run(self, part: OnnxPart, output: str, **inputs: NDArray[Any]) -> Any:
        return self._session(part).run([output], inputs)[0]

    def _session(self, part: OnnxPart) -> onnxruntime.InferenceSession:
        with self._lock:
            if part not in self._sessions:
                cores = 1 if part.startswith(("photo", "regions")) else self._threads
                where = str(self._folder / f"{part}.onnx")
                self._sessions[part] = open_session(self._graph(part), self._weights, where, cores)
            return self._sessions[part]

    def _graph(self, part: OnnxPart) -> bytes:
        with self._lock:
            if part not in self._graphs:
                self._graphs[part] = read_part(self._folder, self.form, part)
            return self._graphs[part]


def open_session(graph: bytes, weights: bytes, where: str, cores: int) -> onnxruntime.InferenceSession:
    """A session for the bytes of a graph and of its weights. Raises `UserError`, naming `where`, if ORT refuses it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores
    options.log_severity_level = LOG_ERRORS_ONLY
    options.add_external_initializers_from_files_in_memory([WEIGHTS], [weights], [len(weights)])  # no file is opened
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads leave cores to decoding
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises many unrelated types; the user needs one line
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{where}: ONNX Runtime cannot load it ({reason}); {AGAIN}") from error
