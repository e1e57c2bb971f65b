"""The ONNX form of a checkpoint: graphs beside its weights, and the checks before one of them is run.

| file | takes | gives |
|---|---|---|
| photo.onnx | `pixels` (N, S, S, 3), `uint8` | `embedding` (N, D), `code` (N, R / 8), `map` (N, C, h, w) |
| photo-int8.onnx | the same | the same, computed in 8 bits but for the first convolutions and what follows the map |
| sketch.onnx | `pixels` (N, S, S, 3), `uint8` | `embedding` (N, D), `code` (N, R / 8), `feature` (N, C) |
| regions.onnx | `pixels` (N, P, P, 3), `uint8`, of parts | `embedding` (N, D) |
| regions-int8.onnx | the same | the same, as photo-int8.onnx computes; both only where photos have regions |
| guided.onnx | `feature` (1, C), `map` (N, C, h, w) | `similarity` (N,), `attention` (N, M, h, w) |

Where photos have regions, the photo graphs also give `proposals` (N, 5, i, j) of where parts are.

The graphs hold no weights: they point into model.safetensors as ONNX external data. So the form takes one megabyte and
fits no other weights. onnx.json is the list of the graphs, with the SHA-256 of each.
"""

import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from crossatnet.config import ModelConfig
from crossatnet.data.hashes import content_hash
from crossatnet.model.checkpoint import FORM, WEIGHTS
from crossatnet.runtime.onnx_wire import Declared, WireError, declared
from crossatnet.system.documents import parse_json
from crossatnet.system.errors import UserError

FORM_FORMAT = 1
OPSET = 20
MAX_BYTES = 200_000_000  # of one file: other backbones may have weights that model.safetensors stores in another shape

IN_8_BITS = {"QLinearConv", "QuantizeLinear", "DequantizeLinear", "ConvInteger", "MatMulInteger"}
OnnxPart = Literal["photo", "photo-int8", "sketch", "guided", "regions", "regions-int8"]
PhotoPart = Literal["photo", "photo-int8"]
TAKES_AND_GIVES: dict[OnnxPart, tuple[set[str], set[str]]] = {
    "photo": ({"pixels"}, {"embedding", "code", "map"}),
    "photo-int8": ({"pixels"}, {"embedding", "code", "map"}),
    "sketch": ({"pixels"}, {"embedding", "code", "feature"}),
    "guided": ({"feature", "map"}, {"similarity", "attention"}),
    "regions": ({"pixels"}, {"embedding"}),
    "regions-int8": ({"pixels"}, {"embedding"}),
}
AGAIN = "copy the checkpoint again, or make its ONNX form again: crossatnet export"


EXPONENTS: dict[str, tuple[type[np.unsignedinteger[Any]], int]] = {  # the bits of an exponent, by kind of number
    "F16": (np.uint16, 0x7C00),
    "BF16": (np.uint16, 0x7F80),
    "F32": (np.uint32, 0x7F800000),
    "F64": (np.uint64, 0x7FF0000000000000),
}


class OnnxFile(BaseModel):
    """One file of the form."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str
    bytes: int


class Calibration(BaseModel):
    """The data for the ranges of the 8-bit form, and how well it agrees with the other on pictures held out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str
    classes: tuple[str, ...]  # all trained on
    pictures: int
    held_out: int
    cosine: float  # mean over the pictures held out, of embeddings in 8 bits and in floating point
    lowest_cosine: float
    probe_cosine: float  # the same over generated pictures, which any machine can generate and compare


class OnnxForm(BaseModel):
    """The contents of onnx.json."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = FORM_FORMAT
    fingerprint: str  # of the network
    model: ModelConfig
    weights: str  # SHA-256 of model.safetensors
    opset: int
    files: dict[OnnxPart, OnnxFile]
    largest_error: float  # of embeddings and similarities, compared with torch on export
    int8: Calibration | None = None
    written_with: str


def has_form(folder: Path) -> bool:
    """Whether a checkpoint folder has an ONNX form."""
    return (folder / FORM).is_file()


def read_form(folder: Path, model: ModelConfig) -> tuple[OnnxForm, bytes]:
    """Read onnx.json and the weights of a checkpoint with these settings, and check that they belong together.

    Raises `UserError` if one is damaged, of another version or of another checkpoint.
    """
    path = folder / FORM
    try:
        raw = parse_json(path.read_text(encoding="utf-8"))
        version = raw.get("format") if isinstance(raw, dict) else None
        if isinstance(version, int) and version != FORM_FORMAT:
            advice = "upgrade crossatnet" if version > FORM_FORMAT else "make it again: crossatnet export"
            raise UserError(f"{path}: format {version}, but this version reads {FORM_FORMAT}; {advice}")
        form = OnnxForm.model_validate(raw)
    except OSError as error:
        raise UserError(f"'{folder}' has no ONNX form; make it: crossatnet export {folder} -o {folder}") from error
    except (json.JSONDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise UserError(f"{path}: damaged ({str(error).splitlines()[0]}); {AGAIN}") from error
    weights = read_weights(folder)
    if form.model != model or form.weights != content_hash(weights):
        raise UserError(f"{path}: belongs to other weights or settings than those beside it; {AGAIN}")
    if not are_finite(weights):
        raise UserError(f"{folder / WEIGHTS}: some weights are NaN or infinite; copy the checkpoint again, or train it")
    return form, weights


def read_part(folder: Path, form: OnnxForm, part: OnnxPart) -> bytes:
    """The bytes of one file of the form, checked. Raises `UserError` for a missing, damaged or foreign one."""
    path = folder / f"{part}.onnx"
    if part not in form.files:
        raise UserError(f"'{folder}' has no {path.name}; make it: crossatnet export{' --int8' * ('int8' in part)}")
    try:
        size = path.stat().st_size
        content = path.read_bytes() if size == form.files[part].bytes and size <= MAX_BYTES else b""
    except OSError as error:
        raise UserError(f"{path}: missing ({error.strerror}); {AGAIN}") from error
    if content_hash(content) != form.files[part].sha256:
        raise UserError(f"{path}: damaged, or of another export than {FORM}; {AGAIN}")
    try:
        found = declared(content)
        check(found, form)
        check_part(found, part, form.model)
    except WireError as error:
        raise UserError(f"{path}: refused, as {error}; {AGAIN}") from error
    return content


def check(found: Declared, form: OnnxForm) -> None:
    """Raise `WireError` unless a file is like ours: only standard operators, and weights of this checkpoint."""
    if found.opsets != {"": form.opset} or form.opset > OPSET or not found.domains <= {""}:
        raise WireError(f"its operators are not those of ONNX {OPSET} alone")
    if not found.locations <= {WEIGHTS}:
        raise WireError(f"it takes weights from other files than {WEIGHTS}")
    if found.metadata.get("fingerprint") != form.fingerprint:
        raise WireError("it is of another checkpoint")


def check_part(found: Declared, part: OnnxPart, model: ModelConfig) -> None:
    """Raise `WireError` unless a graph takes and gives what its part of the form does, in as many bits.

    Two graphs of a form that change places, with their digests, would answer with nonsense and without a word.
    """
    takes, gives = TAKES_AND_GIVES[part]
    if part.startswith("photo") and model.region_size is not None:
        gives = gives | {"proposals"}
    if (found.inputs, found.outputs) != (takes, gives):
        raise WireError("it is another graph of the form")
    if part.startswith(("photo", "regions")) and part.endswith("-int8") != bool(found.operators & IN_8_BITS):
        raise WireError("it computes in another number of bits")


def read_weights(folder: Path) -> bytes:
    """The bytes of a checkpoint's file of weights. Raises `UserError` if it cannot be read."""
    try:
        return (folder / WEIGHTS).read_bytes()
    except OSError as error:
        raise UserError(f"{folder / WEIGHTS}: damaged or missing ({error}); copy the checkpoint again") from error


class Stored(NamedTuple):
    """A tensor in a file of weights: its number format (such as F16), its shape, and the place of its bytes."""

    kind: str
    shape: tuple[int, ...]
    offset: int
    length: int


def stored_tensors(weights: bytes) -> dict[str, Stored]:
    """The tensors of a safetensors file by name."""
    start = 8 + int.from_bytes(weights[:8], "little")
    header = parse_json(weights[8:start])
    header.pop("__metadata__", None)
    return {
        name: Stored(
            facts["dtype"],
            tuple(facts["shape"]),
            start + facts["data_offsets"][0],
            facts["data_offsets"][1] - facts["data_offsets"][0],
        )
        for name, facts in header.items()
    }


def are_finite(weights: bytes) -> bool:
    """Whether no number of a file of weights is NaN or infinite; those have every bit of the exponent set."""
    for stored in stored_tensors(weights).values():
        if stored.kind not in EXPONENTS:
            continue
        kind, exponent = EXPONENTS[stored.kind]
        values = np.frombuffer(weights, kind, stored.length // np.dtype(kind).itemsize, stored.offset)
        if len(values) and int((values & kind(exponent)).max()) == exponent:
            return False
    return True


def halves(weights: bytes, stored: Stored) -> NDArray[np.float32]:
    """The values of a float16 tensor of a file of weights."""
    values = np.frombuffer(weights, np.float16, stored.length // 2, stored.offset)
    return values.astype(np.float32).reshape(stored.shape)
