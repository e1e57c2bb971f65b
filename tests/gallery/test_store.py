"""The SQLite file: what goes in comes out, changes keep ids, and every trouble is one clear line."""

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from crossatnet.errors import UserError
from crossatnet.gallery import store as store_module
from crossatnet.gallery.store import SCHEMA_VERSION, Checkpoint, Facts, GalleryMissingError, Stamp, Store

CHECKPOINT = Checkpoint("f" * 64, "/models/fake", "fake", dimension=4, code_bits=16)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "my.gallery", CHECKPOINT)


def facts(path: str, content: str = "a", mtime_ns: int = 1) -> Facts:
    return Facts(path, "cat", Stamp(100, mtime_ns, content * 64), width=30, height=20)


def vectors(count: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    generator = np.random.default_rng(seed)
    codes = generator.integers(0, 256, (count, 2), dtype=np.uint8)
    return codes, generator.standard_normal((count, 4)).astype(np.float32)


def test_what_is_put_can_be_got_after_reopening(store: Store) -> None:
    codes, embeddings = vectors(3)
    store.put([facts("/p/a"), facts("/p/b"), facts("/p/c")], codes, embeddings)
    store.close()

    reopened = Store.open(store.path)
    assert reopened.checkpoint == CHECKPOINT
    assert len(reopened) == 3
    assert reopened.items([2, 99])[2].facts == facts("/p/b")
    assert list(reopened.items([2, 99])) == [2]
    assert reopened.codes().ids.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(reopened.codes().packed, codes)
    found, halves = reopened.embeddings([3, 1, 99])
    assert found.tolist() == [1, 3]
    np.testing.assert_array_equal(halves, embeddings[[0, 2]].astype(np.float16).astype(np.float32))


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

    item = store.items([1])[1]
    assert item.facts == facts("/p/a", content="b")
    assert item.added == "2001-01-01T00:00:00+00:00"
    assert store.codes().ids.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(store.codes().packed, [new_codes[1], codes[1], new_codes[0]])


def test_stamps_are_those_below_the_folder_only(store: Store) -> None:
    paths = ["/p/a", "/p/sub/b", "/p.x/c", "/p0/d", "/pq", "/o/e"]
    store.put([facts(path) for path in paths], *vectors(len(paths)))
    assert sorted(store.stamps_under(Path("/p"))) == ["/p/a", "/p/sub/b"]
    assert sorted(store.stamps_under(Path("/"))) == sorted(paths)


def test_touch_renews_the_stamp_alone(store: Store) -> None:
    store.put([facts("/p/a")], *vectors(1))
    store.touch([("/p/a", Stamp(100, 7, "a" * 64))])
    assert store.items([1])[1].facts == facts("/p/a", mtime_ns=7)


def test_removed_ids_are_not_used_again(store: Store) -> None:
    store.put([facts("/p/a"), facts("/p/b")], *vectors(2))
    store.remove(["/p/b", "/p/unknown"])
    store.put([facts("/p/c")], *vectors(1))
    assert store.codes().ids.tolist() == [1, 3]


@pytest.mark.parametrize("change", ["add", "update", "remove"])
def test_codes_brought_up_to_date_equal_codes_read_anew(store: Store, change: str) -> None:
    store.put([facts("/p/a"), facts("/p/b")], *vectors(2))
    known, version = store.codes(), store.version()
    other = Store.open(store.path)
    if change == "remove":
        other.remove(["/p/a"])
    else:
        other.put([facts("/p/b" if change == "update" else "/p/c", content="c")], *vectors(1, seed=2))

    assert store.version() != version
    for ours, fresh in zip(store.codes(known).__dict__.values(), other.codes().__dict__.values(), strict=True):
        np.testing.assert_array_equal(ours, fresh)


def test_version_moves_with_own_changes_and_stands_still_without(store: Store) -> None:
    version = store.version()
    assert store.version() == version
    store.put([facts("/p/a")], *vectors(1))
    assert store.version() != version


def test_a_batch_that_fails_leaves_nothing(store: Store) -> None:
    broken = Facts("/p/b", "cat", Stamp(1, 1, "b"), width=None, height=1)  # type: ignore[arg-type]
    with pytest.raises(sqlite3.IntegrityError):  # a bug, not a user's mistake: it stays what it is
        store.put([facts("/p/a"), broken], *vectors(2))
    assert len(store) == 0


def test_more_ids_than_a_statement_takes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "IDS_A_STATEMENT", 3)
    codes, embeddings = vectors(10)
    store.put([facts(f"/p/{number}") for number in range(10)], codes, embeddings)
    found, halves = store.embeddings(list(range(10, 0, -1)))
    assert found.tolist() == list(range(1, 11))
    np.testing.assert_allclose(halves, embeddings, rtol=1e-3)


# Troubles


def test_missing_gallery_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(GalleryMissingError, match=r"no gallery there.*crossatnet index FOLDER -o .*my\.gallery"):
        Store.open(tmp_path / "my.gallery")
    assert not (tmp_path / "my.gallery").exists()


def test_creation_cut_short_can_be_repeated(tmp_path: Path) -> None:
    path = tmp_path / "my.gallery"
    path.touch()
    with pytest.raises(GalleryMissingError):
        Store.open(path)
    assert len(Store.create(path, CHECKPOINT)) == 0


def test_an_existing_gallery_is_not_made_anew(store: Store) -> None:
    with pytest.raises(UserError, match="exists already"):
        Store.create(store.path, CHECKPOINT)


@pytest.mark.parametrize("content", [b"text, not a database" * 100, b"short"])
@pytest.mark.parametrize("make", [False, True])
def test_a_file_that_is_no_database(tmp_path: Path, content: bytes, make: bool) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"notes\.txt: not a gallery"):
        Store.create(path, CHECKPOINT) if make else Store.open(path)
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
        Store.create(path, CHECKPOINT)
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
        Store.create(tmp_path, CHECKPOINT)


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the folder .*nowhere does not exist"):
        Store.create(tmp_path / "nowhere" / "my.gallery", CHECKPOINT)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that not even root can write to")
def test_a_folder_that_cannot_be_written() -> None:
    with pytest.raises(UserError, match=r"my\.gallery: cannot be opened; .*folder must be writable"):
        Store.create(Path("/proc/my.gallery"), CHECKPOINT)


def test_a_file_that_cannot_be_written(store: Store) -> None:
    store._connection.execute("PRAGMA query_only = ON")  # SQLite then fails as on a read-only file, also for root
    with pytest.raises(UserError, match="cannot be written; check the permissions"):
        store.put([facts("/p/a")], *vectors(1))


def test_a_full_disk_keeps_what_was_committed(store: Store) -> None:
    store.put([facts("/p/a")], *vectors(1))
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages}")  # SQLite then fails as on a full disk
    with pytest.raises(UserError, match="the disk is full; make room"):
        store.put([facts(f"/p/{number}") for number in range(1000)], *vectors(1000))
    assert len(store) == 1
    store._connection.execute(f"PRAGMA max_page_count = {1000 * pages}")
    store.put([facts("/p/b")], *vectors(1))
    assert len(store) == 2


def test_a_locked_file(store: Store) -> None:
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store._connection.execute("PRAGMA busy_timeout = 10")
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
    with pytest.raises(UserError, match="the gallery is damaged; delete it"):
        Store.open(store.path).codes()


def test_closing_twice_does_no_harm(store: Store) -> None:
    held = len(store)
    store.close()
    store.close()
    with closing(Store.open(store.path)) as again:
        assert len(again) == held
