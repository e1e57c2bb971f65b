"""Does a sketch of an unseen class find the very photo it was drawn of, and what does training on pairs add?

    python benchmarks/instances.py --data DATA/sketchy-mini --seeds 3

Models of one recipe, `sketchy-instance`, are tested on the unseen classes of its split: the frozen backbone; trained on
classes alone, each sketch beside any photo of its class; and trained on pairs too, each sketch beside its own photo,
with the triplets within the class. All see the same views for the same number of steps, which is fixed beforehand
(`--epochs`, `--batches`). Runs are kept in the cache directory, so the same command goes on where it was.

Prints a table and writes `benchmarks/results/instances.json`, from which `benchmarks/tables.py` makes docs/results.md.
"""

import argparse
import hashlib
import json
import shlex
import sys
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from crossatnet.config import Config, cache_directory, load_config
from crossatnet.data.layouts import read_catalog
from crossatnet.evaluation.baselines import frozen_baselines
from crossatnet.evaluation.instance_level import evaluate_instance_level
from crossatnet.evaluation.results import INSTANCE_DEFINITIONS
from crossatnet.model.checkpoint import Provenance
from crossatnet.system.files import write_whole
from crossatnet.training.embedding import training_embeddings
from crossatnet.training.fit import fit
from crossatnet.training.start import class_features
from crossatnet.training.train import Seen, fit_hash, read_seen
from record import machine, today, write

RECIPE = "sketchy-instance"
NO_PAIRS = {"train.pairs": "class", "loss.instance": 0.0, "loss.shuffle": 0.0}
VARIANTS: dict[str, dict[str, Any]] = {
    "class-trained": NO_PAIRS,
    "instance-trained": {"loss.shuffle": 0.0},
    "instance-trained, patches shuffled": {},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batches", type=int, default=40, help="of an epoch")
    parser.add_argument("--guided", action="store_true", help="also re-rank by the attention, with the first seed")
    parser.add_argument("--variants", nargs="+", choices=[*VARIANTS], default=[*VARIANTS])
    options = parser.parse_args()
    overrides = {"data.root": str(options.data), "train.epochs": options.epochs}
    overrides |= {"train.epoch_batches": options.batches, "data.validation_classes": 0}
    key = hashlib.sha256(load_config(RECIPE, overrides).model_dump_json().encode()).hexdigest()[:16]
    folder = cache_directory() / "benchmarks" / f"instances-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    seen = read_seen(load_config(RECIPE, overrides), quiet=True)
    changes = [{**overrides, **VARIANTS[variant]} for variant in options.variants]
    runs = [
        one(variant, load_config(RECIPE, {**change, "train.seed": seed}), seen, folder, options.guided)
        for seed in range(options.seeds)
        for variant, change in zip(options.variants, changes, strict=True)
    ]
    record = {
        "command": " ".join(["python benchmarks/instances.py", *map(shlex.quote, shown(sys.argv[1:]))]),
        "machine": machine(),
        "date": today(),
        "definitions": INSTANCE_DEFINITIONS,
        "settings": load_config(RECIPE, overrides).model_dump(mode="json", exclude={"data": {"root"}}),
        "facts": {name: runs[0]["facts"][name] for name in ("queries", "gallery", "classes", "split", "data")},
        "rows": summed(runs),
        "runs": runs,
    }
    write("instances", record)
    for row in record["rows"]:
        print(f"{row['model']:50}" + "".join(f" {name} {value:.3f}" for name, value in row["mean"].items()))


def one(variant: str, config: Config, seen: Seen, folder: Path, guided: bool) -> dict[str, Any]:
    """The rows of a variant and seed; with the first seed also the guided one and, once, the frozen backbone's."""
    path = folder / f"{variant.replace(', ', '-').replace(' ', '-')}-{config.train.seed}.json"
    if path.exists():
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found
    begin = time.monotonic()
    network, _ = fit(config, seen.features, seen.classes, (), folder / path.stem, quiet=True)
    seconds = time.monotonic() - begin
    fit_hash(network, config, *training_embeddings(network, config, class_features(seen.features, seen.classes)))
    network.name = variant
    first = config.train.seed == 0  # what has no seed, or takes long, is told once
    networks = {variant: network, **(frozen_baselines(network) if first and variant == "class-trained" else {})}
    catalog = read_catalog(config.data.root, config.data.layout, quiet=True, classes=seen.split.unseen_set)
    provenance = Provenance(
        data=seen.catalog.root.name,
        layout=config.data.layout,
        split=seen.split.name,
        training_classes=seen.classes,
        validation_classes=(),
        seed=config.train.seed,
        epochs=config.train.epochs,
        validation_map=None,
    )
    results = evaluate_instance_level(networks, provenance, catalog, seen.split, quiet=True, guided=guided and first)
    kept = {"variant": variant, "seed": config.train.seed, "seconds": round(seconds, 1)}
    kept |= {"rows": [row.model_dump(include={"model", "dimension", "metrics", "interval"}) for row in results.rows]}
    kept["facts"] = results.model_dump(include={"queries", "gallery", "classes", "split", "data"})
    write_whole(path, json.dumps(kept, indent=1) + "\n")
    return kept


def summed(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean, standard deviation and number of seeds of every model's figures, codes left out."""
    found: dict[str, list[dict[str, float]]] = {}
    for run in runs:
        for row in run["rows"]:
            if "bits" not in row["model"]:
                found.setdefault(row["model"], []).append(row["metrics"])
    return [
        {
            "model": model,
            "seeds": len(each),
            "mean": {name: mean(one[name] for one in each) for name in each[0]},
            "stdev": {name: stdev(one[name] for one in each) if len(each) > 1 else 0.0 for name in each[0]},
        }
        for model, each in found.items()
    ]


def shown(arguments: list[str]) -> list[str]:
    """The arguments, with DATA in place of where the data sets lie here."""
    return [f"DATA/{Path(one).name}" if Path(one).is_dir() else one for one in arguments]


if __name__ == "__main__":
    main()
