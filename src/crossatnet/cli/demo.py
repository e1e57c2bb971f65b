"""The main job, from nothing to a report: data, training, zero-shot evaluation, a gallery, three searches."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from crossatnet.config import load_config
from crossatnet.data.catalog import Catalog, by_another_hand
from crossatnet.data.layouts import read_catalog
from crossatnet.data.splits import Split, load_split
from crossatnet.evaluation.baselines import frozen_baselines
from crossatnet.evaluation.results import Results, save_results
from crossatnet.evaluation.zero_shot import embed_catalog, evaluate_trials
from crossatnet.gallery import Gallery
from crossatnet.gallery.backend import GalleryMissingError
from crossatnet.model.checkpoint import HISTORY, read_config
from crossatnet.model.network import CrossATNet
from crossatnet.model.weights import load_network
from crossatnet.report.page import GRID_CAPTION, Figure, write_report
from crossatnet.report.plots import Cell, GridRow, retrieval_grid
from crossatnet.system.documents import parse_json
from crossatnet.system.progress import console, gallery_progress
from crossatnet.training.train import train

CONFIG = "quickstart"
SEARCHES = ("owl", "teapot", "bike")  # unseen concepts, fixed before any model was trained
EVERY = 20  # the report shows every twentieth unseen concept, good or bad
SHOWN = 7
CREDITS = (
    "Line drawings and some colour pictures: OpenMoji, CC BY-SA 4.0.",
    "Other colour pictures: Twemoji, CC BY 4.0.",
)


@dataclass
class Steps:
    """Names each step on the screen and keeps how long it took."""

    quiet: bool
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Run one step under a heading."""
        if not self.quiet:
            console.print(f"[bold]{len(self.seconds) + 1}. {name}[/bold]")
        begin = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - begin


def run_demo(output: Path, quiet: bool = False) -> tuple[Results, dict[str, float]]:
    """Do the main job into `output`; returns the scores and the seconds of every step.

    What is there already from an earlier run is used again. Writes the checkpoint, `results.json`, `demo.gallery`,
    `retrieval.png` and `report.html`.
    """
    output.mkdir(parents=True, exist_ok=True)
    steps, config = Steps(quiet), load_config(CONFIG)
    split = load_split(config.data.split)
    with steps.step("Drawing the data"):
        catalog = read_catalog(config.data.root, config.data.layout, quiet)
    with steps.step("Training on seen concepts"):
        checkpoint = train(config, output / "checkpoint", quiet)
    network = load_network(checkpoint)
    with steps.step("Testing on unseen concepts"):
        networks = {"CrossATNet": network, **frozen_baselines(network)}
        trained = read_config(checkpoint).provenance
        results = evaluate_trials(networks, trained, catalog, split, (1, 10), quiet)[0].results
        save_results(results, output / "results.json")
    with steps.step("Indexing the pictures"):
        gallery = index(output / "demo.gallery", network, pictures(catalog, output / "pictures"), quiet)
    with steps.step("Searching and writing the report"), gallery:
        figures = [searches(gallery, catalog), examples(network, catalog, split)]
        (output / "retrieval.png").write_bytes(figures[0].png)
        history = parse_json((checkpoint / HISTORY).read_text(encoding="utf-8"))
        write_report(
            output / "report.html",
            "CrossATNet quickstart: draw a thing, find its pictures",
            f"Trained on drawings and pictures of {len(split.seen)} things, then asked for {len(split.unseen)} things"
            " it never saw. Each drawing has one right answer among all the pictures, made by another hand.",
            results,
            figures,
            history,
            "make demo",
            CREDITS,
        )
    return results, steps.seconds


def pictures(catalog: Catalog, folder: Path) -> Path:
    """A folder of pictures as a person has one: all those by the hand that did not draw the queries."""
    for item in by_another_hand(catalog.items):
        copy = folder / item.class_name / item.path.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(item.path, copy)
    return folder


def index(path: Path, network: CrossATNet, folder: Path, quiet: bool) -> Gallery:
    """The gallery of a folder's pictures, made or brought up to date."""
    try:
        gallery = Gallery.open(path, network)
    except GalleryMissingError:
        gallery = Gallery.create(path, network)
    with gallery_progress("indexing pictures", quiet) as report:
        gallery.add_folder(folder, report)
    return gallery


def searches(gallery: Gallery, catalog: Catalog) -> Figure:
    """The three searches: unseen drawings in the gallery of all concepts, seen ones included."""
    rows = []
    for name in SEARCHES:
        query = next(item.path for item in catalog.items if item.class_name == name and item.modality == "sketch")
        hits = gallery.search(query, SHOWN)
        cells = [Cell(Path(hit.path), f"{hit.class_name} {hit.score:.2f}", hit.class_name == name) for hit in hits]
        rows.append(GridRow(query, f"{name} (drawn)", cells))
    return Figure(
        f"Three searches among all {len(gallery)} pictures",
        "Drawings of unseen concepts; the gallery holds the other hand's pictures of all concepts, seen ones too.",
        f"Drawings of {', '.join(SEARCHES)}, each with the pictures found for it",
        retrieval_grid(rows),
        GRID_CAPTION,
    )


def examples(network: CrossATNet, catalog: Catalog, split: Split) -> Figure:
    """Every twentieth unseen concept with the best pictures of the test's gallery."""
    photos = embed_catalog(network, catalog.select(split.unseen, "photo"), "photo", quiet=True)
    rows = []
    for name in sorted(split.unseen)[::EVERY]:
        query = catalog.select([name], "sketch")
        similarity = photos.embeddings @ embed_catalog(network, query, "sketch", quiet=True).embeddings[0]
        best = np.argsort(-similarity, kind="stable")[:SHOWN]
        found = [(photos.items[index], float(similarity[index])) for index in best]
        cells = [Cell(item.path, f"{item.class_name} {score:.2f}", item.class_name == name) for item, score in found]
        rows.append(GridRow(query.items[0].path, name, cells))
    return Figure(
        f"Every {EVERY}th unseen concept in the test's gallery",
        f"In alphabetical order, not chosen: what the scores above are made of. Gallery: {len(photos.items)} pictures.",
        "Drawings of every twentieth unseen concept, each with the pictures found for it",
        retrieval_grid(rows),
        GRID_CAPTION,
    )
