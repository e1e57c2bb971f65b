"""Pictures of stores and archives: listed in order, read once, recognised when unchanged, removed when gone."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

from crossatnet.data import elsewhere
from crossatnet.data.elsewhere import archive_of, check_source, entries, fetch
from crossatnet.gallery import Gallery, IngestSummary
from crossatnet.gallery.ingest.moved import is_gone
from crossatnet.gallery.ingest.stream import in_parts, listed_paths
from crossatnet.gallery.originals import picture_of
from crossatnet.system.errors import ImageError, UserError
from gallery.fake_model import FakeModel

NAMES = ["1.png", "cat-2/1.png", "cat/1.png", "cat/2.png", "cat/deep/3.png"]  # in the order of their letters


def png(seed: int, side: int = 10) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (12, side, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def tar(members: dict[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as made:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(content), 1_700_000_000
            made.addfile(member, io.BytesIO(content))
        if kind != tarfile.REGTYPE:
            link = tarfile.TarInfo("link.png")
            link.type, link.linkname = kind, "/etc/passwd"
            made.addfile(link)
    return file.getvalue()


@pytest.fixture
def store() -> Iterator[fsspec.AbstractFileSystem]:
    """A store in memory with five pictures and three other objects."""
    memory = fsspec.filesystem("memory")
    memory.store.clear(), memory.pseudo_dirs.clear()
    for seed, name in enumerate(NAMES):
        memory.pipe(f"/bucket/photos/{name}", png(seed))
    for name in ("photos/notes.txt", "photos/.hidden/9.png", "photosets/7.png"):
        memory.pipe(f"/bucket/{name}", png(9))
    yield memory
    memory.store.clear(), memory.pseudo_dirs.clear()


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    return Gallery.create(tmp_path / "my.gallery", FakeModel())


def counts(summary: IngestSummary) -> tuple[int, int, int, int]:
    return summary.added, summary.updated, summary.unchanged, summary.removed


def paths(gallery: Gallery) -> dict[str, str | None]:
    stored = gallery.store.pictures(range(1, 100)).values()
    return {one.facts.path: one.facts.class_name for one in stored}


def test_a_store_is_indexed_as_a_folder_is(gallery: Gallery, store: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    summary = gallery.add_source("memory://bucket/photos/")
    assert counts(summary) == (5, 0, 0, 0)
    assert {passed.reason: passed.kinds for passed in summary.passed_over} == {
        "hidden": {".png": 1},
        "other": {".txt": 1},
    }
    classes = [None, "cat-2", "cat", "cat", "deep"]
    assert paths(gallery) == dict(zip((f"memory://bucket/photos/{name}" for name in NAMES), classes, strict=True))

    for seed, name in enumerate(NAMES):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(png(seed))
    with Gallery.create(tmp_path / "twin.gallery", FakeModel()) as twin:
        twin.add_source(f"file://{tmp_path}/photos")
        for number in range(1, 6):
            ours, theirs = (one.store.pictures([number])[number].facts for one in (gallery, twin))
            assert ours.path.partition("photos/")[2] == theirs.path.partition("photos/")[2]
            assert ours.file.content_hash == theirs.file.content_hash
            assert np.array_equal(gallery.store.embedding(number), twin.store.embedding(number))


def test_what_did_not_change_is_not_read(
    gallery: Gallery, store: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery.add_source("memory://bucket/photos")
    read: list[str] = []
    really = elsewhere.read
    monkeypatch.setattr(elsewhere, "read", lambda entry: read.append(entry.path) or really(entry))
    assert counts(gallery.add_source("memory://bucket/photos")) == (0, 0, 5, 0)
    assert read == []
    store.pipe("/bucket/photos/cat/1.png", png(2))  # the same bytes again
    store.pipe("/bucket/photos/cat/2.png", png(50))
    store.rm("/bucket/photos/1.png")
    store.rm("/bucket/photos/cat/deep/3.png")
    store.pipe("/bucket/photos/zoo/1.png", png(51))
    assert counts(gallery.add_source("memory://bucket/photos")) == (1, 1, 2, 2)
    assert sorted(read) == [f"memory://bucket/photos/{name}" for name in ("cat/1.png", "cat/2.png", "zoo/1.png")]
    read.clear()
    assert counts(gallery.add_source("memory://bucket/photos", verify=True)) == (0, 0, 4, 0)
    assert len(read) == 4


def test_a_stopped_run_goes_on(
    gallery: Gallery, store: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crossatnet.gallery.ingest.stream.PICTURES_A_BATCH", 2)

    def stop(done: int, total: int) -> None:
        assert total == 0  # nobody knows it yet
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gallery.add_source("memory://bucket/photos", stop)
    assert len(gallery) == 2
    assert counts(gallery.add_source("memory://bucket/photos")) == (3, 0, 2, 0)
    assert list(paths(gallery)) == [f"memory://bucket/photos/{name}" for name in NAMES]


def test_a_store_that_lists_in_no_order_loses_nothing(
    gallery: Gallery, store: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery.add_source("memory://bucket/photos")
    backwards = [*entries("memory://bucket/photos")][::-1]
    monkeypatch.setattr("crossatnet.gallery.ingest.stream.entries", lambda source: iter(backwards))
    summary = gallery.add_source("memory://bucket/photos")
    assert counts(summary) == (0, 0, 5, 0)
    assert "in no order" in summary.skipped[0][1]


def test_archives_in_a_folder_and_in_a_store(
    gallery: Gallery, store: fsspec.AbstractFileSystem, tmp_path: Path
) -> None:
    content = tar({"cat/2.png": png(1), "1.png": png(2), "note.txt": b"x", "cat/2.png ": b""}, tarfile.SYMTYPE)
    (tmp_path / "shard-0.tar").write_bytes(content)
    store.pipe("/bucket/shard-0.tar", content)
    for source in (str(tmp_path / "shard-0.tar"), "memory://bucket/shard-0.tar"):
        summary = gallery.add_source(source)
        assert counts(summary) == (2, 0, 0, 0)
        assert {path: name for path, name in paths(gallery).items() if path.startswith(source)} == {
            f"{source}:1.png": None,
            f"{source}:cat/2.png": "cat",
        }
        assert fetch(f"{source}:1.png", len(png(2))) == png(2)
        assert not is_gone(f"{source}:1.png")
        assert counts(gallery.add_source(source)) == (0, 0, 2, 0)
    (tmp_path / "shard-0.tar").write_bytes(tar({"1.png": png(7)}))
    assert counts(gallery.add_source(str(tmp_path / "shard-0.tar"))) == (0, 1, 0, 1)
    assert len(gallery) == 3
    (tmp_path / "shard-0.tar").unlink()
    assert is_gone(f"{tmp_path}/shard-0.tar:1.png")


def test_a_picture_that_is_found_is_fetched(gallery: Gallery, store: fsspec.AbstractFileSystem) -> None:
    gallery.add_source("memory://bucket/photos")
    hit = gallery.search(io.BytesIO(png(1)).getvalue(), k=1, modality="photo")[0]
    assert (hit.path, hit.gone) == ("memory://bucket/photos/cat-2/1.png", False)
    stored = gallery.store.pictures([hit.id])[hit.id]
    assert picture_of(stored) == png(1)
    store.pipe("/bucket/photos/cat-2/1.png", png(60, side=40))
    with pytest.raises(ImageError, match="has changed"):
        picture_of(stored)
    store.rm("/bucket/photos/cat-2/1.png")
    with pytest.raises(ImageError, match="cannot be fetched"):
        picture_of(stored)
    assert gallery.remove(["memory://bucket/photos/cat"]) == 3


def test_no_more_is_fetched_than_was_stored(store: fsspec.AbstractFileSystem) -> None:
    store.pipe("/bucket/photos/1.png", b"x" * 1000)
    assert len(fetch("memory://bucket/photos/1.png", 10)) == 11  # which shows that it grew
    with pytest.raises(TimeoutError):
        fetch("memory://bucket/photos/1.png", 10, seconds=0)


def test_a_picture_that_cannot_be_used_is_named(gallery: Gallery, store: fsspec.AbstractFileSystem) -> None:
    store.pipe("/bucket/photos/bad.png", b"no picture")
    store.pipe("/bucket/photos/empty.png", b"")
    summary = gallery.add_source("memory://bucket/photos")
    assert [path.rpartition("/")[2] for path, _ in summary.skipped] == ["bad.png", "empty.png"]
    assert len(gallery) == 5


def test_a_store_that_fails_ends_the_run_without_its_words(
    gallery: Gallery, store: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> bytes:
        raise RuntimeError("denied for key AKIASECRET")

    monkeypatch.setattr(type(store), "cat_file", fail)
    with pytest.raises(UserError, match=r"does not answer as it should \(RuntimeError\)") as raised:
        gallery.add_source("memory://bucket/photos")
    assert "AKIASECRET" not in str(raised.value)


@pytest.mark.parametrize(
    ("source", "trouble"),
    [
        ("s3://key:secret@bucket/photos", r"^s3://\.\.\.: no credentials in an address"),
        ("http://example.org/photos", "unknown kind of store"),
        ("memory://bucket/nowhere", "nothing is there"),
        ("nowhere.tar", "no such archive"),
        ("memory://bucket/bad.tar", "no tar archive"),
        ("memory://bucket/long.tar", "no tar archive"),
        ("memory://bucket/empty.tar", "no pictures there"),
    ],
)
def test_sources_that_cannot_be_read(
    gallery: Gallery, store: fsspec.AbstractFileSystem, source: str, trouble: str
) -> None:
    store.pipe("/bucket/bad.tar", tar({"1.png": png(1)})[:700])
    long = tarfile.TarInfo("x")
    long.type, long.size = tarfile.XHDTYPE, 1 << 40  # a header that claims a terabyte
    store.pipe("/bucket/long.tar", long.tobuf() + b"0" * 1024)
    store.pipe("/bucket/empty.tar", tar({}))
    with pytest.raises(UserError, match=trouble):
        gallery.add_source(source)
    assert len(gallery) == 0


def test_addresses() -> None:
    assert archive_of("/photos/a.tar:b.png") is None  # no such archive
    assert archive_of("s3://b/a.tar:c.tar:d.png") == "s3://b/a.tar"
    assert check_source("memory://bucket/photos/") == "memory://bucket/photos"


def test_a_list_is_read_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a.png\n\n/b/../c.png\n")
    assert [*listed_paths(tmp_path / "list.txt")] == [f"{tmp_path}/a.png", "/c.png"]
    endless = (number for number in iter(int, 1))
    assert next(in_parts(endless, 3)) == [0, 0, 0]


@pytest.mark.parametrize(("content", "trouble"), [(b"\n \n", "an empty list"), (b"\xff\xfe", "not a list of paths")])
def test_a_list_that_is_none(tmp_path: Path, content: bytes, trouble: str) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(UserError, match=f"list.txt: {trouble}"):
        next(listed_paths(tmp_path / "list.txt"))
