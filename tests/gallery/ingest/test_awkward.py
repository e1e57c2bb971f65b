"""A folder of real life: the numbers add up, no whole picture is lost, and nothing but pictures comes in."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from awkward_folder import Awkward, make_awkward
from crossatnet.gallery import Gallery, IngestSummary
from crossatnet.gallery.ingest.listing import Choice
from gallery.fake_model import FakeModel
from picture_files import encoded, patches

PLAIN = 3000  # photos beside the awkward files


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outside")
    for name in ("a.jpg", "b.jpg"):
        (folder / name).write_bytes(encoded(patches(40, 30, seed=ord(name[0])), "JPEG"))
    (folder / "back").symlink_to(folder)
    return folder


@pytest.fixture(scope="module")
def awkward(tmp_path_factory: pytest.TempPathFactory, outside: Path) -> Awkward:
    made = make_awkward(tmp_path_factory.mktemp("awkward") / "Pictures", outside)
    (made.root / "plain").mkdir()
    dice = np.random.default_rng(0)
    for number in range(PLAIN):
        name = f"plain/{number:04}.png"
        Image.fromarray(dice.integers(0, 256, (6, 8, 3), dtype=np.uint8)).save(made.root / name, compress_level=0)
        made.pictures.add(name)
    return made


def entries(root: Path) -> int:
    """All that is below a folder and is no folder itself, counted in the plainest way; a link is never a folder."""
    return sum(
        len(names) + sum(Path(parent, name).is_symlink() for name in folders)
        for parent, folders, names in os.walk(root)
    )


def stored(gallery: Gallery, root: Path) -> set[str]:
    return {os.path.relpath(path, root) for path in gallery.store.paths_under(root)}


def check_sum(summary: IngestSummary, root: Path) -> None:
    passed_over = sum(sum(passed.kinds.values()) for passed in summary.passed_over)
    done = summary.added + summary.updated + summary.unchanged + len(summary.skipped)
    assert summary.files == done + passed_over == entries(root)


def test_the_folder_is_awkward_enough(awkward: Awkward) -> None:
    assert len(awkward.kinds) >= 25
    others = sum(map(len, awkward.passed_over.values()))
    assert len(awkward.pictures) - PLAIN + len(awkward.skipped) + others >= 60
    assert len(awkward.pictures) > 3000


def test_every_file_is_accounted_for(awkward: Awkward, tmp_path: Path) -> None:
    with Gallery.create(tmp_path / "my.gallery", FakeModel()) as gallery:
        summary = gallery.add_folder(awkward.root)
        assert stored(gallery, awkward.root) == awkward.pictures
        names = {os.path.relpath(path, awkward.root) for path, _ in summary.skipped if path.startswith("/")}
        assert names == {name for name in awkward.skipped if name.isprintable()}
        assert len(summary.skipped) == len(awkward.skipped)
        assert all(reason for _, reason in summary.skipped)
        counted = {passed.reason: passed.files for passed in summary.passed_over}
        assert counted == {reason: len(files) for reason, files in awkward.passed_over.items()}
        check_sum(summary, awkward.root)

        kinds = {passed.reason: passed.kinds for passed in summary.passed_over}
        assert kinds["video"] == {".mov": 1, ".mp4": 1}
        assert kinds["clutter"]["@eaDir/"] == 2
        assert kinds["excluded"] == {"*.tmp.jpg": 2, "/build/": 1, "stock/*": 1}
        assert kinds["other"][".txt"] == kinds["other"][".aae"] == 1

        again = gallery.add_folder(awkward.root)
        assert (again.added, again.updated, again.unchanged) == (0, 0, len(awkward.pictures))
        check_sum(again, awkward.root)


def test_what_is_wanted_beside_comes_in(awkward: Awkward, outside: Path, tmp_path: Path) -> None:
    with Gallery.create(tmp_path / "my.gallery", FakeModel()) as gallery:
        choice = Choice(exclude=("/plain/", "!@eaDir/", "names/*"), follow_links=True, videos=True)
        summary = gallery.add_folder(awkward.root, choice=choice)
        found = stored(gallery, awkward.root)
        expected = {name for name in awkward.pictures if not name.startswith(("plain/", "names/"))}
        expected |= {
            *awkward.passed_over["video"],
            *(name for name in awkward.passed_over["clutter"] if "@eaDir" in name),
        }
        expected |= {"to a photo.jpg", "to photos/a.jpg", "to photos/b.jpg"}
        assert found == expected
        check_sum_with_links = summary.files - entries(outside) + 1  # what is behind a link that is followed
        assert check_sum_with_links == entries(awkward.root)


def test_no_library_speaks_to_the_screen(awkward: Awkward, tmp_path: Path) -> None:
    for name in awkward.pictures | awkward.skipped:  # all but the plain ones, which would take the network minutes
        source, target = awkward.root / name, tmp_path / "some" / name
        if name.startswith(("mended/", "scans/", "camera/", "broken/", "Camera Roll/")):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    command = [sys.executable, "-m", "crossatnet", "index", str(tmp_path / "some"), "-o", str(tmp_path / "my.gallery")]
    done = subprocess.run([*command, "--quiet"], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert "skipped)" in lines[0]
    assert all(line.startswith("  skipped: ") for line in lines[1:])
    assert len(lines) == 1 + len([name for name in awkward.skipped if name.startswith("broken/")])
