"""Does indexing keep the network busy? Its rate against that of the network alone, on the same pictures.

    python benchmarks/ingest.py --folder PATH/TO/photos
    python benchmarks/ingest.py --made 800x600,2000x1500

Pictures: those of a folder, or made ones of given sizes (smooth colours with noise, saved as JPEG), `--pictures` of
them. The network alone embeds and hashes them, decoded beforehand, in batches as large as a gallery's. `index` then
reads, decodes, resizes, embeds and stores them. Both are repeated in turn, `--repeats` times, and the best of each
counts: other programs on the machine only make them slower. Told too is how long decoding takes alone, on one thread.

Prints a table and writes `benchmarks/results/ingest.json`.
"""

import argparse
import json
import os
import platform
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from crossatnet import CrossATNet, Gallery
from crossatnet.gallery.ingest import BATCH, list_pictures

RESULTS = Path(__file__).parent / "results" / "ingest.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="pictures of yours")
    parser.add_argument("--made", default="", help="sizes of pictures to make, such as 800x600,2000x1500")
    parser.add_argument("--pictures", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--checkpoint", default="crossatnet-open")
    options = parser.parse_args()
    model, rows = CrossATNet.from_pretrained(options.checkpoint), []
    with TemporaryDirectory() as scratch:
        sets = {}
        if options.folder:
            sets[f"{options.folder.name}, a folder"] = copied(Path(scratch, "given"), options.folder, options.pictures)
        for size in filter(None, options.made.split(",")):
            sets[f"made, {size}"] = made(Path(scratch, size), size, options.pictures)
        for name, folder in sets.items():
            rows.append({"pictures": name, **compared(model, folder, options.repeats)})
            show(rows[-1])
    given = ["--folder", f"DATA/{options.folder.name}"] if options.folder else []
    given += ["--made", options.made] if options.made else []
    record = {
        "command": " ".join(["python benchmarks/ingest.py", *given, "--pictures", str(options.pictures)]),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "checkpoint": options.checkpoint,
        "rows": rows,
    }
    RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def compared(model: CrossATNet, folder: Path, repeats: int) -> dict[str, Any]:
    """Pictures a second of the network alone and of `index`, and milliseconds to decode one."""
    _, files, _ = list_pictures(folder)
    begin = time.perf_counter()
    decoded = [model.preprocess(Path(file).read_bytes(), "photo") for file in files]
    decoding = (time.perf_counter() - begin) / len(files)
    pixels = [np.stack(decoded[start : start + BATCH]) for start in range(0, len(files), BATCH)]
    alone, indexed = [], []
    embed(model, pixels[:2])  # the first calls prepare buffers
    for _ in range(repeats):
        begin = time.perf_counter()
        embed(model, pixels)
        alone.append(len(files) / (time.perf_counter() - begin))
        with TemporaryDirectory() as scratch, Gallery.create(Path(scratch, "made.gallery"), model) as gallery:
            begin = time.perf_counter()
            summary = gallery.add_folder(folder)
            indexed.append(summary.added / (time.perf_counter() - begin))
    return {
        "count": len(files),
        "network_per_s": round(max(alone), 1),
        "index_per_s": round(max(indexed), 1),
        "ratio": round(max(indexed) / max(alone), 3),
        "decode_ms": round(1000 * decoding, 2),
        "all_network_per_s": [round(rate, 1) for rate in alone],
        "all_index_per_s": [round(rate, 1) for rate in indexed],
    }


def embed(model: CrossATNet, batches: list[NDArray[np.uint8]]) -> None:
    for batch in batches:
        model.hash(model.embed(batch, "photo"))


def copied(target: Path, folder: Path, count: int) -> Path:
    """A folder with copies of some of the pictures, evenly chosen."""
    _, files, _ = list_pictures(folder)
    target.mkdir()
    for number, file in enumerate(files[:: max(1, len(files) // count)][:count]):
        (target / f"{number:05}{Path(file).suffix}").write_bytes(Path(file).read_bytes())
    return target


def made(target: Path, size: str, count: int) -> Path:
    """Pictures as JPEG: soft patches of colour with some noise, which takes as long to decode as a photo."""
    width, height = map(int, size.split("x"))
    target.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        patches = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((width, height))
        noise = random.normal(0, 8, (height, width, 1))
        pixels = np.clip(np.asarray(patches) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(target / f"{number:05}.jpg", quality=90)
    return target


def show(row: dict[str, Any]) -> None:
    print(f"{row['pictures']}: {row['count']:,} pictures, {row['decode_ms']:.1f} ms to decode one")
    print(
        f"  network alone {row['network_per_s']:8.1f}/s\n  index         {row['index_per_s']:8.1f}/s,"
        f" {row['ratio']:.3f} of it",
        flush=True,
    )


if __name__ == "__main__":
    main()
