"""A small gallery and the complete server, in this process."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from crossatnet.gallery import Gallery
from crossatnet.server.app import create_app
from crossatnet.server.galleries import open_galleries
from crossatnet.server.settings import Place, Settings
from gallery.fake_model import FakeModel
from server.serving import ADDRESS, PICTURES, picture

Client = Callable[..., TestClient]


@pytest.fixture
def model() -> FakeModel:
    return FakeModel()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures of two classes, and some of none."""
    for number in range(PICTURES):
        path = tmp_path / "pictures" / ("", "cat", "dog")[number % 3] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number))
    return tmp_path / "pictures"


@pytest.fixture
def gallery(tmp_path: Path, folder: Path, model: FakeModel) -> Iterator[Gallery]:
    """The gallery of the folder, open beside the server."""
    with Gallery.create(tmp_path / "My pets!.gallery", model) as gallery:
        gallery.add_folder(folder)
        yield gallery


@pytest.fixture
def serve(gallery: Gallery, model: FakeModel) -> Iterator[Client]:
    """Starts a server of the gallery with these settings, and returns its client."""
    with ExitStack() as stack:

        def start(**settings: object) -> TestClient:
            chosen = Settings((Place(gallery.store.name),), **settings)  # type: ignore[arg-type]
            app = create_app(open_galleries(chosen.places, chosen.uploads, model), chosen)
            return stack.enter_context(TestClient(app, base_url=ADDRESS, follow_redirects=False))

        yield start


@pytest.fixture
def client(serve: Client, tmp_path: Path) -> TestClient:
    """A client of a server that accepts uploads."""
    return serve(uploads=tmp_path / "uploads")
