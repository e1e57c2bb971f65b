"""Where the thing of a photo is, as a trained network itself sees it: at the places that are like the whole.

Photos of data sets come with a class, not with boxes. But the embedding of a photo is that of its thing, as it was
trained to be; and a place of the map that has the same embedding when it is seen alone shows the thing. So natural
photos teach where things are, and what is around them, without a box drawn by hand.

Letters: `B` photos, `S` side of the input, `C h w` the backbone's map, `D` the shared space, `I J` a finer grid.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from crossatnet.data.catalog import Item, open_item
from crossatnet.data.images import prepare
from crossatnet.model.interface import side_of
from crossatnet.model.network import CrossATNet
from crossatnet.model.regions import Box, area
from crossatnet.system.progress import track

MIDDLE: Box = (0.1, 0.1, 0.9, 0.9)  # where the thing of a photo is, if nothing tells
ENLARGED = 2  # times the input that embeddings are of: so many more places
CLEAR = 0.45  # cosine of the whole and the place most like it; below, nothing tells where the thing is
GRID = 64  # cells each way, to find boxes
OF_THING, PEAK = 0.3, 0.75  # likeness, where the highest is 1: of all cells of a thing, and of one of them at least
LEAST_AREA = 0.004  # of a thing, as a share of the photo
SEEN_AT_ONCE = 8  # photos


class Seen(NamedTuple):
    """A photo, how like its whole each place of it is, (h, w) of 0..1, and the boxes of its things, largest first."""

    item: Item
    likeness: NDArray[np.float32]
    boxes: tuple[Box, ...]


def things_in(network: CrossATNet, photos: Sequence[Item], quiet: bool) -> list[Seen]:
    """Where the things of photos are; of those photos that tell. If none does, each has something in its middle."""
    side, seen = side_of(network.config, "photo"), list[Seen]()
    with ThreadPoolExecutor() as pool:
        for start in track(
            range(0, len(photos), SEEN_AT_ONCE), "finding things", -(-len(photos) // SEEN_AT_ONCE), quiet
        ):
            items = photos[start : start + SEEN_AT_ONCE]
            opened = [*pool.map(open_item, items)]
            whole, enlarged = (
                np.stack([*pool.map(partial(prepare, modality="photo", size=size), opened)])
                for size in (side, ENLARGED * side)
            )
            for item, likeness in zip(items, likenesses(network, whole, enlarged), strict=True):
                if likeness.max() >= CLEAR and (boxes := boxes_of_things(likeness)):
                    shares = (likeness / likeness.max()).clamp_min(0).numpy()
                    seen.append(Seen(item, shares, boxes))
    even = np.ones((2, 2), np.float32)
    return seen or [Seen(item, even, (MIDDLE,)) for item in photos]


@torch.inference_mode()
def likenesses(network: CrossATNet, whole: NDArray[np.uint8], enlarged: NDArray[np.uint8]) -> Tensor:
    """The cosine of each place of photos, seen alone, and the whole: (B, h, w).

    Of each photo two prepared pictures are given, (B, S, S, 3): one for the embedding of the whole, a larger one for
    places.
    """
    embeddings = network.embed_map(network.map(whole, "photo"), "photo")  # (B, D)
    feature_map = network.map(enlarged, "photo")  # (B, C, h, w)
    count, channels, height, width = feature_map.shape
    places = feature_map.permute(0, 2, 3, 1).reshape(-1, channels, 1, 1)  # (B * h * w, C, 1, 1)
    alone = network.embed_map(places, "photo").reshape(count, height, width, -1)  # (B, h, w, D)
    return torch.einsum("bhwd,bd->bhw", alone, embeddings).cpu()


def boxes_of_things(likeness: Tensor) -> tuple[Box, ...]:
    """The boxes of the connected parts that are like the whole, by the likeness of places (h, w); largest first.

    Example:
        >>> import torch
        >>> from crossatnet.training.things import boxes_of_things
        >>> likeness = torch.zeros(4, 4)
        >>> likeness[:2, 2:] = 0.9
        >>> boxes_of_things(likeness)
        ((0.453125, 0.0, 1.0, 0.546875),)
    """
    scaled = (likeness / likeness.max()).clamp(0, 1)[None, None]
    finer = functional.interpolate(scaled, (GRID, GRID), mode="bicubic", align_corners=False)[0, 0]  # (I, J)
    boxes = list[Box]()
    parts = connected(finer > OF_THING)
    for number in parts.unique().tolist():
        part = parts == number
        if not number or finer[part].max() < PEAK:
            continue
        rows, columns = (part.any(dim).nonzero().flatten() for dim in (1, 0))
        edges = (columns[0].item(), rows[0].item(), columns[-1].item() + 1, rows[-1].item() + 1)
        boxes.append(tuple(edge / GRID for edge in edges))
    large = [box for box in boxes if area(box) >= LEAST_AREA]
    return tuple(sorted(large, key=area, reverse=True))


def connected(cells: Tensor) -> Tensor:
    """The connected parts of cells (I, J), each with a number of its own, 0 where there is no cell: (I, J).

    Example:
        >>> import torch
        >>> from crossatnet.training.things import connected
        >>> connected(torch.tensor([[True, False, True], [True, False, False]]))
        tensor([[4, 0, 3],
                [4, 0, 0]])
    """
    found = torch.arange(1, cells.numel() + 1).reshape(cells.shape) * cells
    while True:  # the highest number of a part spreads over it
        spread = functional.max_pool2d(found[None, None].float(), 3, 1, 1)[0, 0].long() * cells
        if torch.equal(spread, found):
            return found
        found = spread
