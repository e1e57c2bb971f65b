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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from crossatnet.config import Config, cache_directory, load_config
from crossatnet.data.catalog import Item
from crossatnet.data.images import Modality
from crossatnet.data.layouts import read_catalog
from crossatnet.evaluation.baselines import frozen_baselines
from crossatnet.evaluation.instance_level import drawn_of_photos
from crossatnet.evaluation.instances import evaluate_instances
from crossatnet.evaluation.protocol import Trial, make_trial
from crossatnet.evaluation.results import INSTANCE_DEFINITIONS
from crossatnet.model.network import CrossATNet
from crossatnet.system.files import write_whole
from crossatnet.training.batches import CachedViews
from crossatnet.training.embedding import embed
from crossatnet.training.features import LivePictures, ViewSettings
from crossatnet.training.fit import fit
from crossatnet.training.start import passed_units
from crossatnet.training.train import Seen, read_seen
from record import machine, write

RECIPE = "sketchy-instance"
NO_PAIRS = {"train.pairs": "class", "loss.instance": 0.0, "loss.shuffle": 0.0}
VARIANTS: dict[str, dict[str, Any]] = {
    "class-trained": NO_PAIRS,
    "instance-trained": {"loss.shuffle": 0.0},
    "instance-trained, patches shuffled": {},
}
READ_AT_ONCE = 64  # pictures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--extra", type=Path, nargs="*", default=[], help="folders with further pairs of seen classes")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batches", type=int, default=40, help="of an epoch")
    parser.add_argument("--views", type=int, default=2, help="of each picture")
    parser.add_argument("--variants", nargs="+", choices=[*VARIANTS], default=[*VARIANTS])
    options = parser.parse_args()
    overrides = {"data.root": str(options.data), "data.validation_classes": 0, "train.views": options.views}
    overrides |= {"train.epochs": options.epochs, "train.epoch_batches": options.batches}
    overrides["data.extra"] = [{"layout": "folder", "root": str(root)} for root in options.extra]
    config = load_config(RECIPE, overrides)
    folder = cache_directory() / "benchmarks" / f"instances-{_key(config)}"
    folder.mkdir(parents=True, exist_ok=True)
    seen = read_seen(config, quiet=True)
    unseen = Unseen.read(config, seen)
    runs = []
    for seed in range(options.seeds):
        for variant in options.variants:
            changed = load_config(RECIPE, {**overrides, **VARIANTS[variant], "train.seed": seed})
            runs.append(one(variant, changed, seen, unseen, folder))
            print(json.dumps({name: runs[-1][name] for name in ("variant", "seed", "seconds", "rows")}), flush=True)
    record = {
        "command": " ".join(["python benchmarks/instances.py", *map(shlex.quote, shown(sys.argv[1:]))]),
        "machine": machine(),
        "definitions": INSTANCE_DEFINITIONS,
        "settings": config.model_dump(mode="json", exclude={"data": {"root", "extra"}}),
        "facts": unseen.facts,
        "pairs": len(seen.features["sketch"].classes),
        "rows": summed(runs),
        "runs": runs,
    }
    write("instances", record)
    for row in record["rows"]:
        print(f"{row['model']:50}" + "".join(f" {name} {value:.3f}" for name, value in row["mean"].items()))


@dataclass(frozen=True)
class Unseen:
    """Sketches of unseen classes and all their photos; the maps are kept once the first network has made them."""

    config: Config
    trial: Trial
    facts: dict[str, Any]
    maps: dict[Modality, CachedViews]

    @classmethod
    def read(cls, config: Config, seen: Seen) -> "Unseen":
        catalog = read_catalog(config.data.root, config.data.layout, quiet=True, classes=seen.split.unseen_set)
        trial = drawn_of_photos(make_trial(catalog, seen.split, "sketch-to-photo", "zero-shot"))
        facts = {"queries": len(trial.query), "gallery": len(trial.gallery), "split": seen.split.name}
        facts |= {"classes": len({item.class_name for item in trial.query}), "data": catalog.root.name}
        return cls(config, trial, facts, {})

    def items(self, modality: Modality) -> Sequence[Item]:
        return self.trial.query if modality == "sketch" else self.trial.gallery

    def metrics(self, network: CrossATNet) -> dict[str, float]:
        """What the network's embeddings score."""
        passed, sides = passed_units(network, self.config), []
        for modality in ("sketch", "photo"):
            if modality not in self.maps:
                self.maps[modality] = self.passed(network, modality, passed)
            items = self.items(modality)
            embeddings = embed(network.eval(), self.maps[modality], modality, passed)
            sides += [embeddings, [item.class_name for item in items], [item.instance for item in items]]
        return evaluate_instances(*sides).means()

    @torch.inference_mode()
    def passed(self, network: CrossATNet, modality: Modality, units: int) -> CachedViews:
        """The pictures after the frozen units, which all networks of the recipe share."""
        items, model = self.items(modality), self.config.model
        pictures = LivePictures(items, ViewSettings(model.image_size, model.fit_strokes, 1, units))
        early = [
            network.encoder(modality).early(pictures.read(rows.tolist(), [None] * len(rows)), units)
            for rows in torch.arange(len(items)).split(READ_AT_ONCE)
        ]
        none = torch.zeros(len(items), dtype=torch.long)  # no label is asked for
        return CachedViews(torch.cat(early)[:, None], none, none)


def one(variant: str, config: Config, seen: Seen, unseen: Unseen, folder: Path) -> dict[str, Any]:
    """The row of a variant and seed; once also that of the frozen backbone, which has no seed."""
    path = folder / f"{variant.replace(', ', '-').replace(' ', '-')}-{config.train.seed}.json"
    if path.exists():
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found
    begin = time.monotonic()
    network, _ = fit(config, seen.features, seen.classes, (), folder / path.stem, quiet=True)
    seconds = time.monotonic() - begin
    networks = {variant: network}
    if config.train.seed == 0 and variant == "class-trained":
        frozen = "frozen backbone, centred"
        networks = {frozen: frozen_baselines(network)[frozen], **networks}
    rows = [{"model": name, "metrics": unseen.metrics(each)} for name, each in networks.items()]
    kept = {"variant": variant, "seed": config.train.seed, "seconds": round(seconds, 1), "rows": rows}
    write_whole(path, json.dumps(kept, indent=1) + "\n")
    return kept


def summed(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean, standard deviation and number of seeds of every model's figures."""
    found: dict[str, list[dict[str, float]]] = {}
    for run in runs:
        for row in run["rows"]:
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


def _key(config: Config) -> str:
    """Which runs belong together."""
    return hashlib.sha256(config.model_dump_json().encode()).hexdigest()[:16]


def shown(arguments: list[str]) -> list[str]:
    """The arguments, with DATA in place of where the data sets lie here."""
    return [f"DATA/{Path(one).name}" if Path(one).is_dir() else one for one in arguments]


if __name__ == "__main__":
    main()
