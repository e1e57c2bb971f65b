"""The guide, and a person's own defaults."""

import subprocess
import sys
from pathlib import Path

import pytest

from crossatnet.cli.defaults import defaults_file
from picture_files import encoded, patches


def crossatnet(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "crossatnet", *map(str, arguments)], capture_output=True, text=True)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CROSSATNET_CONFIG", str(tmp_path / "own.yaml"))
    return tmp_path / "own.yaml"


def test_crossatnet_alone_is_a_short_guide() -> None:
    done = crossatnet()
    assert (done.returncode, done.stderr) == (0, "")
    assert "crossatnet index ~/Pictures -o my.gallery" in done.stdout
    assert len(done.stdout.splitlines()) < 12


def test_the_file_is_in_the_platforms_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CROSSATNET_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert defaults_file().name == "config.yaml"
    assert "crossatnet" in defaults_file().parts
    if sys.platform == "linux":
        assert defaults_file() == tmp_path / "crossatnet" / "config.yaml"


def test_defaults_hold_until_the_command_line_says_otherwise(own: Path, tmp_path: Path) -> None:
    own.write_text("index:\n  exclude: [raw/]\n  quiet: true\n  thumbnails: 64\nsearch: {k: 1}\n")
    (tmp_path / "pictures" / "raw").mkdir(parents=True)
    for number, name in enumerate(("a.jpg", "b.jpg", "raw/c.jpg")):
        (tmp_path / "pictures" / name).write_bytes(encoded(patches(seed=number), "JPEG"))
    gallery = tmp_path / "my.gallery"
    done = crossatnet("index", tmp_path / "pictures", "-o", gallery)
    assert done.stdout.startswith(f"{gallery}: 2 pictures")
    assert "thumbnails: 64 pixels" in crossatnet("info", gallery).stdout
    assert len(crossatnet("search", gallery, tmp_path / "pictures" / "a.jpg", "--photo").stdout.splitlines()) == 1
    more = crossatnet("search", gallery, tmp_path / "pictures" / "a.jpg", "--photo", "-k", 5)
    assert len(more.stdout.splitlines()) == 2


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("serch: {k: 1}", "no command 'serch'; did you mean search or serve?"),
        ("search: {ks: 1}", "search: no option 'ks'; did you mean k"),
        ("search: 7", "search: expected options and values"),
        ("[1]", "expected commands with their options"),
        ("a: [", "not valid YAML"),
    ],
)
def test_a_mistake_in_the_file_is_one_line(own: Path, text: str, wrong: str) -> None:
    own.write_text(text)
    done = crossatnet("doctor")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: {own}: ")
    assert wrong in done.stderr
    assert len(done.stderr.splitlines()) == 1
