"""What does it take to make the network's input of a JPEG file, by which decoder, and does the network see the same?

    python benchmarks/decode.py --folder PATH/TO/photos --made 800x600,1600x1200,4000x3000

Pictures: those of a folder as they are, and in given sizes: photos of the folder enlarged, with the grain of a camera
(noise of 8 grey levels) laid on, saved as JPEG of quality 90. Each way makes squares of the network's side of them.
Counted is the processor time of the one thread that does it, of each picture the best of `--repeats` turns, which
other programs on the machine disturb least. The cosine is between embeddings of what a way makes and of what Pillow
makes by decoding the whole picture and averaging exactly.

Prints a table and writes `benchmarks/results/decode.json`. OpenCV is only compared, and left out where it is missing.
"""

import argparse
import io
import time
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from PIL import Image

from crossatnet import CrossATNet
from crossatnet.data.images import load_image, prepare
from crossatnet.data.photos import read_photo
from crossatnet.gallery.ingest.listing import list_pictures
from pictures import enlarged, evenly
from record import machine, write

EXACT = "Pillow, whole"
Way = Callable[[bytes, int], NDArray[np.uint8]]


def whole(content: bytes, side: int) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(content)) as image:
        return np.array(image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR))


def draft(gap: float) -> Way:
    """Pillow at a fraction of the size, never below `gap` times what is asked for."""
    return lambda content, side: prepare(load_image(content, enough=round(gap * side)), "photo", side)


def blocks(content: bytes, side: int) -> NDArray[np.uint8]:
    """Pillow, shrunk in whole blocks to just above what is asked for."""
    image = load_image(content, enough=2 * side)
    return np.array(image.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=1.0))


def simple(content: bytes, side: int) -> NDArray[np.uint8]:
    """simplejpeg's whole picture, resized by Pillow."""
    return prepare(Image.fromarray(simplejpeg.decode_jpeg(content, "RGB")), "photo", side)


def hurried(content: bytes, side: int) -> NDArray[np.uint8]:
    """The same with its less exact arithmetic."""
    pixels = simplejpeg.decode_jpeg(content, "RGB", fastdct=True, fastupsample=True)
    return prepare(Image.fromarray(pixels), "photo", side)


def opencv(content: bytes, side: int) -> NDArray[np.uint8]:
    """OpenCV, averaging the areas that new pixels lie over."""
    import cv2

    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    return np.asarray(cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA))


WAYS: dict[str, Way] = {
    EXACT: whole,
    "Pillow, a fraction, 2 times the side or more": draft(2.0),
    "Pillow, a fraction, 1.5 times": draft(1.5),
    "Pillow, a fraction, 1 times": draft(1.0),
    "Pillow, a fraction, then whole blocks": blocks,
    "simplejpeg, whole": simple,
    "simplejpeg, whole, hurried": hurried,
    "OpenCV, whole, areas": opencv,
    "shipped: simplejpeg, a fraction, torch": read_photo,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="photos")
    parser.add_argument("--made", default="800x600,1600x1200,4000x3000", help="sizes of pictures to make")
    parser.add_argument("--pictures", type=int, default=64, help="of each size; an eighth of it above 4 megapixels")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--checkpoint", default="crossatnet-open")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, rows = CrossATNet.from_pretrained(options.checkpoint), []
    ways = {name: way for name, way in WAYS.items() if way is not opencv or find_spec("cv2")}
    files = list_pictures(options.folder).files
    chosen = evenly(files, options.pictures)
    for size in ["", *filter(None, options.made.split(","))]:
        contents = in_size(chosen, size) if size else [Path(file).read_bytes() for file in chosen]
        for row in compared(model, contents, ways, options.repeats):
            rows.append({"pictures": size or "the folder's own", **row})
            show(rows[-1])
    packages = {name: version(name) for name in ("pillow", "simplejpeg", "torch", "numpy")}
    packages |= {"opencv-python-headless": version("opencv-python-headless")} if find_spec("cv2") else {}
    made = ["--made", options.made] if options.made else []
    record = {
        "command": " ".join(["python benchmarks/decode.py --folder", f"DATA/{options.folder.name}", *made]),
        "machine": machine(),
        "packages": packages,
        "checkpoint": options.checkpoint,
        "rows": rows,
    }
    write("decode", record)


def compared(model: CrossATNet, contents: list[bytes], ways: dict[str, Way], repeats: int) -> list[dict[str, Any]]:
    """A row for each way, in turns within each picture, so that all are disturbed alike."""
    side = len(model.preprocess(contents[0], "photo"))
    seconds = {name: np.full(len(contents), np.inf) for name in ways}
    squares: dict[str, list[NDArray[np.uint8]]] = {name: [] for name in ways}
    for number, content in enumerate(contents):
        for turn in range(repeats):
            for name, way in ways.items():
                begin = time.thread_time()
                square = way(content, side)
                seconds[name][number] = min(seconds[name][number], time.thread_time() - begin)
                if turn == 0:
                    squares[name].append(square)
    embeddings = {name: embed(model, pixels) for name, pixels in squares.items()}
    return [
        {
            "way": name,
            "count": len(contents),
            "mean_bytes": round(float(np.mean([len(content) for content in contents]))),
            "cpu_ms": round(1000 * float(taken.mean()), 3),
            "per_s": round(1 / float(taken.mean()), 1),
            "times_faster": round(float(seconds[EXACT].mean() / taken.mean()), 2),
            "mean_cosine": round(float((embeddings[name] * embeddings[EXACT]).sum(1).mean()), 5),
            "least_cosine": round(float((embeddings[name] * embeddings[EXACT]).sum(1).min()), 5),
        }
        for name, taken in seconds.items()
    ]


def embed(model: CrossATNet, squares: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    pieces = [squares[start : start + model.batch_size] for start in range(0, len(squares), model.batch_size)]
    return np.concatenate([model.embed(np.stack(piece), "photo") for piece in pieces])  # (N, D)


def in_size(files: list[str], size: str) -> list[bytes]:
    """Photos in another size, with grain, as JPEG."""
    width, height = map(int, size.split("x"))
    random = np.random.default_rng(0)
    contents = []
    for file in files[: max(4, len(files) // 8) if width * height > 4_000_000 else None]:
        saved = io.BytesIO()
        enlarged(load_image(file), (width, height), random).save(saved, "JPEG", quality=90)
        contents.append(saved.getvalue())
    return contents


def show(row: dict[str, Any]) -> None:
    print(
        f"{row['pictures']:16} {row['way']:46} {row['cpu_ms']:7.2f} ms {row['per_s']:8.1f}/s"
        f" {row['times_faster']:5.2f} times faster, cosine {row['mean_cosine']:.5f}, least {row['least_cosine']:.5f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
