"""The gallery as its users see it: add pictures, draw something, get the nearest pictures.

Letters: `N` items, `Q` queries, `D` embedding dimension, `S` side of the network's input.

A search has two steps. The Hamming distance between hash codes picks a shortlist from the whole gallery, then the
cosine between embeddings orders it.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crossatnet import Runtime
from crossatnet.data.images import ImageError, Modality, Picture
from crossatnet.data.strokes import Drawing, render
from crossatnet.errors import UserError
from crossatnet.gallery.backend import EVERYTHING, NO_ITEM, Backend, Checkpoint, Item, Where
from crossatnet.gallery.embedder import Embedder
from crossatnet.gallery.ingest import BATCH, IngestSummary, Progress, add_folder, add_picture
from crossatnet.gallery.places import create_backend, open_backend
from crossatnet.gallery.shortlist import unit_rows
from crossatnet.model.interface import GUIDED, PictureModel

Query = Picture | Drawing
Rerank = Literal["guided"]
Combine = Literal["average", "union"]
Ranking = Literal["float", "code"]


@dataclass(frozen=True)
class Hit:
    """One picture found. `score` is the cosine between query and picture, -1..1; `path` is absolute.

    After guided re-ranking it is the mean of that cosine and the one with what the drawing sees in the picture; ranked
    by codes, the share of their bits that are equal, 0..1.
    """

    id: int
    path: str
    score: float
    class_name: str | None


class Gallery:
    """A searchable collection of pictures. Its methods may be called from several threads.

    Another process may add to the same gallery at any time; the next search sees what it added.
    """

    def __init__(self, store: Backend, model: Embedder | None, runtime: Runtime = "auto") -> None:
        """Use `open` or `create` instead, which check that store and model belong together."""
        self.store = store
        self._model = model
        self._runtime = runtime
        self._lock = threading.Lock()

    @classmethod
    def open(cls, place: str | Path, model: Embedder | None = None, runtime: Runtime = "auto") -> Self:
        """Open the gallery at a place: the path of its file.

        Without `model`, the checkpoint that made the gallery is loaded when first something must be embedded, to be
        computed by `runtime`. Raises `GalleryMissingError` if there is no gallery, and `UserError` if the file is not
        one, is of a newer schema, or was made with another checkpoint than `model`.
        """
        store = open_backend(place)
        try:
            if model is not None:
                _check_same_checkpoint(store, model)
        except UserError:
            store.close()
            raise
        return cls(store, model, runtime)

    @classmethod
    def create(cls, place: str | Path, model: Embedder, thumbnail_side: int = 0) -> Self:
        """Make an empty gallery for the embeddings of `model`. Raises `UserError` if there is something already.

        With `thumbnail_side` every picture's thumbnail of so many pixels, along its longer side, is kept too.
        """
        checkpoint = Checkpoint(model.fingerprint, model.source, model.name, model.dimension, model.code_bits)
        return cls(create_backend(place, checkpoint, thumbnail_side), model)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the gallery; it cannot be used afterwards."""
        self.store.close()

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.store)

    @property
    def model(self) -> Embedder:
        """The model of this gallery, loaded now if it was not given to `open`.

        Raises `UserError` if the checkpoint cannot be loaded or is not the one that made the gallery.
        """
        with self._lock:
            if self._model is None:
                self._model = _load_model(self.store, self._runtime)
            return self._model

    def add_folder(self, folder: str | Path, progress: Progress | None = None) -> IngestSummary:
        """Add, update and remove pictures until the gallery equals `folder`; see `crossatnet.gallery.ingest`."""
        return add_folder(self.store, self.model, Path(folder), progress)

    def add_picture(self, path: Path, class_name: str | None = None) -> Item:
        """Add one picture file by its absolute path, or bring it up to date; its stored item.

        Raises `ImageError` if it cannot be used, and `UserError` if the gallery cannot be written.
        """
        add_picture(self.store, self.model, path, class_name)
        key = self.store.ids([str(path)])[str(path)]
        return self.store.items([key])[key]

    def remove(self, paths: Sequence[str | Path]) -> int:
        """Forget pictures, and all below where a path is a folder's; the files stay. Returns how many were forgotten.

        Raises `UserError`, before anything is forgotten, if nothing is stored at one of the paths or below it.
        """
        doomed: dict[str, None] = {}
        for path in paths:
            if not str(path):  # the path of the current folder, but surely meant as something else
                raise UserError("an empty path; nothing was removed")
            absolute = os.path.normpath(Path(path).absolute())  # not resolved: what is gone has no links any more
            names = {absolute, str(Path(path).resolve())}
            found = [
                *self.store.stamps([*names]),
                *(below for name in names for below in self.store.paths_under(Path(name))),
            ]
            if not found:
                raise UserError(f"{path}: no picture of {self.store.name} is there or below; nothing was removed")
            doomed |= dict.fromkeys(found)
        return self.store.remove([*doomed])

    def search(
        self,
        query: Query | list[Query],
        k: int = 10,
        modality: Modality = "sketch",
        rerank: Rerank | None = None,
        where: Where = EVERYTHING,
        combine: Combine = "average",
    ) -> list[Hit]:
        """The `k` pictures nearest to a sketch or photo, best first; fewer if no more meet the conditions of `where`.

        A query is a picture or a drawing's strokes. Several in a list are searched for together: by the `average` of
        their embeddings, for drawings of one thing, or as a `union`, where the nearest of them gives a picture's score.

        With `rerank="guided"` the first hits (`GUIDED` or k of them) are read again from their files and re-ordered by
        the sketch-guided attention. Raises `ImageError` if a query cannot be read, and `UserError` if k < 1 or if a
        guided search is asked of a photo, of several queries, or of a model without attention.
        """
        _check_k(k)
        queries = query if isinstance(query, list) else [query]
        if not queries:
            raise UserError("no query: give a drawing, a photo, or several in a list")
        if rerank and (modality != "sketch" or len(queries) > 1):
            raise UserError("guided re-ranking needs a drawing, and one only: search by one sketch, or without it")
        pixels = np.stack([self.model.preprocess(as_picture(each), modality) for each in queries])  # (Q, S, S, 3)
        embeddings = self.model.embed(pixels, modality)  # (Q, D)
        if not rerank:
            return self._combined(embeddings, k, where, combine)
        if not self.model.has_attention:
            raise UserError(f"{self.model.name} has no attention to guide: search without re-ranking")
        return self.look_again(pixels[0], self.search_embeddings(embeddings, max(k, GUIDED), where)[0])[:k]

    def search_embeddings(
        self, embeddings: NDArray[np.float32], k: int = 10, where: Where = EVERYTHING, ranking: Ranking = "float"
    ) -> list[list[Hit]]:
        """The `k` nearest pictures of each of the queries (Q, D), best first, pictures of equal score by id.

        By cosines: exact if no more pictures than the shortlist is long meet the conditions of `where`; or, with
        `ranking="code"`, by the Hamming distance of hash codes alone. Raises `UserError` if k < 1 or the embeddings
        have another shape or hold anything but finite numbers.
        """
        _check_k(k)
        queries = unit_rows(self._checked(embeddings))  # (Q, D)
        if not len(queries):
            return []
        codes = self.model.hash(queries)  # (Q, B)
        if ranking == "code":
            ids, scores = self.store.nearest_codes(codes, k, where)
        else:
            ids, scores = self.store.nearest(queries, codes, k, where)
        items = self.store.items(np.unique(ids[ids != NO_ITEM]).tolist())
        return [
            [
                Hit(key, items[key].facts.path, score, items[key].facts.class_name)
                for key, score in zip(row_ids, row_scores, strict=True)
                if key in items  # and not removed by another process since it was found
            ]
            for row_ids, row_scores in zip(ids.tolist(), scores.tolist(), strict=True)
        ]

    def _combined(self, embeddings: NDArray[np.float32], k: int, where: Where, combine: Combine) -> list[Hit]:
        """The hits of several queries (Q, D) together."""
        if combine == "average":
            return self.search_embeddings(embeddings.mean(axis=0, keepdims=True), k, where)[0]
        if combine != "union":
            raise UserError(f"unknown way to combine queries '{combine}': give 'average' or 'union'")
        best: dict[int, Hit] = {}
        for hit in (hit for hits in self.search_embeddings(embeddings, k, where) for hit in hits):
            if hit.id not in best or hit.score > best[hit.id].score:
                best[hit.id] = hit
        return sorted(best.values(), key=lambda hit: (-hit.score, hit.id))[:k]

    def look_again(
        self, sketch: NDArray[np.uint8], hits: list[Hit], read: Callable[[Hit], Picture] = lambda hit: hit.path
    ) -> list[Hit]:
        """Hits in the order of their scores through the eyes of a sketch (S, S, 3).

        `read` gives the picture of a hit; one that raises `ImageError`, or cannot be read, keeps its score.
        """
        rescored = []
        for part in (hits[start : start + BATCH] for start in range(0, len(hits), BATCH)):
            readable: dict[int, NDArray[np.uint8]] = {}
            for number, hit in enumerate(part):
                with contextlib.suppress(ImageError):  # moved or damaged since it was indexed
                    readable[number] = self.model.preprocess(read(hit), "photo")
            if readable:
                seen = self.model.guide(sketch, np.stack([*readable.values()]))[0]
                for number, similarity in zip(readable, seen.tolist(), strict=True):
                    part[number] = replace(part[number], score=(part[number].score + similarity) / 2)
            rescored += part
        return sorted(rescored, key=lambda hit: -hit.score)

    def _checked(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        dimension = self.store.checkpoint.dimension
        embeddings = np.asarray(embeddings, dtype=np.float32)
        if embeddings.ndim != 2 or embeddings.shape[1] != dimension:
            raise UserError(
                f"{self.store.name}: query embeddings must have shape (queries, {dimension}), not {embeddings.shape}"
            )
        if not np.isfinite(embeddings).all():
            raise UserError(f"{self.store.name}: query embeddings must be finite numbers, some are NaN or infinite")
        return embeddings


def as_picture(query: Query) -> Picture:
    """A query as a picture: strokes are drawn, a picture stays as it is."""
    return render(query) if isinstance(query, tuple) else query


def drawing_as_read(model: Embedder, query: Query) -> Image.Image:
    """What is searched for when a drawing is the query, white strokes on black, as the network takes it (S, S).

    Raises `ImageError` if it cannot be read, `NothingDrawnError` if nothing is drawn.
    """
    return Image.fromarray(model.preprocess(as_picture(query), "sketch"))


def _check_k(k: int) -> None:
    if k < 1:
        raise UserError(f"k is {k}; ask for 1 hit or more")


def _check_same_checkpoint(store: Backend, model: Embedder) -> None:
    made_with = store.checkpoint
    if model.fingerprint != made_with.fingerprint:
        raise UserError(
            f"{store.name}: made with checkpoint {made_with.name} ({made_with.fingerprint[:12]}), but the model given"
            f" is {model.name} ({model.fingerprint[:12]}); give {made_with.source or made_with.name},"
            " or index the pictures into another file"
        )


def _load_model(store: Backend, runtime: Runtime) -> Embedder:
    made_with = store.checkpoint
    if not made_with.source:
        raise UserError(
            f"{store.name}: made with the model {made_with.name}, which was not saved then; pass it to Gallery.open"
        )
    try:
        model = PictureModel.from_pretrained(made_with.source, runtime)
    except UserError as error:
        raise UserError(
            f"{store.name}: cannot load the checkpoint that made it: {error}."
            " If it has moved, give its new place: --checkpoint"
        ) from error
    _check_same_checkpoint(store, model)
    return model
