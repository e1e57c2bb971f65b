"""Which region of a photo a query finds, and a frame around it.

Shapes: `R` regions, `D` the shared space.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from crossatnet.model.regions import Regions


def best_region(
    query: NDArray[np.float32], whole: NDArray[np.float32], regions: Regions, penalty: float
) -> tuple[float, float, float, float] | None:
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


def framed(picture: Image.Image, box: tuple[float, float, float, float] | None) -> Image.Image:
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
