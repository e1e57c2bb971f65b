"""What can be set, with its defaults: pydantic models read from YAML. Unknown keys are refused by name."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import platformdirs
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from crossatnet.system.documents import parse_yaml
from crossatnet.system.errors import UserError, did_you_mean


class Settings(BaseModel):
    """Base of every group of settings: immutable, and strict about keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Layout = Literal["sketchy", "tuberlin", "quickdraw", "folder", "quickstart"]


class ExtraData(Settings):
    """A further training set. Classes that the split keeps unseen, and their relatives, are left out of it."""

    layout: Layout
    root: Path = Field(description="folder of the data set")


class DataConfig(Settings):
    """Which pictures, and which of their classes may be seen in training."""

    layout: Layout = Field(default="folder")
    root: Path | None = Field(
        default=None, description="folder of the data set; the quickstart set is built when it is empty"
    )
    split: str = Field(description="name of a packaged split, the prefix of NAME.seen.txt and NAME.unseen.txt, or all")
    extra: tuple[ExtraData, ...] = Field(default=(), description="further training sets")
    most_pictures: int | None = Field(
        default=None, ge=1, description="of a class, a modality and a data set, at most; the others are not read"
    )
    one_sided: bool = Field(
        default=False, description="also train on classes of the further sets that have only sketches, or only photos"
    )
    leave_out: Path | None = Field(
        default=None,
        description="file naming, one a line, classes (with their relatives) and single pictures not to be trained on",
    )
    validation_classes: int = Field(
        default=10, ge=0, description="SEEN classes held out to choose the epoch; 0: none, and the last epoch is taken"
    )
    validate_by_another_hand: bool = Field(
        default=False,
        description="no photo of the validation shares its instance with a sketch, as in the quickstart's test",
    )


OPINION = 256  # numbers of an embedding that hold the opinion, where it has one
CodeLength = Annotated[int, Field(ge=16, le=512, multiple_of=8)]


class ModelConfig(Settings):
    """The network and how pictures are shaped for it; stored in every checkpoint."""

    backbone: str = Field(
        default="efficientnet-lite0", description="or a folder or hub id of a vision model of the library transformers"
    )
    backbone_config: dict[str, Any] | None = Field(
        default=None, description="filled in by training: a transformers network's own settings"
    )
    shared_encoder: bool = Field(default=True, description="one backbone and projection for both modalities")
    sketch_statistics: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of sketches' own batch-norm statistics in what normalises them; the rest is ImageNet's",
    )
    image_size: int = Field(default=224, ge=32, le=1024, description="side of the square input, in pixels")
    photo_size: int | None = Field(
        default=None, ge=32, le=1024, description="side of photos after training, where it is another than image_size"
    )
    attention_heads: int = Field(default=8, ge=0, description="of the cross-modal attention; 0 for mean pooling")
    dimension: int = Field(default=512, ge=8, le=4096, multiple_of=8, description="size D of the shared space")
    opinion: float = Field(
        default=0.0,
        ge=0,
        le=2,
        description="weight, in an embedding, of the opinion of the ImageNet classifier; it takes 256 of `dimension`",
    )
    dropout: float = Field(default=0.3, ge=0, lt=1, description="on the pooled features, in training")
    mirror_sketches: bool = Field(
        default=False, description="embed a sketch as the mean of itself and its mirror image: things face either way"
    )
    fit_strokes: bool = Field(default=False, description="cut a sketch to its strokes before resizing it")
    hashing: Literal["itq", "learned"] = Field(default="itq", description="how the hash codes are fitted")
    code_lengths: tuple[CodeLength, ...] = Field(
        default=(64, 128, 256, 512), min_length=1, description="bits of the hash codes"
    )
    region_size: int | None = Field(
        default=None,
        ge=32,
        le=1024,
        description="side at which a part of a photo is looked at, in pixels; null: photos have no parts",
    )
    region_penalty: float = Field(
        default=0.03, ge=0, le=1, description="what a part of a photo loses, in cosine, against the whole"
    )

    @model_validator(mode="before")
    @classmethod
    def _of_older_checkpoints(cls, given: Any) -> Any:
        """A setting that was, and that said nothing."""
        if isinstance(given, dict) and given.get("region_clarity", "set") is None:
            return {name: value for name, value in given.items() if name != "region_clarity"}
        return given

    @model_validator(mode="after")
    def _has_an_opinion(self) -> "ModelConfig":
        if self.opinion and (self.backbone != "efficientnet-lite0" or self.dimension <= OPINION):
            raise ValueError(f"opinion needs the backbone efficientnet-lite0 and a dimension above {OPINION}")
        return self

    @field_validator("code_lengths")
    @classmethod
    def _differ(cls, lengths: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(lengths)) < len(lengths):
            raise ValueError("a length stands twice")
        return lengths


class SemanticsConfig(Settings):
    """What training knows of the meaning of the SEEN classes."""

    prototypes: Literal["free", "graph"] = Field(
        default="free", description="graph: by graph convolution over the class vectors"
    )
    vectors: str = Field(default="gloss", description="the packaged class vectors, or a .npz, .txt or .vec file")
    graph: Literal["knn", "tree", "hierarchy"] = "knn"
    neighbours: int = Field(default=5, ge=1, description="of each class in the knn graph")


class LossConfig(Settings):
    """Weights of the loss terms (0 switches a term off) and their constants."""

    classification: float = Field(default=1.0, ge=0)
    triplet: float = Field(default=3.0, ge=0)
    guided: float = Field(default=0.5, ge=0, description="classification and ranking of the sketch-guided photo")
    agreement: float = Field(default=0.5, ge=0, description="of the gallery's feature and map with the guided ones")
    latent: float = Field(default=0.0, ge=0)
    reconstruction: float = Field(default=0.0, ge=0)
    instance: float = Field(default=0.0, ge=0, description="a sketch's own photo above the others of its class")
    instance_margin: float = Field(default=0.1, ge=0, description="of that, in cosine similarity")
    shuffle: float = Field(
        default=0.0, ge=0, description="a sketch and its photo, both cut into patches in one order, above another order"
    )
    knowledge: float = Field(default=0.0, ge=0, description="agreement with the frozen ImageNet classifier")
    temperature: float = Field(default=0.1, gt=0, description="of the cosine softmax over class prototypes")
    margin: float = Field(default=0.2, ge=0, description="of the triplet loss, in cosine similarity")
    semantic_margin: float = Field(default=0.0, ge=0, description="added to the margin, times the semantic distance")
    mining: Literal["hard", "semi-hard", "all"] = "hard"
    knowledge_temperature: float = Field(default=2.0, gt=0)

    @model_validator(mode="after")
    def _tell_classes_apart(self) -> "LossConfig":
        if not (self.classification or self.triplet):
            raise ValueError("classification and triplet are both 0, so nothing tells classes apart")
        return self


class TrainConfig(Settings):
    """Optimisation."""

    seed: int = Field(default=0, ge=0, lt=2**31)
    start: str | None = Field(
        default=None, description="a checkpoint to go on from, of the same network; the ImageNet weights by default"
    )
    trainable_units: int = Field(
        default=0, ge=0, description="the backbone's last units to fine-tune; EfficientNet-Lite0 has 17, 0 freezes it"
    )
    adapt: Literal["full", "norm", "lora"] = Field(
        default="full",
        description="what of these units is tuned; norm: their normalisation, lora: updates of low rank of attention",
    )
    lora_rank: int = Field(default=8, ge=1, le=256, description="of each update, by adapt: lora")
    views: int = Field(
        default=2,
        ge=0,
        description="versions of each picture to keep: the plain one and augmented ones; 0: a fresh one each time",
    )
    hands: float = Field(
        default=0.0, ge=0, le=1, description="share of augmented views drawn by another hand, or photos taken otherwise"
    )
    mirror: bool = Field(default=True, description="mirror half of the augmented views, each by itself")
    pairs: Literal["class", "instance"] = Field(
        default="class", description="a sketch's counterpart: any photo of its class, or the very one it was drawn of"
    )
    epochs: int = Field(default=20, ge=1)
    epoch_batches: int | None = Field(
        default=None,
        ge=1,
        description="batches of an epoch; by default as many as the larger modality has pictures for",
    )
    classes_per_batch: int = Field(default=64, ge=2)
    pairs_per_class: int = Field(default=2, ge=1, description="sketch-photo pairs of each class in a batch")
    learning_rate: float = Field(default=1e-3, gt=0)
    backbone_learning_rate: float = Field(default=3e-4, gt=0, description="of the backbone's last unit")
    layer_decay: float = Field(default=0.8, gt=0, le=1, description="of that rate from each unit to the one before it")
    weight_decay: float = Field(default=1e-4, ge=0)
    average: float = Field(default=0.0, ge=0, lt=1, description="decay of the weights' moving average; 0: none")
    interpolation: float = Field(
        default=1.0, gt=0, le=1, description="share of the fine-tuned backbone; the rest is what it started from"
    )
    whitening: float = Field(
        default=0.0, ge=0, le=0.5, description="power of the spread within classes that embeddings are divided by"
    )
    scenes: int = Field(
        default=12_000, ge=1, description="composed of photos, to learn where things are (with model.region_size)"
    )
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    refit: bool = Field(
        default=True, description="train again on all seen classes, for the number of epochs that was chosen"
    )


class Config(Settings):
    """One training run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    data: DataConfig
    model: ModelConfig = ModelConfig()
    semantics: SemanticsConfig = SemanticsConfig()
    loss: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()

    @model_validator(mode="after")
    def _knowledge_can_be_lost(self) -> "Config":
        if self.loss.knowledge and not self.train.trainable_units:
            raise ValueError("loss.knowledge is for fine-tuning, but train.trainable_units is 0")
        return self

    @model_validator(mode="after")
    def _something_adapts(self) -> "Config":
        adapt = self.train.adapt
        if adapt != "full" and not self.train.trainable_units:
            raise ValueError(f"train.adapt: {adapt} is for fine-tuning, but train.trainable_units is 0")
        if adapt == "lora" and self.model.backbone == ModelConfig().backbone:
            name = self.model.backbone
            raise ValueError(f"train.adapt: lora is for attention, and the backbone {name} has none; take norm or full")
        return self

    @model_validator(mode="after")
    def _pairs_are_known(self) -> "Config":
        for name in ("instance", "shuffle"):
            if getattr(self.loss, name) and self.train.pairs != "instance":
                raise ValueError(f"loss.{name} needs sketches beside their own photos, but train.pairs is class")
        if self.loss.shuffle and not self.train.trainable_units:
            raise ValueError("loss.shuffle is for fine-tuning, but train.trainable_units is 0")
        return self


def load_config(source: str | Path, overrides: dict[str, Any] | None = None) -> Config:
    """Read a YAML file, or a packaged config by name (`quickstart`), and apply `{"group.key": value}` overrides.

    Raises `UserError` naming the file, the key and the nearest known key.

    Example:
        >>> from crossatnet.config import load_config
        >>> load_config("quickstart", {"train.epochs": 3}).train.epochs
        3
    """
    path = _find(source)
    try:
        raw = parse_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, or a date such as 2020-13-45
        raise UserError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(raw, dict):
        raise UserError(f"{path}: expected keys and values such as 'name: my-run', found {type(raw).__name__}")
    for dotted, value in (overrides or {}).items():
        *groups, key = dotted.split(".")
        target = raw
        for group in groups:
            if target.get(group) is None:  # absent, or named without a key below it
                target[group] = {}
            target = target[group]
            if not isinstance(target, dict):
                raise UserError(f"{path}: {group}: expected keys and values, found {type(target).__name__}")
        target[key] = value
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        raise UserError(f"{path}: {explain(error, Config)}") from error


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """One fault of a pydantic error as one sentence, with the nearest known key for an unknown one.

    An unknown key comes first: it is often the misspelt form of another that is then reported missing.

    Example:
        >>> from crossatnet.config import TrainConfig, explain
        >>> from pydantic import ValidationError
        >>> try:
        ...     TrainConfig.model_validate({"sed": 3})
        ... except ValidationError as error:
        ...     print(explain(error, TrainConfig))
        unknown key 'sed'; did you mean seed?
    """
    faults = error.errors()
    fault = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
    where = ".".join(str(part) for part in fault["loc"])
    if fault["type"] != "extra_forbidden":
        message = fault["msg"].removeprefix("Value error, ")
        return f"{where}: {message}" if where else message
    group: type[BaseModel] = model
    for part in fault["loc"][:-1]:
        if isinstance(part, int):  # the number of an entry in a list, whose group was found already
            continue
        annotation = group.model_fields[part].annotation
        for candidate in (annotation, *get_args(annotation)):  # a group, or a list of groups
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                group = candidate
    return f"unknown key '{where}'; {did_you_mean(str(fault['loc'][-1]), group.model_fields)}"


def cache_directory() -> Path:
    """Where data and features made by this package are kept: CROSSATNET_CACHE, or the user's cache folder.

    Example:
        >>> from crossatnet.config import cache_directory
        >>> cache_directory().name
        'cache'
    """
    return Path(os.environ.get("CROSSATNET_CACHE") or platformdirs.user_cache_dir("crossatnet"))


def packaged_configs() -> dict[str, Path]:
    """Configs that ship with the package, by name.

    Example:
        >>> from crossatnet.config import packaged_configs
        >>> "quickstart" in packaged_configs()
        True
    """
    return {path.stem: path for path in sorted((Path(__file__).parent / "configs").glob("*.yaml"))}


def _find(source: str | Path) -> Path:
    packaged = packaged_configs()
    path = packaged.get(str(source), Path(source))
    if not path.is_file():
        raise UserError(f"no config file '{source}'; {did_you_mean(str(source), packaged)}")
    return path
