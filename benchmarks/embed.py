"""Photos embedded in a second: the shipped path against plain torch, and against what the processor can compute.

    python benchmarks/embed.py --data PATH/TO/sketchy

Photos are JPEG files on disk: `--pictures` photos of the data set's training classes, or made ones without `--data`.
Each row reads, decodes, resizes and embeds them (`from JPEG`), and embeds them once decoded (`network`):

- naive: one process, one picture after another or batches of 32, torch eager in float32 with its default memory order;
- torch, torch-bf16, onnx, onnx-int8: the runtimes, in batches of a gallery's size, decoded as a naive user would;
- index: what `crossatnet index` does, decoding in threads while the network works, with the runtime that `auto` takes,
  storing included.

All take turns, `--repeats` times, and the best of each counts: other programs only make them slower. The ceiling is
the largest rate of a product of square matrices, in float32 and bfloat16 by torch and in 8 bits by ONNX Runtime; a
row's share is its network rate times the network's arithmetic (two operations a multiplication) over the ceiling of its
number format. With `--data` mAP@all on the unseen classes of the checkpoint's split is told too, photos embedded in
floating point and in 8 bits; the checkpoint must be one that has not seen them.

Threads: all cores, or OMP_NUM_THREADS. Prints a table and writes `benchmarks/results/embed.json`.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from crossatnet import CrossATNet, Gallery
from crossatnet.data.layouts import read_catalog
from crossatnet.evaluation.ranking import evaluate
from crossatnet.evaluation.zero_shot import open_test
from crossatnet.gallery.ingest.folder import PICTURES_A_BATCH
from crossatnet.model.checkpoint import locate, read_config
from crossatnet.model.interface import PictureModel, side_of
from crossatnet.model.network import CrossATNet as Network
from crossatnet.model.weights import load_network
from crossatnet.runtime.onnx_model import OnnxModel, threads
from ingest import made

RESULTS = Path(__file__).parent / "results" / "embed.json"
RUNTIMES = {"torch": "float32", "torch-bf16": "bfloat16", "onnx": "float32", "onnx-int8": "int8"}
SIDE, PRODUCTS = 2048, 10  # of the matrices, and how many are multiplied
MADE = "640x480"

Embed = Callable[[NDArray[np.uint8]], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder in Sketchy's layout")
    parser.add_argument("--checkpoint", default="crossatnet-sketchy")
    parser.add_argument("--pictures", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(threads())
    with TemporaryDirectory(prefix="crossatnet-") as scratch:
        folder = given(Path(scratch), options.checkpoint, options.data, options.pictures)
        rows = compared(options.checkpoint, folder, options.repeats)
    operations = arithmetic(options.checkpoint)
    ceilings = {kind: max(measure() for _ in range(PRODUCTS)) for kind, measure in CEILINGS.items()}
    for row in rows:
        row["of_ceiling"] = round(row["network_per_s"] * operations / ceilings[row["format"]], 3)
        show(row)
    record = {
        "command": "python benchmarks/embed.py"
        + (" --data DATA/sketchy-mini" if options.data else "")
        + f" --pictures {options.pictures}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "threads": threads(),
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
        "checkpoint": options.checkpoint,
        "pictures": options.pictures,
        "side": side_of(read_config(locate(options.checkpoint)).model, "photo"),
        "gflop": round(operations / 1e9, 3),
        "ceilings_gflops": {kind: round(rate / 1e9, 1) for kind, rate in ceilings.items()},
        "rows": rows,
        "map": accuracy(options.checkpoint, options.data) if options.data else None,
    }
    print(f"ceilings, GFLOP/s: {record['ceilings_gflops']}; the network takes {record['gflop']} GFLOP a photo")
    if record["map"]:
        print(f"mAP@all on unseen classes: {record['map']}")
    RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def given(scratch: Path, checkpoint: str, data: Path | None, count: int) -> Path:
    """A folder of JPEG files: links to photos of classes trained on, evenly chosen, or made ones."""
    if data is None:
        return made(scratch / "made", MADE, count)
    classes = {*read_config(locate(checkpoint)).provenance.training_classes}
    photos = read_catalog(data, "sketchy", classes=classes).select(classes, "photo").items
    (scratch / "copied").mkdir()
    for number, item in enumerate(photos[:: max(1, len(photos) // count)][:count]):
        (scratch / "copied" / f"{number:05}.jpg").write_bytes(item.path.read_bytes())
    return scratch / "copied"


def compared(checkpoint: str, folder: Path, repeats: int) -> list[dict[str, Any]]:
    """Every way's rates, best of several turns."""
    files = sorted(folder.iterdir())
    plain = load_network(checkpoint)
    ways: dict[str, tuple[str, int, Embed]] = {
        "naive, batch 1": ("float32", 1, lambda pixels: naive(plain, pixels)),
        "naive, batch 32": ("float32", 32, lambda pixels: naive(plain, pixels)),
    }
    for runtime, kind in RUNTIMES.items():
        model = CrossATNet.from_pretrained(checkpoint, runtime=runtime)
        ways[runtime] = (kind, PICTURES_A_BATCH, lambda pixels, model=model: model.embed(pixels, "photo"))
    chosen = CrossATNet.from_pretrained(checkpoint)
    decoded = np.stack([plain.preprocess(file, "photo") for file in files])
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in (*ways, "index")}
    for _, _, embed in ways.values():
        embed(decoded[:2])  # the first call prepares buffers
    chosen.embed(decoded[:2], "photo")
    for _ in range(repeats):
        for name, (_, batch, embed) in ways.items():
            rates[name].append((from_disk(plain, files, batch, embed), alone(decoded, batch, embed)))
        index, network = indexed(chosen, folder), alone(decoded, PICTURES_A_BATCH, lambda px: chosen.embed(px, "photo"))
        rates["index"].append((index, network))
    part = chosen.photo_part if isinstance(chosen, OnnxModel) else "torch"
    kinds = {name: kind for name, (kind, _, _) in ways.items()} | {
        "index": "int8" if part == "photo-int8" else "float32"
    }
    base = max(rate for rate, _ in rates["naive, batch 1"])
    return [
        {
            "way": name if name != "index" else f"index, {part}",
            "format": kinds[name],
            "jpeg_per_s": round(max(rate for rate, _ in measured), 1),
            "network_per_s": round(max(rate for _, rate in measured), 1),
            "times_naive": round(max(rate for rate, _ in measured) / base, 2),
        }
        for name, measured in rates.items()
    ]


@torch.inference_mode()
def naive(network: Network, pixels: NDArray[np.uint8]) -> object:
    """The network unit by unit in torch's default memory order."""
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().contiguous()  # (B, 3, S, S)
    for unit in network.encoder("photo").chain():
        x = unit(x)
    return network.embed_map(x, "photo").numpy()


def from_disk(model: PictureModel, files: list[Path], batch: int, embed: Embed) -> float:
    """Photos a second, from files, one step after another."""
    begin = time.perf_counter()
    for start in range(0, len(files), batch):
        embed(np.stack([model.preprocess(file, "photo") for file in files[start : start + batch]]))
    return len(files) / (time.perf_counter() - begin)


def alone(decoded: NDArray[np.uint8], batch: int, embed: Embed) -> float:
    """Photos a second, of the network alone."""
    begin = time.perf_counter()
    for start in range(0, len(decoded), batch):
        embed(decoded[start : start + batch])
    return len(decoded) / (time.perf_counter() - begin)


def indexed(model: PictureModel, folder: Path) -> float:
    """Photos a second, into a new gallery."""
    with TemporaryDirectory() as scratch, Gallery.create(Path(scratch, "made.gallery"), model) as gallery:
        begin = time.perf_counter()
        summary = gallery.add_folder(folder)
        return summary.added / (time.perf_counter() - begin)


def arithmetic(checkpoint: str) -> float:
    """Floating-point operations of one photo's embedding, a multiplication and its addition being two."""
    network = load_network(checkpoint)
    side = side_of(network.config, "photo")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, side, side), "photo")
    return float(counter.get_total_flops())


def product(kind: torch.dtype) -> float:
    """Operations a second of torch's matrix product."""
    left, right = (torch.ones(SIDE, SIDE, dtype=kind) for _ in range(2))
    torch.mm(left[:64], right)
    begin = time.perf_counter()
    torch.mm(left, right)
    return 2 * SIDE**3 / (time.perf_counter() - begin)


def product_int8() -> float:
    """Operations a second of ONNX Runtime's matrix product of 8-bit integers."""
    names = ("left", "right")
    kinds = (onnx.TensorProto.UINT8, onnx.TensorProto.INT8)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMulInteger", names, ["out"])],
        "product",
        [onnx.helper.make_tensor_value_info("left", kinds[0], [SIDE, SIDE])],
        [onnx.helper.make_tensor_value_info("out", onnx.TensorProto.INT32, [SIDE, SIDE])],
        [onnx.numpy_helper.from_array(np.ones((SIDE, SIDE), np.int8), "right")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads()
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    left = np.ones((SIDE, SIDE), np.uint8)
    session.run(None, {"left": left})
    begin = time.perf_counter()
    session.run(None, {"left": left})
    return 2 * SIDE**3 / (time.perf_counter() - begin)


CEILINGS: dict[str, Callable[[], float]] = {
    "float32": lambda: product(torch.float32),
    "bfloat16": lambda: product(torch.bfloat16),
    "int8": product_int8,
}


def accuracy(checkpoint: str, data: Path) -> dict[str, float]:
    """mAP@all of sketches among photos of unseen classes, the photos embedded in floating point and in 8 bits."""
    test = open_test(checkpoint, data)
    items = {kind: test.catalog.select(test.split.unseen, kind).items for kind in ("sketch", "photo")}
    found = {}
    for runtime in ("onnx", "onnx-int8"):
        model = CrossATNet.from_pretrained(checkpoint, runtime=runtime)
        rows = {kind: model.encode([item.path for item in each], kind) for kind, each in items.items()}
        classes = {kind: [item.class_name for item in each] for kind, each in items.items()}
        scores = evaluate(rows["sketch"], classes["sketch"], rows["photo"], classes["photo"])
        found[runtime] = round(scores.means()["mAP@all"], 4)
    return found


def show(row: dict[str, Any]) -> None:
    print(
        f"{row['way']:18} from JPEG {row['jpeg_per_s']:7.1f}/s ({row['times_naive']:5.2f} x)"
        f"  network {row['network_per_s']:7.1f}/s, {100 * row['of_ceiling']:5.1f}% of the {row['format']} ceiling",
        flush=True,
    )


if __name__ == "__main__":
    main()
