"""The choice of regions, one window after another."""

import numpy as np
from numpy.typing import NDArray

from crossatnet.model.regions import LEAST_CLARITY, LEAST_GAIN, MOST_REGIONS


def stood_for(kept: list[NDArray[np.float32]], windows: NDArray[np.float32], clarity: NDArray[np.float32]) -> float:
    """How well the windows (W, D) are stood for by the embeddings kept, by clarity (W,)."""
    nearest = [max(float(window @ one) for one in kept) for window in windows]
    return sum(float(weight) * value for weight, value in zip(clarity, nearest, strict=True)) / float(clarity.sum())


def chosen_one_by_one(
    whole: NDArray[np.float32], windows: NDArray[np.float32], clarity: NDArray[np.float32]
) -> list[int]:
    """Numbers of the windows (W, D) that are regions, as they are chosen."""
    kept: list[int] = []
    while len(kept) < MOST_REGIONS:
        before = [whole, *(windows[number] for number in kept)]
        now = stood_for(before, windows, clarity)
        gains = [stood_for([*before, window], windows, clarity) - now for window in windows]
        if max(gains) < LEAST_GAIN:
            break
        kept.append(int(np.argmax(gains)))
    return [number for number in kept if clarity[number] >= LEAST_CLARITY]
