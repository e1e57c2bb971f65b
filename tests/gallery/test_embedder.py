"""Models that a user names: found, tried, and refused in one line that says why."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crossatnet.gallery.embedder import MEMBERS, check_embedder, load_embedder
from crossatnet.model.regions import Regions
from crossatnet.system.errors import UserError
from gallery.fake_model import FakeModel

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a module of a name of its own into the current folder, and returns the name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    written: list[str] = []

    def write(text: str, name: str = "") -> str:
        name = name or f"written_{tmp_path.name}_{len(written)}".replace("-", "_").replace("[", "").replace("]", "")
        written.append(name)
        (tmp_path / f"{name}.py").write_text(text)
        return name

    yield write
    for name in [name for name in sys.modules if name.partition(".")[0] in written]:
        del sys.modules[name]


MODEL = "from gallery.fake_model import FakeModel\n"


def test_an_object_a_class_or_a_function_of_a_module_here(write: Write) -> None:
    text = "model = FakeModel(seed=3)\ndef make():\n    return FakeModel(seed=4)\nclass Holder:\n    model = make\n"
    name = write(MODEL + text)
    assert load_embedder(f"{name}:model").name == "fake-3"
    assert load_embedder(f"{name}:make").name == "fake-4"
    assert load_embedder(f"{name}:Holder.model").name == "fake-4"
    assert load_embedder(f"{name}:FakeModel").name == "fake-0"


def test_a_module_in_a_package(write: Write, tmp_path: Path) -> None:
    write("")
    (tmp_path / "mine_of_test").mkdir()
    (tmp_path / "mine_of_test" / "towers.py").write_text(MODEL + "model = FakeModel()\n")
    assert load_embedder("mine_of_test.towers:model").name == "fake-0"


def test_nothing_here_hides_what_is_installed(write: Write) -> None:
    """The current folder is looked into last."""
    write("raise SystemError('this is not the library')\n", "colorsys")
    sys.modules.pop("colorsys", None)
    name = write(MODEL + "import colorsys\nmodel = FakeModel(seed=int(colorsys.rgb_to_hsv(0, 0, 5)[2]))\n")
    assert load_embedder(f"{name}:model").name == "fake-5"


@pytest.mark.parametrize("place", ["", "towers", "towers:", ":model", "towers.py:model", "a/b:model", "t:m:m", "t:m()"])
def test_what_is_no_import_path(place: str) -> None:
    with pytest.raises(UserError, match=r"^--embedder .*: give MODULE:OBJECT, such as towers:model"):
        load_embedder(place)


def test_what_cannot_be_found_or_made(write: Write, tmp_path: Path) -> None:
    broken = write("import nowhere_at_all\n")
    raising = write("raise RuntimeError('first\\nsecond')\n")
    name = write(MODEL + "towers = 3\ndef make(folder):\n    return FakeModel()\ndef fail():\n    return 1 / 0\n")
    for place, message in {
        "none_of_this_name:model": f"no module 'none_of_this_name', neither installed nor in {tmp_path}",
        f"{name}.more:model": f"no module '{name}.more', neither installed nor in {tmp_path}",
        f"{broken}:model": "importing .* fails: ModuleNotFoundError: No module named 'nowhere_at_all'",
        f"{raising}:model": "importing .* fails: RuntimeError: first second$",
        f"{name}:tower": "has no 'tower'; did you mean towers",
        f"{name}:make": r"calling make\(\) fails: TypeError: .*folder",
        f"{name}:fail": r"calling fail\(\) fails: ZeroDivisionError: division by zero",
        f"{name}:towers": "a int is no Embedder, it lacks fingerprint, .*TwoTowers",
    }.items():
        with pytest.raises(UserError, match=message) as caught:
            load_embedder(place)
        assert str(caught.value).startswith(f"--embedder {place}: ")
        assert "\n" not in str(caught.value)


class Changed(FakeModel):
    """The small model with some of it another."""

    def __init__(self, **changed: Any) -> None:
        super().__init__()
        self.__dict__.update(changed)


WHOLE = np.ones((1, 16), np.float32)


def parts(count: int) -> Regions:
    return Regions(np.zeros((count, 4), np.float32), np.ones((count, 16), np.float32))


def raising(*_: object) -> None:
    raise KeyError("weights")


def test_the_small_model_passes() -> None:
    for changed in ({"has_attention": True}, {"regions": True}):
        model = Changed(**changed)
        assert check_embedder(model, "mine") is model


@pytest.mark.parametrize("member", MEMBERS)
def test_whatever_is_missing_is_named(member: str) -> None:
    class Partial:
        def __getattr__(self, name: str) -> object:
            if name == member:
                raise AttributeError(name)
            return getattr(FakeModel(), name)

    with pytest.raises(UserError, match=f"mine: a Partial is no Embedder, it lacks {member};"):
        check_embedder(Partial(), "mine")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"dimension": 16.0}, "dimension is 16.0, not of type int"),
        ({"dimension": 15}, r"embed of two sketch pictures gives float32 \(2, 16\); expected is .* \(2, 15\)"),
        ({"dimension": 0}, "dimension is 0 and batch_size 8; both must be 1 or more"),
        ({"batch_size": 0}, "batch_size 0; both must be 1 or more"),
        ({"code_bits": 60}, "code_bits is 60, not a multiple of 8"),
        ({"code_bits": 128}, r"hash of two embeddings gives uint8 \(2, 8\); expected is an array of uint8 \(2, 16\)"),
        ({"fingerprint": ""}, "fingerprint is empty"),
        ({"fingerprint": None}, "fingerprint is None, not of type str"),
        ({"has_attention": "yes"}, "has_attention is 'yes', not of type bool"),
        ({"preprocess": raising}, "a Changed fails on a trial: KeyError: 'weights'"),
        ({"preprocess": lambda *_: np.zeros((3, 8, 8), np.uint8)}, r"preprocess of a sketch gives uint8 \(3, 8, 8\)"),
        ({"preprocess": lambda *_: [[1]]}, "preprocess of a sketch gives a list; expected is an array of uint8"),
        ({"embed": lambda x, _: np.ones((len(x), 16), np.float32)}, "an embedding of length 4, not 1"),
        ({"embed": lambda x, _: np.full((len(x), 16), np.nan, np.float32)}, "an embedding of length nan, not 1"),
        ({"embed": lambda x, _: np.eye(16)[:2]}, "embed of two sketch pictures gives float64"),
        ({"hash": lambda x: None}, "hash of two embeddings gives a NoneType"),
        ({"guide": lambda *_: (np.ones(2), np.ones((2, 1, 3, 3)))}, r"guide with one photo gives shapes \(2,\)"),
        ({"guide": raising}, "fails on a trial: KeyError"),
        ({"regions": True, "embed_with_regions": raising}, "fails on a trial: KeyError"),
        ({"regions": True, "preprocess_with_regions": lambda _: (np.zeros((8, 8, 3), np.uint8),) * 2}, "other pixels"),
        ({"regions": True, "embed_with_regions": lambda *_: (np.ones((1, 16)), [parts(0)])}, "one photo gives float64"),
        ({"regions": True, "embed_with_regions": lambda *_: (WHOLE, [parts(9)])}, "9 regions; most are 8"),
    ],
)
def test_the_first_fault_is_named(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"mine: .*{message}"):
        check_embedder(Changed(**changed), "mine")


def test_without_attention_nothing_is_guided() -> None:
    check_embedder(Changed(has_attention=False, guide=raising), "mine")
