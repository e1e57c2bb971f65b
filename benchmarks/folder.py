"""What a user feels: anybody's drawing in a folder of photos that mixes many things.

    python benchmarks/folder.py measure crossatnet-open --data DATA --cut choosing --label before
    python benchmarks/folder.py left-out --data DATA --cut choosing test -o left-out.txt

`measure` searches a folder of photos, ten or fewer of a thing, with drawings by each kind of hand, and tells how often
a right photo is first (success@1) and among the first ten (success@10), and mAP: for things that no training has met
and for those that it has, of which these photos and drawings were held out. A photo of a relative of the thing drawn
counts neither as right nor as wrong. Figures are means over things; the interval is the middle 95% of 1,000 means over
things drawn again with replacement. It adds a row to `benchmarks/results/folder-CUT.json`.

`left-out` writes what training must leave out for these cuts (`folder_cut.py` tells the rule): give the file to
`crossatnet train` as `data.leave_out`. DATA is the folder that holds the data sets.
"""

import argparse
import json
import shlex
import sys
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossatnet import CrossATNet
from crossatnet.data.catalog import open_item
from crossatnet.data.images import Modality
from crossatnet.data.names import are_related
from crossatnet.model.interface import PictureModel
from crossatnet.system.progress import track
from folder_cut import CUTS, Cuts, Folder, Picture
from parts import embedded, ranked

RESULTS = Path(__file__).parent / "results"
AMONG = (1, 10)  # the k of success@k
RESAMPLES = 1000
PIECE = 32
METRICS = (*(f"success@{k}" for k in AMONG), "mAP")


def scores(similarity: NDArray[np.float32], drawn: list[str], shown: list[str]) -> NDArray[np.float64]:
    """The figures of `METRICS` (Q, 3) for drawings in a gallery of photos, from (Q, N), each with its class.

    A query's photos that show a relative of what is drawn are left out of its ranking.
    """
    classes, of_photo = np.unique(shown, return_inverse=True)
    rows = []
    for row, name in zip(similarity, drawn, strict=True):
        counts = np.array([other == name or not are_related(str(other), name) for other in classes])[of_photo]  # (N,)
        order = np.argsort(-row[counts], kind="stable")
        right = (classes[of_photo[counts]] == name)[order]
        ranks = np.flatnonzero(right) + 1
        precision = np.arange(1, len(ranks) + 1) / ranks
        rows.append((*(float(right[:k].any()) for k in AMONG), precision.mean()))
    return np.array(rows)


def interval(things: NDArray[np.float64], seed: int = 0) -> list[float]:
    """The middle 95% of means over things (T,) drawn again with replacement."""
    drawn = np.random.default_rng(seed).integers(len(things), size=(RESAMPLES, len(things)))
    return [round(float(value), 3) for value in np.percentile(things[drawn].mean(1), (2.5, 97.5))]


def summary(folder: Folder, figures: NDArray[np.float64]) -> list[dict[str, Any]]:
    """One row for each kind of hand, never met and met: means over things, with intervals and each thing's own."""
    groups: dict[tuple[bool, str], dict[str, list[NDArray[np.float64]]]] = defaultdict(lambda: defaultdict(list))
    for drawing, row in zip(folder.drawings, figures, strict=True):
        for hand in (str(drawing.hand), "all"):
            groups[drawing.class_name not in folder.whole, hand][drawing.class_name].append(row)
    rows = []
    for (met, hand), things in sorted(groups.items()):
        means = {name: np.mean(some, axis=0) for name, some in sorted(things.items())}
        table = np.stack([*means.values()])  # (T, 3)
        rows.append(
            {
                "met": met,
                "hand": hand,
                "things": len(things),
                "drawings": sum(len(some) for some in things.values()),
                **{metric: round(float(table[:, number].mean()), 4) for number, metric in enumerate(METRICS)},
                "interval": {metric: interval(table[:, number]) for number, metric in enumerate(METRICS)},
                "each": {name: [round(float(value), 3) for value in row] for name, row in means.items()},
            }
        )
    return rows


def embed(model: PictureModel, pictures: list[Picture], modality: Modality) -> NDArray[np.float32]:
    """Embeddings (N, D) of these pictures."""
    parts = [pictures[start : start + PIECE] for start in range(0, len(pictures), PIECE)]
    return np.concatenate(
        [
            model.embed(np.stack([model.shape(open_item(picture.item), modality) for picture in part]), modality)
            for part in track(parts, f"embedding {modality}s", len(parts), quiet=False)
        ]
    )


def measure(options: argparse.Namespace) -> None:
    """Measure one checkpoint on one cut and add it to the results file."""
    folder = Cuts.of(options.data).folder(options.cut)
    model = CrossATNet.from_pretrained(options.model, options.runtime)
    drawings = embed(model, folder.drawings, "sketch")  # (Q, D)
    if options.regions:
        photos = embedded(model, [picture.item for picture in folder.photos])
        similarity = ranked(drawings, *photos, model.region_penalty).scores
    else:
        similarity = drawings @ embed(model, folder.photos, "photo").T
    drawn, shown = ([picture.class_name for picture in some] for some in (folder.drawings, folder.photos))
    figures = scores(similarity, drawn, shown)
    rows = summary(folder, figures)
    where = {str(options.data): "DATA", options.model: f"runs/{Path(options.model).name}"}  # nobody else's concern
    if model.source == options.model:  # a packaged one
        del where[options.model]
    words = [where.get(word, word) for word in sys.argv]
    path = options.output or RESULTS / f"folder-{options.cut}.json"
    report = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"models": {}}
    report |= {
        "cut": options.cut,
        "photos": len(folder.photos),
        "things": len({picture.class_name for picture in folder.photos}),
        "whole": sorted(folder.whole),
    }
    report["models"][options.label or model.name] = {
        "command": shlex.join(["python", *words]),
        "date": datetime.now(UTC).date().isoformat(),
        "rows": rows,
    }
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        told = " ".join(f"{metric} {row[metric]:.3f} {row['interval'][metric]}" for metric in METRICS)
        print(f"{'met' if row['met'] else 'never met':9} {row['hand']:12} {row['things']:3} things  {told}")


def left_out(options: argparse.Namespace) -> None:
    """Write the names and places that training must leave out."""
    entries = Cuts.of(options.data).left_out(options.cut)
    options.output.write_text("\n".join(entries) + "\n", encoding="utf-8")
    print(f"{len(entries)} classes and pictures -> {options.output}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(required=True)
    part = parts.add_parser("measure")
    part.add_argument("model", help="a packaged checkpoint or the folder of one")
    part.add_argument("--data", type=Path, required=True)
    part.add_argument("--cut", choices=CUTS, default="choosing")
    part.add_argument("--label", help="what the results file calls it; the checkpoint's name by default")
    part.add_argument("--runtime", default="auto")
    part.add_argument("--regions", action="store_true", help="photos are found by parts of them too")
    part.add_argument("-o", "--output", type=Path, help="another results file")
    part.set_defaults(run=measure)
    part = parts.add_parser("left-out")
    part.add_argument("--data", type=Path, required=True)
    part.add_argument("--cut", choices=CUTS, nargs="+", default=CUTS)
    part.add_argument("-o", "--output", type=Path, required=True)
    part.set_defaults(run=left_out)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
