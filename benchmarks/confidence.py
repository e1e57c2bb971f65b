"""How sure a hit is: fitted and shown on things and pictures that the network has not met.

    python benchmarks/confidence.py runs/twin --data DATA --cut test --ship CHECKPOINT

`runs/twin` is a network that was trained without the cut of `folder.py`: in no other way can it be known how sure a
network may be of a stranger's pictures. The things of the cut are divided into two halves. The fit on each half, with
the chance from which on it is sure, is shown on the other: the share of right hits for each chance, and how often
hits marked sure are right. Then all of the cut is fitted, and with `--ship` the fit is kept beside the weights of a
checkpoint that was trained alike and has met the cut as well. Writes `benchmarks/results/confidence.json` and
`docs/images/confidence.png`.
"""

import argparse
import json
import shlex
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crossatnet import CrossATNet
from crossatnet.data.names import are_related
from crossatnet.evaluation.confidence import (
    HITS,
    Judged,
    calibration_error,
    chances,
    cross_fitted,
    fit,
    judge,
    reliability,
    sure_from,
)
from crossatnet.model.checkpoint import CONFIDENCE, weights_hash
from crossatnet.model.confidence import Confidence
from crossatnet.system.files import write_whole
from folder import embed
from folder_cut import CUTS, Cuts, Folder
from record import write

PLOT = Path(__file__).parents[1] / "docs" / "images" / "confidence.png"


def judged_hits(folder: Folder, similarity: NDArray[np.float32]) -> Judged:
    """The first hits of every drawing; photos of a relative of the thing drawn are passed over."""
    shown = np.array([picture.class_name for picture in folder.photos])
    classes, of_photo = np.unique(shown, return_inverse=True)
    drawn = [picture.class_name for picture in folder.drawings]
    counts = {
        name: np.array([other == name or not are_related(str(other), name) for other in classes])[of_photo]
        for name in sorted(set(drawn))
    }
    return judge(similarity, np.array([shown == name for name in drawn]), np.array([counts[name] for name in drawn]))


def share_of_sure(judged: Judged, some: NDArray[np.bool_], marked: NDArray[np.bool_]) -> dict[str, float]:
    """Of some hits (H,): how many are marked, how often these are right, and for how many drawings there is one."""
    sure = some & marked
    return {
        "hits": int(sure.sum()),
        "right": round(float(judged.right[sure].mean()), 4) if sure.any() else 0.0,
        "drawings_with_one": round(len(set(judged.query[sure])) / len(set(judged.query[some])), 4),
    }


def plot(table: list[dict[str, float]]) -> None:
    """The reliability diagram."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 4.2), layout="constrained")
    axes.plot([0, 1], [0, 1], ":", color="grey", label="as promised")
    axes.plot([row["chance"] for row in table], [row["right"] for row in table], "o-", label="hits of other things")
    for row in table:
        axes.annotate(f"{row['hits']:,}", (row["chance"], row["right"]), (4, -11), textcoords="offset points", size=8)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="chance given by the fit", ylabel="share that is right")
    axes.legend()
    figure.savefig(PLOT, dpi=140)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="the folder of a checkpoint that has not met the cut")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cut", choices=CUTS, default="test")
    parser.add_argument("--ship", type=Path, help="the folder of the checkpoint that the fit is for")
    parser.add_argument("--runtime", default="auto")
    options = parser.parse_args()
    folder = Cuts.of(options.data).folder(options.cut)
    model = CrossATNet.from_pretrained(options.model, options.runtime)
    judged = judged_hits(folder, embed(model, folder.drawings, "sketch") @ embed(model, folder.photos, "photo").T)
    names = sorted({picture.class_name for picture in folder.drawings})
    thing = np.array([names.index(picture.class_name) for picture in folder.drawings])  # (Q,)
    first = np.random.default_rng(0).permutation(len(names))[thing] % 2 == 0  # (Q,)
    chance, marked = np.empty(len(judged.right)), np.empty(len(judged.right), bool)
    for half in (first, ~first):
        rows, others = half[judged.query], judged.among(~half[judged.query])
        chance[rows] = chances(fit(others), judged.among(rows))
        marked[rows] = chance[rows] >= sure_from(cross_fitted(others, thing), others.right)
    table = reliability(chance, judged.right)
    rows = [{"chance": round(row.chance, 4), "right": round(row.right, 4), "hits": row.hits} for row in table]
    met = np.array([picture.class_name not in folder.whole for picture in folder.drawings])[judged.query]
    groups = {"all": np.ones_like(met), "met": met, "never met": ~met}
    whole = fit(judged)
    sure = sure_from(cross_fitted(judged, thing), judged.right)
    report = {
        "command": shlex.join(["python", *sys.argv]).replace(str(options.data), "DATA"),
        "cut": options.cut,
        "hits_of_a_drawing": HITS,
        "fit": whole._asdict(),
        "sure": sure,
        "calibration_error": round(calibration_error(table), 4),
        "reliability": rows,
        "sure_hits": {name: share_of_sure(judged, some, marked) for name, some in groups.items()},
    }
    write("confidence", report)
    plot(rows)
    print(json.dumps(report["sure_hits"]), "calibration error", report["calibration_error"])
    if options.ship:
        kept = Confidence(
            weights=weights_hash(options.ship),
            sure=sure,
            fitted_on=f"{len(names)} things of the folder benchmark, by a twin that has not met them",
            **whole._asdict(),
        )
        write_whole(options.ship / CONFIDENCE, kept.model_dump_json(indent=1) + "\n")


if __name__ == "__main__":
    main()
