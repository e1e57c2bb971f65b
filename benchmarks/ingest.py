"""Does indexing keep the network busy? Its rate against that of the network alone, on the same pictures.

    python benchmarks/ingest.py --folder PATH/TO/photos
    python benchmarks/ingest.py --made 800x600,2000x1500

Pictures: those of a folder, or made ones of given sizes (smooth colours with noise, saved as JPEG), `--pictures` of
them. The network alone embeds and hashes them, decoded beforehand, with all cores, in the faster of two ways: a few
pictures at a time on each core, as `index` does, or 32 at a time on all of them. `index` then reads, decodes, resizes,
embeds and stores them. All are repeated in turn, `--repeats` times, and the best of each counts: other programs on the
machine only make them slower.

Where there is no GPU both want the same cores, so that no pipeline can hide decoding: told too is the processor time of
each step, and the bound, the network's share of all processor time that `index` takes.

Prints a table and writes `benchmarks/results/ingest.json`.
"""

import argparse
import hashlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from crossatnet import CrossATNet, Gallery
from crossatnet.data.images import picture_size
from crossatnet.gallery.ingest.folder import PICTURES_A_BATCH
from crossatnet.gallery.ingest.listing import list_pictures
from measure import clocked
from pictures import copy_evenly, make_photos
from record import machine, write


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
            files = list_pictures(options.folder).files
            given = copy_evenly(Path(scratch, "given"), [*map(Path, files)], options.pictures)
            sets[f"{options.folder.name}, a folder"] = given
        for size in filter(None, options.made.split(",")):
            sets[f"made, {size}"] = make_photos(Path(scratch, size), size, options.pictures)
        for name, folder in sets.items():
            rows.append({"pictures": name, **compared(model, folder, options.repeats)})
            show(rows[-1])
    words = ["--folder", f"DATA/{options.folder.name}"] if options.folder else []
    words += ["--made", options.made] if options.made else []
    record = {
        "command": " ".join(["python benchmarks/ingest.py", *words, "--pictures", str(options.pictures)]),
        "machine": machine(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "checkpoint": options.checkpoint,
        "rows": rows,
    }
    write("ingest", record)


def compared(model: CrossATNet, folder: Path, repeats: int) -> dict[str, Any]:
    """Pictures a second of the network alone and of `index`, and what each step takes."""
    files = list_pictures(folder).files
    decoded, steps = stepwise(model, files)
    pieces, batches = (
        [np.stack(decoded[start : start + size]) for start in range(0, len(files), size)]
        for size in (model.batch_size, PICTURES_A_BATCH)
    )
    timed: dict[str, list[tuple[float, float]]] = {"pieces": [], "batches": [], "index": []}
    embed(model, pieces[:2])  # the first calls prepare buffers
    for _ in range(repeats):
        timed["pieces"].append(clocked(lambda: on_each_core(model, pieces)))
        timed["batches"].append(clocked(lambda: embed(model, batches)))
        with TemporaryDirectory() as scratch, Gallery.create(Path(scratch, "made.gallery"), model) as gallery:
            timed["index"].append(clocked(lambda: gallery.add_folder(folder)))
    rates = {name: [len(files) / wall for wall, _ in taken] for name, taken in timed.items()}
    cpu = {name: 1000 * min(cpu for _, cpu in taken) / len(files) for name, taken in timed.items()}
    network = max(*rates["pieces"], *rates["batches"])
    steps["network"] = min(cpu["pieces"], cpu["batches"])
    steps["all else"] = max(cpu["index"] - sum(steps.values()), 0.0)
    return {
        "count": len(files),
        "network_per_s": round(network, 1),
        "index_per_s": round(max(rates["index"]), 1),
        "ratio": round(max(rates["index"]) / network, 3),
        "bound": round(steps["network"] / cpu["index"], 3),
        "cpu_ms": {name: round(milliseconds, 2) for name, milliseconds in steps.items()},
        "index_cpu_ms": round(cpu["index"], 2),
        "batches_cpu_ms": round(cpu["batches"], 2),
        "all_per_s": {name: [round(rate, 1) for rate in taken] for name, taken in rates.items()},
    }


def stepwise(model: CrossATNet, files: list[str]) -> tuple[list[NDArray[np.uint8]], dict[str, float]]:
    """The network's input of each file, and milliseconds of processor time a picture that one thread takes."""
    steps: dict[str, Callable[[bytes], Any]] = {
        "hash": lambda content: hashlib.sha256(content).hexdigest(),
        "decode and resize": lambda content: model.preprocess(content, "photo"),
        "size": picture_size,
    }
    made: dict[str, list[Any]] = {"read": [], **{name: [] for name in steps}}
    taken = dict.fromkeys(made, 0.0)
    for file in files:
        begin = time.thread_time()
        content = Path(file).read_bytes()
        taken["read"] += time.thread_time() - begin
        for name, step in steps.items():
            begin = time.thread_time()
            made[name].append(step(content))
            taken[name] += time.thread_time() - begin
    return made["decode and resize"], {name: 1000 * spent / len(files) for name, spent in taken.items()}


def embed(model: CrossATNet, batches: list[NDArray[np.uint8]]) -> None:
    for batch in batches:
        model.hash(model.embed(batch, "photo"))


def on_each_core(model: CrossATNet, pieces: list[NDArray[np.uint8]]) -> None:
    """Each thread embeds pieces on one core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # of the threads that are started next, too
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda piece: embed(model, [piece]), pieces))
    torch.set_num_threads(threads)


def show(row: dict[str, Any]) -> None:
    steps = ", ".join(f"{name} {milliseconds:.2f}" for name, milliseconds in row["cpu_ms"].items())
    print(
        f"{row['pictures']}: {row['count']:,} pictures\n"
        f"  network alone {row['network_per_s']:8.1f}/s\n"
        f"  index         {row['index_per_s']:8.1f}/s, {row['ratio']:.3f} of it; {row['bound']:.3f} by processor time\n"
        f"  ms of processor time a picture: {steps}",
        flush=True,
    )


if __name__ == "__main__":
    main()
