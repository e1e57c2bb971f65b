"""Galleries by a model that the user names: `--embedder` of index, search and serve, and the example of the docs."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from crossatnet.cli import main as cli
from crossatnet.gallery import Gallery
from crossatnet.gallery.embedder import load_embedder
from crossatnet.server import run as server
from crossatnet.server.settings import Place, Settings
from crossatnet.system.errors import UserError

DOCS = Path(__file__).parents[2] / "docs" / "gallery.md"
COARSE = """
from crossatnet.gallery import TwoTowers

def coarse(pixels):
    return 256.0 - pixels.reshape(len(pixels), 8, 4, 8, 4, 3).mean((2, 4, 5)).reshape(len(pixels), 64)

def model(version="1"):
    return TwoTowers(coarse, coarse, name="coarse", version=version, side=32)

def newer():
    return model("2")
"""

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `crossatnet` in this process: exit code, output and errors."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["crossatnet", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with a module `my_towers` and two photos, of a flat and of a tall thing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "my_towers.py").write_text(COARSE)
    (tmp_path / "photos").mkdir()
    for name in ("flat", "tall"):
        draw(name, "navy", "ivory").save(tmp_path / "photos" / f"{name}.png")
        draw(name, "black", "white").save(tmp_path / f"{name}.png")
    yield tmp_path
    for name in ("my_towers", "towers"):
        sys.modules.pop(name, None)


def draw(name: str, ink: str, paper: str) -> Image.Image:
    image = Image.new("RGB", (64, 64), paper)
    ImageDraw.Draw(image).line((4, 32, 60, 32) if name == "flat" else (32, 4, 32, 60), ink, 5)
    return image


def test_index_and_search(here: Path, command: Command) -> None:
    named = ("--embedder", "my_towers:model")
    code, out, _ = command("index", "photos", "-o", "my.gallery", *named, "-q")
    assert (code, "2 pictures (2 added" in out) == (0, True)
    for name in ("flat", "tall"):
        code, out, _ = command("search", "my.gallery", f"{name}.png", "--json", *named)
        assert (code, Path(json.loads(out)[0]["path"]).stem) == (0, name)
    (here / "photos" / "tall.png").unlink()
    code, out, _ = command("index", "photos", "-o", "my.gallery", *named, "-q")
    assert (code, "1 unchanged, 1 removed" in out) == (0, True)
    assert json.loads(command("info", "my.gallery", "--json")[1])["checkpoint"] == "coarse"
    assert command("remove", "my.gallery", "photos/flat.png")[0] == 0  # needs no model


def test_the_model_is_named_again_and_compared(here: Path, command: Command) -> None:
    index = ("index", "photos", "-o", "my.gallery", "-q")
    assert command(*index, "--embedder", "my_towers:model")[0] == 0
    search = ("search", "my.gallery", "flat.png")
    for arguments, part in (
        (search, "made with the model coarse, which was not saved; .* --embedder MODULE:OBJECT"),
        (index, "made with the model coarse, which was not saved"),
        ((*search, "--embedder", "my_towers:newer"), "but the model given is coarse .* another file"),
        ((*index, "--embedder", "my_towers:newer"), "but the model given is coarse .* another file"),
        ((*search, "--checkpoint", "crossatnet-open"), "but the model given is crossatnet-open"),
        ((*search, "--embedder", "my_towers:model", "--checkpoint", "crossatnet-open"), "leave out --checkpoint and"),
        ((*search, "--embedder", "my_towers:model", "--runtime", "onnx"), "leave out --checkpoint and --runtime"),
        ((*search, "--embedder", "my_towers:model", "--guided"), "coarse has no attention"),
        ((*index, "--embedder", "my_towers:coarse"), r"calling coarse\(\) fails: TypeError"),
        ((*index, "--embedder", "my_towers"), "give MODULE:OBJECT"),
        ((*index, "--embedder", "my_towers:model", "--ray"), "leave out --ray or --embedder"),
        (("serve", "my.gallery", "--embedder", "my_towers:model", "--checkpoint", "x"), "leave out --checkpoint"),
    ):
        code, out, error = command(*arguments)
        assert (code, out, len(error.splitlines())) == (2, "", 1), (arguments, error)
        assert re.search(part, error), error


def test_serve(here: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    assert command("index", "photos", "-o", "my.gallery", "-q", "--embedder", "my_towers:model")[0] == 0
    served: list[Settings] = []
    monkeypatch.setattr(server, "serve", lambda settings, announce, open_browser: served.append(settings))
    assert command("serve", "my.gallery", "--embedder", "my_towers:model")[0] == 0
    galleries = server.open_at(served[0])
    try:
        gallery = galleries.named("my").gallery
        assert Path(gallery.search(here / "tall.png")[0].path).stem == "tall"
        assert galleries.named("my").answer(reveals=False, indexes=False).guided is False
    finally:
        galleries.close()
    with pytest.raises(UserError, match="made with the model coarse, which was not saved"):
        server.open_at(Settings(places=(Place("my.gallery"),)))


def test_the_docs_example_of_two_folders(here: Path, command: Command) -> None:
    """The module stands in docs/gallery.md; the folders hold small random networks here."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers", reason="the extra 'backbones' is not installed")
    example = re.search(r"```python\n(# towers\.py.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert example is not None
    (here / "towers.py").write_text(example[1])
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    for seed, folder in enumerate(("sketch-tower", "photo-tower")):
        torch.manual_seed(seed)
        config = transformers.Dinov2Config(**sizes, image_size=224, patch_size=56)
        transformers.Dinov2Model(config).save_pretrained(here / folder)
    line = re.search(r"^crossatnet (index .*--embedder towers:model)", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert line is not None
    code, out, error = command(*line[1].split(), "-q")
    assert (code, "2 pictures (2 added" in out) == (0, True), error
    code, out, error = command("search", "my.gallery", "flat.png", "--json", "--embedder", "towers:model")
    assert (code, len(json.loads(out))) == (0, 2), error
    model = load_embedder("towers:model")
    assert (model.dimension, model.has_attention) == (32, False)
    before = model.fingerprint
    with Gallery.open("my.gallery", model) as gallery:
        assert len(gallery) == 2
    weights = here / "photo-tower" / "model.safetensors"
    weights.write_bytes((here / "sketch-tower" / "model.safetensors").read_bytes())
    assert load_embedder("towers:model").fingerprint != before
    assert "the model given is" in command("search", "my.gallery", "flat.png", "--embedder", "towers:model")[2]
