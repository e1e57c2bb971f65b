"""Results files: what every benchmark says beside its figures, and where `tables.py` finds them."""

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def machine() -> str:
    """Kind of processor, number of cores and system."""
    return f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}"


def today() -> str:
    """The date, in the year-month-day form."""
    return datetime.now(UTC).date().isoformat()


def write(name: str, record: dict[str, Any]) -> Path:
    """Write `results/NAME.json` with today's date, and say where that is."""
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({**record, "date": today()}, indent=1) + "\n", encoding="utf-8")
    return path


def read(name: str) -> dict[str, Any]:
    """What `results/NAME.json` holds; nothing if there is none yet."""
    path = RESULTS / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found
