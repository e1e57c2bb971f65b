"""When a read waits, and for what, without a server."""

from types import SimpleNamespace
from typing import Any

import pytest

from crossatnet.gallery.milvus import table
from crossatnet.gallery.milvus.calls import Address
from crossatnet.gallery.milvus.table import BOUNDED, LOADED, SESSION, STRONG, Table
from crossatnet.system.consistency import Consistency


class Connection:
    """Notes the level of every query; a collection of three rows."""

    def __init__(self) -> None:
        self.address = Address("127.0.0.1", 19530, "birds")
        self.waited: list[str] = []
        self.counted = 0

    def call(self, method: str, collection: str, *arguments: Any, **named: Any) -> Any:
        if named.get("output_fields") == ["count(*)"]:
            self.counted += 1
            assert named["consistency_level"] == LOADED
            return [{"count(*)": 3}]
        if method == "query" and named["filter"] == "id == -1":
            self.waited.append(named["consistency_level"])
        return []

    def waits(self) -> list[str]:
        """The levels waited for since the last call of this."""
        waited, self.waited = self.waited, []
        return waited


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(table, "time", SimpleNamespace(monotonic=lambda: now[0]))  # not the clock of other threads
    monkeypatch.setattr(table, "_LAST_WRITE", {})
    return now


def opened(connection: Connection, consistency: Consistency) -> Table:
    return Table(connection, "birds", consistency)  # type: ignore[arg-type]


def test_a_session_waits_once_for_each_write_of_its_process(clock: list[float]) -> None:
    connection = Connection()
    ours, other = opened(connection, "session"), opened(connection, "session")
    ours.catch_up()
    assert connection.waits() == [BOUNDED]
    for write, level in (
        (lambda: ours.upsert([{"id": 1}]), SESSION),
        (lambda: ours.delete([1]), STRONG),  # Milvus 2.3 does not say when it removed something
        (lambda: other.upsert([{"id": 2}]), SESSION),
        (lambda: (other.delete([2]), other.upsert([{"id": 3}])), STRONG),
    ):
        write()
        ours.catch_up()
        ours.catch_up()
        assert connection.waits() == [level]


def test_what_others_wrote_is_looked_for_once_in_a_while(clock: list[float]) -> None:
    connection = Connection()
    for consistency in ("session", "bounded"):
        ours = opened(connection, consistency)  # type: ignore[arg-type]
        for seconds, waits in ((0, [BOUNDED]), (0.5, []), (0.6, [BOUNDED]), (0.1, [])):
            clock[0] += seconds
            ours.catch_up()
            assert connection.waits() == waits


def test_bounded_does_not_wait_for_its_own_writes_and_strong_waits_each_time(clock: list[float]) -> None:
    connection = Connection()
    bounded, strong = opened(connection, "bounded"), opened(connection, "strong")
    bounded.catch_up()
    bounded.upsert([{"id": 1}])
    bounded.catch_up()
    strong.catch_up()
    strong.catch_up()
    assert connection.waits() == [BOUNDED, STRONG, STRONG]


def test_rows_are_counted_once_for_each_look(clock: list[float]) -> None:
    connection = Connection()
    ours = opened(connection, "session")
    for seconds, counted in ((0, 1), (0.5, 1), (0.6, 2), (0, 2)):
        clock[0] += seconds
        assert ours.size() == 3
        assert connection.counted == counted
    ours.upsert([{"id": 1}])
    ours.size()
    assert connection.counted == 3
    strong = opened(connection, "strong")
    strong.size()
    strong.size()
    assert connection.counted == 5


def test_a_missing_row_is_looked_for_among_all_that_was_written(clock: list[float]) -> None:
    connection = Connection()
    assert opened(connection, "session").rows([1], ["id"]) == {}
    assert connection.waits() == [STRONG]
    assert opened(connection, "session").rows([], ["id"]) == {}
    assert connection.waits() == []
