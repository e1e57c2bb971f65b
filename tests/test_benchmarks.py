"""Tables in the documents are those of the results files."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crossatnet import Gallery
from crossatnet.system.errors import UserError
from gallery.fake_model import FakeModel

TABLES = Path(__file__).parents[1] / "benchmarks" / "tables.py"


@pytest.fixture(autouse=True)
def beside_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts find their modules, as they do where one is started."""
    monkeypatch.syspath_prepend(TABLES.parent)


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
    lines = runpy.run_path(str(TABLES))["rendered"]("evaluate", report).splitlines()
    assert lines[2] == "| 2,400 x 27,989 | codes | 0.5 s, 1,234 MiB | 20.6 s, 987 MiB | 41.3 |"
    assert "any, 2 cores, NumPy 2, 2026-01-02." in lines[4]
    assert lines[-1] == "`python x`"


def test_the_servers_table_tells_of_the_parts_that_were_measured() -> None:
    row = {
        **{"checkpoint": "small", "workers": 1, "searches": 0, "connections": 64, "impatient": True, "per_s": 51.26},
        **{"p50_ms": 17.6, "p95_ms": 20.2, "p99_ms": 31.0, "refused": 3, "refused_per_s": 1.5, "refused_p50_ms": 2.25},
        **{"network_ms": 15.0, "search_ms": 1.25, "queue_ms": 0.5, "http_ms": 0.96},
        **{"server_cpu_share": 0.9, "load_cpu_share": 0.05},
    }
    facts = {"command": "python x", "machine": "any", "date": "2026-01-02", "torch": "2", "checkpoints": ["small"]}
    kill = {"connections": 5, "failed": 4, "answered": 1000, "refused": 0, "other": 0, "replaced_s": 3.14}
    record = {"throughput": {**facts, "items": 1000, "rows": [row]}, "kill": {**facts, "items": 1000, **kill}}
    text = runpy.run_path(str(TABLES))["rendered"]("serve", record)
    assert (
        "| small | 1 | 64, impatient | 51.3/s | 18, 20, 31 ms | 1.5/s, 2.2 ms"
        " | 15.0 ms | 1.2 ms | 0.5 ms | 1.0 ms | 0.90, 0.05 |" in text
    )
    assert "with 5 of 8 connections" in text
    assert ": 4 requests failed, 1,000 were answered, 0 were refused" in text
    assert "thumbnails" not in text
    assert text.count("`python x`") == 2


def test_the_tables_of_speed_tell_what_was_measured() -> None:
    tables = runpy.run_path(str(TABLES))
    facts = {
        "command": "python x",
        "machine": "any",
        "date": "2026-01-02",
        "checkpoint": "one",
        "threads": 2,
        "onnxruntime": "1",
    }
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
    lines = tables["rendered"]("embed", record).splitlines()
    assert lines[2] == "| onnx | 40.0/s | 5.0 | 50.0/s | 31% of float32 |"
    assert "ceilings in GFLOP/s: float32 100." in lines[4]
    assert lines[6] == "mAP@all on unseen classes: 0.6021, with photos in 8 bits 0.6008."
    record = {"items": 1_000_000, "queries": 5, "parts_ms": {"network": {"p50": 9.04, "p95": 12.0}}, **facts}
    assert tables["rendered"]("latency", record).splitlines()[2] == "| network | 9.0 ms | 12.0 ms |"
    row = {"runtime": "onnx", "median_s": 0.904, "processor_s": 0.85, "modules": 589, "heaviest_ms": {"faiss": 90.4}}
    record = {"rows": [{**row, "all_s": [0.9] * 3}], **facts}
    lines = tables["rendered"]("startup", record).splitlines()
    assert lines[2] == "| onnx | 0.90 s | 0.85 s | 589 | faiss 90 |"
    assert lines[4] == "Medians of 3 processes; one, any, 2026-01-02."


def test_both_ways_find_the_same() -> None:
    """A small run of the benchmark: mAP@all of embeddings agrees; of codes it lies between the extremes."""
    module = runpy.run_path(str(TABLES.parent / "evaluate.py"))
    arrays = module["made"](40, 300, 4, 512)
    ours, whole = (module["METHODS"][method]["embeddings"]()(**arrays) for method in ("ours", "whole matrix"))
    assert ours["mAP@all"] == pytest.approx(whole["mAP@all"], abs=1e-6)
    for part in ("query", "gallery"):
        arrays[part] = np.packbits(arrays[part][:, :64] > 0, axis=1)
    ours, whole = (module["METHODS"][method]["codes"]()(**arrays) for method in ("ours", "whole matrix"))
    assert ours["mAP@all (pessimistic)"] <= whole["mAP@all"] <= ours["mAP@all (optimistic)"]


def test_the_parts_of_a_search_are_found_and_add_up(tmp_path: Path) -> None:
    """The parts are watched by their names in other modules, where they may move."""
    module = runpy.run_path(str(TABLES.parent / "latency.py"))
    with Gallery.create(tmp_path / "made.gallery", FakeModel()) as gallery:
        module["fill"](gallery, 500)
        gallery.store.flush()
        rows = module["timed"](gallery, gallery.model, module["drawings"](3))
    assert len(rows) == 3
    for row in rows:
        assert min(row.values()) > 0, row
        assert sum(row.values()) == pytest.approx(2 * row["whole"])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of five JPEG files of smooth colours."""
    (tmp_path / "photos").mkdir()
    random = np.random.default_rng(0)
    for number in range(5):
        patches = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        patches.resize((90, 70)).save(tmp_path / "photos" / f"{number}.jpg", quality=95)
    return tmp_path / "photos"


def test_every_way_to_decode_makes_the_same_picture(photos: Path) -> None:
    module = runpy.run_path(str(TABLES.parent / "decode.py"))
    ways = {name: way for name, way in module["WAYS"].items() if way is not module["opencv"]}
    contents = module["in_size"](sorted(map(str, photos.iterdir())), "300x200")
    rows = module["compared"](FakeModel(), contents, ways, 1)
    assert [row["way"] for row in rows] == list(ways)
    assert {row["count"] for row in rows} == {5}
    assert all(row["cpu_ms"] > 0 for row in rows)
    assert all(0.95 < row["least_cosine"] <= row["mean_cosine"] < 1.00001 for row in rows), rows
    assert rows[0]["least_cosine"] == pytest.approx(1, abs=1e-5)
    record = {
        "rows": rows,
        "packages": {"pillow": "13"},
        "checkpoint": "any",
        "machine": "m",
        "date": "2026-01-02",
        "command": "python x",
    }
    lines = runpy.run_path(str(TABLES))["rendered"]("decode", {**record, "rows": [{"pictures": "300x200", **rows[0]}]})
    assert f"| Pillow, whole | {rows[0]['cpu_ms']:.2f} ms |" in lines
    assert lines.endswith("any; m; pillow 13; 2026-01-02.\n\n`python x`")


def test_indexing_is_compared_with_the_network_alone(photos: Path) -> None:
    module = runpy.run_path(str(TABLES.parent / "ingest.py"))
    row = module["compared"](FakeModel(), photos, 1)
    assert row["count"] == 5
    assert row["ratio"] == pytest.approx(row["index_per_s"] / row["network_per_s"], abs=0.001)
    assert row["bound"] == pytest.approx(row["cpu_ms"]["network"] / row["index_cpu_ms"], abs=0.05)
    record = {
        "rows": [{"pictures": "p", **row}],
        "checkpoint": "any",
        "threads": 2,
        "machine": "m",
        "date": "2026-01-02",
        "torch": "2",
    }
    lines = runpy.run_path(str(TABLES))["rendered"]("ingest", {**record, "command": "python x"}).splitlines()
    assert lines[2].startswith(f"| p | {row['network_per_s']:.1f}/s | {row['index_per_s']:.1f}/s |")
    (photos / "bad.jpg").write_bytes(b"no picture")
    with pytest.raises(UserError, match="not a picture"):
        module["compared"](FakeModel(), photos, 1)


def test_trainings_table_tells_whether_views_are_kept() -> None:
    row = {"precision": "32-true", "device_per_s": 30.0, "train_per_s": 27.04, "ratio": 0.9, "prepare_s": 12.4}
    facts = {
        "batch": 16,
        "config": "sketchy",
        "trainable_units": 8,
        "pictures": 400,
        "device": "CPU",
        "machine": "m",
        "date": "2026-01-02",
    }
    report = {**facts, "torch": "2", "command": "python x", "rows": [{"views": 2, **row}, {"views": 0, **row}]}
    lines = runpy.run_path(str(TABLES))["rendered"]("train", report).splitlines()
    assert lines[2] == "| 2 | 32-true | 30.0/s | 27.0/s | 0.90 | 12 s |"
    assert lines[3].startswith("| none kept | 32-true |")
