"""Real servers as processes, for attacks: their address, their log, and what they do when they are stopped."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import httpx2

START_S, STOP_S = 600.0, 60.0  # on busy machines


class Server:
    """`crossatnet serve` on a free port; its error stream goes into a file."""

    def __init__(self, gallery: Path, log: Path, *options: object, before: Sequence[str] = ()) -> None:
        """`before` is a command that starts another, such as `prlimit --nofile=256`."""
        command = [*before, sys.executable, "-m", "crossatnet", "serve", str(gallery), "--port", "0"]
        command += map(str, options)
        self.log = log
        self.gallery = re.sub(r"[^A-Za-z0-9_]+", "-", gallery.stem).strip("-").lower()
        with log.open("ab") as errors:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("http"), f"no address: {line!r}; {log.read_text(encoding='utf-8')[-2000:]}"
        self.address = line.split()[0]
        self.wait_until_ready()

    @property
    def base(self) -> str:
        """The address of its gallery."""
        return f"{self.address}/api/v1/galleries/{self.gallery}"

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_S
        while True:
            try:
                if httpx2.get(f"{self.address}/api/v1/ready", timeout=10).status_code in (200, 401):  # 401: has a token
                    return
            except httpx2.HTTPError:
                pass
            assert self.process.poll() is None, self.log.read_text(encoding="utf-8")[-2000:]
            assert time.monotonic() < deadline, "the server does not get ready"
            time.sleep(0.1)

    def stop(self, how: int = signal.SIGTERM) -> float:
        """Stop it; returns how many seconds that took."""
        began = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            self.process.wait(STOP_S)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
        return time.monotonic() - began

    def text(self) -> str:
        """All of its log."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def crossatnet(*arguments: object, timeout: float = 300, **options: object) -> subprocess.CompletedProcess[str]:
    """Run a command of `crossatnet` in a process of its own."""
    command: Sequence[str] = [sys.executable, "-m", "crossatnet", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, **options)  # type: ignore[call-overload, no-any-return]
