"""How sure a hit is: the chance that it shows the thing drawn.

A cosine alone says little: in a folder of animals every animal is near to every other. So the chance is read from the
score and from how far it stands out of the scores that the gallery's other pictures have (Platt, 1999, with two
features; `K` hits, `N` other pictures). The file confidence.json beside a checkpoint's weights holds the fit;
`evaluation.confidence` makes it.
"""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from crossatnet.model.checkpoint import CONFIDENCE, weights_hash
from crossatnet.system.documents import parse_json
from crossatnet.system.errors import UserError

FORMAT = 1
OTHERS = 256  # pictures of a gallery whose scores show its spread
UNLIKELY = 0.25  # chance of the best hit below which nothing looks much like the drawing
SMALLEST_SPREAD = 1e-6


class Confidence(BaseModel):
    """A fit for one checkpoint. A hit is sure if its chance is at least `sure`.

    Example:
        >>> import numpy as np
        >>> from crossatnet.model.confidence import Confidence
        >>> fit = Confidence(weights="", intercept=-9, score=10, outstanding=1, sure=0.5, fitted_on="an example")
        >>> fit.chances(np.array([0.9, 0.3]), np.array([-0.2, 0.0, 0.2])).round(2).tolist()
        [1.0, 0.02]
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = FORMAT
    weights: str  # `weights_hash` of the checkpoint
    intercept: float = Field(allow_inf_nan=False)
    score: float = Field(ge=0, allow_inf_nan=False)  # so a better score is never less sure
    outstanding: float = Field(ge=0, allow_inf_nan=False)
    sure: float = Field(gt=0, le=1)
    fitted_on: str

    def chances(self, scores: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.float64]:
        """The chance of each hit (K,) to be right, 0..1, by its cosine and the cosines of other pictures (N,)."""
        return logistic(features(scores, others) @ np.array([self.score, self.outstanding]) + self.intercept)


def features(scores: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.float64]:
    """What the chance of hits (K,) depends on, (K, 2): the score, and how many deviations above `others` (N,) it is.

    Example:
        >>> import numpy as np
        >>> from crossatnet.model.confidence import features
        >>> features(np.array([0.5]), np.array([0.1, 0.3])).round(1).tolist()
        [[0.5, 3.0]]
    """
    score, rest = np.asarray(scores, np.float64), np.asarray(others, np.float64)
    outstanding = (score - rest.mean()) / max(float(rest.std()), SMALLEST_SPREAD)
    return np.stack([score, outstanding], axis=1)


def read_confidence(folder: Path, weights: str | None = None) -> Confidence | None:
    """The fit of a checkpoint folder; None where there is none, or where it was made for other weights.

    `weights` is their `weights_hash`, if it is known already. Raises `UserError` for a damaged one.

    Example:
        >>> from crossatnet.model.confidence import read_confidence
        >>> read_confidence(tmp_path) is None
        True
    """
    path = folder / CONFIDENCE
    try:
        raw = parse_json(path.read_text(encoding="utf-8"))
        if isinstance(raw, dict) and raw.get("format", FORMAT) > FORMAT:
            raise UserError(f"{path}: format {raw['format']} is newer than this version reads; upgrade crossatnet")
        found = Confidence.model_validate(raw)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, ValidationError, TypeError) as error:
        raise UserError(f"{path}: damaged ({str(error).splitlines()[0]}); copy the checkpoint again") from error
    return found if found.weights == (weights or weights_hash(folder)) else None


def logistic(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Chances of logits (K,), finite for any.

    Example:
        >>> import numpy as np
        >>> from crossatnet.model.confidence import logistic
        >>> logistic(np.array([0.0])).tolist()
        [0.5]
    """
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -500, 500))))
