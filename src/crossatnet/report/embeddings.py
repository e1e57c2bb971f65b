"""The page of anyone's embeddings or codes: scores, classes, a map, confusions, and best and worst queries."""

import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crossatnet.data.images import load_image
from crossatnet.evaluation.embedding_files import EmbeddingFile, read_embeddings
from crossatnet.evaluation.embeddings import evaluate_file
from crossatnet.evaluation.metrics import RetrievalScores
from crossatnet.evaluation.ranking import evaluate, evaluate_codes
from crossatnet.evaluation.results import Results, save_results
from crossatnet.report.page import (
    EXTREMES,
    FIRST,
    GRID_CAPTION,
    SHOWN,
    Figure,
    Side,
    check_output,
    class_figure,
    confusion_figure,
    curves_figure,
    extremes,
    first_hits,
    space_figure,
    write_report,
)
from crossatnet.report.plots import Cell, GridRow, retrieval_grid
from crossatnet.system.errors import ImageError


def report_embeddings(path: Path, output: Path) -> Results:
    """Score a file of embeddings, and write the page and, beside it, the results as JSON.

    Where the file has `query_picture` and `gallery_picture`, the names of picture files beside it, the best and the
    worst queries are shown as pictures; else in words. Raises `UserError` as `check_output` and `read_embeddings` do.
    """
    check_output(output)
    file = read_embeddings(path)
    results = evaluate_file(file)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_report(
        output,
        f"{path.name}: retrieval",
        f"{results.queries} queries of {results.classes} classes search {results.gallery} items.",
        results,
        embedding_figures(file, results),
        (),
        shlex.join(["crossatnet", "report", "--embeddings", str(path), "--output", str(output)]),
    )
    save_results(results, output.with_suffix(".json"))
    return results


def embedding_figures(file: EmbeddingFile, results: Results) -> list[Figure]:
    """The figures of a file; those about classes only if some class has several queries and several items."""
    is_codes = file.query.dtype == np.uint8
    judge = evaluate_codes if is_codes else evaluate
    scores = judge(file.query, file.task.query_class, file.gallery, file.task.gallery_class)
    query, gallery = (
        Side(_floats(rows), [str(name) for name in classes])
        for rows, classes in ((file.query, file.task.query_class), (file.gallery, file.task.gallery_class))
    )
    figures = [curves_figure({"codes" if is_codes else "float": scores})]
    if any(max(Counter(part.classes).values()) == 1 for part in (query, gallery)):
        return figures
    hits = first_hits(query.embeddings, gallery.embeddings, max(FIRST, SHOWN))  # (Q, K)
    best, worst = extremes(scores.average_precision, query.classes, EXTREMES)
    shown = [_examples(*of, scores, file, hits) for of in (("Best queries", best), ("Worst queries", worst))]
    return [
        class_figure(results.rows[0]),
        *figures,
        space_figure(query, gallery, ("queries", "items")),
        *shown,
        confusion_figure(query, gallery, hits),
    ]


def _floats(rows: NDArray[Any]) -> NDArray[Any]:
    """Embeddings as they are; codes as +1 and -1, whose cosines have the order of their Hamming distances."""
    return np.unpackbits(rows, axis=1).astype(np.float32) * 2 - 1 if rows.dtype == np.uint8 else np.asarray(rows)


def _examples(
    title: str, chosen: list[int], scores: RetrievalScores, file: EmbeddingFile, hits: NDArray[np.int64]
) -> Figure:
    names = {part: [str(name) for name in of] for part, of in _classes(file).items()}
    rows, points = [], []
    for index in chosen:
        wanted = names["query"][index]
        found = ", ".join(f"{names['gallery'][hit]} ({hit})" for hit in hits[index, :SHOWN].tolist())
        points.append(f"query {index}, {wanted}, {scores.average_precision[index]:.2f}: found {found}")
        cells = [
            Cell(_picture(file, "gallery", hit), names["gallery"][hit], names["gallery"][hit] == wanted)
            for hit in hits[index, :SHOWN].tolist()
        ]
        caption = f"{wanted} {scores.average_precision[index]:.2f}"
        rows.append(GridRow(_picture(file, "query", index), caption, cells))
    return Figure(
        title,
        "By average precision; at most one of a class. Numbers in brackets are rows of the gallery.",
        f"Queries and the items found first for them: {', '.join(names['query'][index] for index in chosen)}",
        retrieval_grid(rows),
        GRID_CAPTION,
        tuple(points),
    )


def _classes(file: EmbeddingFile) -> dict[str, Any]:
    return {"query": file.task.query_class, "gallery": file.task.gallery_class}


def _picture(file: EmbeddingFile, part: str, row: int) -> Image.Image:
    """The picture of a row, or an empty one where the file names none or it cannot be read."""
    names = file.further.get(f"{part}_picture")
    empty = Image.new("RGB", (64, 64), "#eef1f4")
    if names is None:
        return empty
    try:
        return load_image(file.path.parent / str(names[row]))
    except (ImageError, OSError):
        return empty
