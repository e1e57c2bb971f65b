"""The paired bootstrap, and tables of several results."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from crossatnet.cli.main import app
from crossatnet.evaluation.embeddings import evaluate_embeddings
from crossatnet.evaluation.results import PerQuery, load_results, save_results
from crossatnet.evaluation.significance import RESAMPLES, paired_bootstrap
from crossatnet.evaluation.table import tables
from crossatnet.system.errors import UserError


def test_a_constant_difference_is_certain_and_none_is_chance() -> None:
    scores, number = np.linspace(0, 0.5, 20), np.arange(20) % 4
    found = paired_bootstrap(scores, scores + 0.25, number)
    assert found.mean == pytest.approx(0.25)
    assert (*found.queries, *found.classes) == pytest.approx((0.25,) * 4)
    assert found.queries_p == found.classes_p == pytest.approx(2 / (RESAMPLES + 1))
    same = paired_bootstrap(scores, scores, number)
    assert (same.mean, same.queries_p, same.classes_p) == (0.0, 1.0, 1.0)


def test_intervals_are_those_of_a_loop() -> None:
    """Within what a thousand resamples of either may differ by."""
    random = np.random.default_rng(0)
    number = np.repeat(np.arange(6), [4, 9, 5, 7, 8, 6])
    difference = random.normal(0.05, 0.1, 39) + random.normal(0, 0.1, 6)[number]
    found = paired_bootstrap(np.zeros(39), difference, number)
    over_queries, over_classes = [], []
    for _ in range(1000):
        parts = [random.choice(difference[number == name], (number == name).sum()) for name in range(6)]
        over_queries.append(np.concatenate(parts).mean())
        drawn = random.integers(6, size=6)
        parts = [random.choice(difference[number == name], (number == name).sum()) for name in drawn]
        over_classes.append(np.concatenate(parts).mean())
    assert found.queries == pytest.approx(np.percentile(over_queries, [2.5, 97.5]), abs=0.01)
    assert found.classes == pytest.approx(np.percentile(over_classes, [2.5, 97.5]), abs=0.025)
    assert np.diff(found.classes)[0] > 1.3 * np.diff(found.queries)[0]
    expected = 2 * min(np.mean(np.array(over_queries) <= 0), np.mean(np.array(over_queries) >= 0))
    assert found.queries_p == pytest.approx(expected, abs=0.02)


def test_the_order_of_queries_does_not_matter_to_the_classes() -> None:
    random = np.random.default_rng(1)
    first, second, number = random.random(30), random.random(30), np.arange(30) % 3
    order = np.argsort(number, kind="stable")
    found, again = paired_bootstrap(first, second, number), paired_bootstrap(first[order], second[order], number[order])
    assert (found.queries, found.classes) == (again.queries, again.classes)
    assert found.mean == pytest.approx(again.mean, abs=1e-12)


def test_refuses_scores_of_other_queries() -> None:
    with pytest.raises(UserError, match=r"scores of \(2,\) and \(3,\) queries"):
        paired_bootstrap(np.zeros(2), np.zeros(3), np.zeros(2, dtype=int))


def test_scores_of_queries_are_kept_in_a_line() -> None:
    scores = np.array([0.12345678, 1.0, 0.0])
    kept = PerQuery.of(scores, np.array(["b", "a", "b"]))
    assert kept.scores == "0.1234568 1 0"
    assert [part.tolist() for part in kept.arrays()] == [[0.1234568, 1.0, 0.0], [1, 0, 1]]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Three models of one task, the second one better than the first, the third one worse; and one of another task."""
    random = np.random.default_rng(0)
    number = {"query_class": np.arange(40) % 5, "gallery_class": np.arange(60) % 5}
    centres = random.standard_normal((5, 8))
    written = []
    for name, noise in (("first", 1.5), ("second_one", 0.5), ("third", 6.0), ("other", 1.0)):
        classes = {part: (values + 1 if name == "other" else values) for part, values in number.items()}
        arrays = {
            part: centres[number[f"{part}_class"]] + noise * random.standard_normal((len(number[f"{part}_class"]), 8))
            for part in ("query", "gallery")
        }
        np.savez(tmp_path / f"{name}.npz", **arrays, **classes)
        written.append(tmp_path / f"{name}.json")
        save_results(evaluate_embeddings(tmp_path / f"{name}.npz", at=(10,)), written[-1])
    return written


def test_a_table_of_several_results(files: list[Path]) -> None:
    (table,) = tables(files[:3])
    assert [line.model for line in table.lines] == ["first", "second_one", "third"]
    first, better, worse = (load_results(path)[0].rows[0] for path in files[:3])
    assert table.lines[0].difference is None
    for line, row in zip(table.lines[1:], (better, worse), strict=True):
        assert line.difference is not None
        assert line.difference.mean == pytest.approx(row.metrics["mAP@all"] - first.metrics["mAP@all"], abs=1e-6)
        assert line.difference.classes_p < 0.01
    with pytest.raises(UserError, match="cannot compare: data is"):
        tables(files)


def test_the_command_prints_text_markdown_latex_and_json(files: list[Path]) -> None:
    names = [str(path) for path in files[:3]]

    def printed(*options: str) -> str:
        result = CliRunner().invoke(app, ["compare", *names, *options], env={"COLUMNS": "200"})
        assert result.exit_code == 0, result.output
        return result.output

    assert "second_one" in printed()
    lines = printed("--markdown").splitlines()
    assert lines[0].startswith("| model | D | mAP@all | P@10 | mAP@all - first | 95% (queries) | p |")
    assert lines[3].startswith("| second_one | 8 | **0.")
    latex = printed("--latex")
    assert r"second\_one & 8 & \textbf{0." in latex
    assert latex.count(r"\\") == 4
    assert [line["model"] for line in json.loads(printed("--json"))[0]["lines"]] == ["first", "second_one", "third"]


def test_two_results_say_whether_they_differ_by_chance(files: list[Path]) -> None:
    result = CliRunner().invoke(app, ["compare", str(files[0]), str(files[1])])
    assert "over classes (p 0.001)" in result.output


def test_results_without_the_scores_of_queries_are_compared_without_chance(files: list[Path], tmp_path: Path) -> None:
    old = json.loads(files[0].read_text())
    del old["rows"][0]["per_query"]
    (tmp_path / "old.json").write_text(json.dumps(old))
    (table,) = tables([tmp_path / "old.json", files[1], files[2]])
    assert [line.difference for line in table.lines] == [None, None, None]


def test_results_of_another_version_say_what_they_lack(files: list[Path], tmp_path: Path) -> None:
    old = json.loads(files[0].read_text())
    del old["rows"][0]["metrics"]
    (tmp_path / "old.json").write_text(json.dumps(old))
    with pytest.raises(UserError, match=r"old\.json: not results of .*\(rows\.0\.metrics: Field required\)"):
        load_results(tmp_path / "old.json")
