"""Which region of a photo a query finds, and a frame around it.

Shapes: `N` photos, `S` side of the input, `H W` a photo that parts are cut from, `R` regions, `D` the shared space.
"""

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from crossatnet.data.images import Picture
from crossatnet.model.regions import Box, Regions


class FindsRegions(Protocol):
    """A model that finds regions of photos."""

    @property
    def region_penalty(self) -> float:
        """What is taken from a region's cosine, 0 or more: a part alone is less sure than a whole."""

    @property
    def region_settings(self) -> str:
        """How regions are found, as a text: equal for two models of one fingerprint that find the same."""

    def preprocess_with_regions(self, photo: Picture, /) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """One photo as `preprocess` gives it, (S, S, 3), and as its regions are cut from it, (H, W, 3)."""

    def embed_with_regions(
        self, pixels: NDArray[np.uint8], full: Sequence[NDArray[np.uint8]], /
    ) -> tuple[NDArray[np.float32], Sequence[Regions]]:
        """Photos (N, S, S, 3), each also (H, W, 3), to embeddings (N, D), as `embed` gives them, and their regions.

        Both are as `preprocess_with_regions` gives them.
        """


def region_found(model: FindsRegions, query: NDArray[np.float32], photo: Picture) -> Box | None:
    """The box of the region by which a query (D,) finds a photo; None if by the whole. Raises `ImageError`.

    Example:
        >>> from crossatnet import CrossATNet
        >>> from crossatnet.model.framing import region_found
        >>> model = CrossATNet.from_pretrained("crossatnet-open", runtime="onnx")
        >>> query = model.embed(model.preprocess(photo, "photo")[None], "photo")[0]
        >>> region_found(model, query, photo) is None
        True
    """
    pixels, full = model.preprocess_with_regions(photo)  # (S, S, 3), (H, W, 3)
    whole, regions = model.embed_with_regions(pixels[None], [full])  # (1, D)
    return best_region(query, whole[0], regions[0], model.region_penalty)


def best_region(query: NDArray[np.float32], whole: NDArray[np.float32], regions: Regions, penalty: float) -> Box | None:
    """The box of the region that is nearest to a query (D,); None if the whole photo (D,) is, by the penalty.

    Example:
        >>> import numpy as np
        >>> from crossatnet.model.framing import best_region
        >>> from crossatnet.model.regions import Regions
        >>> regions = Regions(np.array([[0, 0, 0.5, 1]], np.float32), np.eye(2, dtype=np.float32)[:1])
        >>> query, whole = np.eye(2, dtype=np.float32)
        >>> best_region(query, whole, regions, penalty=0.05), best_region(whole, whole, regions, penalty=0.05)
        ((0.0, 0.0, 0.5, 1.0), None)
    """
    cosines = regions.embeddings @ query  # (R,)
    if not len(cosines) or cosines.max() - penalty <= whole @ query:
        return None
    left, top, right, bottom = regions.boxes[cosines.argmax()].tolist()
    return left, top, right, bottom


def part_of(picture: Image.Image, box: Box | None) -> Image.Image:
    """What a picture shows within a box; the picture itself for None.

    Example:
        >>> from crossatnet.model.framing import part_of
        >>> photo.size, part_of(photo, (0.5, 0, 1, 0.5)).size
        ((120, 90), (60, 45))
    """
    if box is None:
        return picture
    left, top, right, bottom = (share * side for share, side in zip(box, picture.size * 2, strict=True))
    return picture.crop((math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)))


def framed(picture: Image.Image, box: Box | None) -> Image.Image:
    """A picture with a frame around a part of it: white on black, so that it is seen on anything.

    Example:
        >>> from crossatnet.model.framing import framed
        >>> framed(photo, (0.25, 0, 0.75, 1)).getpixel((31, 45))
        (255, 255, 255)
    """
    if box is None:
        return picture
    made, (width, height) = picture.copy(), picture.size
    left, top, right, bottom = (
        min(round(share * side), side - 1) for share, side in zip(box, (width, height, width, height), strict=True)
    )
    for colour, inset in (("black", 0), ("white", 1), ("white", 2), ("black", 3)):
        if right - left > 2 * inset and bottom - top > 2 * inset:
            ImageDraw.Draw(made).rectangle((left + inset, top + inset, right - inset, bottom - inset), outline=colour)
    return made
