"""Vision models of the library `transformers` as backbones, from a hub id or a local folder.

Shapes: `B` batch, `C` channels, `H W` picture height and width, `h w` map height and width, `T` tokens.

Our checkpoints store the architecture as a dictionary (`Backbone.config`), so only `TransformersBackbone.load` needs
the hub or the folder. No code and no pickle is loaded from either: weights are safetensors, and only the families below
are built, which are all part of the library.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import shorten
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from crossatnet.model.backbones.base import Backbone
from crossatnet.system.documents import parse_json
from crossatnet.system.errors import UserError, how_to_install

CONFIG, PREPROCESSOR, PROCESSOR = "config.json", "preprocessor_config.json", "processor_config.json"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "model-*.safetensors")
IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class Family(NamedTuple):
    """How a family of networks gives its map."""

    unused: tuple[str, ...] = ()  # parts that the map does not need, such as pooling heads
    interpolates: bool = False  # fits its position embeddings to another picture size only with this option
    patches: bool = False  # takes a picture as rows of its patches, and their number in height and width


# # By the library's `model_type`. The first three give a map, the others tokens.
FAMILIES = {
    "resnet": Family(),
    "convnext": Family(unused=("layernorm",)),
    "convnextv2": Family(unused=("layernorm",)),
    "vit": Family(unused=("pooler",), interpolates=True),
    "deit": Family(unused=("pooler",), interpolates=True),
    "dinov2": Family(unused=("embeddings.mask_token",)),
    "dinov2_with_registers": Family(unused=("embeddings.mask_token",)),
    "dinov3_vit": Family(unused=("embeddings.mask_token",)),
    "clip_vision_model": Family(unused=("post_layernorm",), interpolates=True),
    "siglip_vision_model": Family(unused=("head",), interpolates=True),
    "siglip2_vision_model": Family(unused=("head",), patches=True),
}
# # Of these models only the vision tower is used. SigLIP2 of a fixed picture size is a "siglip" in the library;
# "siglip2" is its form for pictures of any shape ("naflex").
PICTURE_AND_TEXT = ("clip", "siglip", "siglip2")

# # Settings that are not stored: names of classes, number formats, and all that could name code outside the library.
NOT_STORED = {
    *("architectures", "id2label", "label2id", "problem_type", "dtype", "torch_dtype"),
    *("auto_map", "attn_implementation", "experts_implementation", "quantization_config"),
}


class VisionNetwork(nn.Module):
    """A network of the library, with normalisation before it and, after it, the step from its tokens to a map."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, family: Family, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.options = {"interpolate_pos_encoding": True} if family.interpolates else {}
        self.takes_patches = family.patches
        for name, values in (("mean", mean), ("std", std)):  # per channel, of pictures in 0..255
            statistics = 255 * torch.tensor(values, dtype=torch.float32)
            self.register_buffer(name, statistics.view(3, 1, 1), persistent=False)  # stored in `config` instead
        saving = names_in_files(network)
        loading = {theirs: ours for ours, theirs in saving.items()}
        self.register_state_dict_post_hook(partial(_rename, names=saving))  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(partial(_rename, names=loading))  # type: ignore[no-untyped-call]

    def forward(self, pictures: Tensor) -> Tensor:
        """Pixels 0..255 (B, 3, H, W) -> the last map (B, C, h, w); a transformer's map consists of its patch tokens."""
        x = (pictures.to(self.mean.dtype) - self.mean) / self.std  # (B, 3, H, W)
        settings: Any = self.network.config
        inputs = patch_rows(x, settings.patch_size) if self.takes_patches else {"pixel_values": x}
        output: Tensor = self.network(**inputs, **self.options)[0]  # (B, C, h, w) or (B, T, C)
        if output.ndim == 4:
            return output
        patch = settings.patch_size
        height, width = x.shape[2] // patch, x.shape[3] // patch
        patches = output[:, output.shape[1] - height * width :]  # (B, h * w, C): class and register tokens come first
        feature_map: Tensor = patches.transpose(1, 2).unflatten(2, (height, width))  # (B, C, h, w)
        return feature_map


def patch_rows(x: Tensor, patch: int) -> dict[str, Tensor | None]:
    """Normalised pictures (B, 3, H, W) as SigLIP2 takes them: patches (B, h * w, patch * patch * 3), row by row.

    Pixels that fill no whole patch are left out at the right and bottom, as other transformers do.
    """
    height, width = x.shape[2] // patch, x.shape[3] // patch
    whole = x[:, :, : height * patch, : width * patch]
    patches = whole.unflatten(3, (width, patch)).unflatten(2, (height, patch))  # (B, 3, h, patch, w, patch)
    rows = patches.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)  # (B, h * w, patch * patch * 3)
    shapes = torch.tensor([[height, width]])  # (1, 2), of all pictures: their position embeddings are the same
    return {"pixel_values": rows, "pixel_attention_mask": None, "spatial_shapes": shapes}


def names_in_files(network: nn.Module) -> dict[str, str]:
    """The names of the network's weights in this version of the library -> their names in its files.

    The library renames weights from one minor version to the next, but still reads and writes the names in files on the
    hub. Our checkpoints must outlive an update too, so our state dictionaries use the files' names. They are found by
    saving a number in place of every weight.
    """
    names = list(network.state_dict())
    numbers = {name: torch.tensor([number]) for number, name in enumerate(names)}
    writer: Any = network
    with TemporaryDirectory() as folder, quiet(library()):
        writer.save_pretrained(folder, state_dict=numbers)
        stored = load_file(Path(folder) / WEIGHTS[0])
    # Some versions put a tower's weights below this prefix, some do not.
    found = {names[int(number)]: name.removeprefix("vision_model.") for name, number in stored.items()}
    assert len(found) == len(set(found.values())) == len(names)
    return found


def _rename(module: VisionNetwork, state: dict[str, Tensor], prefix: str, *_: object, names: dict[str, str]) -> None:
    """Rename the network's entries of a state dictionary in place; a hook for saving and loading."""
    before = {name: state.pop(f"{prefix}network.{name}") for name in names if f"{prefix}network.{name}" in state}
    state.update({f"{prefix}network.{names[name]}": weight for name, weight in before.items()})


class TransformersBackbone(Backbone):
    """A vision model of `transformers` up to its last feature map, or its patch tokens arranged as a map; one unit.

    `config` holds the library's own settings of the network (`network`) and the statistics to normalise pictures with
    (`image_mean`, `image_std`, for values in 0..1). Weights are random until `load` or a checkpoint sets them.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        where = "the stored settings of the backbone"
        try:
            settings, mean, std = config["network"], config["image_mean"], config["image_std"]
            family = FAMILIES[settings["model_type"]]
        except (KeyError, TypeError) as error:
            raise UserError(f"{where} lack a part or name an unknown one ({error})") from error
        check_statistics(mean, std, where)
        network = build(settings)
        leave_out(network, family)
        self.config = config
        self.statistics = ([255 * value for value in mean], [255 * value for value in std])
        self.tower = VisionNetwork(network, family, mean, std)
        sizes: Any = network.config
        self.channels = sizes.hidden_sizes[-1] if hasattr(sizes, "hidden_sizes") else sizes.hidden_size

    @classmethod
    def load(cls, source: str | Path) -> "TransformersBackbone":
        """Settings and pretrained weights of a local folder or a hub id (`owner/name`), in evaluation mode.

        Raises `UserError` if the folder or the repository is missing, damaged, or not of one of the `FAMILIES`.
        """
        folder = locate(source)
        settings = read_settings(folder)
        mean, std = read_statistics(folder)
        backbone = cls({"network": settings, "image_mean": mean, "image_std": std})
        pretrained = read_weights(folder, settings)
        backbone.tower.network.load_state_dict(pretrained.state_dict())
        return backbone.eval()

    def chain(self) -> Sequence[nn.Module]:
        return [self.tower]


def library() -> Any:
    """The module `transformers`, or a `UserError` that names the extra.

    Imported by name, so that the type checker does not read the whole library, whose lazy modules it cannot follow.
    """
    try:
        return import_module("transformers")
    except ImportError as error:
        raise UserError(f"this backbone needs the library transformers: {how_to_install('transformers')}") from error


def build(settings: dict[str, Any]) -> nn.Module:
    """The network, with random weights, that these settings of the library describe."""
    transformers = library()
    try:
        config = transformers.AutoConfig.for_model(**storable(settings))
        network: nn.Module = transformers.AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=False)
    except Exception as error:  # the library checks settings in many places, with many types of error
        raise UserError(
            f"transformers {transformers.__version__} cannot build the backbone, a '{settings['model_type']}' network"
            f" stored by version {settings.get('transformers_version', '(unknown)')}: {reason(error)}"
        ) from error
    return network


class LeftOut(nn.Module):
    """Stands for a part that was dropped: gives back the first of what it is called with."""

    def forward(self, x: Tensor, *_: object) -> Tensor:
        return x


def leave_out(network: nn.Module, family: Family) -> None:
    """Drop the weights that the map does not need: they would never learn, and some files lack them."""
    for name in family.unused:
        owner, _, leaf = name.rpartition(".")
        part = network.get_submodule(owner)
        setattr(part, leaf, LeftOut() if isinstance(getattr(part, leaf), nn.Module) else None)


def storable(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that determine the network."""
    return {key: value for key, value in settings.items() if key not in NOT_STORED and not key.startswith("_")}


def locate(source: str | Path) -> Path:
    """The folder of a model: a local one, or one fetched from the hub with only its settings and weights."""
    if Path(source).is_dir():
        return Path(source)
    if str(source).count("/") != 1 or str(source).startswith((".", "/", "~")):
        raise UserError(f"no folder '{source}' here, and a hub id looks like owner/name")
    library()
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(source), allow_patterns=[CONFIG, PREPROCESSOR, PROCESSOR, *WEIGHTS]))
    except Exception as error:  # the hub client raises many unrelated types; the user needs one line
        raise UserError(f"no folder '{source}' here, and the hub did not give it: {reason(error)}") from error


def read_settings(folder: Path) -> dict[str, Any]:
    """The library's settings of the vision network in this folder, as JSON can hold them."""
    if not (folder / CONFIG).is_file():
        raise UserError(f"'{folder}' holds no model of the library transformers: it has no {CONFIG}")
    transformers = library()
    try:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # not JSON, an unknown kind, or settings that do not fit together: errors of many types
        raise UserError(f"{folder / CONFIG}: not a network that can be loaded ({reason(error)})") from error
    if config.model_type in PICTURE_AND_TEXT:
        config = config.vision_config
    if config.model_type not in FAMILIES:
        raise UserError(
            f"{folder / CONFIG}: '{config.model_type}' is not a vision model that gives a map;"
            f" known are {', '.join([*FAMILIES, *PICTURE_AND_TEXT])}"
        )
    settings: dict[str, Any] = json.loads(config.to_json_string())
    return storable(settings)


def read_weights(folder: Path, settings: dict[str, Any]) -> nn.Module:
    """The network with the weights of this folder, whose names the library converts to its present ones."""
    transformers = library()
    try:
        with quiet(transformers):
            network, report = transformers.AutoModel.from_pretrained(
                folder,
                config=transformers.AutoConfig.for_model(**settings),
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,  # the library reports them; below they are refused by name
                output_loading_info=True,
            )
    except Exception as error:  # missing or damaged: the library raises many types of error
        raise UserError(
            f"{folder}: no readable weights; they are taken from {WEIGHTS[0]} only ({reason(error)})"
        ) from error
    family = FAMILIES[settings["model_type"]]
    unfit = {*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])}
    unfit = {name for name in unfit if not name.startswith(family.unused)}
    if unfit:  # the library would use random weights for them
        raise UserError(
            f"{folder}: the weights do not fit its {CONFIG}:"
            f" {len(unfit)} are missing or of another shape, such as {min(unfit)}"
        )
    leave_out(network, family)
    return network  # type: ignore[no-any-return]


def read_statistics(folder: Path) -> tuple[list[float], list[float]]:
    """Mean and deviation of each channel, for values in 0..1, that the model's pictures were normalised with."""
    path = next((folder / name for name in (PREPROCESSOR, PROCESSOR) if (folder / name).is_file()), None)
    if path is None:
        return IMAGENET_MEAN, IMAGENET_STD
    try:
        stored = parse_json(path.read_text(encoding="utf-8"))
        settings = stored.get("image_processor", stored)  # nested in one of the two files
        normalised = settings.get("do_normalize", True)
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: damaged ({error}); copy the model again") from error
    if not normalised:
        return [0.0] * 3, [1.0] * 3
    mean, std = settings.get("image_mean", IMAGENET_MEAN), settings.get("image_std", IMAGENET_STD)
    check_statistics(mean, std, str(path))
    return mean, std


def check_statistics(mean: Any, std: Any, where: str) -> None:
    """Raise `UserError` unless mean and deviation are three numbers each, no deviation being zero."""
    for name, values in (("image_mean", mean), ("image_std", std)):
        numbers = isinstance(values, list) and all(isinstance(value, (int, float)) for value in values)
        if not numbers or len(values) != 3:
            raise UserError(f"{where}: {name} must be three numbers, one a colour, not {values}")
    if 0 in std:
        raise UserError(f"{where}: image_std must not hold a zero: {std}")


@contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """Suppress the library's progress bar and its table of unused weights, which every network with a head has."""
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def reason(error: Exception) -> str:
    """An error's message on one line, without the pages that some libraries add."""
    return shorten(str(error), 200, placeholder=" ...") or type(error).__name__
