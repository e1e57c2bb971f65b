"""From a drawing, a photo or a known picture to a page of hits: network, then gallery, and nothing else.

Letters: `S` side of the network's input, `D` embedding dimension.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossatnet.data.images import Modality, Picture, check_picture
from crossatnet.data.strokes import Drawing, render
from crossatnet.gallery.backend import EVERYTHING, Filter, StoredPicture
from crossatnet.gallery.gallery import Hit
from crossatnet.gallery.gallery import Ranking as Ordering
from crossatnet.model.interface import GUIDED
from crossatnet.server.errors import ApiError
from crossatnet.server.galleries import Served
from crossatnet.server.pictures import file_name, readable
from crossatnet.server.schemas import HitAnswer, Milliseconds, Ranking, SearchAnswer, Stroke
from crossatnet.server.settings import UPLOAD_PIXELS


@dataclass(frozen=True)
class Page:
    """Which hits are asked for: `k` of them after the first `offset`, in the order of a ranking, under conditions."""

    k: int
    offset: int
    ranking: Ranking = "float"
    filter: Filter = EVERYTHING

    @property
    def depth(self) -> int:
        """How many hits must be found to fill it."""
        return self.offset + self.k


@dataclass(frozen=True)
class Found:
    """Hits of a page, what is known of them, whether more follow, and seconds in the network and in the gallery."""

    hits: list[Hit]
    items: dict[int, StoredPicture]
    has_more: bool
    network: float
    search: float


def drawing_of(strokes: Sequence[Stroke]) -> Drawing:
    """Checked strokes as the renderer takes them."""
    return tuple(np.array(stroke, np.float32) for stroke in strokes)


def search_drawing(served: Served, strokes: Sequence[Stroke], page: Page) -> Found:
    """The page of hits for strokes."""
    started = time.perf_counter()
    return search_picture(served, render(drawing_of(strokes)), "sketch", page, started)


def search_upload(served: Served, content: bytes, modality: Modality, page: Page) -> Found:
    """The page of hits for a picture file's bytes. Raises `ImageError` if it cannot be read or is too large."""
    started = time.perf_counter()
    check_picture(content, UPLOAD_PIXELS)
    return search_picture(served, content, modality, page, started)


def search_picture(served: Served, picture: Picture, modality: Modality, page: Page, started: float) -> Found:
    """The page of hits for a picture; `started` is when its making began."""
    model = served.gallery.model
    if page.ranking == "guided":
        if modality != "sketch":
            raise ApiError(422, "ranking: only a drawing can guide; rank photos by float or code")
        if not model.has_attention:
            raise ApiError(
                422, f"ranking: the checkpoint of {served.name} has no attention to guide; use float or code"
            )
    pixels = model.preprocess(picture, modality)  # (S, S, 3)
    embedding = model.embed(pixels[None], modality)  # (1, D)
    embedded = time.perf_counter()
    if page.ranking != "guided":
        return _found(served, embedding, page, embedded - started)
    everything = Page(GUIDED, 0, "float", page.filter)
    found = _found(served, embedding, everything, embedded - started)
    guided_from = time.perf_counter()
    hits = served.gallery.look_again(pixels, found.hits, lambda hit: readable(found.items[hit.id]))
    guided = time.perf_counter() - guided_from
    shown = hits[page.offset : page.depth]
    return Found(shown, found.items, page.depth < len(hits), found.network + guided, found.search)


def search_similar(served: Served, item: StoredPicture, page: Page) -> Found:
    """The page of hits for a stored picture, itself left out."""
    embedding = served.gallery.store.embedding(item.id)
    if embedding is None:
        raise ApiError(404, f"no picture of that id in {served.name}; it was just removed: search again")
    everything = Page(page.depth + 1, 0, page.ranking, page.filter)
    found = _found(served, embedding[None], everything, 0.0)
    others = [hit for hit in found.hits if hit.id != item.id]
    has_more = found.has_more or len(others) > page.depth
    return Found(others[page.offset : page.depth], found.items, has_more, 0.0, found.search)


def answer(served: Served, found: Found, page: Page, started: float) -> SearchAnswer:
    """A page of hits as JSON has it; `started` is when the request was taken."""
    shown = [found.items[hit.id] for hit in found.hits]
    milliseconds = Milliseconds(
        network=_milliseconds(found.network),
        search=_milliseconds(found.search),
        total=_milliseconds(time.perf_counter() - started),
    )
    return SearchAnswer(
        hits=[_hit(served, hit, item) for hit, item in zip(found.hits, shown, strict=True)],
        offset=page.offset,
        k=page.k,
        pictures=len(served.gallery),
        next_offset=page.depth if found.has_more else None,
        milliseconds=milliseconds,
    )


def addresses(served: Served, item: StoredPicture) -> dict[str, str]:
    """Where an item's pictures are; `v` changes with the file, so that browsers may keep what they have."""
    base = f"/api/v1/galleries/{served.name}/items/{item.id}"
    version = mark(item)
    return {"thumbnail": f"{base}/thumbnail?v={version}", "image": f"{base}/image?v={version}"}


def mark(item: StoredPicture) -> str:
    """A few letters that tell one content of an item's file from another."""
    return item.facts.file.content_hash[:12]


def _found(served: Served, embedding: NDArray[np.float32], page: Page, network: float) -> Found:
    """The page for one embedding (1, D): one hit more is asked for than it holds, to see whether another follows."""
    started = time.perf_counter()
    ranking: Ordering = "code" if page.ranking == "code" else "float"
    hits = served.gallery.search_embeddings(embedding, page.depth + 1, page.filter, ranking)[0]
    items = served.gallery.store.pictures([hit.id for hit in hits[page.offset : page.depth]])
    shown = [hit for hit in hits[page.offset : page.depth] if hit.id in items]
    return Found(shown, items, len(hits) > page.depth, network, time.perf_counter() - started)


def _hit(served: Served, hit: Hit, item: StoredPicture) -> HitAnswer:
    facts = item.facts
    return HitAnswer(
        id=str(hit.id),
        score=round(hit.score, 6),
        class_name=facts.class_name,
        file_name=file_name(item),
        width=facts.width,
        height=facts.height,
        **addresses(served, item),
    )


def _milliseconds(seconds: float) -> float:
    return round(1000 * seconds, 2)
