"""Addresses, and calls to a server that is sometimes away."""

from collections.abc import Callable

import pymilvus
import pytest
from pymilvus import MilvusException

from crossatnet.gallery.backend import MadeWith
from crossatnet.gallery.backends import create_backend
from crossatnet.gallery.milvus.calls import Address, Connection
from crossatnet.system.errors import UserError

ADDRESS = Address("127.0.0.1", 19530, "birds")


class FlakyClient:
    """Fails with the given errors, one after another, then answers."""

    errors: list[MilvusException]
    calls: int

    def __init__(self, **settings: object) -> None:
        FlakyClient.calls = 0

    def has_collection(self, name: str, timeout: float) -> str:
        FlakyClient.calls += 1
        if FlakyClient.errors:
            raise FlakyClient.errors.pop(0)
        return f"answer about {name}"


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Connection]:
    def make(*errors: MilvusException) -> Connection:
        FlakyClient.errors = [*errors]
        monkeypatch.setattr(pymilvus, "MilvusClient", FlakyClient)
        monkeypatch.setattr("crossatnet.gallery.milvus.calls.FIRST_PAUSE_S", 0.001)
        monkeypatch.setattr("crossatnet.gallery.milvus.calls.PATIENCE_S", 0.1)
        return Connection(ADDRESS)

    return make


def test_an_address_is_read_and_written() -> None:
    assert Address.parse("milvus://127.0.0.1:19530/birds") == ADDRESS
    assert str(ADDRESS) == "milvus://127.0.0.1:19530/birds"


@pytest.mark.parametrize(
    "text",
    [
        "milvus://host/birds",
        "milvus://host:70000/birds",
        "milvus://host:0/birds",
        "milvus://host:1/",
        "milvus://host:1/two words",
        "milvus://host:1/1st",
        "milvus://user:secret@host:1/birds",
        "milvus:/host:1/birds",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UserError, match=r"not the address of a gallery; write milvus://HOST:PORT/NAME"):
        Address.parse(text)


@pytest.mark.parametrize(("code", "message"), [(2, "Fail connecting"), (101, "collection not loaded"), (65535, "node")])
def test_a_server_that_comes_back_costs_nothing_but_time(
    connect: Callable[..., Connection], code: int, message: str
) -> None:
    connection = connect(*[MilvusException(code, message)] * 3)
    assert connection.call("has_collection", "birds") == "answer about birds"
    assert FlakyClient.calls == 4


@pytest.mark.parametrize(
    ("code", "message", "reported"),
    [
        (100, "collection not found", "the gallery was deleted meanwhile; make it again"),
        (1100, "the length (5000) of 0th string exceeds max length", r"Milvus fails: the length \(5000\).*; look into"),
        (
            65535,
            "auth check failure, please check",
            "the server refuses; put user:password into CROSSATNET_MILVUS_TOKEN",
        ),
    ],
)
def test_errors_that_waiting_cannot_fix_are_reported_at_once(
    connect: Callable[..., Connection], code: int, message: str, reported: str
) -> None:
    connection = connect(*[MilvusException(code, message)] * 100)
    with pytest.raises(UserError, match=f"^{ADDRESS}: {reported}"):
        connection.call("has_collection", "birds")
    assert FlakyClient.calls == 1


def test_patience_ends(connect: Callable[..., Connection]) -> None:
    connection = connect(*[MilvusException(2, "Fail connecting")] * 10_000)
    with pytest.raises(
        UserError, match=f"^{ADDRESS}: no Milvus server answers there; start it, or check host and port"
    ):
        connection.call("has_collection", "birds")
    assert FlakyClient.calls > 3


def test_thumbnails_are_not_kept_on_a_server() -> None:
    with pytest.raises(UserError, match="a gallery on a server keeps no thumbnails; leave out --thumbnails"):
        create_backend(str(ADDRESS), MadeWith("f" * 64, "", "fake", 16, 64), thumbnail_side=64)
