"""What safety costs: index and search of the same pictures by two trees, taken in turns.

    python benchmarks/attack_price.py --before PATH_OF_ANOTHER_CHECKOUT --rounds 5

Each round indexes made-up JPEG photos into a new gallery, opens it and searches it by strokes, in a process for each
tree, and then once more by the command line. Both use the checkpoint of the other tree. Prints the medians of processor
time, which a busy machine changes little, and their ratios.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

WORKER = """
import json, resource, sys, time
from pathlib import Path
import numpy as np
from crossatnet import CrossATNet, Gallery

def used():
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in both)

folder, place, checkpoint, searches = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
model = CrossATNet.from_pretrained(checkpoint, runtime="onnx")
stroke = (np.array([[0, 0], [50, 90], [100, 0], [0, 0]], np.float32),)
with Gallery.create(place, model) as gallery:
    gallery.search(stroke, 1)
    begin = used()
    gallery.add_folder(folder)
    indexed = used() - begin
with Gallery.open(place, model) as gallery:
    gallery.search(stroke, 10)
    begin = used()
    for _ in range(searches):
        gallery.search(stroke, 10)
    searched = used() - begin
query, code = np.ones((1, model.dimension), np.float32), np.zeros((1, model.code_bits // 8), np.uint8)
begin = used()
for _ in range(searches):
    with Gallery.open(place, model) as gallery:
        gallery.store.nearest(query, code, 10)
opened = used() - begin
print(json.dumps({"index": indexed, "search": searched / searches, "open": opened / searches}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--searches", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    trees = {"before": options.before, "now": Path(__file__).parents[1]}
    checkpoint = options.before.absolute() / "src" / "crossatnet" / "checkpoints" / "crossatnet-open"
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in trees}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "photos")
        made(folder, options.pictures)
        for number in range(options.rounds):
            for name in (trees, reversed(trees))[number % 2]:
                place = Path(scratch, f"{name}{number}.gallery")
                taken[name].append(measured(trees[name], folder, place, checkpoint, options.searches))
    for step in taken["now"][0]:
        before, now = (statistics.median(each[step] for each in taken[name]) for name in ("before", "now"))
        ratios = [late[step] / early[step] for early, late in zip(taken["before"], taken["now"], strict=True)]
        print(
            f"{step}: {before * 1000:.1f} ms before, {now * 1000:.1f} ms now; ratio {now / before:.3f} (of rounds"
            f" {min(ratios):.3f} to {max(ratios):.3f})"
        )


def measured(tree: Path, folder: Path, place: Path, checkpoint: Path, searches: int) -> dict[str, float]:
    """Processor seconds of one tree, in processes of its own."""
    environment = {**os.environ, "PYTHONPATH": str(tree / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", WORKER, str(folder), str(place), str(checkpoint), str(searches)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    query = next(folder.iterdir())
    command = [sys.executable, "-m", "crossatnet", "search", str(place), str(query), "--photo", "--runtime", "onnx"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=environment, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {**found, "command": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def made(folder: Path, pictures: int) -> None:
    """Soft photos of two megapixels, as JPEG files; every fourth is progressive."""
    folder.mkdir()
    for number in range(pictures):
        pixels = np.random.default_rng(number).integers(0, 256, (12, 16, 3), np.uint8)
        image = Image.fromarray(pixels).resize((1600, 1200), Image.Resampling.BICUBIC)
        image.save(folder / f"{number}.jpg", quality=88, progressive=number % 4 == 0)


if __name__ == "__main__":
    main()
