"""Conditions in SQL, against a loop over the items."""

import sqlite3
from datetime import UTC, datetime, timedelta
from itertools import product

from crossatnet.gallery.backend import EVERYTHING, Filter, path_range
from crossatnet.gallery.sqlite.filters import in_sql

NOON = datetime(2026, 11, 25, 12, 0, 0, tzinfo=UTC)
ITEMS = [
    (path, class_name, NOON + timedelta(seconds=seconds))
    for path, class_name, seconds in product(
        ("/p/a", "/p/a/b", "/p/ab", "/p/é", "/p/%", "/q/a", "/p"), ("cat", "cat's", None), (-1, 0, 1)
    )
]


def meets(path: str, class_name: str | None, added: datetime, filter: Filter) -> bool:
    return (
        (not filter.class_names or class_name in filter.class_names)
        and path.startswith(filter.path_prefix)
        and (filter.added_since is None or added >= filter.added_since)
        and (filter.added_before is None or added < filter.added_before)
    )


def test_the_same_items_as_a_loop_finds() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE items (path TEXT, class_name TEXT, added TEXT)")
    rows = [(path, class_name, added.isoformat(timespec="seconds")) for path, class_name, added in ITEMS]
    connection.executemany("INSERT INTO items VALUES (?, ?, ?)", rows)
    moments = (None, NOON, NOON + timedelta(seconds=0.5), NOON.astimezone(tz=None))
    asked = 0
    for classes, prefix, since, before in product(
        ((), ("cat",), ("cat's", "dog")), ("", "/p/a", "/p/%", "/p/é"), moments, moments
    ):
        filter = Filter(classes, prefix, since, before)
        if filter == EVERYTHING:
            continue
        condition, values = in_sql(filter)
        statement = f"SELECT rowid FROM items WHERE {condition} ORDER BY rowid"
        found = [row[0] - 1 for row in connection.execute(statement, values)]
        assert found == [number for number, item in enumerate(ITEMS) if meets(*item, filter)], filter
        asked += bool(found)
    connection.close()
    assert asked > 50


def test_a_range_of_paths_ends_where_the_prefix_does() -> None:
    first, end = path_range("/p/a")
    assert first <= "/p/a" < "/p/a\U0010fffe" < end <= "/p/b"
