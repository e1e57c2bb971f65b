"""Searchable collections of pictures on disk."""

from crossatnet.gallery.backend import Where
from crossatnet.gallery.ingest import IngestSummary
from crossatnet.gallery.search import Gallery, Hit

__all__ = ["Gallery", "Hit", "IngestSummary", "Where"]
