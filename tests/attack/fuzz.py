"""Random bytes for the readers of pictures and strokes: each answers, or refuses in one of its own errors.

    python tests/attack/fuzz.py --minutes 60

Files of every format are changed at random: bits, bytes, pieces cut out, doubled or put elsewhere. A reader that raises
anything else, or takes longer than a second in this process, is a finding; its input is kept and named.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from crossatnet.data import decoders
from crossatnet.data.images import check_picture, load_image, picture_size
from crossatnet.data.metadata import read_metadata
from crossatnet.data.photos import read_photo
from crossatnet.data.strokes import StrokeFile
from crossatnet.system.errors import UserError
from picture_files import encoded, multi_picture, patches, raw_photo

KINDS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF", "JXL")
SLOW_S = 5.0  # of processor time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance, counts, findings = random.Random(options.seed), Counter[str](), 0
    decoders.limit(decoders.Limits(2, 5))
    files = {kind: encoded(patches(80, 60), kind) for kind in KINDS}
    files |= {"progressive": encoded(patches(96, 72), "JPEG", progressive=True), "raw": raw_photo(patches(80, 60))}
    files |= {"multi-picture": multi_picture(patches(80, 60), patches(40, 30))}
    seeds = [(kind, content, read_pictures) for kind, content in files.items()] + [("strokes", strokes(), read_strokes)]
    until = time.monotonic() + 60 * options.minutes
    while time.monotonic() < until:
        name, content, read = chance.choice(seeds)
        changed = mutated(content, chance)
        began = time.process_time()
        try:
            read(changed)
            outcome = "read"
        except UserError:
            outcome = "refused"
        except Exception as error:
            outcome, findings = f"FINDING {type(error).__name__}", findings + 1
            keep(changed, f"{name}: {type(error).__name__}: {error}")
        if time.process_time() - began > SLOW_S:
            findings += 1
            keep(changed, f"{name}: {time.process_time() - began:.1f} s")
        counts[outcome] += 1
    decoders.end_all()
    print(f"{sum(counts.values()):,} files in {options.minutes:g} minutes: {dict(counts)}; {findings} findings")
    sys.exit(bool(findings))


def read_pictures(content: bytes) -> None:
    """All that a server or an index run does with the bytes of a file."""
    read_metadata(content, "IMG_20200101_101010.jpg")
    check_picture(content, 40_000_000)
    image = load_image(content, 40_000_000)
    assert image.mode == "RGB"
    assert picture_size(content) == image.size or image.size[0] * image.size[1] > 0
    assert read_photo(content, 32).shape == (32, 32, 3)


def read_strokes(content: bytes) -> None:
    """All drawings of a file of strokes."""
    with tempfile.NamedTemporaryFile(suffix=".ndjson") as file:
        file.write(content)
        file.flush()
        drawings = StrokeFile.open(Path(file.name))
        for row in range(3):
            assert all(np.isfinite(stroke).all() for stroke in drawings.read(row).drawing)


def mutated(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        place, length = chance.randrange(len(changed)), chance.choice((1, 2, 4, 16, 64))
        kind = chance.randrange(6)
        if kind == 0:
            changed[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            changed[place] = chance.choice((0, 1, 127, 128, 254, 255))
        elif kind == 2:
            changed[place : place + length] = chance.randbytes(length)
        elif kind == 3 and len(changed) > 2 * length:
            del changed[place : place + length]
        elif kind == 4:
            changed[place:place] = changed[place : place + length] * chance.choice((1, 2, 50))
        else:
            changed[place : place + 4] = chance.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"))
        if not changed:
            changed = bytearray(b"\0")
    return bytes(changed)


def strokes() -> bytes:
    """Three drawings as Quick, Draw! has them."""
    row = {"word": "cat", "key_id": "1", "recognized": True, "drawing": [[[0, 10, 20], [5, 5, 9]], [[1, 2], [3, 4]]]}
    return b"\n".join(json.dumps(row).encode() for _ in range(3))


def keep(content: bytes, what: str) -> None:
    file = Path(tempfile.gettempdir()) / f"crossatnet-finding-{abs(hash(content)):x}"
    file.write_bytes(content)
    print(f"{what}: {file}", flush=True)


if __name__ == "__main__":
    main()
