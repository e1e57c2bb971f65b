"""A real Milvus server for tests and benchmarks, which only this machine can reach.

Milvus listens on every network interface; no setting changes that. So it runs in a network namespace of its own that
has only a loopback interface. A Unix socket leads out of it, and a port of 127.0.0.1 leads to that socket.
"""

import asyncio
import fcntl
import importlib.util
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import closing
from functools import partial
from pathlib import Path

SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1
ISOLATED = ("unshare", "--map-root-user", "--net")
START_S = 120.0

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def missing() -> str:
    """Why no server can be started here; empty if one can."""
    if importlib.util.find_spec("milvus") is None:
        return "no server: pip install milvus==2.3.5"
    if shutil.which("unshare") is None or subprocess.run([*ISOLATED, "true"], capture_output=True).returncode:
        return "no server: it needs Linux and `unshare --net`"
    return ""


def count_rows(place: str) -> int:
    """The rows of a gallery's collection, read without the backend under test.

    While rows are replaced, Milvus's strong query sometimes counts too many; a second query after it does not.
    """
    from crossatnet.gallery.milvus.calls import Address, Connection

    address = Address.parse(place)
    with closing(Connection(address)) as connection:
        connection.call("query", address.name, filter="id == -1", output_fields=["id"], consistency_level="Strong")
        asked = {"filter": "", "output_fields": ["count(*)"], "consistency_level": "Eventually"}
        return int(connection.call("query", address.name, **asked)[0]["count(*)"])


class MilvusServer:
    """A server that keeps its data in a folder; it may be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._socket = folder / "out.socket"
        self._process: subprocess.Popen[bytes] | None = None
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        bridge = partial(_bridge, lambda: asyncio.open_unix_connection(str(self._socket)))
        listening = asyncio.run_coroutine_threadsafe(asyncio.start_server(bridge, "127.0.0.1", 0), self._loop)
        self.port: int = listening.result().sockets[0].getsockname()[1]

    @property
    def pid(self) -> int:
        """The process that was started, whose children the server is."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the server and wait until it answers."""
        command = [*ISOLATED, sys.executable, __file__, str(self.folder), str(self._socket)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, cwd=self.folder
        )
        alarm = threading.Timer(START_S, self.kill)
        alarm.start()
        try:
            line = self._process.stdout.readline() if self._process.stdout else b""
        finally:
            alarm.cancel()
        if line != b"ready\n":
            self.kill()
            raise RuntimeError(f"Milvus did not start: see {self.folder / 'logs'}")

    def kill(self) -> None:
        """Kill the server with SIGKILL, like a power cut."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """End the server for good."""
        self.kill()
        asyncio.run_coroutine_threadsafe(_hang_up(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)


async def _hang_up() -> None:
    calls = asyncio.all_tasks() - {asyncio.current_task()}
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)


async def _bridge(
    dial: Callable[[], Awaitable[Streams]], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Forward bytes between one caller and the connection of `dial`, until one of them closes."""
    try:
        far_reader, far_writer = await dial()
    except OSError:
        writer.transport.abort()
        return
    await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(1 << 18):
            writer.write(chunk)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


def _run(folder: str, socket_path: str) -> None:
    """Inside the namespace: start the server, then forward bytes until standard input is closed."""
    from milvus import MilvusServer as PackagedServer
    from milvus import MilvusServerConfig

    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
    server = PackagedServer(MilvusServerConfig())
    server.set_base_dir(folder)
    server.start()
    Path(socket_path).unlink(missing_ok=True)

    async def serve() -> None:
        bridge = partial(_bridge, lambda: asyncio.open_connection("127.0.0.1", server.listen_port))
        await asyncio.start_unix_server(bridge, socket_path)
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

    asyncio.run(serve())
    server.stop()


if __name__ == "__main__":
    _run(*sys.argv[1:])
