"""The copy beside the gallery: it is used only if it is undamaged and belongs to the gallery."""

import fcntl
import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from crossatnet.gallery.sqlite.regions import RegionTable, heads_of
from crossatnet.gallery.sqlite.sidefile import DamagedError, Header, Rows, SideFile, path_of, read, write

TOKEN = "ab" * 16
WIDTH = 3


def rows(count: int, dimension: int = 6) -> Rows:
    random = np.random.default_rng(count)
    codes = random.integers(0, 256, (count, WIDTH), dtype=np.uint8)
    embeddings = random.standard_normal((count, dimension)).astype(np.float16)
    return np.arange(5, 5 + count), codes, embeddings, regions_of(count, dimension)


def regions_of(count: int, dimension: int) -> RegionTable:
    """Two regions of every third item."""
    random = np.random.default_rng(count + 1)
    owners = np.repeat(np.arange(0, count, 3, dtype=np.int32), 2)
    codes = random.integers(0, 256, (len(owners), WIDTH), dtype=np.uint8)
    boxes = random.integers(0, 256, (len(owners), 4), dtype=np.uint8)
    embeddings = random.standard_normal((len(owners), dimension)).astype(np.float16)
    return RegionTable(owners, boxes, codes, heads_of(codes), embeddings.__getitem__)


def written(tmp_path: Path, count: int = 100, dimension: int = 6, part: int = 30) -> Path:
    gallery = tmp_path / "my.gallery"
    ids, codes, embeddings, regions = rows(count, dimension)
    parts = [slice(start, min(start + part, count)) for start in range(0, count, part)]
    batches = [
        (ids[part], codes[part], embeddings[part], regions.taken(np.arange(part.start, part.stop))) for part in parts
    ]
    assert write(gallery, Header(TOKEN, 7, count, WIDTH, dimension, regions=len(regions)), batches)
    return gallery


@pytest.mark.parametrize("count", [0, 1, 30, 100])
@pytest.mark.parametrize("dimension", [4, 6, 7])
def test_what_is_written_is_read(tmp_path: Path, count: int, dimension: int) -> None:
    side = read(written(tmp_path, count, dimension), TOKEN, WIDTH, dimension)
    assert side is not None
    assert (side.header.generation, side.header.items) == (7, count)
    ids, codes, embeddings, regions = rows(count, dimension)
    np.testing.assert_array_equal(side.ids, ids)
    for name in ("owners", "boxes", "codes", "heads"):
        np.testing.assert_array_equal(getattr(side.regions, name), getattr(regions, name))
    everything = np.arange(len(regions))
    np.testing.assert_array_equal(side.regions.embeddings(everything), regions.embeddings(everything))
    np.testing.assert_array_equal(side.codes, codes)
    chosen = np.random.default_rng(0).permutation(count)[: count // 2]
    np.testing.assert_array_equal(side.embeddings(chosen), embeddings[chosen])


def test_one_of_another_gallery_is_not_taken(tmp_path: Path) -> None:
    gallery = written(tmp_path)
    assert read(gallery, "cd" * 16, WIDTH, 6) is None
    assert read(gallery, TOKEN, WIDTH + 1, 6) is None
    assert read(gallery, TOKEN, WIDTH, 7) is None
    assert read(tmp_path / "none.gallery", TOKEN, WIDTH, 6) is None


def test_every_damaged_bit_is_noticed_before_it_is_used(tmp_path: Path) -> None:
    gallery = written(tmp_path, count=20)
    path = path_of(gallery)
    whole = path.read_bytes()
    sound = read(gallery, TOKEN, WIDTH, 6)
    assert sound is not None
    expected = [column.copy() for column in columns_of(sound)]
    noticed = 0
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        side = read(gallery, TOKEN, WIDTH, 6)
        try:
            found = None if side is None else columns_of(side)
        except DamagedError:
            found = None
        if found is None:
            noticed += 1
        else:  # padding, which nobody reads
            for ours, theirs in zip(found, expected, strict=True):
                np.testing.assert_array_equal(ours, theirs)
    assert noticed >= 20 * (8 + WIDTH + 8 + 12) + 14 * (4 + 4 + WIDTH + WIDTH + 8 + 12)


def columns_of(side: SideFile) -> list[NDArray[np.generic]]:
    """All that a side file holds."""
    regions = side.regions
    return [
        *(side.ids, side.codes, side.embeddings(np.arange(len(side.ids)))),
        *(regions.owners, regions.boxes, regions.codes, regions.heads, regions.embeddings(np.arange(len(regions)))),
    ]


@pytest.mark.parametrize("size", [0, 10, 4096, -1])
def test_a_file_cut_short_is_not_taken(tmp_path: Path, size: int) -> None:
    gallery = written(tmp_path)
    os.truncate(path_of(gallery), size % path_of(gallery).stat().st_size)
    assert read(gallery, TOKEN, WIDTH, 6) is None


def test_a_run_cut_short_leaves_the_older_file_and_can_be_repeated(tmp_path: Path) -> None:
    gallery = written(tmp_path)
    before = path_of(gallery).read_bytes()

    def full() -> object:
        yield rows(50)
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"):
        write(gallery, Header("new", 8, 100, WIDTH, 6), full())  # type: ignore[arg-type]
    assert path_of(gallery).read_bytes() == before
    path_of(gallery).with_name("my.gallery-index.new").write_bytes(b"what a killed run left" * 1000)
    assert written(tmp_path, 50) == gallery
    side = read(gallery, TOKEN, WIDTH, 6)
    assert side is not None
    assert side.header.items == 50
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my.gallery-index"]


def test_of_two_writers_one_waits_for_another_time(tmp_path: Path) -> None:
    gallery = written(tmp_path)
    before = path_of(gallery).read_bytes()
    unfinished = tmp_path / "my.gallery-index.new"
    with unfinished.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert not write(gallery, Header("new", 8, 0, WIDTH, 6), [])
    assert path_of(gallery).read_bytes() == before


def test_a_file_put_into_place_before_it_was_locked_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = tmp_path / "my.gallery"
    lock = fcntl.flock

    def other_was_faster(file: object, operation: int) -> None:
        if not path_of(gallery).exists():
            (tmp_path / "my.gallery-index.new").rename(path_of(gallery))
        lock(file, operation)  # type: ignore[arg-type]

    monkeypatch.setattr(fcntl, "flock", other_was_faster)
    assert not write(gallery, Header(TOKEN, 7, 0, WIDTH, 6), [])
    assert path_of(gallery).read_bytes() == b""


def test_rows_that_do_not_fit_the_header_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="50 rows for a side file of 100"):
        write(tmp_path / "my.gallery", Header(TOKEN, 7, 100, WIDTH, 6), [rows(50)])
    assert not list(tmp_path.iterdir())


def test_exchanged_words_are_noticed(tmp_path: Path) -> None:
    gallery = tmp_path / "my.gallery"
    ids, codes, row, regions = rows(1, 16)
    path = path_of(gallery)
    assert write(gallery, Header(TOKEN, 7, 1, WIDTH, 16), [(ids, codes, row, regions.taken(np.arange(0)))])
    assert path.read_bytes().endswith(row.tobytes())
    for content, is_sound in ((np.roll(row, 4, axis=1), False), (row.copy(), True)):
        path.write_bytes(path.read_bytes()[: -row.nbytes] + content.tobytes())
        side = read(gallery, TOKEN, WIDTH, 16)
        assert side is not None
        if is_sound:
            np.testing.assert_array_equal(side.embeddings(np.zeros(1, np.int64)), row)
        else:
            with pytest.raises(DamagedError):
                side.embeddings(np.zeros(1, np.int64))
