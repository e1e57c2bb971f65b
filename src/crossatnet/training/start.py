"""What training starts from: the pretrained network, and the seen classes' pictures as it takes them.

Shapes: `N` items, `V` views, `C h w` a map between two units.
"""

import copy
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from crossatnet.config import Config
from crossatnet.data.catalog import Catalog
from crossatnet.data.images import Modality
from crossatnet.model.backbones.base import Backbone
from crossatnet.model.backbones.efficientnet import EfficientNetLite0
from crossatnet.model.interface import MODALITIES
from crossatnet.model.network import CrossATNet, fingerprint_of
from crossatnet.model.weights import load_network
from crossatnet.system.errors import UserError
from crossatnet.system.memory import keep_freed_memory
from crossatnet.system.threads import keep_torch_to_cores
from crossatnet.training.adapt import freeze_the_rest
from crossatnet.training.batches import CachedViews, Source
from crossatnet.training.features import LivePictures, LiveViews, MappedMaps, MappedViews, ViewSettings, extract

MEASURED_AT_ONCE = 128  # pictures that give statistics
ADAPTED = 1280  # pictures that give batch-norm statistics


class NamedViews(NamedTuple):
    """The pictures of one modality with each one's class name and, where the data set says so, the thing pictured."""

    views: Tensor | LivePictures | MappedMaps  # maps (N, V, C, h, w), or the pictures themselves
    classes: Sequence[str]
    instances: Sequence[str | None]
    statistics: Mapping[str, Tensor] = {}  # of batch normalisation, for the modality's encoder; ImageNet's where absent
    origins: Sequence[int] = ()  # the number of the data set that each picture is from; all of one where absent


NamedFeatures = Mapping[Modality, NamedViews]


def start_network(config: Config) -> CrossATNet:
    """The network before training: pretrained backbone, everything else random; what is frozen takes no gradient.
    Raises `UserError` for a backbone that has nothing of what `train.adapt` tunes.

    What trains it allocates the same memory at every step, so the process keeps what it frees from now on.
    """
    keep_freed_memory()
    keep_torch_to_cores()
    model = config.model.model_copy(update={"opinion": 0.0})  # which is added to a trained network
    if config.model.backbone == EfficientNetLite0.name:
        network = CrossATNet(model)
        pretrained: nn.Module = EfficientNetLite0().load_imagenet_weights()
    else:
        from crossatnet.model.backbones.transformers import TransformersBackbone

        loaded = TransformersBackbone.load(config.model.backbone)
        stored = {"backbone": Path(config.model.backbone).name, "backbone_config": loaded.config}
        network, pretrained = CrossATNet(model.model_copy(update=stored)), loaded
    for backbone in dict.fromkeys(network.encoder(modality) for modality in MODALITIES):
        backbone.load_state_dict(pretrained.state_dict())
        frozen = frozen_units(network, config)
        for unit in backbone.chain()[:frozen]:
            unit.requires_grad_(False)
        freeze_the_rest(backbone.chain()[frozen:], config.train, config.model.backbone)
    return network


def go_on_from(network: CrossATNet, source: str, frozen: int) -> None:
    """Give a network all that a checkpoint has but its `frozen` first units, which are as they were in both.

    A checkpoint with an opinion has a reduced projection, which is learnt again. Raises `UserError` for a checkpoint of
    another network.
    """
    units = [unit for modality in MODALITIES for unit in network.encoder(modality).chain()[:frozen]]
    kept = {id(tensor) for unit in units for tensor in (*unit.parameters(), *unit.buffers())}
    own = {name for name, tensor in (*network.named_parameters(), *network.named_buffers()) if id(tensor) in kept}
    before = load_network(source)
    state, given = network.distinct_state(), before.distinct_state()
    kinds: tuple[str, ...] = ("proposer.",)  # what is fitted again in the end
    if before.opinion is not None:
        kinds += ("opinion.", "projection.", "sketch_projection.", "hashing.")
    given = {name: tensor for name, tensor in given.items() if not name.startswith(kinds)}
    given |= {name: tensor for name, tensor in state.items() if name.startswith(kinds)}
    try:
        network.load_distinct_state({**given, **{name: state[name] for name in own & state.keys()}})
    except RuntimeError as error:
        raise UserError(f"train.start: {source} has another network than this config's") from error


def frozen_units(network: CrossATNet, config: Config) -> int:
    """How many of the backbone's first units training leaves as they are."""
    return max(network.backbone.depth - config.train.trainable_units, 0)


def passed_units(network: CrossATNet, config: Config) -> int:
    """How many units the sources' pictures have passed already: the frozen ones if views are kept, else none."""
    return frozen_units(network, config) if config.train.views else 0


def seen_features(config: Config, catalog: Catalog, quiet: bool) -> NamedFeatures:
    """Views, class names and instances of all items of the catalog, by modality."""
    network = start_network(config).eval().to(best_device())
    settings = ViewSettings(
        config.model.image_size,
        config.model.fit_strokes,
        config.train.views,
        frozen_units(network, config),
        config.train.precision,
        config.train.hands,
        config.train.mirror,
    )
    features = {}
    for modality in MODALITIES:
        part = catalog.select({item.class_name for item in catalog.items}, modality)
        classes, instances = zip(*((item.class_name, item.instance) for item in part.items), strict=True)
        pictures = LivePictures(part.items, settings)
        views: Tensor | LivePictures = pictures
        statistics = {}
        if modality == "sketch" and config.model.sketch_statistics:
            statistics = own_statistics(network.encoder(modality), pictures, config.model.sketch_statistics)
            network.encoder(modality).load_state_dict(statistics, strict=False)
        if config.train.views:
            backbone = network.encoder(modality)
            passed = nn.ModuleList(backbone.chain()[: settings.units])
            fingerprint = fingerprint_of(passed, json.dumps(backbone.config, sort_keys=True))
            early = torch.autocast(best_device().type, torch.bfloat16, config.train.precision == "bf16-mixed")(
                partial(backbone.early, units=settings.units)
            )
            views = extract(part, early, fingerprint, settings, best_device(), quiet)
        features[modality] = NamedViews(views, classes, instances, statistics, origins(part, config))
    return features


def mapped(features: NamedFeatures, folder: Path) -> dict[Modality, NamedViews]:
    """The same features, their maps in files of `folder`, for processes that train together."""
    folder.mkdir(parents=True, exist_ok=True)
    return {
        modality: named._replace(views=MappedMaps.write(folder / f"{modality}.npy", named.views))
        if isinstance(named.views, Tensor)
        else named
        for modality, named in features.items()
    }


def origins(catalog: Catalog, config: Config) -> list[int]:
    """Which data set each picture of the catalog is from: 0 for the split's own, then those of `data.extra`."""
    roots = [extra.root for extra in config.data.extra]
    return [
        next((number for number, root in enumerate(roots, 1) if item.path.is_relative_to(root)), 0)
        for item in catalog.items
    ]


@torch.no_grad()
def own_statistics(backbone: Backbone, pictures: LivePictures, share: float) -> dict[str, Tensor]:
    """Batch-norm statistics of these pictures, as far as `share`; the rest is what the backbone has.

    They come from up to `ADAPTED` plain pictures, spread evenly and mixed; each layer sees what the layers before it
    make of them with statistics of their own (adaptive batch normalisation of Li et al., 2017; the share is ours).
    Raises `UserError` for a backbone without batch normalisation.
    """
    adapted = copy.deepcopy(backbone)
    norms = [module for module in adapted.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms:
        raise UserError("model.sketch_statistics is for backbones with batch normalisation, and this one has none")
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches
        norm.train()
    count = len(pictures.items)
    chosen = torch.linspace(0, count - 1, min(count, ADAPTED)).long()
    mixed = chosen[torch.randperm(len(chosen), generator=torch.Generator().manual_seed(0))]
    device = next(adapted.parameters()).device
    for picked in mixed.split(MEASURED_AT_ONCE):
        adapted(pictures.read(picked.tolist(), [None] * len(picked)).to(device))
    own = adapted.state_dict()
    return {
        name: torch.lerp(had, own[name], share).cpu()
        for name, had in backbone.named_buffers()
        if name.endswith(("running_mean", "running_var"))
    }


def class_features(features: NamedFeatures, classes: Sequence[str]) -> dict[Modality, Source]:
    """The part of the features with these classes, numbered in the order given."""
    number = {name: index for index, name in enumerate(classes)}
    things: dict[tuple[str, str], int] = {}
    selected: dict[Modality, Source] = {}
    for modality, (views, names, instances, _, origin_of) in features.items():
        rows = [row for row, name in enumerate(names) if name in number]
        labels = torch.tensor([number[names[row]] for row in rows])
        origin = torch.tensor([origin_of[row] if origin_of else 0 for row in rows])
        shown = [(names[row], instances[row]) for row in rows]
        numbers = [-1 if thing is None else things.setdefault((name, thing), len(things)) for name, thing in shown]
        chosen, instance = views[rows], torch.tensor(numbers)
        if isinstance(chosen, LivePictures):
            selected[modality] = LiveViews(chosen, labels, origin, instance)
        elif isinstance(chosen, MappedMaps):
            selected[modality] = MappedViews(chosen, labels, origin, instance)
        else:
            selected[modality] = CachedViews(chosen, labels, origin, instance)
    return selected


def by_another_hand(features: NamedFeatures) -> NamedFeatures:
    """The features without the photos that share their instance with a sketch."""
    drawn = set(features["sketch"].instances) - {None}
    views, classes, instances, statistics, _ = features["photo"]
    rows = [row for row, instance in enumerate(instances) if instance not in drawn]
    photos = NamedViews(views[rows], [classes[row] for row in rows], [instances[row] for row in rows], statistics)
    return {"sketch": features["sketch"], "photo": photos}


def best_device() -> torch.device:
    """A GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
