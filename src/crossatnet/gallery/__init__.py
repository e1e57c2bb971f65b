"""Searchable collections of pictures on disk."""

from crossatnet.gallery.backend import Where
from crossatnet.gallery.ingest.folder import IngestSummary
from crossatnet.gallery.gallery import Gallery, Hit

__all__ = ["Gallery", "Hit", "IngestSummary", "Where"]
