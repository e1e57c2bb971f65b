"""Training by several processes from the command line: as one process, as two nodes, by torchrun, and after a kill."""

import json
import os
import shutil
import socket
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file
from torch import Tensor

from crossatnet.model.checkpoint import HISTORY, WEIGHTS, is_checkpoint
from crossatnet.training.train import RUN_FILES
from tiny_data import write_tiny

pytestmark = pytest.mark.scale

MINUTES = 15 * 60  # on busy cores
COMMAND = """
    import os, signal
    from crossatnet.__main__ import main
    from crossatnet.training.lightning_module import Training

    end_of_epoch = Training.on_train_epoch_end

    def die(self):
        if self.validation_sources is not None and f"{self.ranks.rank} {self.current_epoch}" == os.environ.get("DIES"):
            os.kill(os.getpid(), signal.SIGKILL)
        end_of_epoch(self)

    Training.on_train_epoch_end = die
    if __name__ == "__main__":
        main()
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn shapes, a config with everything that has a state of its own, and the command with its hook."""
    root = tmp_path_factory.mktemp("shapes")
    write_tiny(root)
    model = {"image_size": 64, "dimension": 16, "code_lengths": [16], "shared_encoder": False}
    train = {"epochs": 3, "classes_per_batch": 3, "pairs_per_class": 3, "learning_rate": 0.005}
    train |= {"trainable_units": 2, "average": 0.9, "interpolation": 0.7}
    data = {"split": str(root / "tiny"), "root": str(root), "validation_classes": 2}
    settings = {"name": "shapes", "data": data, "model": model, "train": train}
    (root / "shapes.yaml").write_text(yaml.safe_dump(settings))
    (root / "command.py").write_text(textwrap.dedent(COMMAND))
    return root


def begin(root: Path, output: Path, *options: str, by: tuple[str, ...] = (), **variables: str) -> subprocess.Popen[str]:
    command = [sys.executable, *by, str(root / "command.py"), "train", str(root / "shapes.yaml"), "-o", str(output)]
    inherited = {name: value for name, value in os.environ.items() if name not in ("LOCAL_RANK", "MASTER_PORT")}
    cache = {"CROSSATNET_CACHE": str(root / "cache"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, "--quiet", *options],
        env={**inherited, **cache, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str], code: int = 0) -> str:
    printed, errors = process.communicate(timeout=MINUTES)
    assert process.returncode == code, errors[-3000:]
    return printed if code == 0 else errors


def outcome(folder: Path) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    assert not (folder / RUN_FILES).exists()
    return load_file(folder / WEIGHTS), json.loads((folder / HISTORY).read_text())


def assert_equal(one: Path, other: Path) -> None:
    (weights, history), (same_weights, same_history) = outcome(one), outcome(other)
    assert history == same_history
    for name, tensor in weights.items():
        assert tensor.equal(same_weights[name]), name


@pytest.fixture(scope="module")
def together(root: Path) -> Path:
    """A training by two processes of this machine."""
    output = root / "together"
    assert end(begin(root, output, "--devices", "2")).strip() == str(output)  # one of them speaks
    return output


def test_two_processes_train_as_one(root: Path, together: Path) -> None:
    end(begin(root, root / "alone"))
    (alone, history), (weights, same) = outcome(root / "alone"), outcome(together)
    assert len(history) == len(same) > 3
    for record, other in zip(history, same, strict=True):
        assert other.pop("phase") == record.pop("phase")
        assert other == pytest.approx(record, rel=1e-4, abs=1e-4)
    for name, tensor in alone.items():
        difference = (tensor.double() - weights[name].double()).abs().max()
        assert difference <= 0.01 * tensor.double().abs().max() + 1e-3, name


def test_after_the_loss_of_a_process_the_same_command_goes_on(root: Path, together: Path) -> None:
    output = root / "killed"
    process = begin(root, output, "--devices", "2", DIES="1 1")
    process.communicate(timeout=MINUTES)
    assert process.returncode != 0
    assert not is_checkpoint(output)
    end(begin(root, output, "--devices", "2"))
    assert_equal(together, output)


def free_port() -> str:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return str(opened.getsockname()[1])


def test_two_nodes_train_as_two_processes(root: Path, together: Path) -> None:
    """The node that starts last has a cache of its own: it computes no features."""
    output, meeting = root / "nodes", {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    options = ("--devices", "1", "--nodes", "2")
    empty: Mapping[str, str] = {"CROSSATNET_CACHE": str(root / "empty")}
    other = begin(root, output, *options, NODE_RANK="1", **meeting, **empty)
    first = begin(root, output, *options, NODE_RANK="0", **meeting)
    assert end(first).strip() == str(output)
    assert end(other) == ""
    assert_equal(together, output)
    assert not (root / "empty" / "features").exists()


def test_torchrun_says_how_many(root: Path, together: Path) -> None:
    output = root / "torchrun"
    by = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", free_port())
    end(begin(root, output, by=by))
    assert_equal(together, output)


def test_a_mistake_is_reported_once(root: Path, together: Path) -> None:
    shutil.copytree(together, root / "other")
    errors = end(begin(root, root / "other", "--devices", "2", "--seed", "9"), code=2)
    assert errors.count("holds a run with other settings") == 1
    assert "Traceback" not in errors
