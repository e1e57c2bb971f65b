"""Object stores by their own protocol: a small S3 server on loopback, with listings of several pages."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crossatnet.data import elsewhere
from crossatnet.gallery import Gallery
from crossatnet.system.errors import UserError
from gallery.fake_model import FakeModel
from gallery.ingest.test_stream import counts, png, tar

server = pytest.importorskip("moto.server")
pytest.importorskip("s3fs")

SECRET = "not-to-be-seen"


@pytest.fixture(scope="module")
def store() -> Iterator[Any]:
    """A client of the server, whose bucket has 32 objects: several pages of a listing."""
    started = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    started.start()
    host, port = started.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_S3": f"http://{host}:{port}",
        }.items():
            patch.setenv(name, value)
        elsewhere._filesystem.cache_clear()
        client = elsewhere.filesystem("s3://bucket")
        patch.setattr(elsewhere, "PAGE", 10)
        client.mkdir("bucket")
        for number in range(32):
            client.pipe_file(f"bucket/photos/{number % 3}/{number:04d}.png", png(number % 7))
        client.pipe_file("bucket/shard-0.tar", tar({"cat/1.png": png(1), "2.png": png(2)}))
        yield client
        elsewhere._filesystem.cache_clear()
        started.stop()


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    return Gallery.create(tmp_path / "my.gallery", FakeModel())


def test_objects_are_indexed_and_recognised_by_their_etags(
    store: Any, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert counts(gallery.add_source("s3://bucket/photos")) == (32, 0, 0, 0)
    stored = [*gallery.store.paths_under("s3://bucket/photos")]
    assert (stored[0], stored[-1]) == ("s3://bucket/photos/0/0000.png", "s3://bucket/photos/2/0029.png")
    assert gallery.store.classes() == {"0": 11, "1": 11, "2": 10}

    read: list[str] = []
    really = elsewhere.read
    monkeypatch.setattr(elsewhere, "read", lambda entry: read.append(entry.path) or really(entry))
    store.pipe_file("bucket/photos/1/0001.png", png(8))
    store.rm_file("bucket/photos/2/0002.png")
    assert counts(gallery.add_source("s3://bucket/photos")) == (0, 1, 30, 1)
    assert read == ["s3://bucket/photos/1/0001.png"]


def test_an_archive_in_a_store(store: Any, gallery: Gallery) -> None:
    assert counts(gallery.add_source("s3://bucket/shard-0.tar")) == (2, 0, 0, 0)
    assert counts(gallery.add_source("s3://bucket/shard-0.tar")) == (0, 0, 2, 0)
    hit = gallery.search(png(1), k=1, modality="photo")[0]
    assert hit.path == "s3://bucket/shard-0.tar:cat/1.png"
    assert elsewhere.fetch(hit.path, len(png(1))) == png(1)


@pytest.mark.parametrize(
    ("source", "trouble"), [("s3://bucket/none", "no pictures there"), ("s3://no-bucket/x", "nothing is there")]
)
def test_what_is_not_there(store: Any, gallery: Gallery, source: str, trouble: str) -> None:
    with pytest.raises(UserError, match=trouble):
        gallery.add_source(source)


def test_credentials_are_neither_told_nor_stored(store: Any, gallery: Gallery, tmp_path: Path) -> None:
    gallery.add_source("s3://bucket/shard-0.tar")
    gallery.close()
    for file in tmp_path.iterdir():
        assert SECRET.encode() not in file.read_bytes()
