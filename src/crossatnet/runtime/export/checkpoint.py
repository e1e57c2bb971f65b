"""Exports a checkpoint with its ONNX form, which is compared with torch before the export is complete.

Letters: `B` batch, `S` side of the input, `P` that of a part.
"""

import json
import shutil
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from crossatnet.data.catalog import open_item
from crossatnet.data.hashes import content_hash
from crossatnet.data.images import prepare
from crossatnet.data.layouts import read_catalog
from crossatnet.model.checkpoint import (
    CARD,
    CONFIDENCE,
    CONFIG,
    FORM,
    HISTORY,
    RECORD,
    WEIGHTS,
    CheckpointConfig,
    locate,
    read_config,
)
from crossatnet.model.interface import side_of
from crossatnet.model.network import CrossATNet
from crossatnet.model.weights import load_network
from crossatnet.runtime.choose import PROBES, probes
from crossatnet.runtime.export.graphs import linked, traced
from crossatnet.runtime.export.int8 import quantised
from crossatnet.runtime.onnx_files import FORM_FORMAT, OPSET, Calibration, OnnxFile, OnnxForm, OnnxPart, read_weights
from crossatnet.runtime.onnx_model import open_session
from crossatnet.system.errors import UserError
from crossatnet.system.files import write_whole
from crossatnet.system.version import __version__

TOLERANCE = 1e-4  # of embeddings, similarities and attention against torch
NEAR_PLANE = 1e-3  # a bit may differ if the embedding is so near its hyperplane
CALIBRATING, HELD_OUT, FEWEST = 128, 64, 24  # pictures to find the ranges, to test them, and the fewest in all
MIN_COSINE = 0.98  # of embeddings in 8 bits, mean over the pictures held out


class Pictures(NamedTuple):
    """Training pictures as the network takes them: pixels (1, S, S, 3) each, their data set, and their classes.

    And as it takes parts, (1, P, P, 3) each, or none where it has no regions.
    """

    pixels: list[NDArray[np.uint8]]
    parts: list[NDArray[np.uint8]]
    data: str
    classes: tuple[str, ...]


def export_checkpoint(source: str | Path, output: Path, calibration: Pictures | None = None) -> OnnxForm:
    """Write a checkpoint with its ONNX form into a folder, which may be the checkpoint's own.

    With `calibration`, pictures of classes trained on, it writes the 8-bit form too. onnx.json is written last, so a
    form that has it is complete.
    Raises `UserError` for a folder that holds another checkpoint, for a network that ONNX cannot express, and if the
    graphs disagree with torch.
    """
    folder = locate(source)
    network, checkpoint, weights = load_network(source), read_config(folder), read_weights(folder)
    _check_output(folder, output)
    graphs: dict[OnnxPart, onnx.ModelProto] = {}
    for part in parts_of(network):
        graphs[part] = linked(traced(network, part), weights)
    error = max(compared(network, graphs, weights).values())
    outcome = None
    if calibration is not None:
        pixels = calibration.pixels[: -max(len(calibration.pixels) // 3, 1)][:CALIBRATING]
        graphs["photo-int8"] = quantised(graphs["photo"], weights, pixels)
        if network.regions:
            graphs["regions-int8"] = quantised(graphs["regions"], weights, calibration.parts[: len(pixels)])
        outcome = agreement(graphs, weights, calibration, len(pixels))
    weights_sha256 = content_hash(weights)
    for part, graph in graphs.items():
        onnx.helper.set_model_props(graph, facts(network, checkpoint, part, weights_sha256))
        graph.producer_name, graph.producer_version = "crossatnet", __version__
    contents = {part: graph.SerializeToString(deterministic=True) for part, graph in graphs.items()}
    form = OnnxForm(
        fingerprint=network.fingerprint,
        model=network.config,
        weights=weights_sha256,
        opset=OPSET,
        files={part: OnnxFile(sha256=content_hash(content), bytes=len(content)) for part, content in contents.items()},
        largest_error=error,
        int8=outcome,
        written_with=f"crossatnet {__version__}",
    )
    _write(folder, output, form, contents)
    return form


def parts_of(network: CrossATNet) -> list[OnnxPart]:
    """The graphs of a network's form, those of 8 bits aside."""
    parts: list[OnnxPart] = ["photo", "sketch"]
    if network.has_attention:
        parts.append("guided")
    if network.regions:
        parts.append("regions")
    return parts


def _check_output(folder: Path, output: Path) -> None:
    """Raise `UserError` if the output is no folder, or holds another checkpoint."""
    if output.exists() and not output.is_dir():
        raise UserError(f"{output}: a file; give a folder with -o")
    for name in (CONFIG, WEIGHTS):
        if (output / name).exists() and (output / name).read_bytes() != (folder / name).read_bytes():
            raise UserError(f"{output}: holds another checkpoint; give a new folder with -o")


def _write(folder: Path, output: Path, form: OnnxForm, contents: dict[OnnxPart, bytes]) -> None:
    """Write the checkpoint's files and those of its form, and remove an earlier form."""
    output.mkdir(parents=True, exist_ok=True)
    if folder.resolve() != output.resolve():
        for name in (WEIGHTS, CARD, HISTORY, RECORD, CONFIDENCE, CONFIG):
            if (folder / name).is_file():
                shutil.copy(folder / name, output / name)
    (output / FORM).unlink(missing_ok=True)
    for part in get_args(OnnxPart):
        path = output / f"{part}.onnx"
        path.unlink(missing_ok=True)
        if part in contents:
            path.write_bytes(contents[part])
            onnx.checker.check_model(path)
    write_whole(output / FORM, form.model_dump_json(indent=1) + "\n")


def facts(network: CrossATNet, checkpoint: CheckpointConfig, part: OnnxPart, weights_sha256: str) -> dict[str, str]:
    """The description in a file, as ONNX metadata: texts, or JSON."""
    config, provenance = network.config, checkpoint.provenance
    mean, std = network.backbone.statistics
    shaping = {
        "input": "uint8, RGB, 0..255, (pictures, side, side, 3); normalised in the graph",
        "photo_side": side_of(config, "photo"),
        "sketch_side": side_of(config, "sketch"),
        "region_side": config.region_size,
        "resize": "to a square, bilinear, with antialiasing",
        "sketch": "light strokes on black" + (", cut to the square around them" if config.fit_strokes else ""),
        "fit_strokes": config.fit_strokes,
        "mirror_sketches": config.mirror_sketches,  # in the graph
        "mean": mean,
        "std": std,
    }
    return {
        "format": str(FORM_FORMAT),
        "part": part,
        "name": checkpoint.name,
        "fingerprint": network.fingerprint,
        "weights_sha256": weights_sha256,
        "preprocessing": json.dumps(shaping),
        "code_bits": str(network.code_bits),
        "data": json.dumps([provenance.data, *provenance.extra_data]),
        "split": provenance.split,
        "training_classes": json.dumps(provenance.training_classes),
        "validation_classes": json.dumps(provenance.validation_classes),
        "trained_with": provenance.trained_with,
        "written_with": f"crossatnet {__version__}",
    }


def compared(network: CrossATNet, graphs: dict[OnnxPart, onnx.ModelProto], weights: bytes) -> dict[str, float]:
    """The largest differences between graphs and network for batches of 1 and 3. Raises `UserError` if too large."""
    errors: dict[str, float] = {}
    sessions = {part: open_session(graph.SerializeToString(), weights, part, 1) for part, graph in graphs.items()}

    def note(what: str, ours: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
        same = ours.shape == expected.shape and bool(np.isfinite(ours).all())
        errors[what] = max(errors.get(what, 0.0), float(np.abs(ours - expected).max()) if same else np.inf)

    for count in (1, 3):
        photos = probes(count, side_of(network.config, "photo"))
        sketches = probes(count, side_of(network.config, "sketch"), seed=1)
        photo_row, code, photo_map, *proposals = sessions["photo"].run(None, {"pixels": photos})
        note("photo embeddings", photo_row, network.embed(photos, "photo"))
        for ours in proposals:  # one, where photos have regions
            with torch.inference_mode():
                theirs = network.proposals(*network.maps(photos, "photo")).numpy()
            size = max(1.0, float(np.abs(theirs).max()))  # logits and logarithms: unlike embeddings, of any size
            note("proposals", ours / size, (theirs / size).astype(np.float32))
        _check_code(network, photo_row, code, "photo")
        sketch_row, code, feature = sessions["sketch"].run(None, {"pixels": sketches})
        note("sketch embeddings", sketch_row, network.embed(sketches, "sketch"))
        _check_code(network, sketch_row, code, "sketch")
        if "guided" in sessions:
            similarity, attention = sessions["guided"].run(None, {"feature": feature[:1], "map": photo_map})
            expected = network.guide(sketches[0], photos)
            note("guided similarities", similarity, expected.similarity)
            note("attention", attention, expected.attention)
        if "regions" in sessions:
            assert network.config.region_size is not None, "the graph is there only with it"
            parts = probes(count, network.config.region_size)
            (part_row,) = sessions["regions"].run(None, {"pixels": parts})
            note("embeddings of parts", part_row, network.embed(parts, "photo"))
    for what, error in errors.items():
        if not error <= TOLERANCE:
            raise UserError(
                f"{network.name}: {what} of its ONNX form differ from torch's by {error:.2g}, more than {TOLERANCE};"
                " nothing was written - please report it, with the versions that crossatnet doctor prints"
            )
    return errors


def _check_code(network: CrossATNet, rows: NDArray[np.float32], code: NDArray[np.uint8], part: OnnxPart) -> None:
    weight, offset = network.hyperplanes(network.code_bits)
    differ = np.unpackbits(code ^ network.hash(rows), axis=1).astype(bool)  # (B, R)
    margin = np.abs(rows @ weight.T - offset)  # (B, R)
    if (differ & (margin > NEAR_PLANE * np.linalg.norm(weight, axis=1))).any():
        raise UserError(f"{network.name}: hash codes of its ONNX {part} part are not torch's; nothing was written")


def agreement(graphs: dict[OnnxPart, onnx.ModelProto], weights: bytes, pictures: Pictures, used: int) -> Calibration:
    """How well the 8-bit form agrees with the other on the pictures after the first `used`.

    Raises `UserError` if it does not agree well enough.
    """
    made_up = probes(PROBES, pictures.pixels[0].shape[1])
    pixels = [*pictures.pixels[used:], *(made_up[row : row + 1] for row in range(PROBES))]
    rows = []
    for part in ("photo", "photo-int8"):
        session = open_session(graphs[part].SerializeToString(), weights, part, 1)
        rows.append(np.concatenate([session.run(["embedding"], {"pixels": one})[0] for one in pixels]))
    both = (rows[0] * rows[1]).sum(1)
    cosine, probe_cosine = both[:-PROBES], both[-PROBES:]
    if not cosine.mean() >= MIN_COSINE:
        raise UserError(
            f"embeddings in 8 bits have a mean cosine of {cosine.mean():.4f} with those in floating point, less than"
            f" {MIN_COSINE}; calibrate on more pictures like those to be searched (--data), or leave out --int8"
        )
    return Calibration(
        data=pictures.data,
        classes=pictures.classes,
        pictures=used,
        held_out=len(cosine),
        cosine=float(cosine.mean()),
        lowest_cosine=float(cosine.min()),
        probe_cosine=float(probe_cosine.mean()),
    )


def training_photos(source: str | Path, data: Path | None, layout: str | None, quiet: bool = False) -> Pictures:
    """Photos to calibrate on: only of classes that the checkpoint was trained on, equally many of each.

    `data` and `layout` are those of a data set; without them the quickstart's data is drawn. Raises `UserError` if too
    few of its photos are of such classes.
    """
    checkpoint = read_config(locate(source))
    trained = {*checkpoint.provenance.training_classes}
    chosen = layout or (checkpoint.provenance.layout if data else "quickstart")
    catalog = read_catalog(data, chosen, quiet, classes=trained).select(trained, "photo")
    order = np.random.default_rng(0).permutation(len(catalog.items))
    turn: dict[str, int] = {}
    ranked: list[tuple[int, int]] = []
    for number in order.tolist():  # the first of every class, then the second of every class, ...
        name = catalog.items[number].class_name
        turn[name] = turn.get(name, -1) + 1
        ranked.append((turn[name], number))
    items = [catalog.items[number] for _, number in sorted(ranked, key=lambda pair: pair[0])]
    items = items[: CALIBRATING + HELD_OUT]
    if len(items) < FEWEST:
        raise UserError(
            f"{catalog.root}: {len(items)} photos are of classes that {checkpoint.name} was trained on, and 8 bits"
            f" need {FEWEST}: give its training data with --data"
        )
    photos = [open_item(item) for item in items]
    pixels, parts = (
        [prepare(photo, "photo", side)[None] for photo in photos if side is not None]
        for side in (side_of(checkpoint.model, "photo"), checkpoint.model.region_size)
    )
    return Pictures(pixels, parts, catalog.root.name, tuple(sorted({item.class_name for item in items})))
