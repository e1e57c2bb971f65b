"""Questions to a gallery file about what is known of its photos, without any drawing."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from crossatnet.gallery.backend import Filter
from crossatnet.gallery.sqlite.filters import in_sql, in_words

WEIGHTS = "1, 3, 5, 3"  # of a word found in path, class, tags, caption: what somebody chose counts more

Rows = Callable[[str, Sequence[object]], list[Any]]
"""Runs a statement with the values for its placeholders."""


def by_words(rows: Rows, filter: Filter, k: int, offset: int) -> tuple[list[int], list[float]]:
    """The ids and scores of the `k` items after `offset` that a filter admits; see `Backend.by_words`."""
    condition, values = in_sql(replace(filter, words=""))
    if filter.words:
        matches = f"SELECT rowid AS id, -bm25(words, {WEIGHTS}) AS score FROM words WHERE words MATCH ?"
        admitted = f"id IN (SELECT id FROM items WHERE {condition})" if condition else "true"
        statement = f"SELECT id, score FROM ({matches}) WHERE {admitted} ORDER BY score DESC, id"
        values = [in_words(filter.words), *values]
    else:
        statement = f"SELECT id, 0.0 FROM items WHERE {condition or 'true'} ORDER BY taken DESC, added DESC, id DESC"
    found = rows(f"{statement} LIMIT ? OFFSET ?", [*values, k, offset])
    return [row[0] for row in found], [row[1] for row in found]


def folders(rows: Rows) -> dict[str, int]:
    """The number of items in each folder that holds some."""
    folder = f"rtrim(path, replace(path, '{os.sep}', ''))"  # the path without the letters of the file's name
    found = rows(f"SELECT {folder}, count(*) FROM items GROUP BY 1 ORDER BY 1", ())
    return {path.rstrip(os.sep) or os.sep: count for path, count in found}
