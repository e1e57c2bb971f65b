"""Regions of a photo: parts of it with embeddings of their own.

Letters: `R` regions of one photo, `D` the shared space.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_REGIONS = 8  # of one photo


@dataclass(frozen=True)
class Regions:
    """The regions of one photo: at most `MOST_REGIONS`, or none."""

    boxes: NDArray[np.float32]  # (R, 4): left, top, right, bottom as fractions of the upright photo
    embeddings: NDArray[np.float32]  # (R, D), L2-normalised
