"""The page of anyone's embeddings."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from crossatnet.cli.main import app
from crossatnet.evaluation.embedding_files import read_embeddings
from crossatnet.evaluation.embeddings import evaluate_embeddings
from crossatnet.evaluation.results import load_results
from crossatnet.report.embeddings import embedding_figures, report_embeddings
from crossatnet.system.errors import UserError

TITLES = [
    "Score of each class",
    "Precision and recall",
    "The shared space",
    "Best queries",
    "Worst queries",
    "Confusion between classes",
]


def written(folder: Path, kind: str = "floats", pictures: bool = False) -> Path:
    """Twelve queries and thirty items of three classes, one of them <b>mean</b>."""
    random = np.random.default_rng(0)
    names = np.array(["ant", "bee", "<b>mean</b>"])
    rows = {"query": np.arange(12) % 3, "gallery": np.arange(30) % 3}
    centres = random.standard_normal((3, 16))
    arrays = {part: centres[number] + random.standard_normal((len(number), 16)) for part, number in rows.items()}
    if kind == "codes":
        arrays = {part: np.packbits(values > 0, axis=1) for part, values in arrays.items()}
    further = {f"{part}_class": names[number] for part, number in rows.items()}
    if pictures:
        (folder / "shown").mkdir()
        for part, number in rows.items():
            further[f"{part}_picture"] = np.array([f"shown/{part}{row}.png" for row in range(len(number))])
            for row in range(len(number)):
                Image.new("RGB", (8, 8), (255, 0, 0)).save(folder / "shown" / f"{part}{row}.png")
        (folder / "shown" / "gallery0.png").write_text("no picture")
    np.savez(folder / "mine.npz", **arrays, **further)
    return folder / "mine.npz"


@pytest.mark.parametrize("kind", ["floats", "codes"])
def test_the_page_shows_scores_map_confusions_and_extremes(tmp_path: Path, kind: str) -> None:
    path, output = written(tmp_path, kind), tmp_path / "report.html"
    results = report_embeddings(path, output)
    html = output.read_text()
    assert all(f"<h2>{title}</h2>" in html for title in TITLES)
    assert "<b>mean</b>" not in html
    (kept,) = load_results(tmp_path / "report.json")
    assert kept == results
    assert results.rows[0].metrics == evaluate_embeddings(path).rows[0].metrics


def test_best_and_worst_queries_are_those_of_their_scores(tmp_path: Path) -> None:
    path = written(tmp_path)
    results = evaluate_embeddings(path)
    figures = {figure.title: figure for figure in embedding_figures(read_embeddings(path), results)}
    kept = results.rows[0].per_query
    assert kept is not None
    scores, _ = kept.arrays()
    best, worst = (figures[title].points[0] for title in ("Best queries", "Worst queries"))
    assert f"{scores[int(best.split()[1].rstrip(','))]:.2f}" == f"{scores.max():.2f}"
    assert f"{scores[int(worst.split()[1].rstrip(','))]:.2f}" == f"{scores.min():.2f}"
    assert len(figures["Best queries"].points) == 3


def test_pictures_are_shown_where_the_file_names_them(tmp_path: Path) -> None:
    """Those that cannot be read are left empty."""
    path = written(tmp_path, pictures=True)
    figures = embedding_figures(read_embeddings(path), evaluate_embeddings(path))
    grid = next(figure.image for figure in figures if figure.title == "Best queries")
    assert isinstance(grid, Image.Image)
    assert (np.asarray(grid) == (255, 0, 0)).all(2).mean() > 0.2


def test_what_has_one_picture_a_class_has_no_figures_of_classes(tmp_path: Path) -> None:
    names = np.array(["a", "b", "c"])
    np.savez(tmp_path / "one.npz", query=np.eye(3), query_class=names, gallery=np.eye(3), gallery_class=names)
    path = tmp_path / "one.npz"
    assert [figure.title for figure in embedding_figures(read_embeddings(path), evaluate_embeddings(path))] == TITLES[
        1:2
    ]


def test_the_command_takes_a_checkpoint_or_embeddings(tmp_path: Path) -> None:
    path, output = written(tmp_path), tmp_path / "page" / "mine.html"
    result = CliRunner().invoke(app, ["report", "--embeddings", str(path), "-o", str(output)])
    assert (result.exit_code, result.output.strip()) == (0, str(output))
    assert output.is_file()
    for arguments, message in (
        ([], "give either a checkpoint or --embeddings"),
        (["any", "--embeddings", str(path)], "give either a checkpoint or --embeddings"),
        (["--embeddings", str(path), "--split", "mine"], "leave out --split"),
    ):
        result = CliRunner().invoke(app, ["report", *arguments, "-o", str(output)])
        assert isinstance(result.exception, UserError)
        assert message in str(result.exception)
