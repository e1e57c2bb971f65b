"""Photos with their regions, and how queries rank them, as galleries do.

Letters: `N` photos, `Q` queries, `R` regions of a photo, `D` the shared space.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from crossatnet.data.catalog import Item, open_item
from crossatnet.model.interface import PictureModel
from crossatnet.model.regions import Box, Regions
from crossatnet.system.progress import track

WHOLE = -1  # in place of a region's number, where the whole photo is nearest
ENTIRE: Box = (0, 0, 1, 1)  # its box

Picture = Image.Image | Item


class Ranked(NamedTuple):
    """Scores (Q, N) of pictures for queries, and the number of the region that each is by; `WHOLE` for none."""

    scores: NDArray[np.float32]
    region: NDArray[np.int64]


def embedded(model: PictureModel, pictures: Sequence[Picture]) -> tuple[NDArray[np.float32], list[Regions]]:
    """Embeddings (N, D) and regions of all pictures."""
    wholes, regions = [], []
    for one in track(pictures, f"embedding by {model.name}", len(pictures), quiet=False):
        pixels, full = model.preprocess_with_regions(as_image(one))
        whole, (found,) = model.embed_with_regions(pixels[None], [full])
        wholes.append(whole)
        regions.append(found)
    return np.concatenate(wholes), regions


def as_image(picture: Picture) -> Image.Image:
    """A picture, opened if it is an item."""
    return open_item(picture) if isinstance(picture, Item) else picture


def ranked(
    queries: NDArray[np.float32], whole: NDArray[np.float32], regions: Sequence[Regions], penalty: float
) -> Ranked:
    """Each picture's score: of its whole (N, D) or its best region, the latter less `penalty`."""
    scores = queries @ whole.T  # (Q, N)
    region = np.full(scores.shape, WHOLE)
    for number, parts in enumerate(regions):
        if len(parts.embeddings):
            of_parts = queries @ parts.embeddings.T - penalty  # (Q, R)
            better = of_parts.max(1) > scores[:, number]
            region[better, number] = of_parts.argmax(1)[better]
            scores[:, number] = np.maximum(scores[:, number], of_parts.max(1))
    return Ranked(scores, region)


def points_at(frame: Sequence[float], box: Sequence[float]) -> bool:
    """Whether the centre of a frame lies in a thing's box."""
    across, down = (frame[0] + frame[2]) / 2, (frame[1] + frame[3]) / 2
    return bool(box[0] <= across <= box[2] and box[1] <= down <= box[3])


def outlined(picture: Image.Image, boxes: Sequence[tuple[str, Sequence[float]]], width: int) -> Image.Image:
    """A copy of a picture with boxes drawn on it, each in its colour, one over the other."""
    made = picture.copy()
    for colour, box in boxes:
        corners = [float(share) * side for share, side in zip(box, made.size * 2, strict=True)]
        ImageDraw.Draw(made).rectangle(corners, None, colour, width)
    return made
