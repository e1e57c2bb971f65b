"""Files that people are given: JSON, YAML, archives, checkpoints, names. Small ones must not ask for much, nor lie."""

import io
import json
import os
import signal
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml

from attack.servers import crossatnet
from crossatnet.config import load_config
from crossatnet.data.hashes import content_hash
from crossatnet.data.strokes import StrokeFile
from crossatnet.evaluation.embeddings import read_embeddings
from crossatnet.gallery import Gallery
from crossatnet.model.checkpoint import read_config
from crossatnet.runtime.load import load
from crossatnet.runtime.onnx_files import stored_tensors
from crossatnet.semantics.vectors import class_vectors
from crossatnet.system.documents import parse_json, parse_yaml
from crossatnet.system.errors import ImageError, UserError
from crossatnet.system.visible import visible
from gallery.fake_model import FakeModel
from server.serving import picture

DEEP = ("[" * 200_000, '{"a":' * 200_000, "1" * 5_000, '{"format": ' + "9" * 5_000 + "}")
BOMB = "a0: &a0 {k: 1}\n" + "".join(
    f"a{n}: &a{n}\n  <<: [{', '.join([f'*a{n - 1}'] * 9)}]\n  k{n}: 1\n" for n in range(1, 30)
)


@pytest.mark.parametrize("text", DEEP, ids=["lists", "objects", "digits", "a number of a format"])
def test_json_without_end_is_refused_by_every_reader(text: str, tmp_path: Path) -> None:
    with pytest.raises(json.JSONDecodeError):
        parse_json(text)
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="damaged"):
        read_config(tmp_path)
    (tmp_path / "a.ndjson").write_text(text, encoding="utf-8")
    with pytest.raises(ImageError, match="not JSON"):
        StrokeFile.open(tmp_path / "a.ndjson").read(0)


@pytest.mark.parametrize("text", [BOMB, "[" * 50_000, "a: " + "x" * 2_000_000, "a: " + "1" * 5_000])
def test_yaml_that_grows_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text, encoding="utf-8")
    began = time.process_time()
    with pytest.raises(UserError, match="not valid YAML"):
        load_config(tmp_path / "a.yaml")
    assert time.process_time() - began < 5


def test_yaml_may_merge_as_people_do() -> None:
    assert parse_yaml("a: &a {x: 1}\nb: {<<: *a, y: 2}") == {"a": {"x": 1}, "b": {"x": 1, "y": 2}}
    with pytest.raises(yaml.YAMLError):
        parse_yaml(BOMB)


def claiming(rows: int) -> bytes:
    """An archive whose arrays claim so many rows and have none."""
    made = io.BytesIO()
    header = repr({"descr": "<f4", "fortran_order": False, "shape": (rows, 64)}).encode().ljust(117) + b"\n"
    npy = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    with zipfile.ZipFile(made, "w") as archive:
        for name in ("query", "query_class", "gallery", "gallery_class", "names", "vectors"):
            archive.writestr(f"{name}.npy", npy)
    return made.getvalue()


@pytest.mark.parametrize("rows", [10**9, 10**12])
def test_archives_that_claim_more_than_they_hold(rows: int, tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(claiming(rows))
    with pytest.raises(UserError, match="claims"):
        read_embeddings(tmp_path / "a.npz")
    with pytest.raises(UserError, match="cannot be read as class vectors"):
        class_vectors(["cat"], tmp_path / "a.npz")


def with_digests(folder: Path) -> None:
    """Make the list of an ONNX form again, as one who forges it would."""
    form = json.loads((folder / "onnx.json").read_text(encoding="utf-8"))
    form["weights"] = content_hash((folder / "model.safetensors").read_bytes())
    for part, facts in form["files"].items():
        content = (folder / f"{part}.onnx").read_bytes()
        facts.update(sha256=content_hash(content), bytes=len(content))
    (folder / "onnx.json").write_text(json.dumps(form), encoding="utf-8")


@pytest.mark.parametrize(("taken", "replaced"), [("sketch", "photo"), ("photo-int8", "photo"), ("photo", "photo-int8")])
def test_one_graph_in_the_place_of_another_is_refused(taken: str, replaced: str, exported: Path) -> None:
    (exported / f"{replaced}.onnx").write_bytes((exported / f"{taken}.onnx").read_bytes())
    with_digests(exported)
    with pytest.raises(UserError, match="refused, as it"):
        load(exported, "onnx-int8" if replaced == "photo-int8" else "onnx")


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(runtime: str, value: float, exported: Path) -> None:
    file = exported / "model.safetensors"
    content = bytearray(file.read_bytes())
    stored = next(each for each in stored_tensors(bytes(content)).values() if each.kind == "F16")
    content[stored.offset : stored.offset + 2] = np.float16(value).tobytes()
    file.write_bytes(content)
    with_digests(exported)
    with pytest.raises(UserError, match="NaN or infinite"):
        load(exported, runtime)  # type: ignore[arg-type]


def test_a_gallery_of_somebody_makes_nobody_ask_a_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: object, **__: object) -> None:
        raise AssertionError("a hub was asked")

    monkeypatch.setattr("crossatnet.model.checkpoint._from_hub", asked)
    Gallery.create(tmp_path / "my.gallery", FakeModel(source="somebody/something")).close()
    with Gallery.open(tmp_path / "my.gallery") as gallery, pytest.raises(UserError, match="no packaged checkpoint"):
        gallery.search(np.zeros((8, 8), np.uint8))


def test_hidden_characters_are_written_out() -> None:
    assert visible("owl\x1b[2J\r\n\u202egpj.exe\udce9") == "owl\\x1b[2J\\r\\n\\u202egpj.exe\\udce9"
    assert visible("鳥 é 😀　x") == "鳥 é 😀　x"


@pytest.mark.attack
@pytest.mark.parametrize("locale", ["C", "POSIX", "en_US.ISO-8859-1"])
def test_names_of_any_letters_are_printed_in_any_locale(locale: str, tmp_path: Path) -> None:
    folder = tmp_path / "Bücher 鳥\x1b[31m"
    folder.mkdir()
    (folder / "鳥 😀.png").write_bytes(picture(1))
    (folder / "bad é.png").write_bytes(b"no picture")
    environment = {
        **os.environ,
        "LC_ALL": locale,
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONIOENCODING": "",
    }
    for command in (
        ("index", folder, "-o", tmp_path / "a.gallery"),
        ("search", tmp_path / "a.gallery", folder / "鳥 😀.png", "--photo"),
    ):
        done = crossatnet(*command, env=environment)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        assert "\x1b[31m" not in done.stdout
    assert "鳥 😀.png" in done.stdout


@pytest.mark.attack
@pytest.mark.parametrize("seconds", [0.05, 0.3, 1.0, 2.5])
def test_ctrl_c_is_quiet_and_says_so_by_its_code(seconds: float, tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"{number}.png").write_bytes(picture(number))
    command = [sys.executable, "-m", "crossatnet", "index", str(tmp_path), "-o", str(tmp_path / "a.gallery"), "--quiet"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    errors = process.communicate(timeout=60)[1]
    assert time.monotonic() - began < 10
    if process.returncode == -signal.SIGINT:
        assert seconds < 1  # before Python itself had started
        return
    assert process.returncode in (130, 0), errors  # 0: it was done before
    if seconds > 0.2:
        assert "Traceback" not in errors, errors
