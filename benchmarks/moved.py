"""Index a folder, rename it and each file in it, and index it again: how long, and does the network see anything?

    python benchmarks/moved.py --pictures 2000

Prints the seconds of both runs and their ratio; stops with an error if an id changed or a picture was embedded again.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from crossatnet import CrossATNet, Gallery


class Counting:
    """A model that counts the pictures it embeds."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.embedded = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def embed(self, pixels: Any, modality: Any) -> Any:
        self.embedded += len(pixels)
        return self._model.embed(pixels, modality)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--checkpoint", default="crossatnet-open")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "before"
        drawn(folder, options.pictures)
        model = Counting(CrossATNet.from_pretrained(options.checkpoint))
        with Gallery.create(Path(scratch) / "my.gallery", model) as gallery:
            first = timed(gallery, folder)
            before = identities(gallery)
            model.embedded = 0
            folder = folder.rename(Path(scratch) / "after")
            for number, path in enumerate(sorted(folder.iterdir())):
                path.rename(folder / f"renamed {number}.jpg")
            second = timed(gallery, folder)
            if model.embedded or identities(gallery) != before:
                raise SystemExit(f"{model.embedded} pictures embedded again, or ids changed")
    print(f"{options.pictures} photos: first run {first:.1f} s, renamed and indexed again {second:.1f} s")
    print(f"ratio {second / first:.3f}; 0 network passes, same ids")


def drawn(folder: Path, pictures: int) -> None:
    """JPEGs of 640 x 480 pixels, each different."""
    folder.mkdir()
    for number in range(pictures):
        pixels = np.random.default_rng(number).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((640, 480), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg", quality=90)


def timed(gallery: Gallery, folder: Path) -> float:
    """Seconds to bring a gallery in step with a folder."""
    started = time.perf_counter()
    gallery.add_folder(folder)
    return time.perf_counter() - started


def identities(gallery: Gallery) -> dict[str, int]:
    """Ids by content hash."""
    found = gallery.store.pictures(range(1, len(gallery) + 1))
    return {stored.facts.file.content_hash: key for key, stored in found.items()}


if __name__ == "__main__":
    main()
