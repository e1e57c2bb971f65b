"""Conditions on the items of a gallery file, as SQLite takes them."""

from datetime import UTC, datetime, timedelta

from crossatnet.gallery.backend import Where, path_range
from crossatnet.gallery.sqlite.rows import marks


def in_sql(where: Where) -> tuple[str, list[str]]:
    """What stands after WHERE, and the values for its marks; at least one condition must be given."""
    conditions: list[str] = []
    values: list[str] = []
    if where.class_names:
        conditions.append(f"class_name IN ({marks(where.class_names)})")
        values += where.class_names
    if where.path_prefix:
        conditions.append("path >= ? AND path < ?")
        values += path_range(where.path_prefix)
    if where.added_since:
        conditions.append("added >= ?")
        values.append(_text(where.added_since))
    if where.added_before:
        conditions.append("added < ?")
        values.append(_text(where.added_before))
    return " AND ".join(conditions), values


def _text(moment: datetime) -> str:
    """A moment as `added` is stored, in whole seconds: the first that is not earlier."""
    later = moment.astimezone(UTC) + timedelta(microseconds=999_999)
    return later.isoformat(timespec="seconds")
