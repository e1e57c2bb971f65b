"""Loads checkpoints: the only module that knows both the network and the ONNX form.

| runtime | computes |
|---|---|
| torch | the network as it was trained, float32, channels last |
| torch-bf16 | its backbone in bfloat16 |
| torch-compile | its backbone compiled; needs a C++ compiler, and minutes at the start |
| onnx | the checkpoint's ONNX form in float32, without torch |
| onnx-int8 | the same; photos in 8 bits |
| auto | the ONNX form if there is one, photos by whichever of its files is faster on this machine; else torch |

In every runtime the model has the same fingerprint, so a gallery made by one can be searched by any other.
"""

import importlib.util
from pathlib import Path
from typing import get_args

from crossatnet.data.hashes import short_hash
from crossatnet.model.checkpoint import locate, source_of
from crossatnet.model.confidence import read_confidence
from crossatnet.model.interface import PictureModel
from crossatnet.runtime.names import Runtime
from crossatnet.runtime.onnx_files import has_form
from crossatnet.system.errors import UserError, did_you_mean, how_to_install


class Pretrained(PictureModel):
    """The public name `crossatnet.CrossATNet`: every trained model is an instance, in any runtime."""

    @classmethod
    def __subclasshook__(cls, other: type) -> bool:
        """Whether a class is a model, so that `isinstance(model, crossatnet.CrossATNet)` holds for each runtime's."""
        return PictureModel in other.__mro__  # `issubclass` would call this method again, without end

    @staticmethod
    def from_pretrained(source: str | Path, runtime: Runtime = "auto") -> PictureModel:
        """Load a checkpoint: a packaged name, a folder, or a hub id such as `owner/name`; see `load`.

        Example:
            >>> from crossatnet import CrossATNet
            >>> model = CrossATNet.from_pretrained("crossatnet-open")
            >>> model.dimension
            512
        """
        return load(source, runtime)


def load(source: str | Path, runtime: Runtime = "auto") -> PictureModel:
    """The model of a checkpoint, computed as asked.

    `source` is a packaged name, a folder, or a hub id such as `owner/name`; `runtime` is a row of the table above.
    Raises `UserError` for anything missing, damaged or unknown.

    Example:
        >>> from crossatnet.runtime.load import load
        >>> load("crossatnet-open", runtime="onnx").name
        'crossatnet-open'
    """
    if runtime not in get_args(Runtime):
        raise UserError(f"unknown runtime '{runtime}'; {did_you_mean(runtime, get_args(Runtime))}")
    folder = locate(source)
    found = source_of(source, folder)  # so that the hub is asked only once
    if runtime == "auto" and not has_form(folder):
        runtime = "torch"
    return _torch_model(found, runtime, folder) if runtime.startswith("torch") else _onnx_model(found, runtime, folder)


def _onnx_model(source: str, runtime: Runtime, folder: Path) -> PictureModel:
    from crossatnet.runtime.choose import faster_photo_part
    from crossatnet.runtime.onnx_model import OnnxModel

    if runtime == "auto":
        model = OnnxModel(source, faster_photo_part)
    else:
        model = OnnxModel(source, "photo-int8" if runtime == "onnx-int8" else "photo")
    model.confidence = read_confidence(folder, short_hash(model.form.weights))
    return model


def _torch_model(source: str, runtime: Runtime, folder: Path) -> PictureModel:
    if importlib.util.find_spec("torch") is None:
        way = "take --runtime onnx" if has_form(folder) else "give it an ONNX form where torch is: crossatnet export"
        raise UserError(
            f"'{source}' would be computed by torch, which is not installed: {how_to_install('torch')}, or {way}"
        )
    from crossatnet.model.weights import load_network

    network = load_network(source)
    network.use(runtime)
    network.confidence = read_confidence(folder)
    return network
