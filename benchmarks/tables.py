"""Make the tables of the documents from `benchmarks/results/*.json`; `--check` only compares."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DOCUMENTS = (ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in ("results", "gallery", "scaling")))
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


def search_table(record: dict[str, Any]) -> str:
    """Two-stage search beside exact search, and what a gallery takes."""
    lines = [
        "| items | bits | k | shortlist | recall@k | p50, p95 | faiss exact p50 | NumPy exact p50 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in record["rows"]:
        exact = [row["exact"][name] for name in ("faiss exact", "numpy exact")]
        marks = ["" if part["timed_items"] == row["items"] else "*" for part in exact]
        timed = [f"{part['p50_ms']:.1f} ms{mark}" for part, mark in zip(exact, marks, strict=True)]
        for k in (10, 100):
            lines.append(
                f"| {row['items']:,} | {row['bits']} | {k} | {row[f'shortlist_k{k}']:,} | {row[f'recall_k{k}']:.4f}"
                f" | {row[f'p50_ms_k{k}']:.1f}, {row[f'p95_ms_k{k}']:.1f} ms | {' | '.join(timed)} |"
            )
    lines += [
        "",
        "| items | bits | SQLite file | side file | opening, cold | own memory | with mapped pages | stored in |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in record["rows"]:
        sizes = [f"{row['bytes'].get(name, 0) / 1e6:,.0f} MB" for name in ("sqlite", "-index")]
        lines.append(
            f"| {row['items']:,} | {row['bits']} | {' | '.join(sizes)} | {row['opening_warm_s']:.2f},"
            f" {row['opening_cold_s']:.2f} s | {row.get('own_mib', 0):,} MiB | {row['peak_mib']:,} MiB"
            f" | {row['fill_s'] + row['settle_s']:.0f} s |"
        )
    lines += [
        "",
        f"{record['data']}; {record['queries']} queries, one at a time, one thread. \\*: from fewer items, multiplied."
        f" {record['machine']}; faiss {record['faiss']}, NumPy {record['numpy']}.",
    ]
    return "\n".join([*lines, "", f"`{record['command']}`"])


def shortlist_table(record: dict[str, Any]) -> str:
    """How long a shortlist must be, and how long it is."""
    lines = ["| gallery | items | bits | k | needed | taken | recall |", "|---|---|---|---|---|---|---|"]
    lines += [
        f"| {row['gallery']} | {row['items']:,} | {row['bits']} | {row['k']} | {row['needed']:,} | {row['length']:,}"
        f" | {row['recall']:.4f} |"
        for row in record["rows"]
        if row["k"] >= 10
    ]
    note = (
        f"{record['queries']} queries; needed for a mean recall of {record['recall']}; {record['checkpoint']}'s codes."
    )
    return "\n".join([*lines, "", note, "", f"`{record['command']}`"])


def ingest_table(record: dict[str, Any]) -> str:
    """Indexing beside the network alone."""
    lines = ["| pictures | decoding one | network alone | index | of it |", "|---|---|---|---|---|"]
    lines += [
        f"| {row['pictures']} | {row['decode_ms']:.1f} ms | {row['network_per_s']:.1f}/s | {row['index_per_s']:.1f}/s"
        f" | {row['ratio']:.2f} |"
        for row in record["rows"]
    ]
    note = f"{record['checkpoint']}, {record['threads']} threads, {record['machine']}, torch {record['torch']}."
    return "\n".join([*lines, "", note, "", f"`{record['command']}`"])


def kills_table(record: dict[str, Any]) -> str:
    """How often a gallery was killed at work, and that it lost nothing."""
    during = Counter(row["during"] for row in record["rounds"])
    counts = ", ".join(f"{count} while {step}" for step, count in sorted(during.items()))
    checked = sum(row["acknowledged"] for row in record["rounds"])
    return (
        f"Killed at {len(record['rounds'])} moments ({counts}): of {checked:,} acknowledged changes none was lost and"
        f" none done twice. {record['machine']}, SQLite {record['sqlite']}.\n\n`{record['command']}`"
    )


def milvus_table(record: dict[str, Any]) -> str:
    """A gallery in a file beside one on a server."""
    lines = ["| items | gallery | filled in | p50, p95 | same top 10 |", "|---|---|---|---|---|"]
    for row in record["rows"]:
        for where in ("file", "milvus"):
            figures = row[where]
            lines.append(
                f"| {row['items']:,} | {where} | {figures['fill_s']} s | {figures['p50_ms']:.1f},"
                f" {figures['p95_ms']:.1f} ms | {row['same_top_10']:.2f} |"
            )
    note = f"{record['data']}; {record['queries']} queries, one at a time; {record['machine']}."
    return "\n".join([*lines, "", note, "", f"`{record['command']}`"])


def page_table(record: dict[str, Any]) -> str:
    """How long after a stroke its pictures are there."""
    page, server = record["page_ms"], record["server_ms"]
    facts = f"{record['strokes']} strokes, {record['pictures']:,} pictures, Chromium {record['chromium']}"
    return (
        f"From the end of a stroke to its pictures on the screen: {page['p50']:.0f} ms (p50), {page['p95']:.0f} ms"
        f" (p95), of which the server takes {server['p50']:.0f} ms; {facts}, {record['machine']}.\n\n"
        f"`{record['command']}`"
    )


KINDS = {
    "evaluate": evaluator_table,
    "search": search_table,
    "shortlist": shortlist_table,
    "ingest": ingest_table,
    "kills": kills_table,
    "milvus": milvus_table,
    "page": page_table,
}


def made(name: str) -> str:
    """The table of a results file; those of one machine's galleries say so where they are not measured yet."""
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    if name in KINDS and not path.exists():
        return "Not measured yet."
    return KINDS.get(name, table)(json.loads(path.read_text(encoding="utf-8")))


def filled(text: str) -> str:
    """The text with every table between its markers made anew; a marker names its results file."""
    parts = text.split(BEGIN.partition("{}")[0])
    for index in range(1, len(parts)):
        name, _, rest = parts[index].partition(" -->")
        _, end, after = rest.partition(END)
        if not end:
            raise SystemExit(f"the table {name} has no '{END}'")
        parts[index] = f"{name} -->\n{made(name)}\n{END}{after}"
    return BEGIN.partition("{}")[0].join(parts)


def main() -> None:
    stale = []
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        if filled(text) != text:
            stale.append(path.name)
            if "--check" not in sys.argv:
                path.write_text(filled(text), encoding="utf-8")
    if "--check" in sys.argv and stale:
        raise SystemExit(f"stale tables in {', '.join(stale)}: run python benchmarks/tables.py")


if __name__ == "__main__":
    main()
