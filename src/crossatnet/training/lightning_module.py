"""The Lightning module: what happens in a step and an epoch of training, and what a killed run takes up again.

Shapes: `C h w` a map between two units, `N` items, `D` the shared space; of a batch, see `batches.Pairs`.
"""

import math
from collections.abc import Sequence
from typing import Any

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from crossatnet.config import Config
from crossatnet.data.images import Modality
from crossatnet.evaluation.instances import evaluate_instances
from crossatnet.evaluation.ranking import evaluate
from crossatnet.model.interface import MODALITIES
from crossatnet.model.network import CrossATNet
from crossatnet.training.adapt import merged
from crossatnet.training.batches import BalancedPairs, Pairs, Source
from crossatnet.training.embedding import Sources, embed
from crossatnet.training.objective import Objective
from crossatnet.training.ranks import ALONE, Ranks
from crossatnet.training.start import passed_units


class Training(lightning.LightningModule):
    """Trains everything after the backbone's frozen units."""

    def __init__(
        self,
        network: CrossATNet,
        config: Config,
        classes: Sequence[str],
        training: Sources,
        validation: Sources | None,
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__()
        self.ranks = ranks
        self.network = network
        self.settings = config
        self.training_sources = training
        self.validation_sources = validation
        self.passed_units = passed_units(network, config)
        self.objective = Objective(network, config, classes, self.passed_units)
        self.start = merged(network).state_dict()
        self.averaged = AveragedModel(network, avg_fn=self.average) if config.train.average else None
        if self.averaged is not None:
            self.averaged.requires_grad_(False)  # it follows; ranks have no gradients of it to exchange
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Tensor] = {}
        self.strict_loading = False  # the trainer's own files hold nothing that is frozen
        self.sums: dict[str, float] = {}
        self.batches = 0

    def train_dataloader(self) -> DataLoader[Pairs]:
        """The batches of the current epoch; Lightning asks again each epoch, so that a resumed run repeats none."""
        settings = self.settings.train
        pairs = BalancedPairs(
            self.training_sources["sketch"],
            self.training_sources["photo"],
            settings.classes_per_batch,
            settings.pairs_per_class,
            settings.seed,
            self.current_epoch,
            settings.epoch_batches,
            by_instance=settings.pairs == "instance",
            ranks=self.ranks,
        )
        return DataLoader(pairs, batch_size=None, num_workers=0 if settings.views else 1)  # a worker decodes ahead

    def on_train_batch_start(self, batch: Pairs, batch_index: int) -> None:
        """Let dropout depend on seed and step alone, so that a resumed run drops what an unbroken one does."""
        torch.manual_seed(1_000_003 * self.settings.train.seed + self.global_step)
        for modality in MODALITIES:
            self.network.encoder(modality).eval()  # statistics of batch normalisation stay those of ImageNet

    def training_step(self, batch: Pairs, batch_index: int) -> Tensor:
        """One optimisation step; returns the weighted sum of the loss terms."""
        terms = self.objective(self.network, batch, self.ranks)
        total = torch.stack([*terms.values()]).sum()
        for name, value in {"loss": total, **terms}.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value.detach())
        self.batches += 1
        self.log("loss", total.detach(), prog_bar=True, batch_size=len(batch.label))
        return total

    def on_train_batch_end(self, outputs: Any, batch: Pairs, batch_index: int) -> None:
        """Follow the weights with their moving average."""
        if self.averaged is not None:
            self.averaged.update_parameters(self.network)

    def average(self, averaged: Tensor, current: Tensor, updates: Tensor | int) -> Tensor:
        """Exponential moving average, of shorter memory in the first steps."""
        decay = min(self.settings.train.average, (1 + float(updates)) / (10 + float(updates)))
        return averaged + (1 - decay) * (current - averaged)

    def on_train_epoch_end(self) -> None:
        """Record the epoch's mean loss terms and, in the selection run, mAP@all on the held-out seen classes."""
        record = {"epoch": self.current_epoch + 1, **{name: value / self.batches for name, value in self.sums.items()}}
        self.sums, self.batches = {}, 0
        if self.validation_sources is not None:
            network = self.deliverable()
            record["validation_map"] = self.validation_map(network, self.validation_sources)
            if record["validation_map"] > max((past["validation_map"] for past in self.history), default=-1.0):
                self.best = {name: tensor.cpu() for name, tensor in network.state_dict().items()}
            self.log("validation_map", record["validation_map"], prog_bar=True)
        self.history.append(record)

    def deliverable(self) -> CrossATNet:
        """A copy of the network as it would be delivered now: averaged, and interpolated with what it started from."""
        current: Any = self.network if self.averaged is None else self.averaged.module
        network = merged(current).eval()
        share = self.settings.train.interpolation
        if share < 1:
            for name, tensor in network.distinct_state().items():
                if "backbone." in name and tensor.is_floating_point():
                    tensor.lerp_(self.start[name].to(tensor.device), 1 - share)
        return network

    def validation_map(self, network: CrossATNet, sources: Sources) -> float:
        """Sketch -> photo mAP@all over the classes of these sources, seen ones that training left out.

        With pairs of instances only the sketch's own photo is right, among the photos of its class.
        """
        embeddings = {modality: self.embedded(network, sources[modality], modality) for modality in MODALITIES}
        labels = {modality: sources[modality].label.numpy() for modality in MODALITIES}
        if self.settings.train.pairs == "instance":
            asked, shown = ((embeddings[m], labels[m], sources[m].instance.numpy()) for m in MODALITIES)
            return evaluate_instances(*asked, *shown).means()["MRR"]
        scores = evaluate(embeddings["sketch"], labels["sketch"], embeddings["photo"], labels["photo"])
        return scores.means()["mAP@all"]

    def embedded(self, network: CrossATNet, source: Source, modality: Modality) -> NDArray[np.float32]:
        """Embeddings (N, D) of a source's plain pictures; each rank embeds its part of them."""
        count = len(source.label)
        own = embed(network, source, modality, self.passed_units, self.ranks.rows(count))
        return self.ranks.whole(torch.from_numpy(own).to(network.device), count).cpu().numpy()

    def configure_optimizers(self) -> Any:
        """AdamW with a cosine schedule over `train.epochs`, also when a refit stops before its end.

        Units of the backbone learn the slower the nearer they are to the pictures (`train.layer_decay`).
        """
        settings, network = self.settings.train, self.network
        heads: list[nn.Module] = [network.pooler, network.projection, self.objective]
        if network.sketch_projection is not None:
            heads.append(network.sketch_projection)
        parameters = [weight for head in heads for weight in head.parameters() if weight.requires_grad]
        groups = [{"params": parameters, "lr": settings.learning_rate}]
        backbones = [network.encoder(modality) for modality in MODALITIES]
        for distance, units in enumerate(zip(*(reversed(backbone.chain()) for backbone in backbones), strict=True)):
            rate = settings.backbone_learning_rate * settings.layer_decay**distance
            weights = dict.fromkeys(weight for unit in units for weight in unit.parameters() if weight.requires_grad)
            groups += [{"params": [*weights], "lr": rate}] if weights else []  # shared weights once
        optimizer = torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
        steps = settings.epochs * len(self.train_dataloader())
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * min(step, steps) / steps))
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the history and the best epoch's weights; leave out what is frozen, which is there anyway."""
        checkpoint["history"], checkpoint["best"] = self.history, self.best
        named = self.state_dict(keep_vars=True)  # by its names: a backbone's are not those of its modules
        frozen = {name for name, one in named.items() if isinstance(one, nn.Parameter) and not one.requires_grad}
        state = checkpoint["state_dict"]
        for name in [*state]:
            learning = name.replace("averaged.module.", "network.", 1)  # what this one follows, or itself
            if learning in frozen or name.startswith("objective.teacher."):
                del state[name]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take back what `on_save_checkpoint` kept."""
        self.history, self.best = checkpoint["history"], checkpoint["best"]
