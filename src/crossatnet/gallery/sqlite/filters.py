"""Conditions on the items of a gallery file, as SQLite takes them."""

import itertools
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from crossatnet.gallery.backend import Filter, path_range


def in_sql(filter: Filter) -> tuple[str, list[str]]:
    """The text after WHERE, and the values for its placeholders. The filter must have at least one condition."""
    conditions: list[str] = []
    values: list[str] = []
    if filter.class_names:
        conditions.append(f"class_name IN ({placeholders(filter.class_names)})")
        values += filter.class_names
    if filter.path_prefix:
        conditions.append("path >= ? AND path < ?")
        values += path_range(filter.path_prefix)
    if filter.added_since:
        conditions.append("added >= ?")
        values.append(_text(filter.added_since))
    if filter.added_before:
        conditions.append("added < ?")
        values.append(_text(filter.added_before))
    if filter.folder:
        conditions.append(r"path LIKE ? ESCAPE '\'")
        values.append(f"%{os.sep}{_literally(filter.folder.strip(os.sep))}{os.sep}%")
    if filter.taken_since:
        conditions.append("taken >= ?")
        values.append(_clock(filter.taken_since))
    if filter.taken_before:
        conditions.append("taken < ?")
        values.append(_clock(filter.taken_before))
    for tag in filter.tags:
        conditions.append("has_tag(tags, ?)")
        values.append(tag)
        if any(map(str.isalnum, tag)):  # then the full-text index leaves few to look at
            conditions.append("id IN (SELECT rowid FROM words WHERE words MATCH ?)")
            values.append(f"tags : {_phrase(tag)}")
    if filter.words:
        conditions.append("id IN (SELECT rowid FROM words WHERE words MATCH ?)")
        values.append(in_words(filter.words))
    return " AND ".join(conditions), values


def placeholders(values: Sequence[object]) -> str:
    """As many placeholders as there are values."""
    return ",".join(itertools.repeat("?", len(values)))


def in_words(text: str) -> str:
    """Words that people type as a question to the full-text index: all of them, each also as a word's beginning.

    Nothing in them is a command. Signs without any letter or digit are left out; if nothing is left, nothing matches.
    """
    return " ".join(f"{_phrase(word)}*" for word in text.split() if any(map(str.isalnum, word))) or '""'


def has_tag(tags: str, tag: str) -> bool:
    """Whether a tag is one of these lines, in whatever case; called by SQLite."""
    return tag.casefold() in tags.casefold().split("\n")


def _phrase(text: str) -> str:
    doubled = text.replace('"', '""').replace("\0", " ")
    return f'"{doubled}"'


def _literally(text: str) -> str:
    """A text in which LIKE finds no wildcards."""
    return text.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")


def _clock(moment: datetime) -> str:
    """A moment in the form of the column `taken`: as a clock shows it, whatever the zone."""
    return moment.replace(tzinfo=None).isoformat(timespec="seconds")


def _text(moment: datetime) -> str:
    """A moment in the form of the column `added`, rounded up to whole seconds."""
    later = moment.astimezone(UTC) + timedelta(microseconds=999_999)
    return later.isoformat(timespec="seconds")
