"""What several tests of galleries need."""

from collections.abc import Iterator

import pytest

from gallery.milvus_server import MilvusServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    """A Milvus server of a test file's own."""
    server = MilvusServer(tmp_path_factory.mktemp("milvus"))
    server.start()
    yield server
    server.close()
