"""A disk that gets full while anything of ours is written: a clear error, and what was there before stays whole.

A limit of the size of files stands in for the disk: every write beyond it fails.
"""

import resource
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from crossatnet.evaluation.embeddings import evaluate_embeddings
from crossatnet.evaluation.results import load_results, save_results
from crossatnet.gallery import Gallery
from crossatnet.gallery.sqlite import present, sidefile
from crossatnet.gallery.sqlite.checking import check, repair
from crossatnet.gallery.sqlite.copies import backup, replace
from crossatnet.model.checkpoint import CONFIG, read_config
from crossatnet.model.weights import load_network, save_checkpoint
from crossatnet.system.errors import UserError
from gallery.fake_model import FakeModel
from gallery.killed import embed_into
from server.serving import BASE, PNG, assert_refused, picture

SHARES = (0.0, 0.3, 0.6, 0.9)  # of what is written, before the disk is full


@contextmanager
def room(size: int) -> Iterator[None]:
    """No file of this process grows beyond so many bytes."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A closed gallery of a few pictures."""
    return filled(tmp_path / "my.gallery", tmp_path / "pictures", range(30))


def filled(place: Path, folder: Path, seeds: range) -> Path:
    folder.mkdir()
    for number in seeds:
        (folder / f"{number}.png").write_bytes(picture(number))
    with Gallery.create(place, FakeModel()) as gallery:
        gallery.add_folder(folder)
    return place


def paths(place: Path) -> list[str]:
    assert check(place).are_none
    with closing(sqlite3.connect(place)) as connection:
        return [row[0] for row in connection.execute("SELECT path FROM items ORDER BY path")]


def left_over(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".") or path.name.endswith(".new")]


@pytest.mark.parametrize("share", SHARES)
def test_no_room_for_a_backup(place: Path, tmp_path: Path, share: float) -> None:
    with room(int(share * place.stat().st_size)), pytest.raises((UserError, OSError)):
        backup(place, tmp_path / "copy.gallery")
    assert not (tmp_path / "copy.gallery").exists()
    assert left_over(tmp_path) == []
    assert len(paths(place)) == 30


@pytest.mark.parametrize("share", SHARES)
def test_no_room_to_replace_a_gallery(place: Path, tmp_path: Path, share: float) -> None:
    other = filled(tmp_path / "other.gallery", tmp_path / "others", range(100, 200))
    before = paths(place)
    with room(int(share * other.stat().st_size)), pytest.raises((UserError, OSError)):
        replace(place, other)
    assert paths(place) == before
    assert left_over(tmp_path) == []


@pytest.mark.parametrize("share", SHARES)
def test_no_room_to_repair_a_gallery(place: Path, tmp_path: Path, share: float) -> None:
    with closing(sqlite3.connect(place)) as connection, connection:
        connection.execute("UPDATE items SET embedding = x'00' WHERE id = 5")
    with room(int(share * place.stat().st_size)), pytest.raises((UserError, OSError)):
        repair(place, embed_into)
    assert check(place).rows == 29
    assert left_over(tmp_path) == []
    repair(place, embed_into)
    assert len(paths(place)) == 30


@pytest.mark.parametrize("share", SHARES)
def test_no_room_for_a_side_file_costs_nothing(place: Path, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(present, "UNFLUSHED", 5)
    side = sidefile.path_of(place)
    with Gallery.open(place, FakeModel()) as gallery:
        gallery.store.flush()
        truth, size = gallery.search(picture(3), 5), side.stat().st_size
        side.unlink()
        with room(int(share * size)):
            gallery.store.flush()
            assert gallery.search(picture(3), 5) == truth
        assert not side.exists()
    with Gallery.open(place, FakeModel()) as gallery:
        assert gallery.search(picture(3), 5) == truth
    assert side.exists()
    assert left_over(place.parent) == []


@pytest.mark.parametrize("size", [0, 2_000])
def test_no_room_for_an_upload(client: TestClient, gallery: Gallery, tmp_path: Path, size: int) -> None:
    before = len(gallery)
    with room(size):
        answer = client.post(f"{BASE}/items", content=picture(7_000), headers=PNG)
    assert_refused(answer, 507, "disk_full")
    assert [path for path in (tmp_path / "uploads").rglob("*") if path.is_file() and path.name != ".lock"] == []
    assert len(gallery) == before
    assert client.post(f"{BASE}/items", content=picture(7_000), headers=PNG).status_code == 201


@pytest.mark.parametrize("share", SHARES)
def test_no_room_for_results(tmp_path: Path, share: float) -> None:
    values, names = np.random.default_rng(0).standard_normal((20, 8)), [f"class{number % 4}" for number in range(20)]
    np.savez(tmp_path / "some.npz", query=values, query_class=names, gallery=values, gallery_class=names)
    results = evaluate_embeddings(tmp_path / "some.npz")
    save_results(results, tmp_path / "some.json")
    with room(int(share * (tmp_path / "some.json").stat().st_size)), pytest.raises(OSError, match=r"some\.json"):
        save_results([results, results], tmp_path / "some.json")
    assert load_results(tmp_path / "some.json") == [results]
    assert left_over(tmp_path) == []


@pytest.mark.parametrize("share", SHARES)
def test_no_room_for_a_checkpoint(exported: Path, tmp_path: Path, share: float) -> None:
    """The one before stays; of a new one nothing is left that could be taken for a checkpoint."""
    network, provenance = load_network(exported), read_config(exported).provenance
    size, fingerprint = (exported / "model.safetensors").stat().st_size, network.fingerprint
    changed = provenance.model_copy(update={"epochs": 77})
    for folder in (exported, tmp_path / "new"):
        with room(int(share * size)), pytest.raises(OSError, match=r"model\.safetensors"):
            save_checkpoint(folder, network, "other", changed, [])
    assert not (tmp_path / "new" / CONFIG).exists()
    assert load_network(exported).fingerprint == fingerprint
    assert read_config(exported).provenance == provenance
