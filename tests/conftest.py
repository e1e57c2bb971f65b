"""What holds for all tests and the processes that they start.

One thread for matrix products, set before torch starts: on busy cores two wait for each other, 4 times as long. And
Ctrl-C is heard, which a shell ignores for what it starts in the background.
"""

import os
import shutil
import signal
from pathlib import Path

import pytest
from filelock import FileLock

os.environ.setdefault("OMP_NUM_THREADS", "1")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def tiny_export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint with its ONNX form, 8 bits included; not to be changed: `exported` is a copy."""
    from crossatnet.runtime.export.checkpoint import export_checkpoint, training_photos
    from tiny_checkpoint import save_tiny_checkpoint
    from tiny_data import write_tiny

    ours = tmp_path_factory.getbasetemp()
    root = (ours.parent if "PYTEST_XDIST_WORKER" in os.environ else ours) / "export"  # one for all processes of a run
    root.mkdir(exist_ok=True)
    with FileLock(root / "lock"):
        if not (root / "done").exists():
            write_tiny(root / "data", pictures=8)
            save_tiny_checkpoint(root / "plain")
            photos = training_photos(root / "plain", root / "data", None, quiet=True)
            export_checkpoint(root / "plain", root / "whole", photos)
            (root / "done").touch()
    return root / "whole"


@pytest.fixture
def exported(tiny_export: Path, tmp_path: Path) -> Path:
    """A copy of `tiny_export` that a test may damage."""
    return Path(shutil.copytree(tiny_export, tmp_path / "exported"))
