"""The SQLite file: it returns what was stored, changes keep ids, and every error is one clear line."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from crossatnet.gallery.backend import Facts, FileState, Filter, GalleryMissingError, MadeWith
from crossatnet.gallery.sqlite import database
from crossatnet.gallery.sqlite import store as store_module
from crossatnet.gallery.sqlite.database import SCHEMA_VERSION
from crossatnet.gallery.sqlite.store import Store
from crossatnet.system.errors import UserError

MADE_WITH = MadeWith("f" * 64, "/models/fake", "fake", dimension=4, code_bits=16)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "my.gallery", MADE_WITH)


def facts(path: str, content: str = "a", mtime_ns: int = 1) -> Facts:
    return Facts(path, "cat", FileState(100, mtime_ns, content * 64), width=30, height=20)


def vectors(count: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    generator = np.random.default_rng(seed)
    codes = generator.integers(0, 256, (count, 2), dtype=np.uint8)
    return codes, generator.standard_normal((count, 4)).astype(np.float32)


def contents(store: Store) -> list[tuple[int, list[int], list[float]]]:
    """Id, code and stored embedding of every item, read from SQLite without the code under test."""
    with closing(sqlite3.connect(store.path)) as connection:
        rows = connection.execute("SELECT id, code, embedding FROM items ORDER BY id").fetchall()
    return [(key, list(code), np.frombuffer(half, "<f2").tolist()) for key, code, half in rows]


def test_what_is_put_can_be_got_after_reopening(store: Store) -> None:
    codes, embeddings = vectors(3)
    store.put([facts("/p/a"), facts("/p/b"), facts("/p/c")], codes, embeddings)
    store.close()

    reopened = Store.open(store.path)
    assert reopened.made_with == MADE_WITH
    assert len(reopened) == 3
    assert reopened.pictures([2, 99])[2].facts == facts("/p/b")
    assert list(reopened.pictures([2, 99])) == [2]
    assert contents(reopened) == [
        (key, code.tolist(), half.tolist())
        for key, code, half in zip([1, 2, 3], codes, embeddings.astype(np.float16), strict=True)
    ]


def test_ids_embeddings_and_classes_are_returned(store: Store) -> None:
    codes, embeddings = vectors(3)
    store.put([facts("/p/a"), facts("/p/b"), replace(facts("/p/c"), class_name=None)], codes, embeddings)
    assert store.ids(["/p/c", "/p/none", "/p/a"]) == {"/p/c": 3, "/p/a": 1}
    assert store.classes() == {"cat": 2, None: 1}
    embedding = store.embedding(2)
    assert embedding is not None
    assert embedding.dtype == np.float32
    assert embedding.tolist() == embeddings[1].astype(np.float16).tolist()
    assert store.embedding(4) is None


def test_file_is_in_wal_mode_with_schema_version(store: Store) -> None:
    store.close()
    connection = sqlite3.connect(store.path)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    connection.close()


def test_a_changed_picture_keeps_its_id_and_its_time_of_adding(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    codes, embeddings = vectors(2)
    monkeypatch.setattr(store_module, "_now", lambda: "2001-01-01T00:00:00+00:00")
    store.put([facts("/p/a"), facts("/p/b")], codes, embeddings)
    monkeypatch.undo()
    new_codes, new_embeddings = vectors(2, seed=1)
    store.put([facts("/p/c"), facts("/p/a", content="b")], new_codes, new_embeddings)

    item = store.pictures([1])[1]
    assert item.facts == facts("/p/a", content="b")
    assert item.added == "2001-01-01T00:00:00+00:00"
    assert [row[:2] for row in contents(store)] == [
        (key, code.tolist()) for key, code in zip([1, 2, 3], [new_codes[1], codes[1], new_codes[0]], strict=True)
    ]


def test_stamps_are_those_asked_for_and_stored(store: Store) -> None:
    store.put([facts("/p/a"), facts("/p/b", content="b")], *vectors(2))
    assert store.file_states(["/p/b", "/p/none"]) == {"/p/b": FileState(100, 1, "b" * 64)}


@pytest.mark.parametrize("part", [1, 3, 100])
def test_paths_are_those_below_the_folder_only(store: Store, part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "IDS_A_STATEMENT", part)
    paths = ["/p/a", "/p/sub/b", "/p/\U0001f600", "/p.x/c", "/p0/d", "/pq", "/o/e", "/p"]
    store.put([facts(path) for path in paths], *vectors(len(paths)))
    assert list(store.paths_under(Path("/p"))) == ["/p/a", "/p/sub/b", "/p/\U0001f600"]
    assert list(store.paths_under(Path("/"))) == sorted(paths)


def test_touch_renews_the_stamp_alone(store: Store) -> None:
    store.put([facts("/p/a")], *vectors(1))
    store.touch([("/p/a", FileState(100, 7, "a" * 64))])
    assert store.pictures([1])[1].facts == facts("/p/a", mtime_ns=7)


def test_removed_ids_are_not_used_again(store: Store) -> None:
    store.put([facts("/p/a"), facts("/p/b")], *vectors(2))
    assert store.remove(["/p/b", "/p/unknown"]) == 1
    store.put([facts("/p/c")], *vectors(1))
    assert [row[0] for row in contents(store)] == [1, 3]


def test_version_moves_with_own_changes_and_stands_still_without(store: Store) -> None:
    version = store.version()
    assert store.version() == version
    store.put([facts("/p/a")], *vectors(1))
    assert store.version() != version


def test_a_batch_that_fails_leaves_nothing(store: Store) -> None:
    broken = Facts("/p/b", "cat", FileState(1, 1, "b"), width=None, height=1)  # type: ignore[arg-type]
    with pytest.raises(sqlite3.IntegrityError):  # a bug, not a user's mistake, so it is raised as it is
        store.put([facts("/p/a"), broken], *vectors(2))
    assert len(store) == 0


def test_more_ids_than_a_statement_takes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "IDS_A_STATEMENT", 3)
    store.put([facts(f"/p/{number}") for number in range(10)], *vectors(10))
    assert sorted(store.pictures(list(range(12, 0, -1)))) == list(range(1, 11))


def test_thumbnails_go_with_their_item(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "my.gallery", MADE_WITH, thumbnail_side=64)
    assert Store.open(store.path).thumbnail_side == 64
    store.put([facts("/p/a"), facts("/p/b")], *vectors(2), thumbnails=[b"A", b"B"])
    store.put([facts("/p/a", content="b")], *vectors(1), thumbnails=[b"new"])
    assert [store.thumbnail(number) for number in (1, 2, 3)] == [b"new", b"B", None]
    store.remove(["/p/a"])
    assert store.thumbnail(1) is None


def test_compact_gives_back_room_and_changes_nothing(store: Store) -> None:
    store.put([facts(f"/p/{number}") for number in range(1000)], *vectors(1000))
    store.remove([f"/p/{number}" for number in range(10, 1000)])
    kept, items = contents(store), store.pictures(range(1, 1001))
    store.close()
    with closing(Store.open(store.path)) as again:
        size = store.path.stat().st_size
        again.compact()
        assert store.path.stat().st_size < size / 5
        assert (contents(again), again.pictures(range(1, 1001))) == (kept, items)
        again.put([facts("/p/new")], *vectors(1))
        assert contents(again)[-1][0] == 1001  # ids are not used again after compacting either


# Conditions


NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
STORED = {  # path -> class, hours after noon
    "/p/a/1": ("cat", 0),
    "/p/a/2": ("dog", 1),
    "/p/ab/3": ("cat", 2),
    "/p/A/4": (None, 3),
    "/q/5": ('cat\'s "%" _', 4),
}


@pytest.mark.parametrize(
    "filter",
    [
        Filter(class_names=("cat",)),
        Filter(class_names=("cat", "dog")),
        Filter(class_names=('cat\'s "%" _',)),
        Filter(class_names=("none",)),
        Filter(path_prefix="/p/a"),
        Filter(path_prefix="/p/a/"),
        Filter(path_prefix="/p/_"),
        Filter(added_since=NOON + timedelta(hours=2)),
        Filter(added_since=NOON + timedelta(hours=1, microseconds=1)),
        Filter(added_before=NOON + timedelta(hours=2)),
        Filter(added_before=NOON + timedelta(hours=2, microseconds=1)),
        Filter(added_before=(NOON + timedelta(hours=2)).astimezone(timezone(timedelta(hours=9)))),
        Filter(added_since=(NOON + timedelta(hours=2)).astimezone().replace(tzinfo=None)),
        Filter(("cat",), "/p/", NOON + timedelta(hours=1), NOON + timedelta(hours=3)),
    ],
    ids=str,
)
def test_only_items_that_meet_the_conditions_are_found(
    store: Store, filter: Filter, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path, (class_name, hours) in STORED.items():
        moment = (NOON + timedelta(hours=hours)).isoformat(timespec="seconds")
        monkeypatch.setattr(store_module, "_now", lambda moment=moment: moment)
        store.put([replace(facts(path), class_name=class_name)], *vectors(1))
    expected = [
        number
        for number, (path, (class_name, hours)) in enumerate(STORED.items(), 1)
        if (not filter.class_names or class_name in filter.class_names)
        and path.startswith(filter.path_prefix)
        and (filter.added_since is None or NOON + timedelta(hours=hours) >= filter.added_since.astimezone())
        and (filter.added_before is None or NOON + timedelta(hours=hours) < filter.added_before)
    ]
    query = np.full((1, 4), 0.5, np.float32)
    assert sorted(store.nearest(query, np.zeros((1, 2), np.uint8), 10, filter).ids[0].tolist()) == expected


# # Errors


def test_missing_gallery_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(GalleryMissingError, match=r"no gallery there.*crossatnet index FOLDER -o .*my\.gallery"):
        Store.open(tmp_path / "my.gallery")
    assert not (tmp_path / "my.gallery").exists()


def test_creation_cut_short_can_be_repeated(tmp_path: Path) -> None:
    path = tmp_path / "my.gallery"
    path.touch()
    with pytest.raises(GalleryMissingError):
        Store.open(path)
    assert len(Store.create(path, MADE_WITH)) == 0


def test_an_existing_gallery_is_not_overwritten(store: Store) -> None:
    with pytest.raises(UserError, match="exists already"):
        Store.create(store.path, MADE_WITH)


@pytest.mark.parametrize("content", [b"text, not a database" * 100, b"short"])
@pytest.mark.parametrize("make", [False, True])
def test_a_file_that_is_no_database(tmp_path: Path, content: bytes, make: bool) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"notes\.txt: not a gallery"):
        Store.create(path, MADE_WITH) if make else Store.open(path)
    assert path.read_bytes() == content


def test_a_database_of_another_program_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE visits (url TEXT)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(UserError, match="database of another program"):
        Store.open(path)
    with pytest.raises(UserError, match="exists already"):
        Store.create(path, MADE_WITH)
    assert path.read_bytes() == before


@pytest.mark.parametrize(("version", "todo"), [(SCHEMA_VERSION + 1, "upgrade crossatnet"), (0, "index the pictures")])
def test_unknown_schema(store: Store, version: int, todo: str) -> None:
    store.close()
    connection = sqlite3.connect(store.path)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    with pytest.raises(UserError, match=f"schema {version}, this version reads schema {SCHEMA_VERSION}; {todo}"):
        Store.open(store.path)


def test_a_folder_instead_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a folder, not a gallery"):
        Store.open(tmp_path)
    with pytest.raises(UserError, match="a folder, not a gallery"):
        Store.create(tmp_path, MADE_WITH)


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the folder .*nowhere does not exist"):
        Store.create(tmp_path / "nowhere" / "my.gallery", MADE_WITH)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that not even root can write to")
def test_a_folder_that_cannot_be_written() -> None:
    with pytest.raises(UserError, match=r"my\.gallery: cannot be opened; check the permissions of .* its folder"):
        Store.create(Path("/proc/my.gallery"), MADE_WITH)


@pytest.fixture
def connection(store: Store) -> Iterator[sqlite3.Connection]:
    """A second connection to the file of `store`, whose settings a test changes so that SQLite refuses."""
    with closing(database.open_to_write(store.path)) as connection:
        yield connection


def test_a_file_that_cannot_be_written(store: Store, connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA query_only = ON")  # SQLite then fails as on a read-only file, also for root
    with pytest.raises(UserError, match="cannot be written; check the permissions"):
        Store(store.path, connection).put([facts("/p/a")], *vectors(1))


def test_a_full_disk_keeps_what_was_committed(store: Store, connection: sqlite3.Connection) -> None:
    full = Store(store.path, connection)
    full.put([facts("/p/a")], *vectors(1))
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")  # SQLite then fails as on a full disk
    with pytest.raises(UserError, match="the disk is full; make room"):
        full.put([facts(f"/p/{number}") for number in range(1000)], *vectors(1000))
    assert len(full) == 1
    connection.execute(f"PRAGMA max_page_count = {1000 * pages}")
    full.put([facts("/p/b")], *vectors(1))
    assert len(full) == 2


def test_a_locked_file(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.01)
    store = Store.open(store.path)
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(UserError, match="another process keeps the gallery locked"):
        store.put([facts("/p/a")], *vectors(1))
    assert len(store) == 0  # readers are not kept out
    other.close()


def test_a_damaged_file(store: Store) -> None:
    store.put([facts(f"/p/{number}") for number in range(500)], *vectors(500))
    store.close()
    content = bytearray(store.path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    store.path.write_bytes(content)
    with pytest.raises(UserError, match="the gallery is damaged; `crossatnet check"):
        Store.open(store.path).nearest(np.ones((1, 4), np.float32), np.zeros((1, 2), np.uint8), 1)


def test_closing_twice_does_no_harm(store: Store) -> None:
    held = len(store)
    store.close()
    store.close()
    with closing(Store.open(store.path)) as again:
        assert len(again) == held


def test_the_number_of_items_follows_every_writer(store: Store) -> None:
    codes, embeddings = vectors(3)
    other = Store.open(store.path)
    for writer, paths, expected in ((store, ["/p/a"], 1), (other, ["/p/b", "/p/c"], 3), (other, ["/p/a"], 3)):
        writer.put([facts(path) for path in paths], codes[: len(paths)], embeddings[: len(paths)])
        assert (len(store), len(other)) == (expected, expected)
    assert store.remove(["/p/a"]) == 1
    assert (len(store), len(other)) == (2, 2)
