"""Make the tables of docs/results.md and README.md from `benchmarks/results/*.json`; `--check` only compares."""

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- table: {} -->", "<!-- end of table -->"
METRICS = ("mAP@all", "P@10", "P@100")


def table(report: dict[str, Any]) -> str:
    """One results file as a Markdown table with its protocol and command."""
    names = [name for name in METRICS if report["gallery"] >= report["classes"] * 2 or name == "mAP@all"]
    lines = [
        f"| {report['data']}, {report['split']} | dimensions | {' | '.join(names)} | seeds |",
        "|---|---|" + "---|" * (len(names) + 1),
    ]
    seconds = min(report["train_seconds"]["CrossATNet"])
    for row in report["rows"]:
        cells = [figure(row, name) for name in names]
        lines.append(f"| {row['model']} | {row['dimension']} | {' | '.join(cells)} | {row['seeds']} |")
    lines += [
        "",
        f"{report['direction']}, {report['setting']}: {report['queries']} queries, gallery of {report['gallery']},"
        f" {report['classes']} classes. Mean and standard deviation over seeds; {report['epochs']} epochs, chosen on"
        f" held-out seen classes. {report['machine']}, {report['date']}, {report['software']};"
        f" {seconds:.0f} s of training once features are cached.",
        "",
        f"`{report['command']}`",
    ]
    return "\n".join(lines)


def evaluator_table(report: dict[str, Any]) -> str:
    """The results of benchmarks/evaluate.py as a Markdown table with its machine and command."""
    lines = [
        "| queries x gallery | | evaluator | whole matrix and scikit-learn | times faster |",
        "|---|---|---|---|---|",
    ]
    for row in report["rows"]:
        cells = [f"{row[part]['seconds']:.1f} s, {row[part]['peak_mib']:,} MiB" for part in ("ours", "whole matrix")]
        size = f"{row['queries']:,} x {row['gallery']:,}"
        lines.append(f"| {size} | {row['kind']} | {' | '.join(cells)} | {row['ratio']:.1f} |")
    facts = f"{report['machine']}, {report['software']}, {report['date']}"
    lines += ["", f"Peak memory is that of the process, arrays included. {facts}.", "", f"`{report['command']}`"]
    return "\n".join(lines)


def figure(row: dict[str, Any], name: str) -> str:
    """A mean with its spread, if there is one."""
    spread = row["spread"][name]
    return f"{row['mean'][name]:.3f}" + (f" ± {spread:.3f}" if spread is not None else "")


def filled(text: str) -> str:
    """The text with every table between its markers made anew; a marker names its results file."""
    parts = text.split(BEGIN.partition("{}")[0])
    for index in range(1, len(parts)):
        name, _, rest = parts[index].partition(" -->")
        _, end, after = rest.partition(END)
        if not end:
            raise SystemExit(f"the table {name} has no '{END}'")
        report = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))
        made = evaluator_table(report) if name == "evaluate" else table(report)
        parts[index] = f"{name} -->\n{made}\n{END}{after}"
    return BEGIN.partition("{}")[0].join(parts)


def main() -> None:
    stale = []
    for path in (ROOT / "docs" / "results.md", ROOT / "README.md"):
        text = path.read_text(encoding="utf-8")
        if filled(text) != text:
            stale.append(path.name)
            if "--check" not in sys.argv:
                path.write_text(filled(text), encoding="utf-8")
    if "--check" in sys.argv and stale:
        raise SystemExit(f"stale tables in {', '.join(stale)}: run python benchmarks/tables.py")


if __name__ == "__main__":
    main()
