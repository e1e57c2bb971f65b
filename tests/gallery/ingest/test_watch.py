"""Watching a folder: changes between two looks are indexed, and errors do not stop the watch."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crossatnet.gallery import Gallery, IngestSummary
from crossatnet.gallery.ingest.watch import watch_folder
from gallery.fake_model import FakeModel


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed in range(3):
        draw(tmp_path / "pictures" / f"{seed}.png", seed)
    return tmp_path / "pictures"


@pytest.fixture
def gallery(tmp_path: Path, folder: Path) -> Gallery:
    gallery = Gallery.create(tmp_path / "my.gallery", FakeModel())
    gallery.add_folder(folder)
    return gallery


class Script:
    """Replaces waiting: runs the changes to the folder between two looks. After the last one the watch stops."""

    def __init__(self, gallery: Gallery, folder: Path, reported: tuple[tuple[str, str], ...] = ()) -> None:
        self.gallery, self.folder, self.reported = gallery, folder, reported
        self.troubles: list[str] = []

    def run(self, acts: Iterator[None]) -> list[IngestSummary]:
        def wait(seconds: float) -> None:
            assert seconds == 7
            next(acts)

        summaries: list[IngestSummary] = []
        watch = watch_folder(lambda: self.gallery.add_folder(self.folder), 7, self.troubles.append, self.reported, wait)
        with pytest.raises(RuntimeError, match="StopIteration"):  # raised by the last wait
            summaries.extend(watch)
        return summaries


def test_files_that_come_change_and_go_are_followed(gallery: Gallery, folder: Path) -> None:
    def acts() -> Iterator[None]:
        yield  # nothing changes, nothing is reported
        draw(folder / "new" / "3.png", 3)
        yield
        draw(folder / "0.png", 9)
        yield
        (folder / "1.png").unlink()
        (folder / "2.png").rename(folder / "moved.png")
        yield
        yield

    summaries = Script(gallery, folder).run(acts())
    done = [(summary.added, summary.updated, summary.moved, summary.removed) for summary in summaries]
    assert done == [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 1)]
    stored = [Path(path).name for path in gallery.store.paths_under(folder)]
    assert stored == ["0.png", "moved.png", "3.png"]


def test_a_picture_still_being_copied_is_reported_once_and_comes_in_when_it_is_whole(
    gallery: Gallery, folder: Path, tmp_path: Path
) -> None:
    Image.effect_noise((100, 100), 90).save(tmp_path / "whole.jpg")
    content = (tmp_path / "whole.jpg").read_bytes()
    (folder / "bad.png").write_text("no picture, and reported before")
    reported = gallery.add_folder(folder).skipped

    def acts() -> Iterator[None]:
        (folder / "copy.jpg").write_bytes(content[: len(content) // 2])
        yield
        yield
        (folder / "copy.jpg").write_bytes(content)
        yield

    first, second = Script(gallery, folder, reported).run(acts())
    ((path, reason),) = first.skipped
    assert Path(path).name == "copy.jpg"
    assert reason.startswith("damaged picture")
    assert (second.added, second.skipped) == (1, ())


def test_a_folder_that_is_away_is_reported_once_and_empties_nothing(
    gallery: Gallery, folder: Path, tmp_path: Path
) -> None:
    def acts() -> Iterator[None]:
        folder.rename(tmp_path / "away")
        yield
        yield
        folder.mkdir()  # a mount point without its disk
        yield
        shutil.rmtree(folder)
        (tmp_path / "away").rename(folder)
        draw(folder / "new.png", 4)
        yield

    script = Script(gallery, folder)
    (summary,) = script.run(acts())
    assert (summary.added, summary.removed) == (1, 0)
    assert [trouble.partition(": ")[2][:14] for trouble in script.troubles] == ["no such folder", "no pictures th"]
    assert len(gallery) == 4


def test_a_network_disk_that_goes_away_is_a_trouble_that_passes(
    gallery: Gallery, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_folder = gallery.add_folder

    def away(_: Path) -> IngestSummary:
        raise OSError(107, "Transport endpoint is not connected")

    def acts() -> Iterator[None]:
        draw(folder / "3.png", 3)
        monkeypatch.setattr(gallery, "add_folder", away)
        yield
        yield
        monkeypatch.setattr(gallery, "add_folder", add_folder)
        yield

    script = Script(gallery, folder)
    assert [summary.added for summary in script.run(acts())] == [1]
    assert script.troubles == ["[Errno 107] Transport endpoint is not connected"]
