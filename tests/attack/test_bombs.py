"""Pictures that ask for minutes or gigabytes: they are refused or read within bounds, and nobody else waits."""

import contextlib
import io
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest
from PIL import Image

from attack import bombs
from attack.servers import Server
from crossatnet.data import decoders
from crossatnet.data.decoders import Limits, is_read_here
from crossatnet.data.images import load_image, picture_size, read_sketch
from crossatnet.data.photos import read_photo
from crossatnet.data.pictures import colours
from crossatnet.data.pictures.effort import outline
from crossatnet.gallery.sqlite.copies import backup
from crossatnet.system.errors import ImageError
from server.serving import HOUSE, PNG, picture

ROOM = 600_000_000  # bytes, as servers give a picture
SECONDS = 5


@pytest.fixture
def limited() -> Iterator[None]:
    """This process reads pictures as a server does."""
    decoders.limit(Limits(1, SECONDS, ROOM, 2_000_000))
    yield
    decoders.limit(Limits(2))


def peak_bytes() -> int:
    """The most memory that the one process for pictures has used."""
    (process,) = decoders.decoders()._all
    status = Path(f"/proc/{process._process.pid}/status").read_text(encoding="ascii")
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


@pytest.mark.parametrize("name", ["a jpeg of 4,000 scans", "a small jpeg of 60,000 scans"])
def test_scans_are_counted_before_anything_is_decoded(name: str) -> None:
    content = bombs.TIME[name]()
    began = time.process_time()
    with pytest.raises(ImageError, match="scans, more than"):
        load_image(content)
    assert time.process_time() - began < 1


def test_pictures_of_honest_programs_are_plain() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)).resize((600, 400))
    for form, options in (
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"quality": 95, "subsampling": 0, "progressive": True}),
        ("JPEG", {"restart_marker_rows": 1}),
        ("PNG", {}),
        ("BMP", {}),
    ):
        content = bombs.encoded(image, form, **options)
        found = outline(content)
        assert found is not None, (form, options)
        assert found[:2] == (600, 400)
        assert is_read_here(content)


@pytest.mark.parametrize("form", ["GIF", "TIFF", "WEBP"])
def test_another_process_reads_a_picture_as_this_one_would(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawing = Image.new("RGB", (90, 70), "white")
    drawing.paste((10, 20, 30), (20, 20, 60, 26))
    drawing.paste((10, 20, 30), (40, 10, 46, 60))
    content = bombs.encoded(drawing, form)
    assert not is_read_here(content)
    there = load_image(content), read_photo(content, 32), read_sketch(content, 64, True), picture_size(content)
    monkeypatch.setenv(decoders.CHILD, "1")
    here = load_image(content), read_photo(content, 32), read_sketch(content, 64, True), picture_size(content)
    assert there[0].tobytes() == here[0].tobytes()
    assert (there[1] == here[1]).all()
    assert (there[2] == here[2]).all()
    assert tuple(there[3]) == tuple(here[3])


def test_errors_come_back_as_they_were() -> None:
    with pytest.raises(ImageError, match=r"^the uploaded picture: not a picture \(readable"):
        load_image(picture(1, "GIF")[:300])


@pytest.mark.attack
@pytest.mark.usefixtures("limited")
@pytest.mark.parametrize("name", bombs.TIME)
def test_bombs_of_time_end_in_time(name: str) -> None:
    content = bombs.TIME[name]()
    began = os.times()
    try:
        read_photo(content, 64)
    except ImageError as error:
        print(f"{name}: {error}")
    decoders.end_all()
    used = os.times().children_user - began.children_user + os.times().user - began.user
    print(f"{name}: {len(content) / 1e6:.2f} MB, {used:.1f} s of processor time")
    assert used < SECONDS + 4  # the start of the process among them


@pytest.mark.attack
@pytest.mark.usefixtures("limited")
@pytest.mark.parametrize("name", bombs.MEMORY)
def test_bombs_of_memory_take_no_more_than_their_room(name: str) -> None:
    pixels = read_photo(bombs.MEMORY[name](), 64)
    assert pixels.shape == (64, 64, 3)
    print(f"{name}: {peak_bytes() / 2**20:.0f} MiB")
    assert peak_bytes() < ROOM


@pytest.mark.usefixtures("limited")
def test_a_process_that_takes_too_long_is_ended_and_the_next_picture_is_read() -> None:
    ended = threading.Timer(0.5, lambda: [each.end() for each in [*decoders.decoders()._all]])
    ended.start()
    with pytest.raises(ImageError, match="more time or memory"):
        load_image(bombs.png_of_empty_chunks(400_000))
    ended.join()
    assert load_image(picture(1, "GIF")).size == (80, 60)


def transparent(mode: str) -> Image.Image:
    random = np.random.default_rng(1)
    image = Image.fromarray(random.integers(0, 256, (37, 50, 4), np.uint8), "RGBA")
    return image if mode == "RGBA" else image.convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "CMYK", "RGB"])
@pytest.mark.parametrize("is_sketch", [True, False])
def test_bands_are_as_the_whole(mode: str, is_sketch: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for light in (False, True):
        image = transparent("RGBA")
        if light:  # nearly white ink on transparency
            image.paste((250, 250, 250), (0, 0, 50, 37), Image.new("L", image.size, 255))
            image.putalpha(transparent("L"))
        image = image if mode == "RGBA" else image.convert("L") if mode == "LA" else image.convert(mode)
        if mode == "LA":
            image.putalpha(transparent("L"))
        if mode == "P":
            made = io.BytesIO()
            image.save(made, "PNG", transparency=3)
            image = Image.open(made)
            image.load()
        whole = colours.to_rgb(image, is_sketch)
        with monkeypatch.context() as patched:
            patched.setattr(colours, "BAND", 200)
            assert colours.to_rgb(image, is_sketch).tobytes() == whole.tobytes()


@pytest.mark.attack
def test_bombs_hold_up_neither_searches_nor_the_end(indexed: Path, tmp_path: Path) -> None:
    kinds = [make() for make in bombs.TIME.values()] + [make() for make in list(bombs.MEMORY.values())[:3]]
    assert len(kinds) == 10
    backup(indexed, tmp_path / "pets.gallery")  # uploads are kept
    with Server(tmp_path / "pets.gallery", tmp_path / "log", "--uploads", tmp_path / "uploads") as server:
        seconds: list[float] = []
        is_over = threading.Event()

        def search() -> None:
            with httpx2.Client(timeout=60) as client:
                while not is_over.is_set():
                    began = time.monotonic()
                    answer = client.post(f"{server.base}/search/strokes", json={"strokes": HOUSE, "k": 3})
                    assert answer.status_code == 200, answer.text
                    seconds.append(time.monotonic() - began)
                    time.sleep(0.05)

        def send(content: bytes) -> None:
            for place in ("items", "search/photo"):
                answer = httpx2.post(f"{server.base}/{place}", content=content, headers=PNG, timeout=120)
                assert answer.status_code in (200, 201, 400, 413, 503), answer.text

        searcher = threading.Thread(target=search)
        senders = [threading.Thread(target=send, args=(content,)) for content in kinds]
        searcher.start()
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        is_over.set()
        searcher.join()
        p95 = float(np.percentile(seconds, 95))
        print(f"{len(seconds)} searches beside ten bombs: p95 {p95:.2f} s, most {max(seconds):.2f} s")
        assert p95 < 1
        last = [threading.Thread(target=send_and_forget, args=(server.base, content)) for content in kinds]
        for each in last:
            each.start()
        time.sleep(1)
        stopped = server.stop(signal.SIGTERM)
        print(f"SIGTERM with bombs under way: {stopped:.1f} s")
        assert stopped < 10
        assert "Traceback" not in server.text()


def send_and_forget(base: str, content: bytes) -> None:
    with contextlib.suppress(httpx2.HTTPError):
        httpx2.post(f"{base}/search/photo", content=content, headers=PNG, timeout=120)
