"""Looks of photos, and what a checkpoint keeps of the pictures it has seen, so that others can be compared with them.

It keeps two things of a picture: the short hash of its content (see `crossatnet.data.hashes`), and of a photo its look,
a perceptual hash, which copies share that were resized, recompressed or slightly retouched. Neither gives away a file's
name or lets anyone see the picture.

Shapes: `N` photos, `M` others, `P` pairs.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from crossatnet.data.catalog import Catalog, Item, open_item
from crossatnet.data.hashes import short_hash
from crossatnet.system.progress import track
from crossatnet.system.threads import reading_threads

SIDE, FREQUENCIES = 32, 8
DECIMALS = 6  # rounding of the cosine transform's sums is far below, what means something far above
BLOCK = 64  # photos compared at a time: with 75,000 others they take 40 MB

Looks = NDArray[np.uint64]
Hexadecimal = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]  # 64 bits


class ClassPictures(BaseModel):
    """What is kept of one class's pictures: short hashes of sketches and photos, and the photos' looks, in order."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sketch: tuple[Hexadecimal, ...] = ()
    photo: tuple[Hexadecimal, ...] = ()
    look: tuple[Hexadecimal, ...] = ()

    def joined(self, other: "ClassPictures") -> "ClassPictures":
        """The pictures of both, each once.

        Example:
            >>> from crossatnet.data.looks import ClassPictures
            >>> one, other = ClassPictures(sketch=("a" * 16,)), ClassPictures(sketch=("b" * 16, "a" * 16))
            >>> len(one.joined(other).sketch)
            2
        """
        known = {*self.photo}
        new = [(photo, look) for photo, look in zip(other.photo, other.look, strict=True) if photo not in known]
        return ClassPictures(
            sketch=tuple(dict.fromkeys((*self.sketch, *other.sketch))),
            photo=(*self.photo, *(photo for photo, _ in new)),
            look=(*self.look, *(look for _, look in new)),
        )


class Near(NamedTuple):
    """Pairs of photos that look alike, the most alike first: row numbers and Hamming distances, (P,) each."""

    one: NDArray[np.int64]
    other: NDArray[np.int64]
    distance: NDArray[np.int64]


def class_pictures(catalog: Catalog, quiet: bool = False) -> dict[str, ClassPictures]:
    """What is kept of a catalog's pictures, by class. Decodes every photo once; raises `ImageError`.

    Example:
        >>> from crossatnet.data.catalog import Item, scan
        >>> from crossatnet.data.looks import class_pictures
        >>> photo.save("photo.png")
        >>> catalog = scan([Item(tmp_path / "photo.png", "house", "photo")], tmp_path, quiet=True)
        >>> pictures = class_pictures(catalog, quiet=True)["house"]
        >>> len(pictures.photo), len(pictures.look), len(pictures.sketch)
        (1, 1, 0)
    """
    shown = iter(looks([item for item in catalog.items if item.modality == "photo"], quiet).tolist())
    found: dict[str, dict[str, list[str]]] = {}
    for item, content_hash in zip(catalog.items, catalog.hashes, strict=True):
        pictures = found.setdefault(item.class_name, {"sketch": [], "photo": [], "look": []})
        pictures[item.modality].append(short_hash(content_hash))
        if item.modality == "photo":
            pictures["look"].append(f"{next(shown):016x}")
    return {name: ClassPictures.model_validate(found[name]) for name in sorted(found)}


def looks(photos: Sequence[Item], quiet: bool = False) -> Looks:
    """The looks (N,) of photos, in order. Raises `ImageError`.

    Example:
        >>> from crossatnet.data.catalog import Item
        >>> from crossatnet.data.looks import looks
        >>> photo.save("photo.png")
        >>> looks([Item(tmp_path / "photo.png", "house", "photo")], quiet=True).shape
        (1,)
    """
    with ThreadPoolExecutor(reading_threads()) as pool:
        found = pool.map(lambda item: look(open_item(item)), photos)
        return np.array([*track(found, "fingerprinting photos", len(photos), quiet)], dtype=np.uint64)


def look(image: Image.Image) -> int:
    """A perceptual hash of 64 bits: which of a picture's 8 x 8 lowest frequencies are above their median.

    The cosine transform (DCT-II) is of the picture in grey at 32 x 32 pixels (the pHash of Zauner, 2010; the lowest
    frequency included is ours). It survives resizing, recompression and changes of brightness, not mirroring, turning
    or cropping.

    Example:
        >>> from crossatnet.data.looks import look
        >>> half = photo.resize((60, 45))
        >>> (look(photo) ^ look(half)).bit_count() <= 4
        True
    """
    grey = np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0))
    waves = _waves()  # (FREQUENCIES, SIDE)
    strength = np.round(waves @ grey.astype(np.float64) @ waves.T, DECIMALS)  # (FREQUENCIES, FREQUENCIES)
    return int.from_bytes(np.packbits(strength > np.median(strength)).tobytes())


def near(ones: Looks, others: Looks, at_most: int) -> Near:
    """For each look of (N,) the nearest of (M,), if their Hamming distance is `at_most` or less; ties: the first.

    Example:
        >>> import numpy as np
        >>> from crossatnet.data.looks import near
        >>> ones, others = np.array([0b1111], dtype=np.uint64), np.array([0, 0b1110], dtype=np.uint64)
        >>> found = near(ones, others, at_most=2)
        >>> found.other.tolist(), found.distance.tolist()
        ([1], [1])
    """
    rows, found, distances = [], [], []
    for start in range(0, len(ones) if len(others) else 0, BLOCK):
        distance = np.bitwise_count(ones[start : start + BLOCK, None] ^ others[None])  # (BLOCK, M)
        nearest = distance.argmin(axis=1)
        least = distance.min(axis=1).astype(np.int64)
        close = np.flatnonzero(least <= at_most)
        rows.append(start + close)
        found.append(nearest[close])
        distances.append(least[close])
    parts = [np.concatenate([np.zeros(0, dtype=np.int64), *part]) for part in (rows, found, distances)]
    order = np.argsort(parts[2], kind="stable")
    return Near(*(part[order] for part in parts))


@cache
def _waves() -> NDArray[np.floating[Any]]:
    """The DCT-II's lowest cosines, (FREQUENCIES, SIDE)."""
    waves: NDArray[np.floating[Any]] = np.cos(
        np.pi / SIDE * (np.arange(SIDE) + 0.5)[None] * np.arange(FREQUENCIES)[:, None]
    )
    return waves
