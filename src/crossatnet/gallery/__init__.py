"""Searchable collections of pictures on disk."""

from crossatnet.gallery.backend import Filter, GalleryMissingError, StoredPicture
from crossatnet.gallery.gallery import Gallery, Query
from crossatnet.gallery.ingest.folder import IngestSummary
from crossatnet.gallery.results import Hit, PictureGoneError, Ranking, SearchResult
from crossatnet.gallery.towers import TwoTowers

__all__ = [
    "Filter",
    "Gallery",
    "GalleryMissingError",
    "Hit",
    "IngestSummary",
    "PictureGoneError",
    "Query",
    "Ranking",
    "SearchResult",
    "StoredPicture",
    "TwoTowers",
]
