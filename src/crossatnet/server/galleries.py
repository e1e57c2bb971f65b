"""The galleries that are served, by their names in addresses."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossatnet.gallery import Gallery, StoredPicture
from crossatnet.gallery.backend import LARGEST_ID
from crossatnet.gallery.embedder import Embedder
from crossatnet.server.errors import ApiError
from crossatnet.server.schemas import GalleryAnswer, GalleryStatistics
from crossatnet.server.settings import Place
from crossatnet.system.consistency import Consistency
from crossatnet.system.errors import UserError
from crossatnet.system.recall import RECALL


@dataclass(frozen=True)
class Served:
    """An open gallery under its name. `uploads` is the folder for pictures that are sent to it; None accepts none."""

    name: str
    title: str
    gallery: Gallery
    credits: str | None = None
    uploads: Path | None = None

    def stored(self, item_id: str) -> StoredPicture:
        """A stored picture by its id in addresses. Raises `ApiError` 404."""
        if re.fullmatch(r"[0-9]{1,19}", item_id, re.ASCII) and (key := int(item_id)) <= LARGEST_ID:
            found = self.gallery.store.pictures([key])
            if key in found:
                return found[key]
        raise ApiError(404, f"no picture of that id in {self.name}; it may have been removed: search again")

    def answer(self, reveals: bool, indexes: bool) -> GalleryAnswer:
        """The gallery's entry in the list of galleries; the server says whether it reveals files and adds folders."""
        return GalleryAnswer(**self._facts(), reveals=reveals, indexes=indexes)

    def statistics(self, reveals: bool, indexes: bool) -> GalleryStatistics:
        """The gallery's entry with its statistics."""
        store = self.gallery.store
        files = [Path(store.name + suffix) for suffix in ("", "-wal", "-index")]
        sizes = [file.stat().st_size for file in files if file.is_file()]
        return GalleryStatistics(
            **self._facts(),
            reveals=reveals,
            indexes=indexes,
            dimension=store.made_with.dimension,
            fingerprint=store.made_with.fingerprint,
            thumbnail_side=store.thumbnail_side,
            regions=store.made_with.regions,
            bytes=sum(sizes) if sizes else None,
            class_counts={name: count for name, count in store.classes().items() if name is not None},
        )

    def _facts(self) -> dict[str, Any]:
        made_with = self.gallery.store.made_with
        return {
            "name": self.name,
            "title": self.title,
            "pictures": len(self.gallery),
            "checkpoint": made_with.name,
            "guided": self.gallery.model.has_attention,
            "code_bits": made_with.code_bits,
            "uploads": self.uploads is not None,
            "credits": self.credits,
        }


class Galleries:
    """All galleries of a server; the first is the default."""

    def __init__(self, served: Sequence[Served]) -> None:
        self._by_name = {each.name: each for each in served}

    def __iter__(self) -> Iterator[Served]:
        return iter(self._by_name.values())

    def named(self, name: str) -> Served:
        """The gallery of a name. Raises `ApiError` 404."""
        if name not in self._by_name:
            raise ApiError(404, f"no gallery of that name; there are: {', '.join(self._by_name)}")
        return self._by_name[name]

    def close(self) -> None:
        """Close all of them."""
        for served in self:
            served.gallery.close()


def open_galleries(
    places: Sequence[Place],
    uploads: Path | None = None,
    model: Embedder | None = None,
    consistency: Consistency = "session",
    recall: float = RECALL,
) -> Galleries:
    """Open the galleries at these places, each with the checkpoint that made it, or all of them with `model`.

    Raises `UserError` for a place without a gallery, a checkpoint that cannot be loaded, and a place given twice.

    Example:
        >>> from crossatnet.server.galleries import open_galleries
        >>> [served.name for served in open_galleries([])]
        []
    """
    served: list[Served] = []
    models: dict[str, Embedder] = {}  # by fingerprint: galleries of one checkpoint share it
    for place in places:
        gallery = Gallery.open(place.place, model, consistency=consistency, recall=recall)
        fingerprint = gallery.store.made_with.fingerprint
        if fingerprint in models:
            gallery.close()
            gallery = Gallery.open(place.place, models[fingerprint], consistency=consistency, recall=recall)
        models[fingerprint] = gallery.model
        name = _unique_name(_stem(place.place), [each.name for each in served])
        folder = uploads / name if uploads else None
        served.append(Served(name, place.title or _stem(place.place), gallery, place.credits, folder))
    if len({each.gallery.store.name for each in served}) < len(served):
        raise UserError("a gallery is given twice; give each once")
    return Galleries(served)


def _stem(place: str) -> str:
    """A gallery's name from the last part of its place."""
    return Path(place).stem or "gallery"


def _unique_name(stem: str, taken: Sequence[str]) -> str:
    """A name of letters, digits and dashes that no other gallery has."""
    plain = re.sub(r"[^A-Za-z0-9_]+", "-", stem).strip("-").lower() or "gallery"
    name, number = plain, 1
    while name in taken:
        number += 1
        name = f"{plain}-{number}"
    return name
