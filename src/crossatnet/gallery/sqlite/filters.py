"""Conditions on the items of a gallery file, as SQLite takes them."""

from datetime import UTC, datetime, timedelta

from crossatnet.gallery.backend import Filter, path_range
from crossatnet.gallery.sqlite.rows import placeholders


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
    return " AND ".join(conditions), values


def _text(moment: datetime) -> str:
    """A moment in the form of the column `added`, rounded up to whole seconds."""
    later = moment.astimezone(UTC) + timedelta(microseconds=999_999)
    return later.isoformat(timespec="seconds")
