"""A Milvus server that is killed in the middle: all acknowledged items are there, and none twice."""

import multiprocessing
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crossatnet.gallery import Gallery
from crossatnet.gallery.milvus.calls import Address
from crossatnet.system.errors import UserError
from gallery import milvus_server
from gallery.fake_model import FakeModel
from gallery.milvus_server import MilvusServer

pytestmark = [
    pytest.mark.scale,
    pytest.mark.skipif(bool(milvus_server.missing()), reason=milvus_server.missing()),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for number in range(640):
        pixels = generator.integers(0, 256, (12, 10, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{number:03d}.png")
    return root


def check_against_a_file(place: str, folder: Path, tmp_path: Path) -> None:
    """Each picture once, with the vectors that a gallery in a file has."""
    model = FakeModel()
    with (
        Gallery.open(place, model, consistency="strong") as gallery,
        Gallery.create(tmp_path / "twin.gallery", model) as twin,
    ):
        twin.add_folder(folder)
        assert len(gallery) == len(twin) == 640
        assert [*gallery.store.paths_under(folder)] == [*twin.store.paths_under(folder)]
        assert milvus_server.count_rows(place) == 640
        queries = np.random.default_rng(1).standard_normal((20, model.dimension)).astype(np.float32)
        ours, theirs = (place.search_embeddings(queries, 10) for place in (gallery, twin))
        for mine, their in zip(ours, theirs, strict=True):
            assert [(hit.path, hit.score) for hit in mine] == [(hit.path, hit.score) for hit in their]


def test_server_killed_in_the_middle_of_an_ingest(server: MilvusServer, folder: Path, tmp_path: Path) -> None:
    place = f"milvus://127.0.0.1:{server.port}/killed"
    acknowledged: list[int] = []
    restarted = threading.Event()

    def kill_and_restart(done: int, total: int) -> None:
        acknowledged.append(done)
        if done == 224 and not restarted.is_set():
            restarted.set()
            server.kill()
            threading.Timer(1.0, server.start).start()

    with Gallery.create(place, FakeModel()) as gallery:
        summary = gallery.add_folder(folder, kill_and_restart)
    assert restarted.is_set()
    assert summary.added == 640
    assert acknowledged[-1] == 640
    check_against_a_file(place, folder, tmp_path)


def test_acknowledged_batches_outlive_the_server(server: MilvusServer, folder: Path, tmp_path: Path) -> None:
    """The server is killed right after it acknowledged a batch; the next server still has it."""
    place = f"milvus://127.0.0.1:{server.port}/outlived"

    class ServerIsGoneError(Exception):
        pass

    def kill(done: int, total: int) -> None:
        if done == 320:
            server.kill()
            raise ServerIsGoneError

    with Gallery.create(place, FakeModel()) as gallery:
        with pytest.raises(ServerIsGoneError):
            gallery.add_folder(folder, kill)
        server.start()
        files = sorted(str(path) for path in folder.iterdir())
        assert sorted(gallery.store.file_states(files)) == files[:320]
        summary = gallery.add_folder(folder)
    assert (summary.added, summary.unchanged) == (320, 320)
    check_against_a_file(place, folder, tmp_path)


def ingest(place: str, folder: Path) -> None:
    with Gallery.open(place, FakeModel()) as gallery:
        gallery.add_folder(folder)


def test_ingests_killed_at_random_moments(server: MilvusServer, folder: Path, tmp_path: Path) -> None:
    place = f"milvus://127.0.0.1:{server.port}/many"
    Gallery.create(place, FakeModel()).close()
    moments = np.random.default_rng(0).uniform(0.5, 6.0, 6)
    context = multiprocessing.get_context("spawn")
    for moment in moments:
        process = context.Process(target=ingest, args=(place, folder))
        process.start()
        process.join(timeout=moment)
        if process.exitcode is None and process.pid is not None:
            os.kill(process.pid, signal.SIGKILL)
        process.join()
    ingest(place, folder)
    check_against_a_file(place, folder, tmp_path)


def test_a_server_that_stays_away_is_reported_in_a_line(
    server: MilvusServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = Address("127.0.0.1", server.port, "away")
    monkeypatch.setattr("crossatnet.gallery.milvus.calls.PATIENCE_S", 2.0)
    with Gallery.create(str(address), FakeModel()) as gallery:
        server.kill()
        with pytest.raises(UserError, match=f"^{address}: no Milvus server answers there; .* the same command again$"):
            len(gallery)
    server.start()
