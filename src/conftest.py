"""For the examples in docstrings, which `make test` runs: an empty folder to stand in, and two pictures.

Modules without an example are not imported, so that the examples of the others start at once.
"""

import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Pass over files that hold no example."""
    if collection_path.suffix != ".py" or collection_path == Path(__file__):
        return None
    return True if ">>> " not in collection_path.read_text(encoding="utf-8") else None


@pytest.fixture(autouse=True)
def _ground(doctest_namespace: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What docs/api/index.md promises: `sketch`, `photo`, `tmp_path`; a folder and a cache of the example's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CROSSATNET_CACHE", str(tmp_path / "cache"))
    sketch, photo = Image.new("RGB", (100, 80), "white"), Image.new("RGB", (120, 90), "skyblue")
    ImageDraw.Draw(sketch).rectangle((20, 20, 60, 50), outline="black", width=3)
    ImageDraw.Draw(photo).rectangle((30, 20, 90, 70), fill="firebrick")
    doctest_namespace |= {"sketch": sketch, "photo": photo, "tmp_path": tmp_path}
