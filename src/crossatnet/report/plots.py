"""Pictures of results: retrieval grids, charts of scores and classes, training curves.

Shapes: `N` embeddings, `C` classes, `P` recalls.
"""

import io
from collections.abc import Mapping, Sequence
from colorsys import hls_to_rgb
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from crossatnet.data.images import load_image

CELL = 144  # pixels of one picture's side in a grid
GAP = 12
FRAME = 5
CAPTION = 34
RIGHT, WRONG, QUERY, TEXT, BLUE = "#1a7f37", "#c9cdd2", "#57606a", "#1f2328", "#2f6fb3"


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
    """A tick in the upper right corner, so that colour is not the only sign of a right hit."""
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
    if scored:  # none were held out
        best = max(scored, key=lambda record: record["validation_map"])
        map_axes.plot(best["epoch"], best["validation_map"], "C2o")
    map_axes.set(title="mAP@all, held-out seen classes", xlabel="epoch")
    for axes in (loss_axes, map_axes):
        axes.grid(alpha=0.25)
    return _as_png(figure)


def class_bars(per_class: Mapping[str, float], mean: float) -> bytes:
    """mAP@all of each class as bars, best on top, with the mean over all queries as a line: a PNG."""
    ordered = sorted(per_class.items(), key=lambda pair: pair[1])
    figure = Figure(figsize=(6, 1 + 0.27 * len(ordered)), layout="constrained")
    axes = figure.subplots()
    places = range(len(ordered))
    bars = axes.barh(places, [value for _, value in ordered], color=BLUE, height=0.7)
    for label in axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=9, zorder=3):
        label.set_path_effects([withStroke(linewidth=4, foreground="white")])  # readable on the dashed line
    axes.set_yticks(places, [_plain(name) for name, _ in ordered])
    axes.axvline(mean, color=TEXT, linestyle="--", linewidth=1)
    axes.set(xlim=(0, 1.08), ylim=(-0.6, len(ordered) - 0.4), xlabel=f"mAP@all (dashed: all queries, {mean:.3f})")
    return _as_png(figure)


def precision_recall_curves(curves: Mapping[str, NDArray[np.float64]]) -> bytes:
    """Precision (P,) at P evenly spaced recalls from 0 to 1, one line a name, the first in black: a PNG."""
    figure = Figure(figsize=(6, 4.4), layout="constrained")
    axes = figure.subplots()
    colours = ["black", *(_colour(number, len(curves) - 1) for number in range(len(curves) - 1))]
    for (name, precision), colour in zip(curves.items(), colours, strict=True):
        axes.plot(np.linspace(0, 1, len(precision)), precision, color=colour, linewidth=1.8, label=_plain(name))
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    axes.legend(frameon=False)
    return _as_png(figure)


def code_length_curve(by_bits: Mapping[int, float], uncompressed: float) -> bytes:
    """mAP@all by the number of bits of a hash code, beside that of the embeddings as a line: a PNG."""
    lengths = sorted(by_bits)
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.axhline(uncompressed, color=TEXT, linestyle="--", linewidth=1.2, label=f"float embedding, {uncompressed:.3f}")
    axes.plot(lengths, [by_bits[bits] for bits in lengths], "o-", color=BLUE, label="hash codes")
    for bits in lengths:
        axes.annotate(f"{by_bits[bits]:.3f}", (bits, by_bits[bits]), (0, -15), textcoords="offset points", ha="center")
    axes.set_xscale("log", base=2)
    axes.set_xticks(lengths, [str(bits) for bits in lengths], minor=False)
    axes.margins(x=0.12)
    axes.set(ylim=(0, min(1.05, 1.25 * max(uncompressed, *by_bits.values()))), xlabel="bits", ylabel="mAP@all")
    axes.legend(frameon=False, loc="lower right")
    return _as_png(figure)


def class_map(
    points: NDArray[np.float32],
    classes: Sequence[str],
    is_sketch: Sequence[bool],
    kinds: tuple[str, str] = ("sketches", "photos"),
) -> bytes:
    """Points (N, 2) coloured by class, crosses for queries and dots for items; each class is named once: a PNG.

    The name stands at the point of the class that is nearest to the class's median, so that it lies within it, or as
    near to it as other names allow.
    """
    figure = Figure(figsize=(8, 7.6), layout="constrained")
    axes = figure.subplots()
    names, number = np.unique(classes, return_inverse=True)  # (C,), (N,)
    drawn = np.asarray(is_sketch)
    colours = _hues(len(names))[number]  # (N, 3)
    axes.scatter(points[~drawn, 0], points[~drawn, 1], s=16, c=colours[~drawn], marker="o", alpha=0.6, linewidths=0)
    axes.scatter(points[drawn, 0], points[drawn, 1], s=22, c=colours[drawn], marker="x", linewidths=1.1)
    shapes = [
        Line2D([], [], color=TEXT, marker=marker, linestyle="", label=label)
        for marker, label in zip("xo", kinds, strict=True)
    ]
    axes.legend(handles=shapes, loc="upper left", bbox_to_anchor=(0, 1.06), ncols=2, frameon=False)
    axes.axis("off")
    texts = []
    for index, name in enumerate(names.tolist()):
        own = points[number == index]
        x, y = own[np.linalg.norm(own - np.median(own, axis=0), axis=1).argmin()].tolist()
        texts.append(axes.text(x, y, _plain(name), ha="center", va="center", fontsize=10, weight="bold"))
        texts[-1].set_path_effects([withStroke(linewidth=3, foreground="white", alpha=0.85)])
    _move_apart(axes, texts)
    return _as_png(figure)


def _move_apart(axes: Axes, texts: Sequence[Text]) -> None:
    """Shift texts up and down until none covers another."""
    axes.figure.draw_without_rendering()  # type: ignore[union-attr]  # so that sizes are known
    boxes = [text.get_window_extent() for text in texts]
    centres = np.array([[(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2] for box in boxes])  # (C, 2)
    sizes = np.array([[box.width, 0.9 * box.height] for box in boxes])
    is_above = np.argsort(np.argsort(centres[:, 1], kind="stable"))  # places from below, of which no two are equal
    direction = np.sign(is_above[:, None] - is_above)  # (C, C)
    for _ in range(100):
        gaps = np.abs(centres[:, None] - centres) - (sizes[:, None] + sizes) / 2  # (C, C, 2)
        lack = np.where((gaps < 0).all(2), -gaps[..., 1], 0) * (direction != 0)
        if not lack.any():
            break
        centres[:, 1] += (direction * (lack / 2 + 0.1) * (lack > 0)).sum(1)
    for text, (x, y) in zip(texts, axes.transData.inverted().transform(centres).tolist(), strict=True):
        text.set_position((x, y))


def confusion_map(shares: NDArray[np.float64], names: Sequence[str]) -> bytes:
    """Shares (C, C) of the hits, rows the classes asked for and columns those found, as a heat map: a PNG."""
    side = 2.5 + 0.26 * len(names)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    labels = [_plain(name) for name in names]
    axes.set_xticks(range(len(names)), labels, rotation=90)
    axes.set_yticks(range(len(names)), labels)
    axes.set(xlabel="class of the hits", ylabel="class of the sketch")
    figure.colorbar(image, label="share of the first hits", shrink=0.6)
    return _as_png(figure)


def _colour(number: int, of: int) -> tuple[float, float, float, float]:
    """One of so many colours from dark to light, the palest left out."""
    red, green, blue, alpha = colormaps["viridis"](0.9 * number / max(of - 1, 1))
    return float(red), float(green), float(blue), float(alpha)


def _hues(number: int) -> NDArray[np.float64]:
    """So many colours (number, 3) around the circle, of two strengths, neighbours in the list far apart on it."""
    steps = np.arange(number) * 0.618034 % 1  # the golden ratio spreads any number of them
    return np.array([hls_to_rgb(step, 0.36 + 0.16 * (index % 2), 0.72) for index, step in enumerate(steps.tolist())])


def _plain(name: str) -> str:
    """A name that matplotlib does not take for a formula."""
    return name.replace("$", r"\$")


def _as_png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()
