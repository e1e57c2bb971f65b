"""Searchable collections of pictures on disk."""

from crossatnet.gallery.backend import Filter, GalleryMissingError, StoredPicture
from crossatnet.gallery.gallery import Gallery
from crossatnet.gallery.ingest.folder import IngestSummary
from crossatnet.gallery.queries import PartOf, Prepared, Query
from crossatnet.gallery.results import Hit, PictureGoneError, Ranking, SearchResult
from crossatnet.gallery.towers import TwoTowers

__all__ = [
    "Filter",
    "Gallery",
    "GalleryMissingError",
    "Hit",
    "IngestSummary",
    "PartOf",
    "PictureGoneError",
    "Prepared",
    "Query",
    "Ranking",
    "SearchResult",
    "StoredPicture",
    "TwoTowers",
]
