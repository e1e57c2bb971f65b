"""One run of the trainer: on some classes, from the pretrained network to a trained one."""

import logging
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from lightning.pytorch.strategies import DDPStrategy

from crossatnet.config import Config
from crossatnet.model.interface import MODALITIES
from crossatnet.model.network import CrossATNet
from crossatnet.training.adapt import add_low_rank
from crossatnet.training.embedding import pooled_mean
from crossatnet.training.lightning_module import Training
from crossatnet.training.ranks import ALONE, Ranks
from crossatnet.training.start import (
    NamedFeatures,
    best_device,
    by_another_hand,
    class_features,
    frozen_units,
    go_on_from,
    passed_units,
    start_network,
)


def fit(
    config: Config,
    features: NamedFeatures,
    classes: Sequence[str],
    held_out: Sequence[str],
    folder: Path,
    epochs: int | None = None,
    quiet: bool = False,
    ranks: Ranks = ALONE,
) -> tuple[CrossATNet, list[dict[str, float]]]:
    """One run of the trainer on `classes`, resumed from `folder` if it was begun there.

    With `held_out` classes the weights of the epoch with their best mAP@all are returned, else the last epoch's;
    always with the history of all epochs. All `ranks` call it together and get the same.
    """
    torch.manual_seed(config.train.seed)
    network = start_network(config)
    for modality in MODALITIES:
        network.encoder(modality).load_state_dict(features[modality].statistics, strict=False)
    if config.train.start:
        go_on_from(network, config.train.start, frozen_units(network, config))
    add_low_rank(network, config, frozen_units(network, config))
    network.to(best_device())
    training = class_features(features, classes)
    validation = None
    if held_out:
        shown = by_another_hand(features) if config.data.validate_by_another_hand else features
        validation = class_features(shown, held_out)
    passed = passed_units(network, config)
    for modality in MODALITIES if not config.train.start else ():
        mean = partial(pooled_mean, network.eval(), training[modality], modality, passed)
        network.centre(modality).copy_(ranks.from_first(mean))
    module = Training(network.train(), config, classes, training, validation, ranks)
    keeper = ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False)
    trainer = _trainer(epochs or config.train.epochs, keeper, folder, config.train.precision, quiet, ranks)
    last = folder / "last.ckpt"
    is_begun = ranks.from_first(last.is_file)
    trainer.fit(module, ckpt_path=last if is_begun else None, weights_only=True)
    delivered = module.deliverable().cpu()
    if held_out:
        delivered.load_state_dict(module.best)
    return delivered, module.history


def _trainer(
    epochs: int, keeper: ModelCheckpoint, folder: Path, precision: str, quiet: bool, ranks: Ranks
) -> lightning.Trainer:
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    return lightning.Trainer(
        max_epochs=epochs,
        accelerator="auto",
        devices=ranks.devices,
        num_nodes=ranks.nodes,
        # Nothing of a batch changes buffers, as statistics stay; not every term of the loss reaches every weight.
        strategy="auto" if ranks.count == 1 else DDPStrategy(broadcast_buffers=False, find_unused_parameters=True),
        use_distributed_sampler=False,
        precision=precision,  # type: ignore[arg-type]  # one of Lightning's own names, checked by the config
        callbacks=[keeper] if quiet else [keeper, RichProgressBar()],
        default_root_dir=folder,
        logger=False,
        enable_model_summary=False,
        enable_progress_bar=not quiet,
        reload_dataloaders_every_n_epochs=1,
    )
