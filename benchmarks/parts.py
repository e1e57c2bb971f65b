"""Photos with their regions, and how queries rank them, as galleries do.

Letters: `N` photos, `Q` queries, `R` regions of a photo, `D` the shared space.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crossatnet.data.catalog import Item, open_item
from crossatnet.model.interface import PictureModel
from crossatnet.model.regions import Regions
from crossatnet.system.progress import track

WHOLE = -1  # in place of a region's number, where the whole photo is nearest


class Ranked(NamedTuple):
    """Scores (Q, N) of pictures for queries, and the number of the region that each is by; `WHOLE` for none."""

    scores: NDArray[np.float32]
    region: NDArray[np.int64]


def embedded(model: PictureModel, pictures: Sequence[Image.Image | Item]) -> tuple[NDArray[np.float32], list[Regions]]:
    """Embeddings (N, D) and regions of all pictures."""
    wholes, regions = [], []
    for one in track(pictures, f"embedding by {model.name}", len(pictures), quiet=False):
        pixels, larger = model.preprocess_with_regions(open_item(one) if isinstance(one, Item) else one)
        whole, (found,) = model.embed_with_regions(pixels[None], larger[None])
        wholes.append(whole)
        regions.append(found)
    return np.concatenate(wholes), regions


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
