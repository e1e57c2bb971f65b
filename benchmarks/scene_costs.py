"""What regions cost at indexing, and whether 8 bits find the same: on the scenes and photos of `scenes.py`.

    python benchmarks/scene_costs.py crossatnet-sketchy --data DATA/sketchy-mini

Photos as they lie on the disk, and scenes saved as JPEG, are indexed into galleries with and without regions, in turn;
told is processor time a picture, the least of the turns. The photos show one thing each, the scenes one to six. Both
are so small that hardly anything is spent on reading them. So both are indexed as large as phones take them, too:
enlarged to `PHONE` pixels, with the grain of a camera.

Then all scenes and photos are embedded with their regions by the ONNX form in floating point and in 8 bits. Told are
the share of pictures in which both find regions or neither does, the share of the first's regions that the second has
in the same place, the mean cosine of these, and what sketches find by either. It writes
`benchmarks/results/scene-costs.json`.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from crossatnet import CrossATNet, Gallery
from crossatnet.data.catalog import open_item
from crossatnet.data.layouts import read_catalog
from crossatnet.data.splits import load_split
from crossatnet.model.checkpoint import locate, read_config
from crossatnet.model.interface import PictureModel
from crossatnet.model.regions import Regions, overlap
from measure import clocked
from parts import embedded, ranked
from pictures import copy_evenly, enlarged, evenly
from record import machine, write
from scene_pictures import scenes
from scenes import Test

SMALL = "under 15%"
SAME_PLACE = 0.5  # intersection over union of two boxes
PHONE = 12_000_000  # pixels


def index_costs(model: PictureModel, folder: Path, turns: int) -> dict[str, float]:
    """Milliseconds of processor time a picture, without regions and with them."""
    taken: dict[bool, list[float]] = {False: [], True: []}
    count = len([*folder.iterdir()])
    for _ in range(turns):
        for regions, times in taken.items():
            with (
                TemporaryDirectory() as scratch,
                Gallery.create(Path(scratch, "made.gallery"), model, regions=regions) as gallery,
            ):
                times.append(1000 * clocked(lambda: gallery.add_folder(folder))[1] / count)
    off, on = min(taken[False]), min(taken[True])
    return {"without_ms": round(off, 2), "with_ms": round(on, 2), "times": round(on / off, 2)}


def as_of_a_phone(target: Path, folder: Path) -> Path:
    """A folder with the pictures of another one, as large as a phone's."""
    target.mkdir()
    random = np.random.default_rng(0)
    for path in sorted(folder.iterdir()):
        picture = Image.open(path).convert("RGB")
        times = (PHONE / (picture.width * picture.height)) ** 0.5
        size = round(times * picture.width), round(times * picture.height)
        enlarged(picture, size, random).save(target / path.name, quality=90)
    return target


def agreement(exact: Sequence[Regions], rounded: Sequence[Regions]) -> dict[str, float]:
    """How far the regions of the same pictures agree, in floating point and in 8 bits."""
    cosines, found = [], 0
    for one, other in zip(exact, rounded, strict=True):
        for box, row in zip(one.boxes, one.embeddings, strict=True):
            found += 1
            overlaps = [overlap(box, place) for place in other.boxes]
            if overlaps and max(overlaps) >= SAME_PLACE:
                cosines.append(float(row @ other.embeddings[int(np.argmax(overlaps))]))
    alike = [bool(len(one.boxes)) == bool(len(other.boxes)) for one, other in zip(exact, rounded, strict=True)]
    return {
        "both_or_none": round(float(np.mean(alike)), 4),
        "same_places": round(len(cosines) / found, 4),
        "cosine": round(float(np.mean(cosines)), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="a packaged checkpoint or the folder of one, with its ONNX form in 8 bits")
    parser.add_argument("--data", type=Path, required=True, help="a folder in Sketchy's layout")
    parser.add_argument("--sketches", type=int, default=8, help="of each class, that search")
    parser.add_argument("--pictures", type=int, default=100, help="of each kind, that are indexed")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    classes = load_split(read_config(locate(options.checkpoint)).provenance.split).unseen
    catalog = read_catalog(options.data, "sketchy", classes=frozenset(classes))
    photos = [*catalog.select(classes, "photo").items]
    composed = scenes(photos, 1)
    models = {bits: CrossATNet.from_pretrained(options.checkpoint, runtime=bits) for bits in ("onnx", "onnx-int8")}
    model = models["onnx-int8"]
    with TemporaryDirectory() as scratch:
        small = [copy_evenly(Path(scratch, "photos"), [item.path for item in photos], options.pictures)]
        small.append(Path(scratch, "scenes"))
        small[1].mkdir()
        for number, scene in enumerate(evenly(composed, options.pictures)):
            scene.picture.save(small[1] / f"{number:05}.jpg", quality=90)
        large = [as_of_a_phone(Path(scratch, f"{folder.name}_of_phones"), folder) for folder in small]
        index = {folder.name: index_costs(model, folder, options.turns) for folder in (*small, *large)}
    drawn = [sketch for name in classes for sketch in catalog.select({name}, "sketch").items[: options.sketches]]
    names = [item.class_name for item in drawn]
    queries = np.concatenate([model.embed(model.shape(open_item(item), "sketch")[None], "sketch") for item in drawn])
    test = Test([scene.things for scene in composed], [photo.class_name for photo in photos])
    pictures = [*(scene.picture for scene in composed), *photos]
    found, seen = {}, {}
    for bits, one in models.items():
        whole, seen[bits] = embedded(one, pictures)
        scores = ranked(queries, whole, seen[bits], one.region_penalty).scores
        found[bits] = test.scores(scores, names, SMALL)
    words = {str(options.data): "DATA/sketchy-mini"}
    record: dict[str, Any] = {
        "command": shlex.join(["python", *(words.get(word, word) for word in sys.argv)]),
        **{"machine": machine(), "checkpoint": model.name},
        **{"scenes": len(composed), "photos": len(photos), "queries": len(drawn), "indexed": options.pictures},
        "index": index,
        "agreement": agreement(seen["onnx"], seen["onnx-int8"]),
        "found": found,
    }
    write("scene-costs", record)
    print(record["index"], record["agreement"], record["found"], sep="\n")


if __name__ == "__main__":
    main()
