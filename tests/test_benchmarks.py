"""Tables in the documents are those of the results files."""

import runpy
import sys
from pathlib import Path

import numpy as np
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


def test_the_evaluators_table_tells_both_ways() -> None:
    row = {
        "size": "tuberlin",
        "kind": "codes",
        "queries": 2400,
        "gallery": 27989,
        "ratio": 41.26,
        "ours": {"seconds": 0.5, "peak_mib": 1234, "means": {}},
        "whole matrix": {"seconds": 20.63, "peak_mib": 987, "means": {}},
    }
    report = {
        "command": "python x",
        "machine": "any, 2 cores",
        "software": "NumPy 2",
        "date": "2026-01-02",
        "rows": [row],
    }
    lines = runpy.run_path(str(TABLES))["evaluator_table"](report).splitlines()
    assert lines[2] == "| 2,400 x 27,989 | codes | 0.5 s, 1,234 MiB | 20.6 s, 987 MiB | 41.3 |"
    assert "any, 2 cores, NumPy 2, 2026-01-02." in lines[4]
    assert lines[-1] == "`python x`"


def test_the_tables_of_speed_tell_what_was_measured() -> None:
    tables = runpy.run_path(str(TABLES))
    facts = {"command": "python x", "machine": "any", "checkpoint": "one", "threads": 2, "onnxruntime": "1"}
    way = {
        "way": "onnx",
        "format": "float32",
        "jpeg_per_s": 40.04,
        "network_per_s": 50.0,
        "times_naive": 4.96,
        "of_ceiling": 0.314,
    }
    record = {"rows": [way], "pictures": 9, "side": 256, "gflop": 1.0, "ceilings_gflops": {"float32": 99.6}}
    record |= {**facts, "torch": "2", "map": {"onnx": 0.6021, "onnx-int8": 0.60077}}
    lines = tables["embed_table"](record).splitlines()
    assert lines[2] == "| onnx | 40.0/s | 5.0 | 50.0/s | 31% of float32 |"
    assert "ceilings in GFLOP/s: float32 100." in lines[4]
    assert lines[6] == "mAP@all on unseen classes: 0.6021, with photos in 8 bits 0.6008."
    record = {"items": 1_000_000, "queries": 5, "parts_ms": {"network": {"p50": 9.04, "p95": 12.0}}, **facts}
    assert tables["latency_table"](record).splitlines()[2] == "| network | 9.0 ms | 12.0 ms |"
    row = {"runtime": "onnx", "median_s": 0.904, "processor_s": 0.85, "modules": 589, "heaviest_ms": {"faiss": 90.4}}
    record = {"rows": [{**row, "all_s": [0.9] * 3}], **facts}
    lines = tables["startup_table"](record).splitlines()
    assert lines[2] == "| onnx | 0.90 s | 0.85 s | 589 | faiss 90 |"
    assert lines[4] == "Medians of 3 processes; one, any."


def test_both_ways_find_the_same() -> None:
    """A small run of the benchmark: mAP@all of embeddings agrees; of codes it lies between the extremes."""
    module = runpy.run_path(str(TABLES.parent / "evaluate.py"))
    arrays = module["made"](40, 300, 4)
    ours, whole = (module["METHODS"][method]["embeddings"]()(**arrays) for method in ("ours", "whole matrix"))
    assert ours["mAP@all"] == pytest.approx(whole["mAP@all"], abs=1e-6)
    for part in ("query", "gallery"):
        arrays[part] = np.packbits(arrays[part][:, :64] > 0, axis=1)
    ours, whole = (module["METHODS"][method]["codes"]()(**arrays) for method in ("ours", "whole matrix"))
    assert ours["mAP@all (pessimistic)"] <= whole["mAP@all"] <= ours["mAP@all (optimistic)"]
