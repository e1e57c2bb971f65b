"""The gallery as its users see it: add pictures, draw something, get the nearest pictures.

Letters: `N` items, `Q` queries, `S` shortlist, `D` embedding dimension, `B` bytes of a packed code.

A search has two steps. The Hamming distance between hash codes picks a shortlist from the whole gallery, then the
cosine between embeddings orders it.
"""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import faiss
import numpy as np
from numpy.typing import NDArray

from crossatnet.data.images import ImageError, Modality, Picture
from crossatnet.errors import UserError
from crossatnet.gallery.embedder import Embedder
from crossatnet.gallery.ingest import BATCH, IngestSummary, Progress, add_folder
from crossatnet.gallery.store import Checkpoint, Codes, Store

# (code bits from, fewest candidates, candidates for each hit asked for): the shorter the code, the coarser its order,
# and the more candidates the float re-rank must see. Measured on a million items: 512 bits and 500 candidates find
# .9999 of the true top 100; 64 bits need 1,000 or more.
SHORTLIST_RULE = ((512, 500, 5), (256, 1000, 10), (0, 2000, 20))
GUIDED = 50  # hits that guided re-ranking looks at again, or as many as are asked for
RERANK_FLOATS = 16_777_216  # at most 64 MiB of candidates' embeddings in memory at once, whatever the number of queries

Rerank = Literal["guided"]


@dataclass(frozen=True)
class Hit:
    """One picture found. `score` is the cosine between query and picture, -1..1; `path` is absolute.

    After guided re-ranking it is the mean of that cosine and the one with what the drawing sees in the picture.
    """

    id: int
    path: str
    score: float
    class_name: str | None


@dataclass(frozen=True)
class _Index:
    """The codes of one version of the store, ready to be searched."""

    version: tuple[int, int]
    codes: Codes
    faiss_index: faiss.IndexBinaryFlat


class Gallery:
    """A searchable collection of pictures in one file. Its methods may be called from several threads.

    Another process may add to the same file at any time; the next search sees what it added.
    """

    def __init__(self, store: Store, model: Embedder | None) -> None:
        """Use `open` or `create` instead, which check that store and model belong together."""
        self.store = store
        self._model = model
        self._index: _Index | None = None
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: str | Path, model: Embedder | None = None) -> Self:
        """Open the gallery at `path`.

        Without `model`, the checkpoint that made the gallery is loaded when first something must be embedded. Raises
        `GalleryMissingError` if there is no gallery, and `UserError` if the file is not one, is of a newer schema, or
        was made with another checkpoint than `model`.
        """
        store = Store.open(Path(path))
        try:
            if model is not None:
                _check_same_checkpoint(store, model)
        except UserError:
            store.close()
            raise
        return cls(store, model)

    @classmethod
    def create(cls, path: str | Path, model: Embedder) -> Self:
        """Make an empty gallery for the embeddings of `model`. Raises `UserError` if `path` exists already."""
        checkpoint = Checkpoint(model.fingerprint, model.source, model.name, model.dimension, model.code_bits)
        return cls(Store.create(Path(path), checkpoint), model)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the gallery cannot be used afterwards."""
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
                self._model = _load_model(self.store)
            return self._model

    def add_folder(self, folder: str | Path, progress: Progress | None = None) -> IngestSummary:
        """Add, update and remove pictures until the gallery equals `folder`; see `crossatnet.gallery.ingest`."""
        return add_folder(self.store, self.model, Path(folder), progress)

    def search(
        self, query: Picture, k: int = 10, modality: Modality = "sketch", rerank: Rerank | None = None
    ) -> list[Hit]:
        """The `k` pictures nearest to one sketch or photo, best first; fewer if the gallery holds fewer.

        With `rerank="guided"` the first hits (`GUIDED` or k of them) are read again from their files and re-ordered by
        the sketch-guided attention. Raises `ImageError` if the query cannot be read, and `UserError` if k < 1 or if a
        guided search is asked of a photo or of a model without attention.
        """
        _check_k(k)
        if rerank and modality != "sketch":
            raise UserError("guided re-ranking needs a drawing: search by sketch, or without it")
        pixels = self.model.preprocess(query, modality)  # (S, S, 3)
        embedding = self.model.embed(pixels[None], modality)  # (1, D)
        if not rerank:
            return self.search_embeddings(embedding, k)[0]
        if not self.model.has_attention:
            raise UserError(f"{self.model.name} has no attention to guide: search without re-ranking")
        hits = self.search_embeddings(embedding, max(k, GUIDED))[0]
        return self._guided(pixels, hits)[:k]

    def search_embeddings(self, embeddings: NDArray[np.float32], k: int = 10) -> list[list[Hit]]:
        """The `k` nearest pictures of each of the queries (Q, D), best first, pictures of equal score by id.

        Exact if the gallery is not larger than `shortlist_length(k, code_bits)`. Raises `UserError` if k < 1 or the
        embeddings have another shape or hold anything but finite numbers.
        """
        _check_k(k)
        queries = _unit_rows(self._checked(embeddings))  # (Q, D)
        index = self._current_index()
        length = min(shortlist_length(k, self.store.checkpoint.code_bits), len(index.codes.ids))
        if length == 0:
            return [[] for _ in queries]
        hits: list[list[Hit]] = []
        for part in _parts(queries, max(1, RERANK_FLOATS // (length * queries.shape[1]))):
            shortlist = self._shortlist(index, part, length)  # (Q, S)
            hits += self._rerank(part, shortlist, k)
        return hits

    def _guided(self, sketch: NDArray[np.uint8], hits: list[Hit]) -> list[Hit]:
        """Hits in the order of their scores through the eyes of a sketch (S, S, 3); unreadable files keep theirs."""
        rescored = []
        for part in (hits[start : start + BATCH] for start in range(0, len(hits), BATCH)):
            readable: dict[int, NDArray[np.uint8]] = {}
            for number, hit in enumerate(part):
                with contextlib.suppress(ImageError):  # moved or damaged since it was indexed
                    readable[number] = self.model.preprocess(hit.path, "photo")
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
                f"{self.store.path}: query embeddings must have shape (queries, {dimension}), not {embeddings.shape}"
            )
        if not np.isfinite(embeddings).all():
            raise UserError(f"{self.store.path}: query embeddings must be finite numbers, some are NaN or infinite")
        return embeddings

    def _current_index(self) -> _Index:
        """The index of the store as it is now; a search that still uses an older one is not disturbed."""
        with self._lock:
            version = self.store.version()  # before the codes: a change in between is then noticed next time
            if self._index is None or self._index.version != version:
                codes = self.store.codes(self._index.codes if self._index else None)
                faiss_index = faiss.IndexBinaryFlat(self.store.checkpoint.code_bits)
                faiss_index.add(codes.packed)
                self._index = _Index(version, codes, faiss_index)
            return self._index

    def _shortlist(self, index: _Index, queries: NDArray[np.float32], length: int) -> NDArray[np.int64]:
        """Ids of the `length` items nearest in Hamming distance, each row ascending: (Q, D) -> (Q, S)."""
        faiss.omp_set_num_threads(1)  # OpenMP keeps this number for each thread, so it is set by the one that searches
        _, positions = index.faiss_index.search(self.model.hash(queries), length)  # (Q, S)
        return np.sort(index.codes.ids[positions], axis=1)

    def _rerank(self, queries: NDArray[np.float32], shortlist: NDArray[np.int64], k: int) -> list[list[Hit]]:
        """Order each row of the shortlist by cosine and keep the `k` best: (Q, D), (Q, S) -> Q lists."""
        found, embeddings = self.store.embeddings(np.unique(shortlist).tolist())  # (U,), (U, D)
        if len(found) == 0:
            return [[] for _ in queries]
        rows = np.minimum(np.searchsorted(found, shortlist), len(found) - 1)  # (Q, S)
        # einsum and not matmul: BLAS may round one row differently by its position, which would break ties
        scores = np.einsum("qsd,qd->qs", _unit_rows(embeddings)[rows], queries)
        scores[found[rows] != shortlist] = -np.inf  # removed by another process since the shortlist was made
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]  # (Q, k); stable: equal scores stay in order of id
        best_ids = np.take_along_axis(shortlist, best, axis=1)
        best_scores = np.take_along_axis(scores, best, axis=1)
        items = self.store.items(np.unique(best_ids).tolist())
        return [
            [
                Hit(key, items[key].facts.path, score, items[key].facts.class_name)
                for key, score in zip(ids, row, strict=True)
                if key in items and np.isfinite(score)
            ]
            for ids, row in zip(best_ids.tolist(), best_scores.tolist(), strict=True)
        ]


def shortlist_length(k: int, code_bits: int) -> int:
    """How many candidates the Hamming step hands to the float re-rank for `k` hits, by `SHORTLIST_RULE`."""
    fewest, for_each = next(rule[1:] for rule in SHORTLIST_RULE if code_bits >= rule[0])
    return max(fewest, for_each * k)


def _check_k(k: int) -> None:
    if k < 1:
        raise UserError(f"k is {k}; ask for 1 hit or more")


def _unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1; half precision has moved the stored ones a little off, and queries come from anywhere."""
    lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows))[:, None]  # einsum: equal rows get equal lengths, see _rerank
    return np.asarray(rows / np.maximum(lengths, np.finfo(np.float32).tiny), dtype=np.float32)


def _parts(rows: NDArray[np.float32], size: int) -> Iterator[NDArray[np.float32]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _check_same_checkpoint(store: Store, model: Embedder) -> None:
    made_with = store.checkpoint
    if model.fingerprint != made_with.fingerprint:
        raise UserError(
            f"{store.path}: made with checkpoint {made_with.name} ({made_with.fingerprint[:12]}), but the model given"
            f" is {model.name} ({model.fingerprint[:12]}); give {made_with.source or made_with.name},"
            " or index the pictures into another file"
        )


def _load_model(store: Store) -> Embedder:
    from crossatnet.model.network import CrossATNet  # torch takes seconds to import: only when it is needed

    made_with = store.checkpoint
    if not made_with.source:
        raise UserError(
            f"{store.path}: made with the model {made_with.name}, which was not saved then; pass it to Gallery.open"
        )
    try:
        model = CrossATNet.from_pretrained(made_with.source)
    except UserError as error:
        raise UserError(
            f"{store.path}: cannot load the checkpoint that made it: {error}."
            " If it has moved, give its new place: --checkpoint"
        ) from error
    _check_same_checkpoint(store, model)
    return model
