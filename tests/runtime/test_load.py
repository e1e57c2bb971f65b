"""The choice of a runtime: by name, or by a measurement that is remembered."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from crossatnet import CrossATNet
from crossatnet.config import cache_directory
from crossatnet.model import network as torch_network
from crossatnet.model.checkpoint import CONFIDENCE, FORM, WEIGHTS, weights_hash
from crossatnet.runtime import choose as runtime
from crossatnet.runtime.choose import CHOICES, faster_photo_part, machine_key, measured, probes
from crossatnet.runtime.load import load
from crossatnet.runtime.onnx_model import OnnxModel
from crossatnet.system.errors import UserError
from tiny_data import write_tiny

FAST, SLOW = {"float_per_s": 10.0, "int8_per_s": 20.0}, {"float_per_s": 10.0, "int8_per_s": 11.0}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSATNET_CACHE", str(tmp_path / "cache"))


def without_int8(folder: Path) -> None:
    raw = json.loads((folder / FORM).read_text())
    (folder / FORM).write_text(json.dumps({**raw, "int8": None}))


def with_result(monkeypatch: pytest.MonkeyPatch, **result: float) -> list[OnnxModel]:
    """Replace the measurement; returns a list of the measurements made."""
    asked: list[OnnxModel] = []

    def fake(model: OnnxModel) -> dict[str, float]:
        asked.append(model)
        return result

    monkeypatch.setattr(runtime, "measured", fake)
    return asked


def test_every_runtime_embeds_alike(tiny_export: Path) -> None:
    pixels = probes(3, 96)
    expected = load(tiny_export, "torch").embed(pixels, "photo")
    for name, least in (("torch-bf16", 0.99), ("onnx", 0.999999), ("onnx-int8", 0.97), ("auto", 0.97)):
        model = CrossATNet.from_pretrained(tiny_export, runtime=name)
        rows = model.embed(pixels, "photo")
        assert rows.dtype == np.float32
        assert (rows * expected).sum(1).min() > least, name
        assert model.fingerprint == load(tiny_export, "torch").fingerprint
    bfloat16 = CrossATNet.from_pretrained(tiny_export, runtime="torch-bf16").embed(pixels, "photo")
    assert np.abs(bfloat16 - expected).max() > 1e-5


def test_the_onnx_form_reads_and_hashes_its_weights_once(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = {"intercept": -4, "score": 6, "outstanding": 0.5, "sure": 0.7, "fitted_on": "a test"}
    (exported / CONFIDENCE).write_text(json.dumps({"weights": weights_hash(exported), **fit}), encoding="utf-8")
    opened: list[str] = []
    open_file = Path.open

    def noted(path: Path, *arguments: object, **options: object) -> object:
        opened.append(path.name)
        return open_file(path, *arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", noted)
    assert load(exported, "onnx").confidence is not None
    assert opened.count(WEIGHTS) == 1


def test_the_compiled_network_is_the_network(tiny_export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[bool] = []

    def compile(function: object, dynamic: bool) -> object:
        compiled.append(dynamic)
        return function

    monkeypatch.setattr("torch.compile", compile)
    model = load(tiny_export, "torch-compile")
    plain = load(tiny_export, "torch")
    assert compiled == [True, True]  # for batches of any size, sketches and photos
    assert model.fingerprint == plain.fingerprint
    np.testing.assert_array_equal(model.embed(probes(1, 96), "photo"), plain.embed(probes(1, 96), "photo"))


def test_a_machine_that_cannot_compile_is_reported(tiny_export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def compile(function: object, dynamic: bool) -> object:
        raise RuntimeError("no compiler\nhere")

    monkeypatch.setattr("torch.compile", compile)
    with pytest.raises(UserError, match=r"torch-compile does not work here \(no compiler\)"):
        load(tiny_export, "torch-compile")


def test_auto_takes_torch_where_there_is_no_form(tiny_export: Path) -> None:
    assert isinstance(load(tiny_export.parent / "plain"), torch_network.CrossATNet)
    assert isinstance(load(tiny_export), OnnxModel)
    with pytest.raises(UserError, match="has no ONNX form"):
        load(tiny_export.parent / "plain", "onnx")


def test_without_torch_a_plain_checkpoint_says_what_it_needs(
    tiny_export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'crossatnet\[torch\]'"):
        load(tiny_export.parent / "plain")


def test_an_unknown_runtime_is_named(tiny_export: Path) -> None:
    with pytest.raises(UserError, match="unknown runtime 'onxx'; did you mean onnx"):
        load(tiny_export, "onxx")


@pytest.mark.parametrize(
    ("speeds", "cosine", "expected"),
    [(FAST, 1.0, "photo-int8"), (SLOW, 1.0, "photo"), (FAST, 0.5, "photo")],
)
def test_auto_takes_eight_bits_only_if_fast_and_true(
    tiny_export: Path,
    monkeypatch: pytest.MonkeyPatch,
    speeds: dict[str, float],
    cosine: float,
    expected: str,
) -> None:
    with_result(monkeypatch, **speeds, cosine=cosine)
    monkeypatch.setattr(runtime, "MIN_COSINE", 0.97)  # the tiny network's photos are small
    model = OnnxModel(tiny_export, faster_photo_part)
    assert model.photo_part == expected
    monkeypatch.setattr(runtime, "MIN_COSINE", 0.999999)
    assert OnnxModel(tiny_export, faster_photo_part).photo_part == "photo"


def test_a_form_without_eight_bits_is_not_measured(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_int8(exported)
    asked = with_result(monkeypatch, **FAST, cosine=1.0)
    assert OnnxModel(exported, faster_photo_part).photo_part == "photo"
    assert not asked


def test_a_measurement_is_made_once(tiny_export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = with_result(monkeypatch, **FAST, cosine=1.0)
    monkeypatch.setattr(runtime, "MIN_COSINE", 0.97)
    model = OnnxModel(tiny_export, faster_photo_part)
    model.embed(probes(1, 64), "sketch")
    assert not asked  # a drawing needs no choice
    assert [model.photo_part, OnnxModel(tiny_export, faster_photo_part).photo_part] == ["photo-int8"] * 2
    assert len(asked) == 1
    (cache_directory() / CHOICES).write_text("no JSON")
    assert OnnxModel(tiny_export, faster_photo_part).photo_part == "photo-int8"
    assert len(asked) == 2
    assert json.loads((cache_directory() / CHOICES).read_text())[machine_key(model)]["int8_per_s"] == 20.0
    texts = dict.fromkeys(("float_per_s", "int8_per_s", "cosine"), "1")
    for number, damaged in enumerate(({"int8_per_s": 1}, texts), 3):
        (cache_directory() / CHOICES).write_text(json.dumps({machine_key(model): damaged, "other": 3}))
        assert OnnxModel(tiny_export, faster_photo_part).photo_part == "photo-int8"
        assert len(asked) == number


def test_other_threads_are_another_machine(tiny_export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = OnnxModel(tiny_export)
    keys = set()
    for count in ("1", "2"):
        monkeypatch.setenv("OMP_NUM_THREADS", count)
        keys.add(machine_key(model))
    monkeypatch.setattr("onnxruntime.__version__", "0")
    assert len({*keys, machine_key(model)}) == 3


def test_a_cache_that_cannot_be_written_is_no_mistake(
    tiny_export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("a file")
    asked = with_result(monkeypatch, **FAST, cosine=1.0)
    monkeypatch.setattr(runtime, "MIN_COSINE", 0.97)
    assert OnnxModel(tiny_export, faster_photo_part).photo_part == "photo-int8"
    assert len(asked) == 1


def test_the_measurement_is_of_both(tiny_export: Path) -> None:
    model = OnnxModel(tiny_export)
    result = measured(model)
    rows = [model.embed_photos(probes(runtime.PROBES, 96), part) for part in ("photo", "photo-int8")]
    assert result["cosine"] == pytest.approx(float((rows[0] * rows[1]).sum(1).mean()))
    assert model.form.int8 is not None
    assert result["cosine"] == pytest.approx(model.form.int8.probe_cosine, abs=1e-4)
    assert min(result["float_per_s"], result["int8_per_s"]) > 0


NO_TORCH = """
import sys

for name in ("torch", "onnx", "lightning"):
    sys.modules[name] = None  # as if it were not installed
from crossatnet.cli.main import main
sys.argv = ["crossatnet", *sys.argv[1:]]
main()
"""


def without_torch(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", NO_TORCH, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_everyday_commands_need_no_torch(tiny_export: Path, tmp_path: Path) -> None:
    write_tiny(tmp_path / "data")
    photos, drawing = tmp_path / "data" / "photos", tmp_path / "data" / "sketches" / "star" / "0.png"
    gallery = tmp_path / "my.gallery"
    some = sorted((photos / "star").iterdir())
    for arguments in (
        ("--version",),
        ("doctor", "--json"),
        ("index", photos, "-o", gallery, "--checkpoint", tiny_export, "-q"),
        ("info", gallery),
        ("search", gallery, drawing, "-k", "3"),
        ("search", gallery, drawing, "-k", "3", "--guided", "--runtime", "onnx-int8"),
        ("explain", drawing, *some, "--checkpoint", tiny_export, "-o", tmp_path / "explained.png"),
        ("remove", gallery, some[0]),
    ):
        done = without_torch(*arguments)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "explained.png").is_file()
    output = without_torch("info", gallery).stdout
    assert "31 pictures" in output


def test_what_needs_torch_says_so(tiny_export: Path, tmp_path: Path) -> None:
    done = without_torch("evaluate", tiny_export)
    assert (done.returncode, done.stderr) == (
        2,
        "error: this needs torch, which is not installed: pip install 'crossatnet[torch]'\n",
    )
    done = without_torch("export", tiny_export, "-o", tmp_path / "out")
    assert done.returncode == 2
    assert "pip install 'crossatnet[export]'" in done.stderr
