"""`crossatnet serve`: errors in one line, and killed workers that are replaced."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from PIL import Image

from crossatnet import CrossATNet
from crossatnet.cli import main as cli
from crossatnet.gallery import Gallery
from crossatnet.server import demo_gallery as quickstart
from crossatnet.server import run
from crossatnet.server.settings import Place, Settings
from crossatnet.system.errors import UserError
from server.process import PATIENCE, Server
from server.serving import picture


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """Records what would be served instead of serving it."""
    kept: list[Settings] = []
    monkeypatch.setattr(run, "serve", lambda settings, announce, open_browser: kept.append(settings))
    monkeypatch.delenv("CROSSATNET_TOKEN", raising=False)
    return kept


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Runs `crossatnet serve` in this process; returns the exit code and the text of the error stream."""

    def call(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["crossatnet", "serve", *map(str, arguments)])
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, capsys.readouterr().err

    return call


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "pictures.example", "127.0.0.2", ""])
def test_other_machines_are_let_in_with_a_token_only(
    command: Callable[..., tuple[int, str]], served: list[Settings], host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, error = command("my.gallery", "--host", host)
    assert (code, len(error.splitlines()), served) == (2, 1, [])
    assert "--token-file" in error
    monkeypatch.setenv("CROSSATNET_TOKEN", "a" * 16)
    assert command("my.gallery", "--host", host)[0] == 0
    assert served[0].token == "a" * 16


def test_tokens_come_from_a_file(
    command: Callable[..., tuple[int, str]], served: list[Settings], tmp_path: Path
) -> None:
    file = tmp_path / "token"
    for content, part in (
        (None, "cannot be read"),
        (b"", "empty"),
        (b"short\n", "16 letters"),
        (b"\xff" * 20, "not text"),
    ):
        if content is not None:
            file.write_bytes(content)
        code, error = command("my.gallery", "--token-file", file)
        assert (code, len(error.splitlines())) == (2, 1)
        assert part in error
    file.write_text("correct-horse-battery-staple\n", encoding="utf-8")
    assert command("my.gallery", "--token-file", file, "--workers", 3)[0] == 0
    assert (served[0].token, served[0].workers) == ("correct-horse-battery-staple", 3)


def test_the_consistency_is_chosen(command: Callable[..., tuple[int, str]], served: list[Settings]) -> None:
    place = "milvus://127.0.0.1:19530/pets"
    for arguments in ((), ("--consistency", "strong")):
        assert command(place, *arguments)[0] == 0
    assert [settings.consistency for settings in served] == ["session", "strong"]
    code, error = command(place, "--consistency", "eventual")
    assert code == 2
    assert "'session', 'bounded', 'strong'" in error


def test_the_recall_is_chosen(command: Callable[..., tuple[int, str]], served: list[Settings]) -> None:
    for arguments in ((), ("--recall", ".95"), ("--recall", "1")):
        assert command("my.gallery", *arguments)[0] == 0
    assert [settings.recall for settings in served] == [0.99, 0.95, 1]
    for share in ("0", "95", "nan"):
        code, error = command("my.gallery", "--recall", share)
        assert code == 2
        assert f"recall {share}: give a share above 0" in error


@pytest.mark.parametrize(("given", "workers", "expected"), [(None, 2, "4"), (None, 16, "1"), ("3", 2, "3")])
def test_workers_compute_on_their_share_of_the_cores(
    given: str | None, workers: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []

    class Supervisor:
        is_interrupted = False

        def __init__(self, config: object, sockets: object) -> None:
            threads.append(os.environ["OMP_NUM_THREADS"])

        def run(self) -> None:
            pass

    monkeypatch.setattr(run, "Supervisor", Supervisor)
    monkeypatch.setattr(run, "cores", lambda: 8)
    monkeypatch.setattr(run, "log_to_stderr", lambda access_log: None)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")  # both are put back after the test
    monkeypatch.setenv("OMP_NUM_THREADS", given or "")
    if given is None:
        del os.environ["OMP_NUM_THREADS"]
    with run.bind("127.0.0.1", 0) as listening:
        run._serve_with_workers(Settings((), workers=workers), listening)
    assert threads == [expected]


def test_mistakes_are_one_line(command: Callable[..., tuple[int, str]], gallery: Gallery, tmp_path: Path) -> None:
    place = gallery.store.name
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with run.bind("127.0.0.1", 0) as taken:
        for arguments, part in (
            ((tmp_path / "none.gallery",), "no gallery there"),
            ((place,), "was not saved"),  # the small model
            ((place, "--port", taken.getsockname()[1]), "(Address already in use); give another --port"),
            ((place, "--host", "pictures.invalid", "--token-file", tmp_path / "file"), "16 letters"),
        ):
            code, error = command(*arguments, *(() if "--port" in arguments else ("--port", 0)))
            assert (code, len(error.splitlines())) == (2, 1), error
            assert part in error


def test_the_quickstart_gallery_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "quickstart"
    for name in ("owl", "teapot"):
        for kind, hand in (("sketches", "openmoji"), ("photos", "openmoji"), ("photos", "twemoji")):
            (data / kind / name).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (64, 64), (name == "owl" and "red") or "blue").save(data / kind / name / f"{hand}.png")
    monkeypatch.setenv("CROSSATNET_CACHE", str(tmp_path))
    monkeypatch.setattr(quickstart, "build_quickstart", lambda folder, progress: folder)
    place = quickstart.quickstart_place(quiet=True)
    with Gallery.open(place.place) as gallery:
        items = gallery.store.pictures([1, 2]).values()
        assert sorted((item.facts.class_name, Path(item.facts.path).name) for item in items) == [
            ("owl", "owl.png"),
            ("teapot", "teapot.png"),
        ]
        assert gallery.store.thumbnail(1)
        assert len(gallery) == 2  # no pictures by the artists of the sketches
    assert "Twemoji" in (place.credits or "")
    before = Path(place.place).stat().st_mtime_ns
    assert quickstart.quickstart_place(quiet=True) == place
    assert Path(place.place).stat().st_mtime_ns == before


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """A gallery of a real checkpoint."""
    for number in range(4):
        (tmp_path / "pictures").mkdir(exist_ok=True)
        (tmp_path / "pictures" / f"{number}.png").write_bytes(picture(number))
    with Gallery.create(tmp_path / "pets.gallery", CrossATNet.from_pretrained("crossatnet-quickstart")) as gallery:
        gallery.add_folder(tmp_path / "pictures")
    return tmp_path / "pets.gallery"


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers, and ends those that still run."""
    started: list[Server] = []

    def start(*arguments: object) -> Server:
        started.append(Server(*arguments, log=tmp_path / f"{len(started)}.log"))
        return started[-1]

    yield start
    for server in started:
        server.process.kill()
        server.process.wait(PATIENCE)


def test_one_process_serves_and_stops(pets: Path, servers: Callable[..., Server]) -> None:
    server = servers(pets)
    assert server.search() == 200
    assert [*server.workers()] == [server.process.pid]
    assert server.stop(signal.SIGINT) == 130


def test_a_killed_worker_is_replaced(pets: Path, servers: Callable[..., Server]) -> None:
    server = servers(pets, "--workers", 2)
    deadline = time.monotonic() + PATIENCE
    while len(server.workers()) < 2:
        assert server.search() == 200
        assert time.monotonic() < deadline
    first, second = server.workers()
    os.kill(first, signal.SIGKILL)
    while not {*server.workers()} - {first, second}:
        try:
            assert server.search() == 200
        except httpx2.TransportError:  # on a connection of the killed worker
            assert time.monotonic() < deadline
        assert time.monotonic() < deadline
    assert server.stop(signal.SIGTERM) == 0


def test_the_address_of_any_host_can_be_opened() -> None:
    assert run.address_of("0.0.0.0", 1) == "http://127.0.0.1:1"
    assert run.address_of("::1", 1) == "http://[::1]:1"
    assert run.address_of("pictures.example", 1) == "http://pictures.example:1"


def test_an_uploads_folder_is_made(tmp_path: Path, gallery: Gallery) -> None:
    settings = Settings((Place(gallery.store.name), Place(gallery.store.name)), uploads=tmp_path / "a" / "b")
    with pytest.raises(UserError):  # the same gallery twice, of a model that was not saved
        run.open_at(settings)
    assert (tmp_path / "a" / "b").is_dir()


WITHOUT_TORCH = """
import sys

for name in ("torch", "onnx", "lightning"):
    sys.modules[name] = None  # as if it were not installed
sys.path.insert(0, sys.argv[4])
from fastapi.testclient import TestClient
from pathlib import Path
from server.serving import HOUSE, PNG, picture
from crossatnet import CrossATNet, Gallery
from crossatnet.server.app import create_app
from crossatnet.server.galleries import open_galleries
from crossatnet.server.settings import Place, Settings

checkpoint, pictures, folder = map(Path, sys.argv[1:4])
with Gallery.create(folder / "pets.gallery", CrossATNet.from_pretrained(checkpoint)) as gallery:
    gallery.add_folder(pictures)
settings = Settings((Place(str(folder / "pets.gallery")),), uploads=folder / "uploads")
with TestClient(create_app(open_galleries(settings.places, settings.uploads), settings), "http://localhost") as client:
    base = "/api/v1/galleries/pets"
    for ranking in ("float", "code", "guided"):
        found = client.post(f"{base}/search/strokes", json={"strokes": HOUSE, "ranking": ranking, "k": 3})
        print(found.status_code, len(found.json()["hits"]))
    item = found.json()["hits"][0]["id"]
    print(client.post(f"{base}/items/{item}/explanation/strokes", json={"strokes": HOUSE}).status_code)
    print(client.post(f"{base}/items", content=picture(900), headers=PNG).status_code)
    print(client.post(f"{base}/search/photo?k=1", content=picture(900), headers=PNG).json()["hits"][0]["score"] > 0.99)
"""


def test_it_serves_without_torch(tiny_export: Path, folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH, tiny_export, folder, tmp_path, Path(__file__).parents[1]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:-1] == ["200 3"] * 3 + ["200", "201", "True"]
