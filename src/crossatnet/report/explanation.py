"""A picture that explains: a drawing, and each photo under what the drawing sees in it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from crossatnet.data.images import load_image
from crossatnet.model.explain import overlays
from crossatnet.model.interface import PictureModel, check_attention
from crossatnet.report.plots import Cell, GridRow, retrieval_grid
from crossatnet.system.errors import UserError

COLUMNS, MOST = 6, 60  # photos in a row of the picture, and in all


def explain(network: PictureModel, sketch: Path, photos: Sequence[Path]) -> Image.Image:
    """The drawing, and each photo under what the drawing sees in it, best match first.

    Raises `CannotGuideError` if the network has no attention, `UserError` if there are no photos or too many, and
    `ImageError` for a picture that cannot be read.
    """
    check_attention(network, "to show; take another checkpoint")
    if not photos:
        raise UserError("no photos to look at: give at least one")
    if len(photos) > MOST:
        raise UserError(f"{len(photos)} photos are more than fit a picture: give at most {MOST}")
    drawn = load_image(sketch)
    similarity, shown = overlays(network, drawn, (load_image(photo) for photo in photos))
    cells = [Cell(shown[row], f"{similarity[row]:.2f}") for row in np.argsort(-similarity, kind="stable").tolist()]
    rows = [cells[start : start + COLUMNS] for start in range(0, len(cells), COLUMNS)]
    return retrieval_grid([GridRow(drawn, "drawn", row) for row in rows])
