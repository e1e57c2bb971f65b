"""Does a drawing still find its thing, however it arrives: on grey paper, on a desk, in pencil, with a frame?

    python benchmarks/paper.py --data DATA

Drawings of many classes search a folder of photos, all classes together. Those count that succeed when clean: a right
photo is among the first ten. Each of them is made to arrive in every way of `paper_ways` and `paper_other_ways`, and
the table has the share that still succeeds: before, when a picture was only turned to white strokes on black by its
border, and now, by `crossatnet.data.drawing.read`. Writes `benchmarks/results/paper.json`.
"""

import argparse
import json
import platform
import random
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from crossatnet import CrossATNet
from crossatnet.data.catalog import Item
from crossatnet.data.images import cut_to_strokes, load_image
from crossatnet.data.layouts import folder, sketchy, tuberlin
from crossatnet.data.names import canonical
from crossatnet.model.interface import PictureModel
from crossatnet.system.errors import ImageError
from paper_other_ways import OTHER_WAYS
from paper_ways import WAYS, Ink, Way
from record import write

TOP = 10
Reader = Callable[[Image.Image], NDArray[np.uint8]]


def old_reading(side: int) -> Reader:
    """As pictures were read before: the border tells the paper's colour, and nothing else is mended."""

    def read(image: Image.Image) -> NDArray[np.uint8]:
        image = load_image(image)
        grey = np.asarray(image.convert("L"))
        border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
        strokes = ImageOps.invert(image) if np.median(border) > 127 else image
        return np.array(cut_to_strokes(strokes).resize((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0))

    return read


def listed(data: Path) -> tuple[list[Item], list[Item]]:
    """The photos and the sketches of the folder of sample data."""
    items = [*sketchy(data / "sketchy-mini"), *folder(data / "photos-extra"), *tuberlin(data / "tuberlin-mini")]
    named = [Item(item.path, canonical(item.class_name), item.modality, item.instance) for item in items]
    photos = [item for item in named if item.modality == "photo" and "ImageResized" not in item.path.parts]
    return photos, [item for item in named if item.modality == "sketch"]


def picked(items: list[Item], each: int, most: int, dice: random.Random) -> list[Item]:
    """Up to `each` items of every class, and `most` in all."""
    by_class: dict[str, list[Item]] = {}
    for item in dice.sample(items, len(items)):
        by_class.setdefault(item.class_name, []).append(item)
    few = [item for name in sorted(by_class) for item in by_class[name][:each]]
    return dice.sample(few, min(most, len(few)))


class Search:
    """Success of drawings in a gallery of photos."""

    def __init__(self, model: PictureModel, photos: list[Item]) -> None:
        self.model = model
        self.gallery = model.encode([item.path for item in photos], "photo", errors="raise")  # (N, D)
        self.classes = np.array([item.class_name for item in photos])

    def succeeds(self, pixels: NDArray[np.uint8], class_name: str) -> bool:
        """Whether a right photo is among the first ten for a drawing (S, S, 3)."""
        scores = self.gallery @ self.model.embed(pixels[None], "sketch")[0]
        return bool((self.classes[np.argsort(-scores)[:TOP]] == class_name).any())


def clean_ink(item: Item) -> Ink:
    return 1 - np.asarray(load_image(item.path).convert("L"), np.float32) / 255


def shares(search: Search, ways: dict[str, Way], drawings: list[Item], readers: dict[str, Reader]) -> dict[str, Any]:
    """Of every way the share of drawings that succeed by each reader, and milliseconds of reading."""
    rows: dict[str, Any] = {}
    for name, way in ways.items():
        kept = dict.fromkeys(readers, 0)
        spent = dict.fromkeys(readers, 0.0)
        unread = dict.fromkeys(readers, 0)
        for number, item in enumerate(drawings):
            arrived = way(clean_ink(item), np.random.default_rng(number))
            for reader, read in readers.items():
                started = time.thread_time()
                try:
                    pixels = read(arrived)
                except ImageError:
                    unread[reader] += 1
                    continue
                spent[reader] += time.thread_time() - started
                kept[reader] += search.succeeds(pixels, item.class_name)
        rows[name] = {
            reader: {
                "kept": round(kept[reader] / len(drawings), 4),
                "unread": unread[reader],
                "milliseconds": round(1000 * spent[reader] / len(drawings), 2),
            }
            for reader in readers
        }
        told = [f"{reader} {row['kept']:.2f} ({row['milliseconds']:.0f} ms)" for reader, row in rows[name].items()]
        print(f"{name:28s}", *told, flush=True)
    return rows


def summary(rows: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Mean and least share kept, by reader."""
    readers = next(iter(rows.values()))
    values = {reader: [row[reader]["kept"] for row in rows.values()] for reader in readers}
    return {reader: {"mean": round(float(np.mean(kept)), 4), "least": min(kept)} for reader, kept in values.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--checkpoint", default="crossatnet-open")
    parser.add_argument("--drawings", type=int, default=240, help="sketches tried, of which those that succeed count")
    parser.add_argument("--ways", nargs="*", help="only these")
    parser.add_argument("--only-now", action="store_true", help="leave out the reading of before")
    arguments = parser.parse_args()
    model = CrossATNet.from_pretrained(arguments.checkpoint)
    dice = random.Random(0)
    photos, sketches = listed(arguments.data)
    gallery = picked(photos, 6, 1500, dice)
    known = {item.class_name for item in gallery}
    tried = picked([item for item in sketches if item.class_name in known], 3, arguments.drawings, dice)
    search = Search(model, gallery)
    before = old_reading(model.config.image_size)
    readers: dict[str, Reader] = {"before": before, "now": lambda image: model.preprocess(image, "sketch")}
    if arguments.only_now:
        del readers["before"]
    good = [item for item in tried if search.succeeds(before(load_image(item.path)), item.class_name)]
    print(f"{len(gallery)} photos of {len(known)} classes; {len(good)} of {len(tried)} drawings succeed when clean")
    asked = arguments.ways
    sets = {
        "ways": {name: way for name, way in WAYS.items() if not asked or name in asked},
        "other ways": {name: way for name, way in OTHER_WAYS.items() if not asked or name in asked},
    }
    rows = {name: shares(search, ways, good, readers) for name, ways in sets.items() if ways}
    clean = shares(search, {"clean": lambda ink, _: Image.fromarray((255 * (1 - ink)).astype(np.uint8))}, good, readers)
    folder_name = str(arguments.data)
    report = {
        "command": shlex.join(["python", *(word.replace(folder_name, "DATA") for word in sys.argv)]),
        "machine": f"{platform.machine()}, {platform.system()}",
        "software": f"Python {platform.python_version()}, NumPy {np.__version__}",
        "photos": len(gallery),
        "classes": len(known),
        "tried": len(tried),
        "clean": len(good),
        "clean share": clean["clean"],
        "rows": rows,
        "summary": {name: summary(part) for name, part in rows.items()},
    }
    print(json.dumps(report["summary"]))
    if not asked and not arguments.only_now:
        write("paper", report)


if __name__ == "__main__":
    main()
