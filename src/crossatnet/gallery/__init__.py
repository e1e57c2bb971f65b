"""Searchable collections of pictures on disk."""

from crossatnet.gallery.backend import Filter
from crossatnet.gallery.gallery import Gallery, Hit
from crossatnet.gallery.ingest.folder import IngestSummary

__all__ = ["Filter", "Gallery", "Hit", "IngestSummary"]
