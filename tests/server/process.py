"""`crossatnet serve` in processes of its own, for tests."""

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import httpx2

from server.serving import HOUSE

PATIENCE = 120  # seconds, for machines that are busy


class Server:
    """`crossatnet serve` in processes of its own."""

    def __init__(self, *arguments: object, log: Path) -> None:
        self.log = log
        command = [sys.executable, "-m", "crossatnet", "serve", *map(str, arguments), "--port", "0"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1"}
        with log.open("wb") as errors:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.match(r"(http://127\.0\.0\.1:\d+) \(Ctrl-C stops\)", line)
        assert found, (line, log.read_text(encoding="utf-8"))
        self.address = found[1]

    def search(self) -> int:
        """The status of a search in the gallery `pets`, on a connection of its own."""
        asked = f"{self.address}/api/v1/galleries/pets/search/strokes"
        return httpx2.post(asked, json={"strokes": HOUSE, "k": 3}, timeout=PATIENCE).status_code

    def workers(self) -> Counter[int]:
        """Searches answered, by process."""
        lines = [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines() if line[:1] == "{"]
        return Counter(line["worker"] for line in lines)

    def stop(self, how: signal.Signals) -> int:
        """Stop the server; returns its exit code."""
        self.process.send_signal(how)
        return self.process.wait(PATIENCE)
