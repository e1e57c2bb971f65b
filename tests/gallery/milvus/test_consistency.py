"""What one process wrote to a real server, and when it and others see that."""

import multiprocessing
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from crossatnet.gallery import Gallery
from crossatnet.gallery.backend import Facts, FileState
from crossatnet.system.consistency import SEEN_WITHIN_S, Consistency
from gallery import milvus_server
from gallery.fake_model import FakeModel
from gallery.milvus_server import MilvusServer
from server.process import PATIENCE, Server

pytestmark = [
    pytest.mark.scale,
    pytest.mark.skipif(bool(milvus_server.missing()), reason=milvus_server.missing()),
]

MODEL = FakeModel(dimension=32, code_bits=128)


@pytest.fixture(scope="module")
def place(server: MilvusServer) -> str:
    place = f"milvus://127.0.0.1:{server.port}/read"
    Gallery.create(place, MODEL).close()
    return place


def embedding(number: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    row = np.random.default_rng(number).standard_normal((1, MODEL.dimension)).astype(np.float32)
    return row / np.linalg.norm(row)


def put(gallery: Gallery, number: int) -> None:
    facts = Facts(f"/p/{number}", "cat", FileState(1, 1, f"{number:064x}"), 30, 20)
    gallery.store.put([facts], MODEL.hash(embedding(number)), embedding(number))


def sees(gallery: Gallery, number: int) -> bool:
    """Whether a search finds the picture."""
    hits = gallery.search_embeddings(embedding(number), 1)[0]
    return bool(hits) and hits[0].path == f"/p/{number}"


def write_on_demand(place: str, pipe: Pipe) -> None:
    """Another process: puts and removes pictures as it is told, and answers once that is acknowledged."""
    with Gallery.open(place, MODEL) as gallery:
        while (told := pipe.recv()) is not None:
            word, number = told
            if word == "put":
                put(gallery, number)
            else:
                gallery.store.remove([f"/p/{number}"])
            pipe.send("done")


@pytest.fixture(scope="module")
def other(place: str) -> Iterator[Pipe]:
    """The end of the pipe to another process that writes."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=write_on_demand, args=(place, theirs))
    process.start()
    yield ours  # type: ignore[misc]
    ours.send(None)
    process.join()


def tell(other: Pipe, word: str, number: int) -> float:
    """Let the other process write; when it was acknowledged."""
    other.send((word, number))
    assert other.recv() == "done"
    return time.monotonic()


@pytest.mark.parametrize("consistency", ["session", "strong"])
def test_a_process_sees_what_it_wrote_at_once(place: str, consistency: Consistency) -> None:
    with Gallery.open(place, MODEL, consistency=consistency) as gallery, Gallery.open(place, MODEL) as twin:
        for number in range(10):
            before = len(gallery)
            put(gallery, number)
            assert sees(gallery, number)
            assert sees(twin, number)  # another object of the same process
            assert len(gallery) == before + 1
            gallery.store.remove([f"/p/{number}"])
            assert not sees(gallery, number)
            assert not sees(twin, number)
            assert len(gallery) == before


@pytest.mark.parametrize("consistency", ["session", "bounded"])
def test_what_another_process_wrote_is_seen_within_the_bound(place: str, other: Pipe, consistency: Consistency) -> None:
    with Gallery.open(place, MODEL, consistency=consistency) as gallery:
        for word, is_seen in (("put", True), ("remove", False)):
            acknowledged = tell(other, word, 100)
            while (begun := time.monotonic()) < acknowledged + SEEN_WITHIN_S + 0.5:
                found = sees(gallery, 100)
                if begun > acknowledged + SEEN_WITHIN_S:
                    assert found is is_seen


def test_a_strong_search_sees_what_another_process_wrote_at_once(place: str, other: Pipe) -> None:
    with Gallery.open(place, MODEL, consistency="strong") as gallery:
        for number in range(200, 205):
            for word, is_seen in (("put", True), ("remove", False)):
                tell(other, word, number)
                assert sees(gallery, number) is is_seen


def test_two_servers_share_a_gallery(server: MilvusServer, tmp_path: Path) -> None:
    place, uploads = f"milvus://127.0.0.1:{server.port}/pets", tmp_path / "uploads"
    Gallery.create(place, FakeModel()).close()
    pixels = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "owl.png")
    content, png = (tmp_path / "owl.png").read_bytes(), {"content-type": "image/png"}
    options = (place, "--embedder", "gallery.fake_model:FakeModel", "--uploads", uploads)
    servers = [Server(*options, log=tmp_path / f"{number}.log") for number in range(2)]
    bases = [f"{each.address}/api/v1/galleries/pets" for each in servers]

    def ids(base: str) -> list[str]:
        answer = httpx2.post(f"{base}/search/photo?k=3", content=content, headers=png, timeout=PATIENCE)
        assert answer.status_code == 200, answer.text
        return [hit["id"] for hit in answer.json()["hits"]]

    try:
        assert ids(bases[1]) == []
        added = httpx2.post(f"{bases[0]}/items?file_name=owl.png", content=content, headers=png, timeout=PATIENCE)
        acknowledged, key = time.monotonic(), added.json()["id"]
        assert ids(bases[0]) == [key]
        time.sleep(max(0.0, acknowledged + SEEN_WITHIN_S - time.monotonic()))
        assert ids(bases[1]) == [key]
        assert httpx2.get(f"{bases[1]}/items/{key}/thumbnail", timeout=PATIENCE).status_code == 200
        assert httpx2.delete(f"{bases[1]}/items/{key}", timeout=PATIENCE).status_code in (200, 204)
        acknowledged = time.monotonic()
        assert ids(bases[1]) == []
        time.sleep(max(0.0, acknowledged + SEEN_WITHIN_S - time.monotonic()))
        assert ids(bases[0]) == []
    finally:
        for each in servers:
            each.process.kill()
            each.process.wait(PATIENCE)
