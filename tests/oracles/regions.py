"""The choice of regions, one window after another."""

import numpy as np
from numpy.typing import NDArray

from crossatnet.model.regions import ALIKE, MOST_REGIONS


def chosen_one_by_one(whole: NDArray[np.float32], windows: NDArray[np.float32]) -> list[int]:
    """Numbers of the windows (W, D) that are regions, as they are chosen."""
    kept: list[int] = []
    while len(kept) < MOST_REGIONS:
        best, least = -1, ALIKE
        for number, window in enumerate(windows):
            nearest = max(float(window @ other) for other in [whole, *(windows[k] for k in kept)])
            if nearest < least:
                best, least = number, nearest
        if best < 0:
            break
        kept.append(best)
    return kept
