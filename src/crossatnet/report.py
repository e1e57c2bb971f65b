"""One self-contained HTML page for a run: scores, retrieval grids, training curves."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from PIL import Image

from crossatnet.evaluation import Results
from crossatnet.plots import training_curves


@dataclass(frozen=True)
class Figure:
    """A retrieval grid with its heading, an introduction and a text for those who cannot see it."""

    title: str
    text: str
    alt: str
    image: Image.Image


def write_report(
    path: Path,
    title: str,
    summary: str,
    results: Results,
    figures: Sequence[Figure],
    history: Sequence[dict[str, Any]],
    command: str,
    credits: Sequence[str] = (),
) -> None:
    """Write the page; it needs no other file and asks no other host."""
    page = Environment(loader=PackageLoader("crossatnet"), autoescape=True).get_template("report.html")
    html = page.render(
        title=title,
        summary=summary,
        results=results,
        metrics=list(results.rows[0].metrics),
        grids=[
            {"title": figure.title, "text": figure.text, "alt": figure.alt, "png": _png(figure.image)}
            for figure in figures
        ],
        curves=base64.b64encode(training_curves(history)).decode(),
        command=command,
        credits=credits,
    )
    path.write_text(html, encoding="utf-8")


def _png(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
