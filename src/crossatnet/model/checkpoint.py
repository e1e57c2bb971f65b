"""A checkpoint is a folder: config.json, model.safetensors, card.md, history.json and, unless older, record.json.

Its ONNX form, if it has one, lies beside them: see `crossatnet.runtime.onnx_files`. Nothing here imports torch:
`model.weights` saves and loads the network.
"""

import hashlib
import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from crossatnet.config import ModelConfig
from crossatnet.data.hashes import short_hash
from crossatnet.data.looks import ClassPictures
from crossatnet.data.splits import EVERYTHING
from crossatnet.system.documents import parse_json
from crossatnet.system.errors import UserError, did_you_mean, how_to_install
from crossatnet.system.version import __version__

PACKAGED = Path(__file__).parents[1] / "checkpoints"
CONFIG, WEIGHTS, CARD, HISTORY = "config.json", "model.safetensors", "card.md", "history.json"
RECORD = "record.json"
CONFIDENCE = "confidence.json"  # how sure its hits are, see `model.confidence`
FORM = "onnx.json"  # of the ONNX form, whose graphs are *.onnx
FORMAT = 2  # format 1 had no attention, and its codes were the signs of the embedding
RECORD_FORMAT = 1

CARD_TEXT = """\
# {name}

A CrossATNet checkpoint for sketch-based image retrieval, written by {software}.

| | |
|---|---|
| data | {data} (layout `{layout}`) |
| split | {split}: {training} classes trained on{others} |
| chosen by | {chosen_by}; {epochs} epochs, seed {seed} |
| network | {backbone}, {sides}, {dimension}-d shared space, {heads} attention heads |
| hash codes | {lengths} bits, {hashing} |

Train it again: `crossatnet train training.yaml -o FOLDER`. Scores on unseen classes: `crossatnet evaluate`.

Limits: it ranks pictures by likeness to a drawing; it does not say whether a thing is there at all. It has learnt from
few pictures of few classes: the farther a thing is from those, the more often it is wrong.

Terms: {terms} The pictures it was trained on keep their owners' terms.

Classes trained on: {classes}.
"""

TERMS = {  # by layout, of the pictures trained on
    "sketchy": "Sketchy is for research use.",
    "tuberlin": "TU-Berlin's sketches are under CC BY 4.0, the photos beside them for non-commercial research.",
    "quickdraw": "Quick, Draw! is under CC BY 4.0.",
    "quickstart": "OpenMoji is under CC BY-SA 4.0, Twemoji under CC BY 4.0.",
    "folder": "",
}


class Provenance(BaseModel):
    """What a checkpoint was trained on; evaluation and audit read it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str
    extra_data: tuple[str, ...] = ()
    layout: str
    split: str
    training_classes: tuple[str, ...]
    validation_classes: tuple[str, ...]
    seed: int
    epochs: int
    validation_map: float | None  # none where no classes were held out
    trained_with: str = f"crossatnet {__version__}"


class TrainingRecord(BaseModel):
    """All that training has read: the contents of record.json, which the audit compares.

    Pictures are recorded as short hashes and looks, never by name or path, also those of classes held out to choose the
    epoch. Classes are in canonical spelling; a list is empty if training did not take that step.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = RECORD_FORMAT
    weights: str = ""  # `weights_hash` of the weights that this record belongs to; set when both are saved
    pictures: dict[str, ClassPictures]
    training_classes: tuple[str, ...]
    selection_classes: tuple[str, ...]  # seen classes, held out to choose the epoch
    graph_classes: tuple[str, ...]  # whose vectors were nodes of the class graph, or set the margin
    centring_classes: tuple[str, ...]  # whose pictures gave the mean feature that is subtracted
    statistics_classes: tuple[str, ...]  # whose sketches gave batch-norm statistics
    hash_code_classes: tuple[str, ...]  # whose embeddings hash codes and whitening were fitted on
    one_sided_classes: tuple[str, ...] = ()  # that had only sketches, or only photos
    aliases: dict[str, tuple[str, ...]]  # other names of these classes, as training knew them

    def after(self, before: "TrainingRecord") -> "TrainingRecord":
        """This record with all that the checkpoint from which training went on had read before.

        Its classes are among those that centring, statistics and the graph know of; `training_classes` and
        `selection_classes` stay those of this run.

        Example:
            >>> from crossatnet.model.checkpoint import locate, read_record
            >>> before, record = (read_record(locate(f"crossatnet-{name}")) for name in ("open", "sketchy"))
            >>> both = record.after(before)
            >>> len(both.pictures) > len(record.pictures), both.training_classes == record.training_classes
            (True, True)
        """
        none = ClassPictures()
        names = sorted({*before.pictures, *self.pictures})
        had = (*before.training_classes, *before.selection_classes)
        return self.model_copy(
            update={
                "pictures": {
                    name: before.pictures.get(name, none).joined(self.pictures.get(name, none)) for name in names
                },
                "aliases": before.aliases | self.aliases,
                "graph_classes": tuple(dict.fromkeys((*self.graph_classes, *before.graph_classes))),
                "centring_classes": tuple(dict.fromkeys((*self.centring_classes, *before.centring_classes, *had))),
                "statistics_classes": tuple(dict.fromkeys((*self.statistics_classes, *before.statistics_classes))),
            }
        )


class CheckpointConfig(BaseModel):
    """The contents of config.json."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = FORMAT
    name: str
    model: ModelConfig
    provenance: Provenance


def card(config: CheckpointConfig) -> str:
    """The model card, in Markdown.

    Example:
        >>> from crossatnet.model.checkpoint import card, locate, read_config
        >>> card(read_config(locate("crossatnet-open"))).splitlines()[0]
        '# crossatnet-open'
    """
    provenance, model = config.provenance, config.model
    data = " and ".join([provenance.data, *provenance.extra_data])
    return CARD_TEXT.format(
        name=config.name,
        software=provenance.trained_with,
        training=len(provenance.training_classes),
        chosen_by=_chosen_by(provenance),
        data=data,
        others="" if provenance.split == EVERYTHING else ", the others never seen",
        terms=TERMS[provenance.layout],
        classes=", ".join(provenance.training_classes),
        heads=model.attention_heads or "no",
        sides=f"{model.image_size} px" + (f" (photos {model.photo_size} px)" if model.photo_size else ""),
        lengths=", ".join(str(bits) for bits in model.code_lengths),
        **provenance.model_dump(include={"layout", "split", "epochs", "seed"}),
        **model.model_dump(include={"backbone", "dimension", "hashing"}),
    )


def _chosen_by(provenance: Provenance) -> str:
    if provenance.validation_map is None:
        return "the config alone, no classes held out"
    return f"mAP@all of {provenance.validation_map:.3f} on {len(provenance.validation_classes)} held-out SEEN classes"


def source_of(source: str | Path, folder: Path) -> str:
    """The `source` of a model that was loaded from a folder: its packaged name, or the absolute folder.

    Example:
        >>> from crossatnet.model.checkpoint import source_of
        >>> source_of("crossatnet-open", tmp_path)
        'crossatnet-open'
    """
    return str(source) if str(source) in packaged_checkpoints() else str(folder.resolve())


def read_config(folder: Path) -> CheckpointConfig:
    """Read config.json of a checkpoint folder.

    Example:
        >>> from crossatnet.model.checkpoint import locate, read_config
        >>> read_config(locate("crossatnet-sketchy")).provenance.split
        'sketchy-sake25'
    """
    path = folder / CONFIG
    try:
        raw = parse_json(path.read_text(encoding="utf-8"))
        if isinstance(raw, dict) and raw.get("format", FORMAT) > FORMAT:
            raise UserError(f"{path}: format {raw['format']} is newer than this version reads; upgrade crossatnet")
        if isinstance(raw, dict) and raw.get("format", FORMAT) < FORMAT:
            raise UserError(f"{path}: written by an older version of crossatnet; train it again")
        return CheckpointConfig.model_validate(raw)
    except OSError as error:
        raise UserError(f"'{folder}' is not a checkpoint: it has no readable {CONFIG}") from error
    except (json.JSONDecodeError, UnicodeDecodeError, ValidationError, TypeError) as error:
        raise UserError(f"{path}: damaged ({str(error).splitlines()[0]}); copy the checkpoint again") from error


def read_record(folder: Path) -> TrainingRecord | None:
    """Read record.json of a checkpoint folder; None where there is none. Raises `UserError` for a damaged one.

    Example:
        >>> from crossatnet.model.checkpoint import locate, read_record
        >>> len(read_record(locate("crossatnet-sketchy")).training_classes)
        100
    """
    path = folder / RECORD
    try:
        raw = parse_json(path.read_text(encoding="utf-8"))
        if isinstance(raw, dict) and raw.get("format", RECORD_FORMAT) > RECORD_FORMAT:
            raise UserError(f"{path}: format {raw['format']} is newer than this version reads; upgrade crossatnet")
        return TrainingRecord.model_validate(raw)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error}); copy the checkpoint again") from error
    except (json.JSONDecodeError, UnicodeDecodeError, ValidationError, TypeError) as error:
        raise UserError(f"{path}: damaged ({str(error).splitlines()[0]}); copy the checkpoint again") from error


def weights_hash(folder: Path) -> str:
    """The first 64 bits of the SHA-256 of a checkpoint's file of weights, in hexadecimal.

    Raises `UserError` if it is missing.

    Example:
        >>> from crossatnet.model.checkpoint import locate, weights_hash
        >>> len(weights_hash(locate("crossatnet-open")))
        16
    """
    try:
        with (folder / WEIGHTS).open("rb") as file:
            return short_hash(hashlib.file_digest(file, "sha256").hexdigest())
    except OSError as error:
        raise UserError(f"{folder / WEIGHTS}: damaged or missing ({error}); copy the checkpoint again") from error


def is_checkpoint(folder: Path) -> bool:
    """Whether the folder holds a finished checkpoint: config.json is written last.

    Example:
        >>> from crossatnet.model.checkpoint import is_checkpoint, locate
        >>> is_checkpoint(locate("crossatnet-open")), is_checkpoint(tmp_path)
        (True, False)
    """
    return (folder / CONFIG).is_file()


def packaged_checkpoints() -> dict[str, Path]:
    """Checkpoints that ship with the package, by name.

    Example:
        >>> from crossatnet.model.checkpoint import packaged_checkpoints
        >>> list(packaged_checkpoints())
        ['crossatnet-open', 'crossatnet-quickstart', 'crossatnet-sketchy']
    """
    return {path.parent.name: path.parent for path in sorted(PACKAGED.glob(f"*/{CONFIG}"))}


def locate(source: str | Path) -> Path:
    """The folder of a checkpoint given by packaged name, folder or hub id (`owner/name`, needs the extra `hub`).

    Example:
        >>> from crossatnet.model.checkpoint import locate
        >>> locate("crossatnet-open").name
        'crossatnet-open'
    """
    packaged = packaged_checkpoints()
    if str(source) in packaged:
        return packaged[str(source)]
    if Path(source).is_dir():
        return Path(source)
    if names_hub(source):
        return _from_hub(str(source))
    nearest = did_you_mean(str(source), packaged)
    raise UserError(f"no checkpoint '{source}': not a folder here, and not a packaged one; {nearest}")


def names_hub(source: str | Path) -> bool:
    """Whether a checkpoint's source is the id of one on the hub (`owner/name`), and none of this machine.

    Example:
        >>> from crossatnet.model.checkpoint import names_hub
        >>> names_hub("crossatnet-open"), names_hub("somebody/something"), names_hub("/models/mine")
        (False, True, False)
    """
    is_local = str(source) in packaged_checkpoints() or Path(source).is_dir()
    return not is_local and str(source).count("/") == 1 and not str(source).startswith((".", "/", "~"))


def _from_hub(repository: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise UserError(
            f"no folder '{repository}' here; to load it from the hub: {how_to_install('huggingface_hub')}"
        ) from error
    try:
        return Path(
            snapshot_download(
                repository, allow_patterns=[CONFIG, WEIGHTS, CARD, HISTORY, RECORD, CONFIDENCE, FORM, "*.onnx"]
            )
        )
    except Exception as error:  # the hub client raises many unrelated types; the user needs one line
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"no folder '{repository}' here, and the hub did not give it: {reason}") from error
