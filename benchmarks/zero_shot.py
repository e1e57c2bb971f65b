"""How well does a config find unseen classes? Trains with several seeds and compares with the frozen backbone.

    python benchmarks/zero_shot.py sketchy --data DATA/sketchy-mini --split sketchy-sake25 --seeds 3

Prints a table and writes `benchmarks/results/CONFIG-SPLIT-DATA.json`, from which `benchmarks/tables.py` makes
docs/results.md. Features are cached by the first seed; `train_seconds` of the later ones are training alone.
"""

import argparse
import json
import shlex
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, stdev

from crossatnet.checkpoint import load_checkpoint, read_config
from crossatnet.config import load_config
from crossatnet.data.layouts import read_catalog
from crossatnet.data.splits import load_split
from crossatnet.evaluation import Results, evaluate_zero_shot, frozen_baselines
from crossatnet.training import train

RESULTS = Path(__file__).parent / "results"


def run(config_name: str, data: Path | None, split_name: str | None, seed: int) -> tuple[Results, float]:
    """Train and test one seed; returns the scores and the seconds of training."""
    overrides = {"data.root": data and str(data), "data.split": split_name, "train.seed": seed}
    config = load_config(config_name, {key: value for key, value in overrides.items() if value is not None})
    split = load_split(config.data.split)
    with tempfile.TemporaryDirectory() as folder:
        begin = time.monotonic()
        checkpoint = train(config, Path(folder) / "checkpoint", quiet=True)
        seconds = time.monotonic() - begin
        network, provenance = load_checkpoint(checkpoint), read_config(checkpoint).provenance
    catalog = read_catalog(config.data.root, config.data.layout, quiet=True, classes=split.unseen_set)
    networks = {"CrossATNet, frozen backbone": network}
    if seed == 0:  # the backbone has no seed, and its centring is the training set's whatever the seed
        networks |= frozen_baselines(network)
    return evaluate_zero_shot(networks, provenance, catalog, split, (10, 100), quiet=True), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--split")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    runs = [run(arguments.config, arguments.data, arguments.split, seed) for seed in range(arguments.seeds)]
    first = runs[0][0]
    folder = str(arguments.data.parent) if arguments.data else ""  # where the data lies is nobody else's concern
    rows = [
        {
            "model": row.model,
            "dimension": row.dimension,
            "seeds": len(scores),
            "mean": {name: mean(score[name] for score in scores) for name in row.metrics},
            "spread": {
                name: stdev(score[name] for score in scores) if len(scores) > 1 else None for name in row.metrics
            },
        }
        for index, row in enumerate(first.rows)
        for scores in [[results.rows[index].metrics for results, _ in runs if index < len(results.rows)]]
    ]
    report = {
        "command": shlex.join(["python", *(word.replace(folder, "DATA") if folder else word for word in sys.argv)]),
        **first.model_dump(include={"data", "split", "direction", "setting", "queries", "gallery", "classes"}),
        **first.model_dump(include={"definitions", "software", "machine", "date"}),
        "rows": rows,
        "train_seconds": [round(seconds, 1) for _, seconds in runs],
    }
    path = RESULTS / f"{arguments.config}-{first.split}-{first.data}.json"
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        print(row["model"], row["seeds"], {name: round(value, 4) for name, value in row["mean"].items()}, row["spread"])
    print("seconds of training", report["train_seconds"], "->", path)


if __name__ == "__main__":
    main()
