"""Filling a gallery: what is taken, what is skipped, what a second run does, and kill -9 at any point."""

import contextlib
import hashlib
import io
import itertools
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image

from crossatnet.data.images import Modality
from crossatnet.gallery import Gallery, IngestSummary
from crossatnet.gallery.ingest import folder as ingest_module
from crossatnet.gallery.ingest import reading as reading_module
from crossatnet.system.errors import ImageError, UserError
from gallery.fake_model import BATCH_SIZE, FakeModel


def draw(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def counts(summary: IngestSummary) -> dict[str, int]:
    return {name: getattr(summary, name) for name in ("added", "updated", "unchanged", "removed")}


def ids_by_name(gallery: Gallery) -> dict[str, int]:
    return {Path(item.facts.path).name: key for key, item in gallery.store.pictures(range(1, 1000)).items()}


@pytest.fixture
def model() -> FakeModel:
    return FakeModel()


@pytest.fixture
def gallery(tmp_path: Path, model: FakeModel) -> Gallery:
    return Gallery.create(tmp_path / "my.gallery", model)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures: two of class cat, one directly in the folder."""
    root = tmp_path / "pictures"
    for seed, name in enumerate(["cat/1.png", "cat/2.JPG", "3.png"]):
        draw(root / name, seed)
    return root


def test_pictures_are_stored_with_their_facts(gallery: Gallery, folder: Path) -> None:
    summary = gallery.add_folder(folder)
    assert counts(summary) == {"added": 3, "updated": 0, "unchanged": 0, "removed": 0}
    assert summary.skipped == ()
    items = [item.facts for item in gallery.store.pictures([1, 2, 3]).values()]
    assert [item.path for item in items] == [str(folder / name) for name in ["3.png", "cat/1.png", "cat/2.JPG"]]
    assert [item.class_name for item in items] == [None, "cat", "cat"]
    assert {(item.width, item.height) for item in items} == {(10, 12)}
    assert items[0].file.size == (folder / "3.png").stat().st_size
    assert gallery.search(folder / "cat/1.png", k=1, modality="photo")[0].path == str(folder / "cat/1.png")


def test_hidden_files_and_other_files_are_passed_over(gallery: Gallery, folder: Path) -> None:
    draw(folder / ".hidden" / "a.png")
    draw(folder / ".b.png")
    (folder / "notes.txt").write_text("hello")
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    summary = gallery.add_folder(folder)
    assert (summary.added, summary.skipped) == (3, ())


def test_links_are_followed_only_to_files_inside(gallery: Gallery, folder: Path, tmp_path: Path) -> None:
    draw(tmp_path / "outside" / "secret.png")
    (folder / "leaves.png").symlink_to(tmp_path / "outside" / "secret.png")
    (folder / "away").symlink_to(tmp_path / "outside")
    (folder / "loop").symlink_to(folder)
    (folder / "broken.png").symlink_to(folder / "nothing.png")
    (folder / "stays.png").symlink_to(folder / "3.png")
    gallery.add_folder(folder)
    assert sorted(ids_by_name(gallery)) == ["1.png", "2.JPG", "3.png", "stays.png"]


def test_folder_reached_by_two_names_is_one_folder(gallery: Gallery, folder: Path, tmp_path: Path) -> None:
    gallery.add_folder(folder)
    (tmp_path / "alias").symlink_to(folder)
    assert gallery.add_folder(tmp_path / "alias").unchanged == 3


def test_second_run_embeds_nothing(gallery: Gallery, model: FakeModel, folder: Path) -> None:
    gallery.add_folder(folder)
    model.batch_sizes.clear()
    assert counts(gallery.add_folder(folder)) == {"added": 0, "updated": 0, "unchanged": 3, "removed": 0}
    assert model.batch_sizes == []


def test_changed_file_is_embedded_again_under_its_id(gallery: Gallery, model: FakeModel, folder: Path) -> None:
    gallery.add_folder(folder)
    ids = ids_by_name(gallery)
    model.batch_sizes.clear()
    draw(folder / "cat/1.png", seed=99)
    draw(folder / "new.png", seed=98)
    assert counts(gallery.add_folder(folder)) == {"added": 1, "updated": 1, "unchanged": 2, "removed": 0}
    assert model.batch_sizes == [2]
    assert ids.items() <= ids_by_name(gallery).items()
    best = gallery.search(folder / "cat/1.png", k=1, modality="photo")[0]
    assert (best.id, best.score > 0.999) == (ids["1.png"], True)


def test_file_written_again_with_the_same_bytes_is_unchanged(gallery: Gallery, model: FakeModel, folder: Path) -> None:
    gallery.add_folder(folder)
    model.batch_sizes.clear()
    os.utime(folder / "3.png", ns=(5, 5))
    assert counts(gallery.add_folder(folder)) == {"added": 0, "updated": 0, "unchanged": 3, "removed": 0}
    assert model.batch_sizes == []
    assert gallery.store.file_states([str(folder / "3.png")])[str(folder / "3.png")].mtime_ns == 5


def test_deleted_file_is_removed_and_other_folders_are_left_alone(
    gallery: Gallery, folder: Path, tmp_path: Path
) -> None:
    draw(tmp_path / "pictures2" / "other.png")
    gallery.add_folder(tmp_path / "pictures2")
    gallery.add_folder(folder)
    shutil.rmtree(tmp_path / "pictures2")
    shutil.rmtree(folder / "cat")
    assert counts(gallery.add_folder(folder)) == {"added": 0, "updated": 0, "unchanged": 1, "removed": 2}
    assert sorted(ids_by_name(gallery)) == ["3.png", "other.png"]


def test_bad_files_are_skipped_with_a_reason(gallery: Gallery, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.effect_noise((100, 100), 90).save(folder / "cut.jpg")
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:1000])
    (folder / "text.png").write_text("I am a text")
    (folder / "empty.png").touch()
    (folder / "heavy.png").write_bytes(bytes(10_000))
    monkeypatch.setattr(reading_module, "MAX_BYTES", 9_999)
    draw(folder / "gone.png")
    listed = ingest_module.list_pictures(folder)
    (folder / "gone.png").unlink()
    monkeypatch.setattr(ingest_module, "list_pictures", lambda folder, choice: listed)

    summary = gallery.add_folder(folder)
    reasons = {Path(path).name: reason for path, reason in summary.skipped}
    assert summary.added == len(gallery) == 3
    assert reasons.keys() == {"cut.jpg", "text.png", "empty.png", "heavy.png", "gone.png"}
    assert reasons["cut.jpg"].startswith("damaged picture")
    assert reasons["text.png"].startswith("not a picture")
    assert reasons["empty.png"].startswith("not a picture")
    assert reasons["heavy.png"].startswith("larger than")
    assert reasons["gone.png"] == "vanished while the folder was indexed"


def test_stored_file_that_became_unreadable_keeps_its_entry(gallery: Gallery, folder: Path) -> None:
    gallery.add_folder(folder)
    (folder / "3.png").write_text("half a picture, still being copied")
    summary = gallery.add_folder(folder)
    assert counts(summary) == {"added": 0, "updated": 0, "unchanged": 2, "removed": 0}
    assert len(summary.skipped) == 1
    assert len(gallery) == 3


def test_name_that_is_not_unicode_is_skipped(gallery: Gallery, folder: Path) -> None:
    try:
        shutil.copy(folder / "3.png", folder / os.fsdecode(b"\xff.png"))
    except OSError:
        pytest.skip("this file system allows only Unicode names")
    ((path, reason),) = gallery.add_folder(folder).skipped
    assert "udcff" in path
    assert "not valid UTF-8" in reason


def test_a_file_in_a_folder_that_may_not_be_entered_is_skipped(
    gallery: Gallery, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = len(ingest_module.list_pictures(folder).files)
    locked = folder / "locked" / "a.png"
    locked.parent.mkdir()
    locked.write_bytes(b"")
    scandir = os.scandir

    class Locked:  # an entry as the system shows it to anyone but its administrator
        name, path = locked.name, str(locked)

        def is_dir(self) -> bool:
            raise PermissionError(13, "Permission denied", self.path)

    def look(place: Path) -> contextlib.AbstractContextManager[Iterable[os.DirEntry[str] | Locked]]:
        return contextlib.nullcontext([Locked()]) if Path(place) == locked.parent else scandir(place)

    monkeypatch.setattr(os, "scandir", look)
    summary = gallery.add_folder(folder)
    assert summary.added == expected
    assert summary.skipped == ((str(locked), "Permission denied"),)


def test_progress_counts_files(gallery: Gallery, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest_module, "PICTURES_A_BATCH", 2)
    seen: list[tuple[int, int]] = []
    gallery.add_folder(folder, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(2, 3), (3, 3)]


def test_batches_are_cut_by_position_in_the_whole_list(gallery: Gallery, model: FakeModel, tmp_path: Path) -> None:
    root = tmp_path / "many"
    for number in range(70):
        draw(root / f"{number:03}.png", seed=number)
    gallery.add_folder(root)
    assert sorted(model.batch_sizes) == [6, *8 * [BATCH_SIZE]]  # of 32, 32 and 6 pictures
    model.batch_sizes.clear()
    draw(root / "000.png", seed=100)
    draw(root / "040.png", seed=101)
    gallery.add_folder(root)
    assert model.batch_sizes == [1, 1]


@pytest.mark.parametrize(
    ("make", "message"),
    [(None, "no such folder"), ("file", "not a folder"), ("empty", "no pictures there")],
)
def test_folders_that_cannot_be_indexed(gallery: Gallery, tmp_path: Path, make: str | None, message: str) -> None:
    target = tmp_path / "target"
    if make == "file":
        target.touch()
    elif make == "empty":
        target.mkdir()
    with pytest.raises(UserError, match=f"target: {message}"):
        gallery.add_folder(target)


# Pictures of all kinds


def corners(path: Path, kind: str) -> None:
    """The same picture in other file formats: red at the top left, else white."""
    pixels = np.full((12, 20, 3), 255, np.uint8)
    pixels[:6, :10] = (255, 0, 0)
    image = Image.fromarray(pixels)
    if kind == "turned":
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        image.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif, quality=100)
    elif kind == "cmyk":
        image.convert("CMYK").save(path, quality=100)
    elif kind == "animated":
        image.save(path, save_all=True, append_images=[Image.new("RGB", (20, 12), "blue")])
    elif kind == "transparent":
        clear = image.convert("RGBA")
        clear.putalpha(Image.fromarray(np.where(pixels[..., 1] == 0, 255, 0).astype(np.uint8)))
        clear.save(path)
    elif kind == "sixteen bits":
        grey = np.where(pixels[..., 1] == 0, 76, 255).astype(np.uint16) * 257  # red's grey
        Image.fromarray(grey).save(path)
    else:
        image.save(path)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.jpg", "turned"),
        ("a.jpg", "cmyk"),
        ("a.gif", "animated"),
        ("a.webp", "animated"),
        ("a.png", "transparent"),
        ("a.tif", "sixteen bits"),
        ("a.png", "sixteen bits"),
        ("a.bmp", "plain"),
        ("A.PNG", "plain"),
    ],
)
def test_pictures_of_all_kinds_are_stored_as_what_they_show(
    gallery: Gallery, model: FakeModel, tmp_path: Path, name: str, kind: str
) -> None:
    (tmp_path / "pictures").mkdir()
    corners(tmp_path / "pictures" / name, kind)
    corners(tmp_path / "plain.png", "plain")
    assert gallery.add_folder(tmp_path / "pictures").skipped == ()
    assert (gallery.store.pictures([1])[1].facts.width, gallery.store.pictures([1])[1].facts.height) == (20, 12)
    query = Image.open(tmp_path / "plain.png")
    (hit,) = gallery.search(query.convert("L") if kind == "sixteen bits" else query, modality="photo")
    assert hit.score > 0.99


def test_a_picture_of_too_many_pixels_is_skipped(gallery: Gallery, folder: Path) -> None:
    huge = bytearray((folder / "3.png").read_bytes())
    huge[16:24] = (20_000).to_bytes(4, "big") * 2  # width and height, in the header
    huge[29:33] = zlib.crc32(huge[12:29]).to_bytes(4, "big")
    (folder / "huge.png").write_bytes(huge)
    ((path, reason),) = gallery.add_folder(folder).skipped
    assert path.endswith("huge.png")
    assert "more than the limit" in reason or "more pixels than the limit" in reason


def test_large_photos_are_found_by_themselves_and_keep_their_size(
    gallery: Gallery, tmp_path: Path, model: FakeModel
) -> None:
    (tmp_path / "pictures").mkdir()
    rough = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8))
    rough.resize((800, 600)).save(tmp_path / "pictures" / "large.jpg", quality=95)
    gallery.add_folder(tmp_path / "pictures")
    facts = gallery.store.pictures([1])[1].facts
    assert (facts.width, facts.height) == (800, 600)
    assert gallery.search(tmp_path / "pictures" / "large.jpg", modality="photo")[0].score > 0.999


def test_thumbnails_are_kept_where_they_are_asked_for(tmp_path: Path, model: FakeModel) -> None:
    (tmp_path / "pictures").mkdir()
    corners(tmp_path / "pictures" / "turned.jpg", "turned")
    with Gallery.create(tmp_path / "my.gallery", model, thumbnail_side=10) as gallery:
        gallery.add_folder(tmp_path / "pictures")
        jpeg = gallery.store.thumbnail(1)
    assert jpeg is not None
    thumbnail = Image.open(io.BytesIO(jpeg))
    assert (thumbnail.format, thumbnail.size) == ("JPEG", (10, 6))
    red, white = thumbnail.getpixel((2, 1)), thumbnail.getpixel((8, 4))
    assert isinstance(red, tuple)
    assert isinstance(white, tuple)
    assert red[0] > 200 > 100 > red[1]
    assert min(white) > 200


# Files that change while they are read


def test_a_file_that_changes_while_it_is_read_is_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "3.png"
    changes = iter([b"first", b"second"])
    status = os.fstat

    def change(descriptor: int) -> os.stat_result:
        before = status(descriptor)
        if (content := next(changes, None)) is not None:
            path.write_bytes(content)
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
        return before

    monkeypatch.setattr(reading_module.os, "fstat", change)
    content, state = reading_module.read_file(str(path))
    assert content == b"second"
    assert (state.size, state.content_hash) == (6, hashlib.sha256(b"second").hexdigest())
    assert state.mtime_ns == path.stat().st_mtime_ns


def test_a_file_that_keeps_changing_is_left_for_another_time(
    gallery: Gallery, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery.add_folder(folder)
    draw(folder / "3.png", seed=7)
    status, times = os.fstat, itertools.count(1)

    def change(descriptor: int) -> os.stat_result:
        os.utime(descriptor, ns=(0, next(times)))
        return status(descriptor)

    monkeypatch.setattr(reading_module.os, "fstat", change)
    summary = gallery.add_folder(folder)
    assert counts(summary) == {"added": 0, "updated": 0, "unchanged": 2, "removed": 0}
    ((path, reason),) = summary.skipped
    assert path == str(folder / "3.png")
    assert reason == "kept changing while it was read; index again when it is whole"
    assert len(gallery) == 3
    monkeypatch.undo()
    assert gallery.add_folder(folder).updated == 1


# Killed and run again

RUN = """
import sys, os, signal
from pathlib import Path
from gallery.fake_model import FakeModel
from crossatnet.gallery import Gallery
from crossatnet.gallery.sqlite.database import open_to_write
from crossatnet.gallery.sqlite.store import Store
path, folder, die_at_batch, die_at_insert = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
connection = open_to_write(Path(path))
gallery = Gallery(Store(Path(path), connection), FakeModel(die_at_batch=die_at_batch))
inserts, last = 0, ""
def kill_in_transaction(statement):
    global inserts, last
    inserts += statement.startswith("INSERT INTO items") and statement != last  # its triggers report it again
    last = statement
    if inserts == die_at_insert:
        os.kill(os.getpid(), signal.SIGKILL)
if die_at_insert >= 0:
    connection.set_trace_callback(kill_in_transaction)
gallery.add_folder(folder)
"""


def run(path: Path, folder: Path, die_at_batch: int, die_at_insert: int) -> int:
    arguments = [str(path), str(folder), str(die_at_batch), str(die_at_insert)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run([sys.executable, "-c", RUN, *arguments], env=environment, timeout=60).returncode


def table(path: Path) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    columns = (
        "id, path, class_name, content_hash, size, mtime_ns, ctime_ns, width, height, code, embedding, look, taken"
    )
    rows = connection.execute(f"SELECT {columns} FROM items ORDER BY id").fetchall()
    connection.close()
    return rows


@pytest.mark.parametrize(
    ("die_at_batch", "die_at_insert", "kept"), [(2, -1, 63), (-1, 50, 32), (0, -1, 0)], ids=["embed", "commit", "first"]
)
def test_killed_run_goes_on_to_the_same_gallery(
    tmp_path: Path, die_at_batch: int, die_at_insert: int, kept: int
) -> None:
    folder = tmp_path / "pictures"
    for number in range(110):
        draw(folder / f"class{number % 3}" / f"{number:03}.png", seed=number)
    (folder / "class0" / "bad.png").write_text("no picture")
    with Gallery.create(tmp_path / "whole.gallery", FakeModel()) as whole:
        whole.add_folder(folder)
    Gallery.create(tmp_path / "cut.gallery", FakeModel()).close()

    assert run(tmp_path / "cut.gallery", folder, die_at_batch, die_at_insert) == -signal.SIGKILL
    with Gallery.open(tmp_path / "cut.gallery", FakeModel()) as gallery:
        assert len(gallery) == kept  # the bad file is in the second batch
        gallery.add_folder(folder)
    assert table(tmp_path / "cut.gallery") == table(tmp_path / "whole.gallery")
    assert len(table(tmp_path / "whole.gallery")) == 110


def test_single_pictures_are_added_as_a_folder_run_adds_them(gallery: Gallery, folder: Path, tmp_path: Path) -> None:
    with Gallery.create(tmp_path / "other.gallery", FakeModel()) as other:
        for name, class_name in (("3.png", None), ("cat/1.png", "cat"), ("cat/2.JPG", "cat")):
            item = other.add_picture(folder / name, class_name)
            assert (item.facts.path, item.facts.class_name) == (str(folder / name), class_name)
        gallery.add_folder(folder)
        ids = [1, 2, 3]
        assert [item.facts for item in other.store.pictures(ids).values()] == [
            item.facts for item in gallery.store.pictures(ids).values()
        ]
        for key in ids:
            np.testing.assert_allclose(other.store.embedding(key), gallery.store.embedding(key), atol=1e-2)
        draw(folder / "3.png", seed=9)
        changed = other.add_picture(folder / "3.png", "dog")
        assert (changed.id, changed.facts.class_name, len(other)) == (1, "dog", 3)


def test_a_single_picture_that_cannot_be_used_is_refused(gallery: Gallery, folder: Path) -> None:
    (folder / "bad.png").write_bytes(b"no picture")
    for name in ("bad.png", "none.png", "cat"):
        with pytest.raises(ImageError, match=name):
            gallery.add_picture(folder / name)
    assert len(gallery) == 0


# Workers


def test_workers_compute_on_one_core_each_and_leave_the_caller_its_own(
    gallery: Gallery, model: FakeModel, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, int] = {}
    embed = model.embed

    def watched(pixels: NDArray[np.uint8], modality: Modality) -> NDArray[np.float32]:
        seen[threading.current_thread().name] = torch.get_num_threads()
        return embed(pixels, modality)

    monkeypatch.setattr(model, "embed", watched)
    monkeypatch.setattr(model, "batch_size", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        gallery.add_folder(folder)
        after = torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
    assert threading.current_thread().name not in seen
    assert set(seen.values()) == {1}
    assert after == 2


def test_several_pictures_are_embedded_at_the_same_time(
    gallery: Gallery, model: FakeModel, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(2, timeout=30)  # breaks with an error unless two threads reach it
    embed = model.embed

    def meeting(pixels: NDArray[np.uint8], modality: Modality) -> NDArray[np.float32]:
        together.wait()
        return embed(pixels, modality)

    draw(folder / "4.png", seed=4)
    monkeypatch.setattr(model, "embed", meeting)
    monkeypatch.setattr(model, "batch_size", 1)
    assert gallery.add_folder(folder).added == 4


def test_on_one_core_of_many_two_threads_are_started(
    gallery: Gallery, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more than the cores, as one may wait for the disk; not 33, whose pictures and maps would fill the memory."""
    started: list[int] = []

    class Watched(ThreadPoolExecutor):
        def __init__(self, most: int) -> None:
            started.append(most)
            super().__init__(most)

    monkeypatch.setattr(os, "cpu_count", lambda: 32)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {7}, raising=False)
    monkeypatch.setattr("crossatnet.gallery.ingest.folder.ThreadPoolExecutor", Watched)
    assert gallery.add_folder(folder).added == 3
    assert started == [2]


def test_a_run_that_is_stopped_reads_no_more(
    gallery: Gallery, model: FakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "many"
    for number in range(40):
        draw(root / f"{number:03}.png", seed=number)
    monkeypatch.setattr(ingest_module, "PICTURES_A_BATCH", 2)
    monkeypatch.setattr(model, "batch_size", 1)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gallery.add_folder(root, progress=stop)
    assert len(gallery) == 2
    assert len(model.batch_sizes) < 40
    assert gallery.add_folder(root).added == 38
