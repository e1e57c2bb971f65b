"""How well does a config find unseen classes, and what does each of its parts add?

    python benchmarks/zero_shot.py sketchy --data DATA/sketchy-mini --split sketchy-sake25 --ablations 3

The number of epochs is chosen once, for the whole model and seed 0, on held-out SEEN classes, unless the config holds
none out. Further data sets stand in the config file: name a copy of a packaged one. Then every variant is
trained on all seen classes with every seed, and tested on the unseen ones. Runs are kept in the cache directory: the
same command goes on where it was, and `--part 1/2` and `--part 2/2` share the runs between two processes.

Prints a table and writes `benchmarks/results/CONFIG-SPLIT-DATA.json`, from which `benchmarks/tables.py` makes
docs/results.md. Seconds are of training alone: the maps of the backbone's frozen units are cached before.
"""

import argparse
import copy
import hashlib
import json
import shlex
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from crossatnet.config import Config, cache_directory, load_config
from crossatnet.data.layouts import read_catalog
from crossatnet.evaluation.baselines import frozen_baselines
from crossatnet.evaluation.zero_shot import evaluate_trials
from crossatnet.model.checkpoint import Provenance
from crossatnet.system.files import write_whole
from crossatnet.training.embedding import training_embeddings, training_opinions
from crossatnet.training.fit import fit
from crossatnet.training.opinion import add_opinion
from crossatnet.training.seen_catalog import seen_catalog
from crossatnet.training.start import class_features, seen_features
from crossatnet.training.train import fit_hash, whiten
from record import write

WHOLE, PLAIN = "CrossATNet", "plain fine-tuning"
ABLATIONS: dict[str, dict[str, Any]] = {
    "without attention": {"model.attention_heads": 0},
    "without graph": {"semantics.prototypes": "free"},
    "without triplet": {"loss.triplet": 0.0},
    "without decoder": {"loss.reconstruction": 0.0},
    "without latent": {"loss.latent": 0.0},
    "without knowledge": {"loss.knowledge": 0.0},
    "frozen backbone": {"train.trainable_units": 0, "train.interpolation": 1.0, "loss.knowledge": 0.0},
    PLAIN: {
        **{f"loss.{term}": 0.0 for term in ("triplet", "latent", "reconstruction", "knowledge")},
        "model.attention_heads": 0,
        "semantics.prototypes": "free",
    },
}


class Runs:
    """All runs of one config on one split, each kept in a file of its own."""

    def __init__(self, name: str, overrides: dict[str, Any]) -> None:
        self.name, self.overrides = name, overrides
        self.whole = self.config({})
        key = hashlib.sha256(self.whole.model_dump_json().encode()).hexdigest()[:16]
        self.folder = cache_directory() / "benchmarks" / f"{Path(name).stem}-{key}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.catalog, self.split, self.seen = seen_catalog(self.whole.data, quiet=True)
        self.features: dict[int, Any] = {}

    def config(self, changes: dict[str, Any]) -> Config:
        return load_config(self.name, {**self.overrides, **changes})

    def chosen(self) -> dict[str, Any]:
        """The best epoch of the whole model on held-out seen classes, with the curve."""

        def choose() -> dict[str, Any]:
            _, held_out = self.split.hold_out(self.whole.data.validation_classes, 0)
            if not held_out:
                return {"epochs": self.whole.train.epochs, "curve": [], "held_out": ()}
            chosen_on = tuple(name for name in self.seen if name not in held_out)
            curve = [record["validation_map"] for record in self.fit(self.whole, chosen_on, held_out, None)[1]]
            return {"epochs": 1 + curve.index(max(curve)), "curve": curve, "held_out": held_out}

        return self.kept("selection", choose)

    def scores(self, variant: str, seed: int) -> dict[str, Any]:
        """Rows of one variant and seed on the unseen classes."""
        epochs = self.chosen()["epochs"]
        config = self.config({**ABLATIONS.get(variant, {}), "train.seed": seed})

        def run() -> dict[str, Any]:
            begin = time.monotonic()
            network, _ = self.fit(config, self.seen, (), epochs)
            seconds = time.monotonic() - begin
            sources = class_features(self.views(config), self.seen)
            embeddings, labels = training_embeddings(network, config, sources)
            bare = copy.deepcopy(network)
            embeddings = whiten(network, config, embeddings, labels)
            whitened = network
            if config.model.opinion:
                roots = training_opinions(network, config, sources)
                network, embeddings = add_opinion(network, config.model.opinion, embeddings, roots, labels)
            network.name = variant
            networks = {variant: network}
            if variant == WHOLE:  # what follows training takes no run of its own; hash codes are told of the whole
                networks |= {"without opinion": whitened} if config.model.opinion else {}
                networks |= {"without opinion and whitening": bare} if config.train.whitening else {}
                fit_hash(network, config, embeddings, labels)
            elif variant == PLAIN and config.train.whitening:
                networks = {PLAIN: bare, f"{PLAIN}, whitened": whitened}
            provenance = Provenance(
                data=self.catalog.root.name,
                layout=config.data.layout,
                split=self.split.name,
                training_classes=self.seen,
                validation_classes=(),
                seed=seed,
                epochs=epochs,
                validation_map=0.0,
            )
            unseen = read_catalog(config.data.root, config.data.layout, quiet=True, classes=self.split.unseen_set)
            if seed == 0 and variant == WHOLE:  # a frozen network has no seed
                networks |= frozen_baselines(network)
            (evaluated,) = evaluate_trials(
                networks, provenance, unseen, self.split, (10, 100), quiet=True, guided=variant == WHOLE
            )
            return {"seconds": seconds, "results": evaluated.results.model_dump(mode="json")}

        return self.kept(f"{variant}-{seed}".replace(" ", "-"), run)

    def fit(self, config: Config, classes: Any, held_out: Any, epochs: int | None) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            return fit(config, self.views(config), classes, held_out, Path(folder), epochs, quiet=True)

    def views(self, config: Config) -> Any:
        units = config.train.trainable_units
        if units not in self.features:
            self.features = {units: seen_features(config, self.catalog, quiet=False)}  # one in memory at a time
        return self.features[units]

    def kept(self, name: str, make: Any) -> dict[str, Any]:
        path = self.folder / f"{name}.json"
        if not path.exists():
            made = json.dumps(make(), indent=1)
            write_whole(path, made)
            print(path.name, flush=True)
        return json.loads(path.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def collated(runs: Runs, seeds: dict[str, int], command: str) -> dict[str, Any]:
    """All runs as one report, with mean and spread over the seeds."""
    rows, seconds = [], {}
    for variant, number in seeds.items():
        done = [runs.scores(variant, seed) for seed in range(number)]
        seconds[variant] = [round(run["seconds"], 1) for run in done]
        for index, row in enumerate(done[0]["results"]["rows"]):
            own = row["model"] in (variant, f"{variant}, whitened")
            if variant != WHOLE and not own:  # hash codes and re-ranking are told of the whole model
                continue
            scores = [run["results"]["rows"][index]["metrics"] for run in done if index < len(run["results"]["rows"])]
            rows.append(
                {
                    "model": row["model"],
                    "dimension": row["dimension"],
                    "seeds": len(scores),
                    "mean": {name: mean(score[name] for score in scores) for name in row["metrics"]},
                    "spread": {
                        name: stdev(score[name] for score in scores) if len(scores) > 1 else None
                        for name in row["metrics"]
                    },
                    "per_seed": [score["mAP@all"] for score in scores],
                }
            )
    first = runs.scores(WHOLE, 0)["results"]
    names = ("data", "split", "direction", "setting", "queries", "gallery", "classes", "definitions")
    return {
        "command": command,
        **{name: first[name] for name in (*names, "software", "machine", "date")},
        "epochs": runs.chosen()["epochs"],
        "selection": runs.chosen(),
        "settings": runs.whole.model_dump(mode="json", exclude={"data": {"root", "extra"}}),
        "rows": rows,
        "train_seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", help="a packaged one, or a file")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--split")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--ablations", type=int, default=0, metavar="SEEDS", help="also the ablations, with these seeds"
    )
    parser.add_argument("--ablation", choices=ABLATIONS, action="append", help="only this one; may be given again")
    parser.add_argument("--part", default="1/1", help="I/N: only every N-th run, from the I-th on")
    arguments = parser.parse_args()
    if arguments.ablation and not arguments.ablations:
        parser.error("--ablation needs --ablations SEEDS")
    overrides = {"data.root": arguments.data and str(arguments.data), "data.split": arguments.split}
    runs = Runs(arguments.config, {key: value for key, value in overrides.items() if value is not None})
    seeds = {
        WHOLE: arguments.seeds,
        **(dict.fromkeys(arguments.ablation or ABLATIONS, arguments.ablations) if arguments.ablations else {}),
    }
    part, parts = (int(number) for number in arguments.part.split("/"))
    every = [(variant, seed) for seed in range(max(seeds.values())) for variant in seeds if seed < seeds[variant]]
    for variant, seed in every[part - 1 :: parts]:
        runs.scores(variant, seed)
    if parts > 1:
        return
    folder = str(arguments.data.parent) if arguments.data else ""  # where the data lies is nobody else's concern
    words = [word.replace(folder, "DATA") if folder else word for word in sys.argv]
    report = collated(runs, seeds, shlex.join(["python", *words]))
    path = write(f"{Path(arguments.config).stem}-{report['split']}-{report['data']}", report)
    for row in report["rows"]:
        print(row["model"], row["seeds"], {name: round(value, 4) for name, value in row["mean"].items()}, row["spread"])
    print("seconds of training", report["train_seconds"], "->", path)


if __name__ == "__main__":
    main()
