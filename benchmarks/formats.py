"""How much longer does it take to read a photo in another format than JPEG, alone and with the network behind it?

    python benchmarks/formats.py --sizes 1600x1200,4032x3024

Pictures: soft patches with a camera's grain, the same pixels in every format, at the qualities that phones write. Each
way of reading is the shipped one. Counted is the processor time of the whole process, of each picture the best of
`--repeats` turns, in turns within each picture, so that other programs on the machine disturb all formats alike. The
ratio is a format's time over JPEG's, to make the network's input, and to make the embedding.

Prints a table and writes `benchmarks/results/formats.json`.
"""

import argparse
import io
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pillow_heif
import torch
from PIL import Image

from crossatnet import CrossATNet
from crossatnet.data.decoders import CHILD
from pictures import grained, patches
from record import machine, write

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # which write raw files too
from picture_files import raw_photo

PHONES_OWN = 416  # pixels, the longer side of the smaller version in the photos of newer phones
GRAIN = 4.0  # grey levels, standard deviation


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


WAYS: dict[str, Callable[[Image.Image], bytes]] = {
    "JPEG": lambda image: saved(image, "JPEG", quality=90),
    "HEIC": lambda image: saved(image, "HEIF", quality=60),
    "HEIC as new phones write it": lambda image: saved(image, "HEIF", quality=60, thumbnails=[PHONES_OWN]),
    "AVIF": lambda image: saved(image, "AVIF", quality=75, speed=8),
    "RAW, its preview a JPEG": raw_photo,
    "JPEG XL": lambda image: bytes(imagecodecs.jpegxl_encode(np.asarray(image), level=85, effort=3)),
    "PNG": lambda image: saved(image, "PNG", compress_level=1),
    "WebP": lambda image: saved(image, "WEBP", quality=85, method=2),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1600x1200,4032x3024", help="of the pictures, in pixels")
    parser.add_argument("--pictures", type=int, default=4, help="of each size")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--checkpoint", default="crossatnet-open")
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ[CHILD] = "1"  # decode in this process, whose time is measured
    pillow_heif.register_heif_opener()
    model = CrossATNet.from_pretrained(options.checkpoint)
    rows = []
    for size in options.sizes.split(","):
        for row in compared(model, size, options.pictures, options.repeats):
            rows.append(row)
            print(
                f"{row['size']:>10}  {row['format']:42}  {row['kilobytes']:7,} kB  {row['read_ms']:8.1f} ms"
                f"  {row['read_ratio']:6.2f}x  {row['embed_ms']:8.1f} ms  {row['embed_ratio']:5.2f}x",
                flush=True,
            )
    packages = {
        name: version(name) for name in ("pillow", "pillow-heif", "rawpy", "imagecodecs", "simplejpeg", "torch")
    }
    command = f"python benchmarks/formats.py --sizes {options.sizes}"
    write("formats", {"command": command, "machine": machine(), "packages": packages, "rows": rows})


def compared(model: Any, size: str, count: int, repeats: int) -> list[dict[str, Any]]:
    """A row for each format, with the raw file whose preview is the same JPEG."""
    width, height = map(int, size.split("x"))
    random = np.random.default_rng(0)
    read = {name: np.full(count, np.inf) for name in WAYS}
    embedded = {name: np.full(count, np.inf) for name in WAYS}
    sizes = dict.fromkeys(WAYS, 0)
    for number in range(count):
        soft = patches(random, 16, 12, (width, height))
        image = grained(soft, random.normal(0, GRAIN, (height, width, 1)))
        contents = {name: way(image) for name, way in WAYS.items()}
        for _ in range(repeats):
            for name, content in contents.items():
                begin = time.process_time()
                pixels = model.preprocess(content, "photo")
                seen = time.process_time()
                model.embed(pixels[None], "photo")
                done = time.process_time()
                read[name][number] = min(read[name][number], seen - begin)
                embedded[name][number] = min(embedded[name][number], done - begin)
                sizes[name] = len(content)
    return [
        {
            "size": size,
            "format": name,
            "kilobytes": round(sizes[name] / 1000),
            "read_ms": round(1000 * float(read[name].mean()), 2),
            "read_ratio": round(float(read[name].mean() / read["JPEG"].mean()), 2),
            "embed_ms": round(1000 * float(embedded[name].mean()), 2),
            "embed_ratio": round(float(embedded[name].mean() / embedded["JPEG"].mean()), 2),
        }
        for name in WAYS
    ]


if __name__ == "__main__":
    main()
