"""Two results side by side."""

import json
from pathlib import Path
from typing import Any

import pytest

from crossatnet.evaluation.compare import MOST, compare, compare_files, load_results
from crossatnet.evaluation.results import Results, Row, save_results
from crossatnet.system.errors import UserError


def row(model: str, score: float, **per_class: float) -> Row:
    return Row(model=model, dimension=8, metrics={"mAP@all": score, "P@100": score / 2}, per_class=per_class)


def results(*rows: Row, **changes: Any) -> Results:
    facts: dict[str, Any] = {
        "checkpoint": "any",
        "fingerprint": "0",
        "data": "shapes",
        "split": "tiny",
        "queries": 6,
        "gallery": 8,
        "classes": 2,
        "unusable": [],
        "duplicates": [],
        "rows": list(rows),
        "seed": 0,
    }
    return Results.model_validate({**facts, **changes})


def test_differences_of_scores_and_classes() -> None:
    names = [f"class{index}" for index in range(20)]
    before = results(row("ours", 0.4, same=0.5, **dict.fromkeys(names, 0.5)))
    moved = {name: 0.5 + (index - 9.5) / 100 for index, name in enumerate(names)}
    (pair,) = compare(before, results(row("ours", 0.5, same=0.5, **moved))).pairs
    assert pair.metrics["mAP@all"].first == 0.4
    assert pair.metrics["mAP@all"].second == 0.5
    assert pair.metrics["mAP@all"].difference == pytest.approx(0.1)
    assert pair.metrics["P@100"].difference == pytest.approx(0.05)
    assert list(pair.gains) == names[: -MOST - 1 : -1]  # largest first
    assert list(pair.losses) == names[:MOST]
    assert pair.losses["class0"].difference == pytest.approx(-0.095)


def test_unchanged_classes_neither_gain_nor_lose() -> None:
    same = results(row("ours", 0.4, a=0.5, b=0.3))
    (pair,) = compare(same, same).pairs
    assert (pair.gains, pair.losses) == ({}, {})


def test_rows_are_matched_by_name_else_the_first_ones() -> None:
    def names(first: tuple[str, ...], second: tuple[str, ...]) -> list[tuple[str, str]]:
        both = (results(*(row(name, 0.5) for name in models)) for models in (first, second))
        return [(pair.first, pair.second) for pair in compare(*both).pairs]

    assert names(("a", "b", "c"), ("c", "a")) == [("a", "a"), ("c", "c")]
    assert names(("a", "b"), ("x", "y")) == [("a", "x")]
    assert names(("ours", "frozen"), ("theirs", "frozen")) == [("ours", "theirs"), ("frozen", "frozen")]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("data", "drawings", r"data is 'shapes' .* 'drawings'"),
        ("split", "other", r"split is 'tiny' .* 'other'"),
        ("direction", "photo->photo", r"direction is 'sketch->photo' .* 'photo->photo'"),
        ("setting", "generalised", r"setting is 'zero-shot.* 'generalised'"),
        ("queries", 7, r"queries is '6' .* '7'"),
        ("gallery", 9, r"gallery is '8' .* '9'"),
        ("classes", 3, r"classes is '2' .* '3'"),
        ("definitions", {"mAP@all": "VOC"}, r"definition of mAP@all is 'mean over .* 'VOC'"),
    ],
)
def test_refuses_what_was_measured_otherwise(name: str, value: object, said: str) -> None:
    with pytest.raises(UserError, match=f"cannot compare: {said} in the second"):
        compare(results(row("a", 0.5)), results(row("a", 0.5), **{name: value}))


def test_reads_one_result_and_several(tmp_path: Path) -> None:
    one, other = results(row("a", 0.5)), results(row("a", 0.7), direction="photo->sketch")
    save_results(one, tmp_path / "one.json")
    save_results([one, other], tmp_path / "two.json")
    assert load_results(tmp_path / "one.json") == [one]
    assert load_results(tmp_path / "two.json") == [one, other]
    both = compare_files(tmp_path / "two.json", tmp_path / "two.json")
    assert [comparison.direction for comparison in both] == ["sketch->photo", "photo->sketch"]
    with pytest.raises(UserError, match=r"one\.json holds 1 directions and settings, .*two\.json 2"):
        compare_files(tmp_path / "one.json", tmp_path / "two.json")


def test_reads_results_written_before_the_newer_fields(tmp_path: Path) -> None:
    old = json.loads(results(row("a", 0.5)).model_dump_json())
    for name in ("interval", "with_duplicates", "seconds_per_query", "gallery_bytes"):
        del old["rows"][0][name]
    (tmp_path / "old.json").write_text(json.dumps(old))
    assert load_results(tmp_path / "old.json") == [results(row("a", 0.5))]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"rows": []}', "not json"])
def test_files_that_are_no_results(tmp_path: Path, text: str) -> None:
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(UserError, match=r"other\.json: not results"):
        load_results(tmp_path / "other.json")
