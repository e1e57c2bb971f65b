"""Filling galleries with a Ray cluster: two nodes on this machine's loopback, one of which is removed."""

import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from crossatnet.data import elsewhere
from crossatnet.data.images import Modality
from crossatnet.gallery import Gallery, IngestSummary
from crossatnet.gallery.ingest import ray as ray_ingest_module
from crossatnet.gallery.ingest.ray import (
    GPU_BATCH,
    Power,
    TaskSettings,
    Worker,
    add_folder_by_ray,
    update_by_ray,
)
from crossatnet.system.errors import UserError
from gallery import milvus_server
from gallery.fake_model import FakeModel
from gallery.ingest.test_stream import png
from gallery.milvus_server import MilvusServer

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.scale

STORE_PORT = 18_432  # of an object store's server
NODE_BYTES = 100_000_000  # of shared memory for each node


class SlowModel(FakeModel):
    """A slow model, so that a node can be lost meanwhile; it records the nodes on which it worked."""

    def __init__(self, log: Path) -> None:
        super().__init__()
        self.log = log

    def embed(self, pixels: NDArray[np.uint8], modality: Modality) -> NDArray[np.float32]:
        time.sleep(0.1)
        with self.log.open("a") as file:
            file.write(ray.get_runtime_context().get_node_id() + "\n")
        return super().embed(pixels, modality)


class UnknownModel(FakeModel):
    """A model of a module that workers lack, as on a node without crossatnet or with another version."""

    def __reduce__(self) -> Any:
        return _import_here_only, (os.getpid(),)


def _import_here_only(pid: int) -> FakeModel:
    if os.getpid() != pid:
        raise ModuleNotFoundError("No module named 'crossatnet'")
    return FakeModel()


class RefusingModel(FakeModel):
    def embed(self, pixels: NDArray[np.uint8], modality: Modality) -> NDArray[np.float32]:
        raise UserError("the server stays away; start it")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of one node, to which others may be added; all of it on 127.0.0.1."""
    from ray._private import ray_constants
    from ray.cluster_utils import Cluster

    settings = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    settings |= {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{STORE_PORT}", "AWS_DEFAULT_REGION": "us-east-1"}
    settings |= {"AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "secret"}
    settings["PYTHONPATH"] = os.pathsep.join(sys.path)  # so that workers find this file and the small model
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        patch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", False)  # else it uses this machine's address in its network
        head = {"num_cpus": 1, "object_store_memory": NODE_BYTES, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        yield cluster
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for number in range(2000):
        path = root / f"class{number % 3}" / f"{number:04d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (12, 10, 3), dtype=np.uint8)).save(path)
    (root / "broken.png").write_bytes(b"not a picture")
    return root


def by_ray(place: str, model: FakeModel, folder: Path, progress: Any = None) -> IngestSummary:
    with Gallery.open(place, model) as gallery:
        return add_folder_by_ray(gallery.store, place, model, folder, progress)


def counts(summary: IngestSummary) -> dict[str, Any]:
    return {name: value for name, value in asdict(summary).items() if name != "seconds"}


def regions_of(place: str) -> list[bytes]:
    with closing(sqlite3.connect(place)) as connection:
        return [row[0] for row in connection.execute("SELECT regions FROM items ORDER BY id")]


def contents(place: str) -> list[Any]:
    columns = "id, path, class_name, content_hash, size, mtime_ns, width, height, code, embedding"
    with closing(sqlite3.connect(place)) as connection:
        return connection.execute(f"SELECT {columns} FROM items ORDER BY id").fetchall()


@pytest.fixture(scope="module")
def twin(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, IngestSummary]:
    """The same pictures indexed by one process."""
    place = str(tmp_path_factory.mktemp("twin") / "twin.gallery")
    with Gallery.create(place, FakeModel()) as gallery:
        return place, gallery.add_folder(folder)


def lose_a_node_at(cluster: Any, batches: int) -> Any:
    """A second node, and a progress function that removes it at the first batch after so many files."""
    second = cluster.add_node(num_cpus=1, object_store_memory=NODE_BYTES)
    calls: list[int] = []

    def report(done: int, total: int) -> None:
        calls.append(done)
        if len(calls) == batches:
            cluster.remove_node(second, allow_graceful=False)

    return report


def test_a_lost_node_loses_nothing_and_repeats_nothing(
    cluster: Any, folder: Path, twin: tuple[str, IngestSummary], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_ingest_module, "BATCHES_A_TASK", 2)
    place, log = str(tmp_path / "my.gallery"), tmp_path / "log"
    Gallery.create(place, FakeModel()).close()
    summary = by_ray(place, SlowModel(log), folder, lose_a_node_at(cluster, 20))
    assert len(set(log.read_text().split())) == 2  # both have worked
    assert counts(summary) == counts(twin[1])
    assert contents(place) == contents(twin[0])  # also ids and every bit of the embeddings

    again = by_ray(place, FakeModel(), folder)
    assert (again.added, again.updated, again.unchanged, len(again.skipped)) == (0, 0, 2000, 1)
    assert contents(place) == contents(twin[0])


def test_changed_and_removed_pictures(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In several rounds of tasks; thumbnails and regions are kept too."""
    monkeypatch.setattr(ray_ingest_module, "TASKS_A_ROUND", 1)
    monkeypatch.setattr(ray_ingest_module, "BATCHES_A_TASK", 1)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(70):
        picture = Image.new("RGB", (20, 10), (number, 0, 0))
        picture.paste((0, 255, number), (10, 5, 20, 10))
        picture.save(folder / f"{number:02d}.png")
    place = str(tmp_path / "my.gallery")
    Gallery.create(place, FakeModel(regions=True), thumbnail_side=4, regions=True).close()
    assert by_ray(place, FakeModel(regions=True), folder).added == 70
    with Gallery.create(tmp_path / "twin.gallery", FakeModel(regions=True), regions=True) as twin:
        twin.add_folder(folder)
    assert regions_of(place) == regions_of(twin.store.name)
    assert min(map(len, regions_of(place))) > 0
    Image.new("RGB", (20, 10), (0, 0, 99)).save(folder / "01.png")
    (folder / "69.png").unlink()
    os.utime(folder / "02.png", ns=(1, 1))
    summary = by_ray(place, FakeModel(regions=True), folder)
    assert (summary.added, summary.updated, summary.unchanged, summary.removed) == (0, 1, 68, 1)
    with Gallery.open(place, FakeModel()) as gallery:
        hit = gallery.search(folder / "01.png", k=1, modality="photo")[0]
        assert (hit.path, hit.id) == (str(folder / "01.png"), 2)
        assert gallery.store.thumbnail(2)
        assert gallery.store.file_states([str(folder / "02.png")])[str(folder / "02.png")].mtime_ns == 1


def test_moved_pictures_keep_ids_and_embeddings(cluster: Any, folder: Path, tmp_path: Path) -> None:
    names = [f"{number:02d}.png" for number in range(40)]
    (tmp_path / "pictures").mkdir()
    for number, name in enumerate(names):
        Image.new("RGB", (20, 10), (number, 0, 0)).save(tmp_path / "pictures" / name)
    place = str(tmp_path / "my.gallery")
    Gallery.create(place, FakeModel()).close()
    by_ray(place, FakeModel(), tmp_path / "pictures")
    before = contents(place)
    moved = (tmp_path / "pictures").rename(tmp_path / "moved")
    (moved / "copy.png").write_bytes((moved / names[0]).read_bytes())  # two files with the bytes of one that is gone
    summary = by_ray(place, SlowModel(tmp_path / "log"), moved)
    assert (summary.moved, summary.added, summary.removed) == (40, 1, 0)
    assert len((tmp_path / "log").read_text().split()) == 1  # of one picture
    after = contents(place)
    assert [(row[0], Path(row[1]).name, row[-2:]) for row in after[1:40]] == [
        (row[0], Path(row[1]).name, row[-2:]) for row in before[1:]
    ]
    assert (after[0][0], after[0][-2:]) == (before[0][0], before[0][-2:])
    with Gallery.open(place, FakeModel()) as gallery:
        (moved / names[1]).unlink()
        assert update_by_ray(gallery.store, place, gallery.model).removed == 1
        assert [root.folder for root in gallery.store.roots()] == [moved]


def test_a_list_of_files(cluster: Any, folder: Path, tmp_path: Path) -> None:
    listed = [str(folder / "class1" / "0001.png"), str(folder / "class0" / "0003.png"), str(folder / "none.png")]
    (tmp_path / "list.txt").write_text("\n".join([*listed, "", listed[0]]))
    place = str(tmp_path / "my.gallery")
    Gallery.create(place, FakeModel()).close()
    summary = by_ray(place, FakeModel(), tmp_path / "list.txt")
    assert (summary.added, [path for path, _ in summary.skipped]) == (2, listed[2:])
    assert [(row[1], row[2]) for row in contents(place)] == [(listed[0], "class1"), (listed[1], "class0")]


@pytest.mark.skipif(bool(milvus_server.missing()), reason=milvus_server.missing())
def test_a_worker_stores_into_a_server_itself(
    cluster: Any,
    server: MilvusServer,
    folder: Path,
    twin: tuple[str, IngestSummary],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray_ingest_module, "BATCHES_A_TASK", 2)
    place = f"milvus://127.0.0.1:{server.port}/by_ray"
    Gallery.create(place, FakeModel()).close()
    summary = by_ray(place, SlowModel(tmp_path / "log"), folder, lose_a_node_at(cluster, 20))
    assert len(set((tmp_path / "log").read_text().split())) == 2
    assert counts(summary) == counts(twin[1])
    assert_finds_the_same(place, twin[0], FakeModel(), 2000)


@pytest.mark.skipif(bool(milvus_server.missing()), reason=milvus_server.missing())
def test_a_worker_stores_regions_into_a_server(
    cluster: Any, server: MilvusServer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_ingest_module, "BATCHES_A_TASK", 2)
    place, model = f"milvus://127.0.0.1:{server.port}/parts_by_ray", FakeModel(regions=True)
    Gallery.create(place, model, regions=True).close()
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted((folder / "class0").iterdir())[:70]:
        (few / path.name).write_bytes(path.read_bytes())
    assert by_ray(place, model, few).added == 70
    with Gallery.create(tmp_path / "twin.gallery", model, regions=True) as gallery:
        gallery.add_folder(few)
    assert_finds_the_same(place, str(tmp_path / "twin.gallery"), model, 70)


def assert_finds_the_same(place: str, twin: str, model: FakeModel, count: int) -> None:
    queries = np.random.default_rng(1).standard_normal((20, 16)).astype(np.float32)
    with Gallery.open(place, model, consistency="strong") as ours, Gallery.open(twin, model) as theirs:
        assert len(ours) == len(theirs) == count
        assert [*ours.store.paths_under("/")] == [*theirs.store.paths_under("/")]
        answers = [gallery.search_embeddings(queries, 10) for gallery in (ours, theirs)]
    for mine, their in zip(*answers, strict=True):
        assert [(hit.path, hit.score, hit.box) for hit in mine] == [(hit.path, hit.score, hit.box) for hit in their]
    assert model.regions == any(hit.box for hits in answers[0] for hit in hits)


def test_an_error_of_a_worker_reaches_the_user_in_a_line(cluster: Any, folder: Path, tmp_path: Path) -> None:
    place = str(tmp_path / "my.gallery")
    Gallery.create(place, FakeModel()).close()
    with pytest.raises(UserError, match=r"^the server stays away; start it$"):
        by_ray(place, RefusingModel(), folder)


def test_a_node_that_cannot_load_the_model_is_reported_in_a_line(cluster: Any, folder: Path, tmp_path: Path) -> None:
    place = str(tmp_path / "my.gallery")
    Gallery.create(place, FakeModel()).close()
    with pytest.raises(UserError, match=r"^node .* cannot load the model \(.*No module named 'crossatnet'\); install"):
        by_ray(place, UnknownModel(), folder)


def test_a_node_that_does_not_see_the_pictures(cluster: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none: not seen on node .*; mount it there under the same path"):
        Worker(TaskSettings(ray.put(FakeModel()), tmp_path / "none", 0, None))


class CountingModel(FakeModel):
    """Records how many pictures it embeds at once."""

    def __init__(self, log: Path) -> None:
        super().__init__()
        self.log = log

    def embed(self, pixels: NDArray[np.uint8], modality: Modality) -> NDArray[np.float32]:
        with self.log.open("a") as file:
            file.write(f"{len(pixels)}\n")
        return super().embed(pixels, modality)


@pytest.mark.parametrize(("power", "most"), [(Power(gpus=0.5), GPU_BATCH), (Power(batch_size=20), 20)])
def test_workers_embed_as_many_pictures_at_once_as_they_are_told(
    cluster: Any, folder: Path, tmp_path: Path, power: Power, most: int
) -> None:
    """The node says that it has a GPU, which only Ray's scheduler believes."""
    node = cluster.add_node(num_cpus=1, num_gpus=1, object_store_memory=NODE_BYTES)
    place, model = str(tmp_path / "my.gallery"), CountingModel(tmp_path / "log")
    Gallery.create(place, model).close()
    with Gallery.open(place, model) as gallery:
        assert add_folder_by_ray(gallery.store, place, model, folder, power=power).added == 2000
    assert max(map(int, (tmp_path / "log").read_text().split())) == most
    cluster.remove_node(node)


@pytest.fixture
def bucket(cluster: Any) -> Iterator[str]:
    """A prefix of an object store on loopback with 640 pictures, of which workers know by the environment."""
    server = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    started = server.ThreadedMotoServer(ip_address="127.0.0.1", port=STORE_PORT, verbose=False)
    started.start()
    client = elsewhere.filesystem("s3://bucket")
    client.mkdir("bucket")
    client.pipe({f"bucket/photos/{number % 3}/{number:04d}.png": png(number) for number in range(640)})
    yield "s3://bucket/photos"
    started.stop()


def test_an_object_store_is_indexed_by_two_nodes_of_which_one_is_lost(
    cluster: Any, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_ingest_module, "BATCHES_A_TASK", 1)
    place, log = str(tmp_path / "my.gallery"), tmp_path / "log"
    with Gallery.create(tmp_path / "twin.gallery", FakeModel()) as twin:
        alone = twin.add_source(bucket)
    Gallery.create(place, FakeModel()).close()
    with Gallery.open(place, model := SlowModel(log)) as gallery:
        progress = lose_a_node_at(cluster, 6)
        together = add_folder_by_ray(gallery.store, place, model, bucket, progress)
    assert len(set(log.read_text().split())) == 2  # both have worked
    assert counts(together) == counts(alone)
    assert together.added == 640
    assert contents(place) == contents(str(tmp_path / "twin.gallery"))
    with Gallery.open(place, FakeModel()) as gallery:
        assert add_folder_by_ray(gallery.store, place, FakeModel(), bucket).unchanged == 640
