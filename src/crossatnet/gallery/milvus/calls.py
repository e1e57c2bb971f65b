"""Calls to a Milvus server: its address, calls that are tried again while it is away, and its errors in plain words."""

import logging
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from crossatnet.system.errors import UserError

SCHEME = "milvus://"
ADDRESS = re.compile(SCHEME + r"([^/:@\s]+):(\d{1,5})/([A-Za-z_][A-Za-z0-9_]{0,199})")
TOKEN_VARIABLE = "CROSSATNET_MILVUS_TOKEN"  # user:password, for servers that ask for it; never part of an address

CONNECT_S = 5.0  # so that a mistyped address is reported soon
PATIENCE_S = 120.0  # a server that was killed and restarted took about 40 s until it searched again
CALL_S = 30.0  # for one attempt
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 3.0  # between attempts, doubled each time

NO_ANSWER = 2  # pymilvus's own code
COLLECTION_NOT_FOUND = 100
INVALID_PARAMETER = 1100


@dataclass(frozen=True)
class Address:
    """Where a gallery is: the server's host and port, and the gallery's name there."""

    host: str
    port: int
    name: str

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read `milvus://HOST:PORT/NAME`. Raises `UserError` for anything else."""
        match = ADDRESS.fullmatch(text)
        if match is None or not 0 < int(match[2]) < 65_536:
            raise UserError(
                f"{text}: not the address of a gallery; write milvus://HOST:PORT/NAME, NAME of letters, digits and _"
            )
        return cls(match[1], int(match[2]), match[3])

    def __str__(self) -> str:
        return f"{SCHEME}{self.host}:{self.port}/{self.name}"


class Connection:
    """A client whose calls are tried again, for `PATIENCE_S`, while the server or a part of it does not answer.

    Every call that a gallery makes may be made twice, so a call that failed half-way is simply repeated.
    """

    def __init__(self, address: Address) -> None:
        """Connect. Raises `UserError` if no Milvus answers there."""
        from pymilvus import MilvusClient

        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it logs tracebacks; here one line is enough
        self.address = address
        self._client = self._retry(
            lambda: MilvusClient(
                uri=f"http://{address.host}:{address.port}",
                token=os.environ.get(TOKEN_VARIABLE, ""),
                timeout=CONNECT_S,
                dedicated=True,  # so that closing one gallery does not close another's connection
            ),
            CONNECT_S,
        )

    def close(self) -> None:
        """Close the connection; closing twice does no harm."""
        self._client.close()

    def call(self, method: str, *arguments: Any, **named: Any) -> Any:
        """Call a method of pymilvus's client. Raises `UserError` if the server does not answer for long, or refuses."""
        return self._retry(lambda: getattr(self._client, method)(*arguments, timeout=CALL_S, **named), PATIENCE_S)

    def _retry(self, attempt: Callable[[], Any], patience: float) -> Any:
        from pymilvus import MilvusException

        give_up = time.monotonic() + patience
        pause = FIRST_PAUSE_S
        while True:
            try:
                return attempt()
            except MilvusException as error:
                is_final = error.code in (COLLECTION_NOT_FOUND, INVALID_PARAMETER) or _is_refusal(error)
                if is_final or time.monotonic() + pause > give_up:
                    raise UserError(f"{self.address}: {_in_plain_words(error)}") from error
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)


def _is_refusal(error: Any) -> bool:
    return "auth check failure" in error.message or "PERMISSION_DENIED" in str(error.code)


def _in_plain_words(error: Any) -> str:
    first_line = error.message.partition("\n")[0]
    if _is_refusal(error):
        return f"the server refuses; put user:password into {TOKEN_VARIABLE} ({first_line})"
    if error.code == COLLECTION_NOT_FOUND:
        return "the gallery was deleted meanwhile; make it again with `crossatnet index`"
    if error.code == NO_ANSWER:
        return "no Milvus server answers there; start it, or check host and port, and run the same command again"
    return f"Milvus fails: {first_line}; look into its log, and run the same command again"
