"""One self-contained HTML page for a run: scores, charts, retrieval grids, attention maps, training curves.

Shapes: `Q` queries, `N` gallery items, `D` embedding, `K` first hits, `C` classes.
"""

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader
from numpy.typing import NDArray
from PIL import Image
from sklearn.manifold import TSNE

from crossatnet.data.catalog import open_item
from crossatnet.evaluation.metrics import RetrievalScores
from crossatnet.evaluation.protocol import SEED
from crossatnet.evaluation.results import Results, Row, save_results
from crossatnet.evaluation.similarity import cosine, slices
from crossatnet.evaluation.zero_shot import Embedded, Evaluated, ZeroShotTest, evaluate_trials
from crossatnet.model.explain import overlays
from crossatnet.model.network import CrossATNet
from crossatnet.report.plots import (
    Cell,
    GridRow,
    class_bars,
    class_map,
    code_length_curve,
    confusion_map,
    precision_recall_curves,
    retrieval_grid,
    training_curves,
)
from crossatnet.system.errors import UserError
from crossatnet.system.files import write_whole

FIRST = 10  # hits of a query that the confusion between classes counts, or fewer if a class has fewer photos
CONFUSIONS = 10  # written out in words
EXTREMES, SHOWN = 6, 7  # best and worst queries, and the hits shown of each
ATTENDED, LOOKED_AT = 4, 5  # queries whose attention is shown, and the photos of each
POINTS = 750  # of each modality in the map of the shared space
BLOCK = 256  # queries ranked at once
GRID_CAPTION = "Left: the drawing. Then the pictures found, best first; green and ticked: of the drawing's class."


@dataclass(frozen=True)
class Side:
    """Queries or gallery of a map or a table of confusions: embeddings (N, D) and the class of each."""

    embeddings: NDArray[Any]
    classes: list[str]


@dataclass(frozen=True)
class Figure:
    """A picture with its heading, an introduction, a text for those who cannot see it, and what stands below it."""

    title: str
    text: str
    alt: str
    image: Image.Image | bytes
    caption: str = ""
    points: tuple[str, ...] = ()

    @property
    def png(self) -> bytes:
        """The picture as the contents of a PNG file."""
        if isinstance(self.image, bytes):
            return self.image
        buffer = io.BytesIO()
        self.image.save(buffer, "PNG", optimize=True)
        return buffer.getvalue()


def report_checkpoint(
    networks: Mapping[str, CrossATNet], test: ZeroShotTest, output: Path, command: str, quiet: bool = False
) -> Results:
    """Score networks on unseen classes, sketch-to-photo, and write the page and, beside it, the results as JSON.

    The first network is the checkpoint, which the figures show; others are rows of the table. `command` is what repeats
    the run. Raises `UserError` as `check_output` and `evaluate_trials` do.
    """
    check_output(output)
    (evaluated,) = evaluate_trials(networks, test.provenance, test.catalog, test.split, quiet=quiet)
    results = evaluated.results
    output.parent.mkdir(parents=True, exist_ok=True)
    write_report(
        output,
        f"{results.checkpoint}: zero-shot retrieval",
        f"Sketches of {results.classes} classes, none of which the checkpoint was trained on or chosen by, search the"
        f" photos of the same classes. Data {results.data}, split {results.split}.",
        results,
        evaluation_figures(next(iter(networks.values())), evaluated),
        (),
        command,
    )
    save_results(results, output.with_suffix(".json"))
    return results


def check_output(output: Path) -> None:
    """Raise `UserError` unless the page can be written here, and its JSON beside it."""
    if output.is_dir():
        raise UserError(f"{output} is a folder; give the name of a page, such as {output / 'report.html'}, with -o")
    if output.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"{output}: not the name of a page; give one such as report.html with -o")


def evaluation_figures(network: CrossATNet, evaluated: Evaluated) -> list[Figure]:
    """The figures of an evaluation; those about classes only if some class has several sketches and several photos."""
    query, gallery = evaluated.query, evaluated.gallery
    lengths = sorted((name for name in evaluated.scores if name != "float"), key=lambda name: int(name.split()[0]))
    scores = {name: evaluated.scores[name] for name in ("float", *lengths)}
    hits = first_hits(query.embeddings, gallery.embeddings, max(FIRST, SHOWN, LOOKED_AT))  # (Q, K)
    figures = [curves_figure(scores), _code_lengths(scores)]
    if all(max(Counter(part.classes).values()) > 1 for part in (query, gallery)):
        row = evaluated.results.rows[0]
        bars = class_figure(row, "sketches", ", by the float embedding")
        best, worst = extremes(scores["float"].average_precision, query.classes, EXTREMES)
        figures = [
            bars,
            *figures,
            space_figure(query, gallery),
            _examples("Best queries", best, scores["float"], query, gallery, hits),
            _examples("Worst queries", worst, scores["float"], query, gallery, hits),
            confusion_figure(query, gallery, hits),
        ]
    if network.has_attention:
        figures.append(_attention(network, query, gallery, hits))
    return figures


def first_hits(query: NDArray[np.float32], gallery: NDArray[np.float32], number: int) -> NDArray[np.int64]:
    """Gallery rows (Q, K) that queries (Q, D) find first in (N, D), best first; K is `number`, or N if that is fewer.

    Equal similarities keep the gallery's order.
    """
    similarity = cosine(query, gallery)
    blocks = [
        np.argsort(-similarity(rows), axis=1, kind="stable")[:, :number] for rows in slices(slice(0, len(query)), BLOCK)
    ]
    return np.concatenate(blocks)


def confusion(query_class: Sequence[str], hit_class: NDArray[np.str_], names: Sequence[str]) -> NDArray[np.float64]:
    """Shares (C, C) of the hits of each class's queries: row the class asked for, column the class found.

    Takes the class of each query (Q,) and of its hits (Q, K). Rows sum to 1; `names` are sorted and hold every class.
    """
    asked, found = np.searchsorted(names, query_class), np.searchsorted(names, hit_class)  # (Q,), (Q, K)
    counts = np.zeros((len(names), len(names)))
    np.add.at(counts, (asked[:, None], found), 1)
    return counts / counts.sum(1, keepdims=True)  # type: ignore[no-any-return]


def extremes(
    average_precision: NDArray[np.float64], classes: Sequence[str], number: int
) -> tuple[list[int], list[int]]:
    """The queries of highest and of lowest average precision (Q,), at most one a class in each; ties in their order."""

    def first(order: NDArray[np.int64]) -> list[int]:
        of_class: dict[str, int] = {}
        for index in order.tolist():
            of_class.setdefault(classes[index], index)
        return list(of_class.values())[:number]

    best, worst = (np.argsort(sign * average_precision, kind="stable") for sign in (-1, 1))
    return first(best), first(worst)


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
    """Write the page; it needs no other file and asks no other host. An empty history leaves out the training."""
    page = Environment(loader=PackageLoader("crossatnet.report", ""), autoescape=True).get_template("page.html")
    html = page.render(
        title=title,
        summary=summary,
        results=results,
        metrics=list(results.rows[0].metrics),
        others=list(dict.fromkeys(name for row in results.rows for name in row.other_metrics)),
        figures=[(figure, base64.b64encode(figure.png).decode()) for figure in figures],
        curves=base64.b64encode(training_curves(history)).decode() if history else "",
        command=command,
        credits=credits,
    )
    write_whole(path, html)


def class_figure(row: Row, queries: str = "queries", of: str = "") -> Figure:
    """The score of each class as bars."""
    return Figure(
        "Score of each class",
        f"mAP@all of the {queries} of each class{of}.",
        f"Bars of mAP@all: {', '.join(f'{name} {value:.2f}' for name, value in _sorted(row.per_class))}",
        class_bars(row.per_class, row.metrics["mAP@all"]),
    )


def curves_figure(scores: Mapping[str, RetrievalScores]) -> Figure:
    """Precision by recall of embeddings and codes."""
    return Figure(
        "Precision and recall",
        "Interpolated precision at 101 levels of recall, the mean over all queries.",
        f"Precision by recall for {', '.join(scores)}",
        precision_recall_curves({name: each.precision_recall.mean(0) for name, each in scores.items()}),
    )


def _code_lengths(scores: Mapping[str, RetrievalScores]) -> Figure:
    means = {name: float(each.average_precision.mean()) for name, each in scores.items()}
    by_bits = {int(name.split()[0]): value for name, value in means.items() if name != "float"}
    return Figure(
        "Length of the hash codes",
        "mAP@all by Hamming distance between codes, beside that of the float embedding by cosine.",
        f"mAP@all: {', '.join(f'{name} {value:.3f}' for name, value in means.items())}",
        code_length_curve(by_bits, means["float"]),
    )


def space_figure(
    query: Side | Embedded, gallery: Side | Embedded, names: tuple[str, str] = ("sketches", "photos")
) -> Figure:
    """A t-SNE map (van der Maaten and Hinton 2008) of up to `POINTS` queries and `POINTS` items, drawn at random."""
    generator = np.random.default_rng(SEED)
    rows = [generator.permutation(len(part.classes))[:POINTS] for part in (query, gallery)]
    pairs = list(zip((query, gallery), rows, strict=True))
    embeddings = np.concatenate([part.embeddings[chosen] for part, chosen in pairs])
    classes = [part.classes[index] for part, chosen in pairs for index in chosen.tolist()]
    perplexity = min(30.0, (len(embeddings) - 1) / 3)
    points = TSNE(metric="cosine", perplexity=perplexity, random_state=SEED).fit_transform(embeddings)
    crosses, dots = names
    return Figure(
        "The shared space",
        f"t-SNE of {len(rows[0])} {crosses} (crosses) and {len(rows[1])} {dots} (dots) by cosine, one colour a class."
        f" Where both kinds of a class lie together, {crosses} find {dots}; distances between clusters mean little.",
        f"Map of the embeddings of {len(set(classes))} classes",
        class_map(points, classes, [True] * len(rows[0]) + [False] * len(rows[1]), names),
        f"Perplexity {perplexity:.0f}, seed {SEED}.",
    )


def _examples(
    title: str,
    chosen: Sequence[int],
    scores: RetrievalScores,
    query: Embedded,
    gallery: Embedded,
    hits: NDArray[np.int64],
) -> Figure:
    rows = []
    for index in chosen:
        wanted = query.classes[index]
        cells = [
            Cell(open_item(item), item.class_name, item.class_name == wanted)
            for item in (gallery.items[hit] for hit in hits[index, :SHOWN].tolist())
        ]
        caption = f"{wanted} {scores.average_precision[index]:.2f}"
        rows.append(GridRow(open_item(query.items[index]), caption, cells))
    return Figure(
        title,
        "By average precision, which stands below each sketch; at most one of a class.",
        f"Sketches and the photos found first for them: {', '.join(query.classes[index] for index in chosen)}",
        retrieval_grid(rows),
        GRID_CAPTION,
    )


def confusion_figure(query: Side | Embedded, gallery: Side | Embedded, hits: NDArray[np.int64]) -> Figure:
    """Which classes are found for which, and the largest confusions in words."""
    names = sorted(set(gallery.classes))
    first = min(FIRST, *Counter(gallery.classes).values())  # so that every class can fill its first hits
    shares = confusion(query.classes, np.array(gallery.classes)[hits[:, :first]], names)
    wrong = np.where(np.eye(len(names), dtype=bool), 0, shares)
    largest = [
        divmod(place, len(names)) for place in np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS].tolist()
    ]
    return Figure(
        "Confusion between classes",
        f"Share of the first {first} hits by class; the diagonal is right.",
        f"Heat map of the classes found for queries of {len(names)} classes; the largest confusions are listed below",
        confusion_map(shares, names),
        "The largest confusions:",
        tuple(
            f"{names[asked]}: {wrong[asked, found]:.0%} of the first {first} hits are {names[found]}"
            for asked, found in largest
            if wrong[asked, found] > 0
        ),
    )


def _attention(network: CrossATNet, query: Embedded, gallery: Embedded, hits: NDArray[np.int64]) -> Figure:
    """The first sketch of classes spread evenly over the alphabet, and what it sees in its first hits."""
    firsts = [query.classes.index(name) for name in sorted(set(query.classes))]
    chosen = firsts[:: -(-len(firsts) // ATTENDED)]
    rows = []
    for index in chosen:
        sketch, photos = query.items[index], [gallery.items[hit] for hit in hits[index, :LOOKED_AT].tolist()]
        _, shown = overlays(network, open_item(sketch), (open_item(photo) for photo in photos))
        cells = [
            Cell(picture, photo.class_name, photo.class_name == sketch.class_name)
            for picture, photo in zip(shown, photos, strict=True)
        ]
        rows.append(GridRow(open_item(sketch), sketch.class_name, cells))
    return Figure(
        "What a sketch looks at",
        "The sketch-guided attention over the first photos found: from violet to yellow where it is above average."
        " The first sketch of classes spread evenly over the alphabet, not chosen.",
        f"Attention maps for sketches of {', '.join(query.classes[index] for index in chosen)}",
        retrieval_grid(rows),
        GRID_CAPTION,
    )


def _sorted(per_class: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(per_class.items(), key=lambda pair: -pair[1])
