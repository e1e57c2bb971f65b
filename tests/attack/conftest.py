"""The gallery and the server in this process, as the server's own tests have them; and a gallery for real servers."""

from pathlib import Path

import pytest

from attack.servers import crossatnet
from server.conftest import client, folder, gallery, model, serve
from server.serving import picture

__all__ = ["client", "folder", "gallery", "model", "serve"]


@pytest.fixture(scope="session")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery of twelve pictures by a real checkpoint, for servers in processes; do not change it."""
    root = tmp_path_factory.mktemp("indexed")
    (root / "pictures" / "bird").mkdir(parents=True)
    for number in range(12):
        (root / "pictures" / "bird" / f"{number}.png").write_bytes(picture(number))
    done = crossatnet("index", root / "pictures", "-o", root / "pets.gallery", "--quiet")
    assert done.returncode == 0, done.stderr
    return root / "pets.gallery"
