"""How busy does training keep the device? Its rate against that of the device alone, with and without cached views.

    python benchmarks/train.py sketchy --data PATH/TO/sketchy --split sketchy-sake25
    python benchmarks/train.py sketchy --data PATH/TO/sketchy --split sketchy-sake25 --classes 100 --device cuda

The device alone takes optimisation steps on one batch that it holds already: nothing is read, decoded, augmented, drawn
from a cache or averaged. Training is Lightning's own loop over `--epochs` epochs of `--classes` seen classes; the first
epoch, which starts a worker and prepares buffers, is not counted. Both are done with the views of the config, kept in a
new cache, and with pictures read and augmented anew (`train.views` 0), in float32 and in mixed bfloat16. The best epoch
and the best step count: other programs on the machine only make them slower.

Prints a table and writes `benchmarks/results/train.json`.
"""

import argparse
import logging
import os
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import lightning
import torch

from crossatnet.config import Config, load_config
from crossatnet.model.network import MODALITIES, CrossATNet
from crossatnet.training.batches import Pairs
from crossatnet.training.lightning_module import Training
from crossatnet.training.seen_catalog import seen_catalog
from crossatnet.training.start import class_features, seen_features, start_network
from record import machine, write

PRECISIONS = ("32-true", "bf16-mixed")


class Clock(lightning.Callback):
    """Takes the time of every epoch."""

    def __init__(self) -> None:
        self.begin = 0.0
        self.seconds: list[float] = []

    def on_train_epoch_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self.begin = time.perf_counter()

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        synchronise(module.device)
        self.seconds.append(time.perf_counter() - self.begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--split")
    parser.add_argument("--classes", type=int, default=8, help="the first of the seen ones")
    parser.add_argument("--epochs", type=int, default=3, help="the first is not counted")
    parser.add_argument("--steps", type=int, default=6, help="of the device alone")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no GPU here; see `crossatnet doctor`")
    if options.epochs < 2 or options.steps < 2:
        parser.error("--epochs and --steps: give at least 2, the first is not counted")
    warnings.filterwarnings("ignore", module="lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    given = {"data.root": options.data and str(options.data), "data.split": options.split}
    given = {key: value for key, value in given.items() if value is not None}
    kept = load_config(options.config, given).train.views
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        os.environ["CROSSATNET_CACHE"] = cache  # a new one, so that filling it is timed
        for views in dict.fromkeys((kept, 0)):
            for precision in PRECISIONS:
                config = load_config(options.config, {**given, "train.views": views, "train.precision": precision})
                rows.append({"views": views, "precision": precision, **measured(config, options)})
                show(rows[-1])
    words = [options.config, "--data", f"DATA/{options.data.name}"] if options.data else [options.config]
    words += ["--split", options.split] if options.split else []
    words += ["--classes", str(options.classes), "--epochs", str(options.epochs), "--device", options.device]
    record = {
        "command": " ".join(["python benchmarks/train.py", *words]),
        "machine": machine(),
        "device": torch.cuda.get_device_name()
        if options.device == "cuda"
        else f"CPU, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "config": options.config,
        "trainable_units": config.train.trainable_units,
        "batch": rows[0]["batch"],
        "pictures": rows[0]["pictures"],
        "rows": rows,
    }
    write("train", record)


def measured(config: Config, options: argparse.Namespace) -> dict[str, Any]:
    """Pictures a second of the device alone and of training, and the seconds that making the views takes before."""
    catalog, _, seen = seen_catalog(config.data, quiet=True)
    classes = seen[: options.classes]
    begin = time.perf_counter()
    features = seen_features(config, catalog.select(classes), quiet=True)
    prepared = time.perf_counter() - begin
    torch.manual_seed(config.train.seed)
    network = start_network(config)
    for modality in MODALITIES:
        network.encoder(modality).load_state_dict(features[modality].statistics, strict=False)
    sources = class_features(features, classes)
    module = Training(network.train(), config, classes, sources, None)
    batch = next(iter(module.train_dataloader()))
    pairs = len(batch.label)
    alone = min(device_seconds(module, batch, config, options)[1:])
    clock = Clock()
    trainer = lightning.Trainer(
        max_epochs=options.epochs,
        accelerator="gpu" if options.device == "cuda" else "cpu",
        devices=1,
        precision=config.train.precision,  # type: ignore[arg-type]
        callbacks=[clock],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        reload_dataloaders_every_n_epochs=1,
    )
    trainer.fit(module)
    steps = len(module.train_dataloader())
    device_rate, train_rate = 2 * pairs / alone, 2 * pairs * steps / min(clock.seconds[1:])
    return {
        "pictures": len(catalog.select(classes).items),
        "batch": pairs,
        "prepare_s": round(prepared, 1),
        "device_per_s": round(device_rate, 1),
        "train_per_s": round(train_rate, 1),
        "ratio": round(train_rate / device_rate, 3),
        "epoch_s": [round(seconds, 2) for seconds in clock.seconds],
    }


def device_seconds(module: Training, batch: Pairs, config: Config, options: argparse.Namespace) -> list[float]:
    """What each optimisation step on a batch that lies on the device takes."""
    module.to(options.device)
    here = Pairs(*(part.to(options.device) for part in batch))
    network: CrossATNet = module.network
    for modality in MODALITIES:
        network.encoder(modality).eval()  # as in training
    optimiser = module.configure_optimizers()["optimizer"]
    mixed = config.train.precision == "bf16-mixed"
    taken = []
    for _ in range(options.steps):
        synchronise(module.device)
        begin = time.perf_counter()
        with torch.autocast(options.device, torch.bfloat16, enabled=mixed):
            loss = torch.stack([*module.objective(network, here).values()]).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        synchronise(module.device)
        taken.append(time.perf_counter() - begin)
    return taken


def synchronise(device: torch.device) -> None:
    """Wait for a GPU, which works on after the call that gave it work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def show(row: dict[str, Any]) -> None:
    print(
        f"views {row['views']}, {row['precision']:10} device alone {row['device_per_s']:7.1f}/s,"
        f" training {row['train_per_s']:7.1f}/s, {row['ratio']:.3f} of it; {row['prepare_s']:.1f} s before training",
        flush=True,
    )


if __name__ == "__main__":
    main()
