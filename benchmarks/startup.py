"""How long does a search take from a cold shell, and what does it import?

    python benchmarks/startup.py

A gallery of `--pictures` made-up photos is indexed with `--checkpoint`, then searched by `crossatnet search`, each time
in a new process: through the checkpoint's ONNX form (`--runtime onnx`) and through torch, in turn, `--repeats` times
each, after one of each that is not counted. Files are in the system's cache. Beside the time that passes stands the
processor's, which other programs on the machine disturb less. Modules are kept compiled, even where the environment
forbids it. Then the same search runs under `python -X importtime`, which tells what each import took of its own,
summed here by package.

Prints a table and writes `benchmarks/results/startup.json`.
"""

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from pictures import patches
from record import machine, write

COMPILED = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
RUNTIMES = ("onnx", "torch")
HEAVIEST = 12  # packages that are listed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="crossatnet-open")
    parser.add_argument("--pictures", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=11)
    options = parser.parse_args()
    with TemporaryDirectory(prefix="crossatnet-") as scratch:
        drawing, gallery = made(Path(scratch), options.pictures), Path(scratch, "made.gallery")
        index = ["index", str(Path(scratch, "photos")), "-o", str(gallery), "--checkpoint", options.checkpoint, "-q"]
        subprocess.run([*python(), *index], check=True, env=COMPILED, capture_output=True)
        taken: dict[str, list[tuple[float, float]]] = {runtime: [] for runtime in RUNTIMES}
        search = ["search", str(gallery), str(drawing), "--runtime"]
        for _ in range(options.repeats + 1):
            for runtime in RUNTIMES:
                taken[runtime].append(timed([*python(), *search, runtime]))
        imports = {runtime: imported([*python("-X", "importtime"), *search, runtime]) for runtime in RUNTIMES}
    record = {
        "command": f"python benchmarks/startup.py --repeats {options.repeats}",
        "machine": machine(),
        "python": platform.python_version(),
        "checkpoint": options.checkpoint,
        "rows": [
            {
                "runtime": runtime,
                "median_s": round(statistics.median(passed for passed, _ in each[1:]), 3),
                "processor_s": round(statistics.median(used for _, used in each[1:]), 3),
                "all_s": [round(passed, 3) for passed, _ in each[1:]],
                **imports[runtime],
            }
            for runtime, each in taken.items()
        ],
    }
    show(record["rows"])
    write("startup", record)


def python(*options: str) -> list[str]:
    return [sys.executable, *options, "-m", "crossatnet"]


def made(scratch: Path, count: int) -> Path:
    """Photos of soft colours in a folder `photos`, and a drawing, whose path is returned."""
    random = np.random.default_rng(0)
    (scratch / "photos").mkdir()
    for number in range(count):
        patches(random, 8, 6, (640, 480)).save(scratch / "photos" / f"{number}.jpg")
    drawing = Image.new("RGB", (400, 400), "white")
    ImageDraw.Draw(drawing).ellipse((80, 120, 320, 280), outline="black", width=4)
    drawing.save(scratch / "drawing.png")
    return scratch / "drawing.png"


def timed(command: list[str]) -> tuple[float, float]:
    """Seconds from the start of a process to its end, and seconds of the processor that it used."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, env=COMPILED, capture_output=True)
    passed, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return passed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def imported(command: list[str]) -> dict[str, Any]:
    """How many modules a process imports, and milliseconds of the heaviest packages."""
    told = subprocess.run(command, check=True, env=COMPILED, capture_output=True, text=True).stderr
    own: Counter[str] = Counter()
    modules = 0
    for line in told.splitlines():
        cells = line.removeprefix("import time:").split("|")
        if line.startswith("import time:") and cells[0].strip().isdigit():
            modules += 1
            own[cells[2].strip().split(".")[0]] += int(cells[0])
    return {
        "modules": modules,
        "imports_ms": round(own.total() / 1000, 1),
        "heaviest_ms": {name: round(spent / 1000, 1) for name, spent in own.most_common(HEAVIEST)},
    }


def show(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        heaviest = ", ".join(f"{name} {spent:.0f}" for name, spent in row["heaviest_ms"].items())
        print(
            f"{row['runtime']:6} {row['median_s']:.2f} s, {row['processor_s']:.2f} s of the processor;"
            f" {row['modules']} modules in {row['imports_ms']:.0f} ms"
        )
        print(f"  heaviest, ms: {heaviest}")
    print(f"torch takes {rows[1]['median_s'] / rows[0]['median_s']:.1f} times as long")


if __name__ == "__main__":
    main()
