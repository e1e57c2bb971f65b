"""Pictures of results: retrieval grids and training curves."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont, ImageOps

from crossatnet.data.images import load_image

CELL = 144  # pixels of one picture's side in a grid
GAP = 12
FRAME = 5
CAPTION = 34
RIGHT, WRONG, QUERY, TEXT = "#1a7f37", "#c9cdd2", "#57606a", "#1f2328"


@dataclass(frozen=True)
class Cell:
    """One picture, what stands under it, and whether it is of the query's class."""

    picture: Path | Image.Image
    caption: str
    is_right: bool = False


@dataclass(frozen=True)
class GridRow:
    """A query and what was found for it, best first."""

    query: Path | Image.Image
    caption: str
    cells: Sequence[Cell]


def retrieval_grid(rows: Sequence[GridRow]) -> Image.Image:
    """One row a query: the drawing on the left, then its hits; right ones are framed in green and ticked."""
    columns = 1 + max(len(row.cells) for row in rows)
    width = GAP + columns * (CELL + GAP) + GAP
    grid = Image.new("RGB", (width, GAP + len(rows) * (CELL + CAPTION + GAP)), "white")
    draw = ImageDraw.Draw(grid)
    for index, row in enumerate(rows):
        top = GAP + index * (CELL + CAPTION + GAP)
        _paste(grid, draw, row.query, row.caption, (GAP, top), QUERY)
        for column, cell in enumerate(row.cells, 1):
            left = 2 * GAP + column * (CELL + GAP)
            _paste(grid, draw, cell.picture, cell.caption, (left, top), RIGHT if cell.is_right else WRONG)
            if cell.is_right:
                _tick(draw, (left + CELL, top))
    return grid


def _paste(
    grid: Image.Image,
    draw: ImageDraw.ImageDraw,
    picture: Path | Image.Image,
    caption: str,
    corner: tuple[int, int],
    colour: str,
) -> None:
    left, top = corner
    inner = CELL - 2 * FRAME
    shown = ImageOps.pad(load_image(picture), (inner, inner), color="white")
    draw.rectangle((left, top, left + CELL - 1, top + CELL - 1), fill=colour)
    grid.paste(shown, (left + FRAME, top + FRAME))
    font = ImageFont.load_default(size=14)
    while draw.textlength(caption, font=font) > CELL and len(caption) > 1:
        caption = caption[:-2].rstrip() + "…"
    draw.text((left + CELL / 2, top + CELL + 6), caption, fill=TEXT, font=font, anchor="ma")


def _tick(draw: ImageDraw.ImageDraw, corner: tuple[int, int]) -> None:
    """A tick in the upper right corner, so that a right hit is not told by colour alone."""
    right, top = corner
    draw.rectangle((right - 28, top, right - 1, top + 27), fill=RIGHT)
    draw.line([(right - 22, top + 14), (right - 16, top + 20), (right - 6, top + 8)], fill="white", width=4)


def training_curves(history: Sequence[dict[str, Any]]) -> bytes:
    """Loss of every phase and mAP@all on the held-out seen classes, by epoch: a PNG."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    loss_axes, map_axes = figure.subplots(1, 2)
    for phase in dict.fromkeys(record.get("phase", "training") for record in history):
        records = [record for record in history if record.get("phase", "training") == phase]
        loss_axes.plot([record["epoch"] for record in records], [record["loss"] for record in records], label=phase)
    loss_axes.set(title="Training loss", xlabel="epoch")
    loss_axes.legend(frameon=False)
    scored = [record for record in history if "validation_map" in record]
    map_axes.plot([record["epoch"] for record in scored], [record["validation_map"] for record in scored], "C2")
    best = max(scored, key=lambda record: record["validation_map"])
    map_axes.plot(best["epoch"], best["validation_map"], "C2o")
    map_axes.set(title="mAP@all, held-out seen classes", xlabel="epoch")
    for axes in (loss_axes, map_axes):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()
