"""Tables in the documents are those of the results files."""

import runpy
import sys
from pathlib import Path

import pytest

TABLES = Path(__file__).parents[1] / "benchmarks" / "tables.py"


def test_tables_are_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(TABLES), "--check"])
    runpy.run_path(str(TABLES), run_name="__main__")  # exits with a message if one is stale
    filled = runpy.run_path(str(TABLES))["filled"]
    for name, head in (("README", "mAP@all"), ("docs/results", "mAP@all"), ("docs/scaling", "needed")):
        text = (TABLES.parents[1] / f"{name}.md").read_text(encoding="utf-8")
        assert f"| {head} |" in text
        assert filled(text) == text


def test_a_stale_table_is_noticed() -> None:
    tables = runpy.run_path(str(TABLES))
    text = "before\n<!-- table: sketchy-sketchy-sake25-sketchy-mini -->\n| old |\n<!-- end of table -->\nafter\n"
    made = tables["filled"](text)
    assert made != text
    assert "| old |" not in made
    assert made.startswith("before\n<!-- table: sketchy-sketchy-sake25-sketchy-mini -->\n| sketchy-mini")
    assert made.endswith("<!-- end of table -->\nafter\n")
    assert tables["filled"](made) == made
