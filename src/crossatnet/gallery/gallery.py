"""The gallery as its users see it: add pictures, draw something, get the nearest pictures.

Letters: `N` items, `Q` queries, `D` embedding dimension, `S` side of the input, `M` heads, `h w` the backbone's map.

A search has two steps. The Hamming distance between hash codes picks a shortlist from the whole gallery, then the
cosine between embeddings orders it.
"""

import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from crossatnet.data.elsewhere import is_url
from crossatnet.data.images import Modality, Picture
from crossatnet.gallery.backend import EVERYTHING, NO_ITEM, Backend, Choice, Filter, StoredPicture
from crossatnet.gallery.backends import create_backend, made_with_of, open_backend
from crossatnet.gallery.checkpoints import load_model
from crossatnet.gallery.duplicates import Found, as_one, deep_enough, in_groups
from crossatnet.gallery.embedder import Embedder, check_same_model, finds_regions
from crossatnet.gallery.ingest.folder import (
    Batch,
    IngestSummary,
    Progress,
    add_folder,
    add_folders,
    embedded_picture,
    store_batch,
    update,
)
from crossatnet.gallery.ingest.stream import add_source
from crossatnet.gallery.originals import picture_of
from crossatnet.gallery.queries import PartOf, Prepared, Query, as_picture, check_guidable, check_page, cut_out
from crossatnet.gallery.ranking import Combine, by_conditions, combined, judged, nearest
from crossatnet.gallery.rerank import rerank
from crossatnet.gallery.results import Hit, PictureGoneError, Ranking, SearchResult
from crossatnet.model.framing import region_found
from crossatnet.model.interface import GUIDED, check_attention
from crossatnet.model.regions import Box
from crossatnet.runtime.names import Runtime
from crossatnet.system.consistency import Consistency
from crossatnet.system.errors import UserError
from crossatnet.system.recall import RECALL

Rerank = Literal["guided"]


class Gallery:
    """A searchable collection of pictures. Its methods may be called from several threads.

    Another process may add to the same gallery at any time; the next search sees what it added, on a server within
    seconds (`consistency`).

    Example:
        >>> from crossatnet import CrossATNet, Gallery
        >>> model = CrossATNet.from_pretrained("crossatnet-open", runtime="onnx")
        >>> (tmp_path / "photos").mkdir()
        >>> photo.save("photos/house.png")
        >>> with Gallery.create("my.gallery", model) as gallery:
        ...     gallery.add_folder("photos").added
        1
        >>> gallery = Gallery.open("my.gallery", model)
        >>> [hit.path.endswith("house.png") for hit in gallery.search(sketch, k=5)]
        [True]
        >>> len(gallery.search_embeddings(model.encode([sketch], "sketch"), ranking="code"))
        1
        >>> result = gallery.find(sketch, k=1, ranking="guided")
        >>> len(result.hits), result.has_more
        (1, False)
        >>> gallery.attention(sketch, photo).ndim
        3
        >>> photo.save("garden.png")
        >>> gallery.add_picture(tmp_path / "garden.png", "garden").id != 0
        True
        >>> picture = gallery.embed_picture(tmp_path / "garden.png", "flowers")
        >>> gallery.store_picture(picture).facts.class_name
        'flowers'
        >>> gallery.prepare(sketch, "sketch").pixels.ndim
        3
        >>> gallery.remove(["garden.png"]), len(gallery)
        (1, 1)
        >>> gallery.add_folders(["photos"]).unchanged
        1
        >>> gallery.update().unchanged
        1
        >>> gallery.add_source(f"file://{tmp_path}/photos").added
        1
        >>> gallery.close()
    """

    def __init__(self, store: Backend, model: Embedder | None, runtime: Runtime = "auto") -> None:
        """Use `open` or `create` instead, which check that store and model belong together."""
        self.store = store
        self._model = model
        self._runtime = runtime
        self._lock = threading.Lock()

    @classmethod
    def open(
        cls,
        place: str | Path,
        model: Embedder | None = None,
        runtime: Runtime = "auto",
        consistency: Consistency = "session",
        recall: float = RECALL,
    ) -> Self:
        """Open the gallery at a place: the path of its file, or milvus://HOST:PORT/NAME.

        Without `model`, the checkpoint that made the gallery is loaded when it is first needed, and computed by
        `runtime`. `consistency` says how much of what was written a search of a gallery on a server sees, see
        `crossatnet.system.consistency`. `recall` says how much of what an exact search finds a search must find in
        a gallery of more than 2e6 pictures: more takes longer, 1 is the exact search. Raises
        `GalleryMissingError` if there is no gallery, and `UserError` if the file is no gallery, has a newer schema, or
        was made with another checkpoint than `model`, and for a recall that is not above 0 and at most 1.
        """
        store = open_backend(place, consistency, recall)
        try:
            if model is not None:
                check_same_model(store.name, store.made_with, model)
        except UserError:
            store.close()
            raise
        return cls(store, model, runtime)

    @classmethod
    def create(cls, place: str | Path, model: Embedder, thumbnail_side: int = 0, regions: bool = False) -> Self:
        """Make an empty gallery for the embeddings of `model`. Raises `UserError` if there is something already.

        With `thumbnail_side` the gallery also keeps a thumbnail of every picture, its longer side of so many pixels.
        With `regions` it also keeps parts of its pictures, to find things that fill only a part.
        """
        return cls(create_backend(place, made_with_of(place, model, regions), thumbnail_side), model)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the gallery; it cannot be used afterwards."""
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
                self._model = load_model(self.store, self._runtime)
            return self._model

    def add_folder(
        self,
        folder: str | Path,
        progress: Progress | None = None,
        choice: Choice | None = None,
        verify: bool = False,
    ) -> IngestSummary:
        """Add, update and remove pictures until the gallery equals `folder`; see `crossatnet.gallery.ingest.folder`.

        With `verify` every file is read again, also where size and times say that it did not change.
        """
        return add_folder(self.store, self.model, Path(folder), progress, choice, verify)

    def add_folders(
        self,
        folders: Sequence[str | Path],
        progress: Progress | None = None,
        choice: Choice | None = None,
        verify: bool = False,
    ) -> IngestSummary:
        """The same for several folders; a folder within another one of them is part of that one."""
        return add_folders(self.store, self.model, [Path(folder) for folder in folders], progress, choice, verify)

    def update(
        self, progress: Progress | None = None, more: Choice | None = None, verify: bool = False
    ) -> IngestSummary:
        """The same for all folders that were added before, each as it was added; `more` is wanted besides, from now on.

        A folder that is away is named among the skipped, and its pictures stay. Raises `UserError` if all are, or if
        no folder is remembered.
        """
        return update(self.store, self.model, progress, more, verify)

    def add_source(self, source: str, progress: Progress | None = None, verify: bool = False) -> IngestSummary:
        """The same for a prefix of a store, such as `s3://bucket/photos`, or for a tar archive of pictures.

        See `crossatnet.gallery.ingest.stream`. Raises `UserError` if it cannot be read.
        """
        return add_source(self.store, self.model, source, progress, verify)

    def add_picture(self, path: Path, class_name: str | None = None) -> StoredPicture:
        """Add one picture file by its absolute path, or update it; returns the stored item.

        Raises `ImageError` if it cannot be used, and `UserError` if the gallery cannot be written.
        """
        return self.store_picture(self.embed_picture(path, class_name))

    def embed_picture(self, path: Path, class_name: str | None = None, content: bytes | None = None) -> Batch:
        """One picture as it would be stored, without storing it; its file need not be there if `content` is given.

        Raises `ImageError` if it cannot be used.
        """
        return embedded_picture(self.store, self.model, path, class_name, content)

    def store_picture(self, picture: Batch) -> StoredPicture:
        """Store what `embed_picture` returned.

        Raises `PictureGoneError` if another process removed it at once, `UserError` if the gallery cannot be written.
        """
        store_batch(self.store, picture)
        path = picture.facts[0].path
        for stored in self.store.pictures([*self.store.ids([path]).values()]).values():
            return stored
        raise PictureGoneError(f"{path}: was removed again by another process; add it again")

    def remove(self, paths: Sequence[str | Path]) -> int:
        """Remove pictures, or all pictures below a folder, which is forgotten; the files stay. Returns how many.

        Raises `UserError`, before anything is removed, if nothing is stored at one of the paths or below it.
        """
        doomed: dict[str, None] = {}
        for path in paths:
            if not str(path):  # Path("") is the current folder, which is surely not meant
                raise UserError("an empty path; nothing was removed")
            absolute = os.path.normpath(Path(path).absolute())  # not resolved: links of removed files are gone too
            names = {str(path)} if is_url(str(path)) else {absolute, str(Path(path).resolve())}
            found = [
                *self.store.file_states([*names]),
                *(below for name in names for below in self.store.paths_under(name)),
            ]
            if not found:
                raise UserError(f"{path}: no picture of {self.store.name} is there or below; nothing was removed")
            doomed |= dict.fromkeys(found)
        for path in paths:
            self.store.forget(Path(path).resolve())
        return self.store.remove([*doomed])

    def search(
        self,
        query: Query | list[Query],
        k: int = 10,
        modality: Modality = "sketch",
        rerank: Rerank | None = None,
        filter: Filter = EVERYTHING,
        combine: Combine = "average",
    ) -> list[Hit]:
        """The `k` pictures nearest to a sketch or photo, best first; fewer if `filter` admits fewer.

        A query is a picture, a drawing's strokes, or `FILE.ndjson:N`, the Nth drawing of a file of strokes. A list of
        queries is one search: by the `average` of their embeddings, for drawings of one thing; or as a `union`, where a
        picture's score is its best with any of them.

        With `rerank="guided"` the first hits (`GUIDED` or k of them) are read again from their files and re-ordered by
        the sketch-guided attention. Raises `ImageError` if a query cannot be read, and `UserError` if k < 1 or if a
        guided search has a photo or several queries, or the model has no attention.
        """
        ranking: Ranking = rerank or "float"
        return self.find(query, k, modality=modality, ranking=ranking, filter=filter, combine=combine).hits

    def find(
        self,
        query: Query | list[Query] | StoredPicture | PartOf | None,
        k: int = 10,
        offset: int = 0,
        *,
        modality: Modality = "sketch",
        ranking: Ranking = "float",
        filter: Filter = EVERYTHING,
        combine: Combine = "average",
        reranked: int | None = None,
        grouped: bool = False,
        read: Callable[[StoredPicture], Picture] = picture_of,
    ) -> SearchResult:
        """The `k` hits after the first `offset` hits, with what is stored of them; see `search` for the rest.

        A stored picture as the query finds others like it, and not itself; so does a part of one. Without a query the
        conditions alone say what is found: by words, the best matches first; else photos, the latest first. With
        `grouped`, pictures that show the same count as one hit, whose `copies` they are. A guided ranking re-orders the
        first `reranked` hits and has no more: by default those up to the end of the page, at least `GUIDED`. Give one
        number for all pages of a search, so that the pages fit together. `read` returns the file or content of a
        picture; if it raises `ImageError`, or a hit's picture cannot be read, the hit keeps its score.

        Raises `ImageError` for a query that cannot be read, `CannotGuideError` for a ranking that the query or the
        model does not allow, `PictureGoneError`, and `UserError` if k < 1 or offset < 0.
        """
        check_page(k, offset)
        if ranking == "guided":
            check_guidable(self.model, query, modality)
        depth, guiding, started = offset + k, 0.0, time.perf_counter()
        own = query.id if isinstance(query, StoredPicture) else NO_ITEM
        if isinstance(query, PartOf):
            own, modality = query.picture.id, "photo"
            query = self.prepare(cut_out(read(query.picture), query.box), modality)
        embedding = self.store.embedding if grouped else None
        pixels, embeddings = self._embedded(query, modality)  # (Q, S, S, 3), (Q, D)
        embedded = time.perf_counter()

        def best(wanted: int) -> Found:
            nonlocal guiding
            if query is None:
                return by_conditions(self.store, wanted, filter)
            hits, pictures = combined(self.store, self.model, embeddings, wanted, filter, ranking, combine)
            if ranking == "guided":
                begun = time.perf_counter()
                hits = rerank(self.model, pixels[0], hits, lambda hit: read(pictures[hit.id]))
                guiding += time.perf_counter() - begun
            return hits, pictures

        if ranking == "guided":
            hits, pictures = best(reranked or max(depth, GUIDED))
            groups = in_groups(hits, pictures, embedding)
        else:
            groups, pictures = deep_enough(best, depth, own, embedding)
        searching = time.perf_counter() - embedded - guiding
        shown = [as_one(group) for group in groups[offset:depth]]
        if ranking == "float" and modality == "sketch" and len(embeddings) and not isinstance(query, StoredPicture):
            shown = judged(self.store, self.model, shown, embeddings, combine)
        known = [pictures[hit.id] for hit in shown]
        return SearchResult(
            shown, known, offset, len(groups) > depth, embedded - started + guiding, searching, pictures
        )

    def search_embeddings(
        self,
        embeddings: NDArray[np.float32],
        k: int = 10,
        filter: Filter = EVERYTHING,
        ranking: Literal["float", "code"] = "float",
    ) -> list[list[Hit]]:
        """The `k` nearest pictures of each of the queries (Q, D), best first, pictures of equal score by id.

        Ranked by cosine, which is exact if all pictures that `filter` admits fit into the shortlist; or, with
        `ranking="code"`, by the Hamming distance of hash codes alone. Raises `UserError` if k < 1, or if the embeddings
        have another shape or are not finite.
        """
        check_page(k)
        return nearest(self.store, self.model, embeddings, k, filter, ranking)[0]

    def attention(self, drawing: Query, photo: Picture) -> NDArray[np.float32]:
        """Where a drawing looks in a photo: a map (h, w) that sums to 1 for each attention head, (M, h, w).

        Raises `CannotGuideError` if the model has no attention, `ImageError` if one of the two cannot be read.
        """
        check_attention(self.model, "to show; take another checkpoint")
        sketch = self._pixels(drawing, "sketch")[0]  # (S, S, 3)
        _, attention = self.model.guide(sketch, self._pixels(photo, "photo"))  # (1, M, h, w)
        return np.asarray(attention[0])

    def region(self, drawing: Query, photo: Picture) -> Box | None:
        """The part of a photo by which a drawing finds it; None if by the whole, or if no regions are kept here.

        Raises `ImageError` if one of the two cannot be read.

        Example:
            >>> from crossatnet import CrossATNet
            >>> model = CrossATNet.from_pretrained("crossatnet-open", runtime="onnx")
            >>> with Gallery.create(tmp_path / "whole.gallery", model, regions=False) as gallery:
            ...     gallery.region(sketch, photo) is None
            True
        """
        model = self.model
        if not self.store.made_with.regions or not finds_regions(model):
            return None
        query = model.embed(self._pixels(drawing, "sketch"), "sketch")[0]  # (D,)
        return region_found(model, query, photo)

    def as_read(self, drawing: Query | list[Query]) -> NDArray[np.uint8]:
        """What is searched for when drawings are asked, (Q, S, S, 3): white on black, as the network takes them.

        Raises `ImageError` for one that cannot be read, `NothingDrawnError` where nothing is drawn.

        Example:
            >>> from crossatnet import CrossATNet, Gallery
            >>> model = CrossATNet.from_pretrained("crossatnet-open", runtime="onnx")
            >>> with Gallery.create(tmp_path / "read.gallery", model) as gallery:
            ...     gallery.as_read(sketch).shape
            (1, 192, 192, 3)
        """
        return self._pixels(drawing, "sketch")

    def prepare(self, query: Query, modality: Modality) -> Prepared:
        """A query, read and shaped but not embedded: only here strokes are drawn and pictures read.

        Raises `ImageError` if it cannot be read.
        """
        if isinstance(query, Prepared):
            return query
        return Prepared(self.model.preprocess(as_picture(query), modality))

    def _pixels(self, query: Query | list[Query], modality: Modality) -> NDArray[np.uint8]:
        """Queries as the network takes them, (Q, S, S, 3)."""
        queries = query if isinstance(query, list) else [query]
        if not queries:
            raise UserError("no query: give a drawing, a photo, or several in a list")
        return np.stack([self.prepare(each, modality).pixels for each in queries])

    def _embedded(
        self, query: Query | list[Query] | StoredPicture | None, modality: Modality
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Queries as pixels (Q, S, S, 3) and as embeddings (Q, D); a stored picture has no pixels here."""
        if query is None:
            return np.empty((0, 0, 0, 3), np.uint8), np.empty((0, self.store.made_with.dimension), np.float32)
        if not isinstance(query, StoredPicture):
            pixels = self._pixels(query, modality)
            return pixels, self.model.embed(pixels, modality)
        embedding = self.store.embedding(query.id)
        if embedding is None:
            raise PictureGoneError(f"{query.facts.path}: no longer in {self.store.name}; search again")
        return np.empty((0, 0, 0, 3), np.uint8), embedding[None]
