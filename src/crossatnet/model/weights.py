"""Saves and loads the network of a checkpoint folder.

The only module that connects `model.checkpoint`, which knows the folder, with `model.network`, which needs torch.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from crossatnet.model.checkpoint import (
    CARD,
    CONFIG,
    FORM,
    HISTORY,
    RECORD,
    WEIGHTS,
    CheckpointConfig,
    Provenance,
    TrainingRecord,
    card,
    locate,
    read_config,
    source_of,
    weights_hash,
)
from crossatnet.model.network import CrossATNet
from crossatnet.system.errors import UserError
from crossatnet.system.files import write_whole
from crossatnet.system.threads import keep_torch_to_cores


def save_checkpoint(
    folder: Path,
    network: CrossATNet,
    name: str,
    provenance: Provenance,
    history: list[dict[str, Any]],
    record: TrainingRecord | None = None,
) -> None:
    """Write a checkpoint folder, weights as float16; config.json is written last, so a folder that has it is complete.

    An older record is removed even without a new `record`, as it belongs to other weights; so is an older ONNX form.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        key: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for key, tensor in network.distinct_state().items()
    }
    config = CheckpointConfig(name=name, model=network.config, provenance=provenance)
    write_whole(folder / WEIGHTS, save(weights))  # on a full disk, the checkpoint before stays
    (folder / CONFIG).unlink(missing_ok=True)
    (folder / RECORD).unlink(missing_ok=True)
    (folder / FORM).unlink(missing_ok=True)
    if record is not None:
        bound = record.model_copy(update={"weights": weights_hash(folder)})
        (folder / RECORD).write_text(bound.model_dump_json() + "\n", encoding="utf-8")
    (folder / HISTORY).write_text(json.dumps(history, indent=1) + "\n", encoding="utf-8")
    (folder / CARD).write_text(card(config), encoding="utf-8")
    write_whole(folder / CONFIG, config.model_dump_json(indent=1) + "\n")


def load_network(source: str | Path) -> CrossATNet:
    """Load the network of a checkpoint, in evaluation mode. Raises `UserError` for anything missing or damaged."""
    folder = locate(source)
    config = read_config(folder)
    keep_torch_to_cores()
    network = CrossATNet(config.model)
    try:
        weights = load_file(folder / WEIGHTS)
        if not all(torch.isfinite(tensor).all() for tensor in weights.values() if tensor.is_floating_point()):
            raise UserError(
                f"{folder / WEIGHTS}: some weights are NaN or infinite; copy the checkpoint again, or train it"
            )
        network.load_distinct_state(weights)  # copies into float32
    except (SafetensorError, OSError) as error:
        raise UserError(f"{folder / WEIGHTS}: damaged or missing ({error}); copy the checkpoint again") from error
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise UserError(f"{folder / WEIGHTS}: does not fit its {CONFIG} ({reason})") from error
    network.name = config.name
    network.source = source_of(source, folder)
    return network.eval()
