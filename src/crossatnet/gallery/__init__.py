"""Searchable collections of pictures on disk."""

from crossatnet.gallery.backend import Filter, GalleryMissingError, StoredPicture
from crossatnet.gallery.gallery import Gallery, Prepared, Query
from crossatnet.gallery.ingest.folder import IngestSummary
from crossatnet.gallery.results import Hit, PictureGoneError, Ranking, SearchResult

__all__ = [
    "Filter",
    "Gallery",
    "GalleryMissingError",
    "Hit",
    "IngestSummary",
    "PictureGoneError",
    "Prepared",
    "Query",
    "Ranking",
    "SearchResult",
    "StoredPicture",
]
