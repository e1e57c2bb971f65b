"""Make the tables of the documents from `benchmarks/results/*.json`; `--check` only compares."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DOCUMENTS = (
    ROOT / "README.md",
    *(ROOT / "docs" / f"{name}.md" for name in ("results", "gallery", "scaling", "server", "speed")),
)
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
    note = (
        f"{report['direction']}, {report['setting']}: {report['queries']} queries, gallery of {report['gallery']},"
        f" {report['classes']} classes. Mean and standard deviation over seeds; {report['epochs']} epochs, chosen on"
        f" held-out seen classes. {report['machine']}, {report['date']}, {report['software']};"
        f" {seconds:.0f} s of training once features are cached."
    )
    return closed(lines, note, report)


def closed(lines: list[str], note: str, record: dict[str, Any]) -> str:
    """A table with what is to be known about it and the command that measured it."""
    return "\n".join([*lines, "", note, "", f"`{record['command']}`"])


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
    return closed(lines, f"Peak memory is that of the process, arrays included. {facts}.", report)


def figure(row: dict[str, Any], name: str) -> str:
    """A mean with its spread, if there is one."""
    spread = row["spread"][name]
    return f"{row['mean'][name]:.3f}" + (f" ± {spread:.3f}" if spread is not None else "")


def folder_table(report: dict[str, Any]) -> str:
    """Success of drawings by each kind of hand in a folder of photos, one pair of columns a checkpoint."""
    models = report["models"]
    heads = " | ".join(f"{name} @1 | @10 | mAP" for name in models)
    lines = [f"| things | drawn by | things, drawings | {heads} |", "|---|---|---|" + "---|" * (3 * len(models))]
    for rows in zip(*(model["rows"] for model in models.values()), strict=True):
        first = rows[0]
        cells = [
            f"{row['success@1']:.2f} | {row['success@10']:.2f}"
            f" ({row['interval']['success@10'][0]:.2f} to {row['interval']['success@10'][1]:.2f}) | {row['mAP']:.2f}"
            for row in rows
        ]
        lines.append(
            f"| {'met' if first['met'] else 'never met'} | {first['hand']} | {first['things']}, {first['drawings']:,}"
            f" | {' | '.join(cells)} |"
        )
    note = (
        f"{report['photos']:,} photos of {report['things']} things, {len(report['whole'])} of them in no training."
        " Means over things, with the middle 95% of means over things drawn again."
    )
    commands = "\n\n".join(f"`{model['command']}`, {model['date']}" for model in models.values())
    return "\n".join([*lines, "", note, "", commands])


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
    queries = " or ".join(str(number) for number in sorted({row["queries"] for row in record["rows"]}))
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
    note = (
        f"{record['data']}; {queries} queries, one at a time, one thread. \\*: from fewer items, multiplied."
        f" {record['machine']}; faiss {record['faiss']}, NumPy {record['numpy']}."
    )
    return closed(lines, note, record)


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
    return closed(lines, note, record)


def ingest_table(record: dict[str, Any]) -> str:
    """Indexing beside the network alone."""
    lines = [
        "| pictures | network alone | index | of it | bound | decode and resize | network | all else |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in record["rows"]:
        cpu = row["cpu_ms"]
        main = [cpu[name] for name in ("decode and resize", "network")]
        times = [f"{milliseconds:.1f} ms" for milliseconds in (*main, sum(cpu.values()) - sum(main))]
        lines.append(
            f"| {row['pictures']} | {row['network_per_s']:.1f}/s | {row['index_per_s']:.1f}/s | {row['ratio']:.2f}"
            f" | {row['bound']:.2f} | {' | '.join(times)} |"
        )
    note = (
        "Milliseconds are of processor time a picture; the bound is the network's share of all of it."
        f" {record['checkpoint']}, {record['threads']} threads, {record['machine']}, torch {record['torch']}."
    )
    return closed(lines, note, record)


def decode_table(record: dict[str, Any]) -> str:
    """Ways to make the network's input, beside one another."""
    lines = [
        "| JPEG files | way | processor time | images/s of one core | times faster | cosine, mean | least |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['pictures']}, {row['mean_bytes'] / 1000:.0f} kB | {row['way']} | {row['cpu_ms']:.2f} ms"
        f" | {row['per_s']:,.0f} | {row['times_faster']:.2f} | {row['mean_cosine']:.5f} | {row['least_cosine']:.5f} |"
        for row in record["rows"]
    ]
    packages = ", ".join(f"{name} {number}" for name, number in record["packages"].items())
    note = f"{record['checkpoint']}; {record['machine']}; {packages}."
    return closed(lines, note, record)


def train_table(record: dict[str, Any]) -> str:
    """Training beside the device's own rate on one batch."""
    lines = [
        "| views | precision | device alone | training | of it | before training |",
        "|---|---|---|---|---|---|",
    ]
    for row in record["rows"]:
        lines.append(
            f"| {row['views'] or 'none kept'} | {row['precision']} | {row['device_per_s']:.1f}/s"
            f" | {row['train_per_s']:.1f}/s | {row['ratio']:.2f} | {row['prepare_s']:.0f} s |"
        )
    note = (
        f"Pictures a second, sketches and photos together; batches of {record['batch']} pairs;"
        f" {record['config']}, the last {record['trainable_units']} units trained; {record['pictures']:,} pictures."
        f" {record['device']}; {record['machine']}; torch {record['torch']}."
    )
    return closed(lines, note, record)


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
    return closed(lines, note, record)


def serve_table(record: dict[str, Any]) -> str:
    """How many searches a server answers and how fast, and how it bore load, hours and a killed worker."""
    makers = {"throughput": load_table, "thumbnails": pages_table, "soak": soak_text, "kill": killed_worker_text}
    parts = []
    for part, make in makers.items():
        if part in record:
            facts = record[part]
            where = f"{', '.join(facts['checkpoints'])}; {facts['items']:,} items"
            note = f"{where}; {facts['machine']}, torch {facts['torch']}, {facts['date']}."
            parts += [make(facts), note, f"`{facts['command']}`"]
    return "\n\n".join(parts)


def load_table(part: dict[str, Any]) -> str:
    """Rates and times under load, and where a mean answer's time went."""
    lines = [
        "| checkpoint | workers | connections | answered | p50, p95, p99 | refused, in (p50) | network | search | queue"
        " | HTTP | cores: server, load |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in part["rows"]:
        searches = f", {row['searches']} searches at once" if row["searches"] else ""
        impatient = ", impatient" if row["impatient"] else ""
        times = ", ".join(f"{row[f'p{percent}_ms']:.0f}" for percent in (50, 95, 99))
        refused = f"{row['refused_per_s']:.1f}/s, {row['refused_p50_ms']:.1f} ms" if row["refused"] else "none"
        shares = " | ".join(f"{row[f'{name}_ms']:.1f} ms" for name in ("network", "search", "queue", "http"))
        cores = f"{row['server_cpu_share']:.2f}, {row['load_cpu_share']:.2f}"
        lines.append(
            f"| {row['checkpoint']} | {row['workers']}{searches} | {row['connections']}{impatient}"
            f" | {row['per_s']:.1f}/s | {times} ms | {refused} | {shares} | {cores} |"
        )
    return "\n".join(lines)


def pages_table(part: dict[str, Any]) -> str:
    """How soon a page of thumbnails is there."""
    lines = ["| 24 thumbnails, 6 connections | median | longest |", "|---|---|---|"]
    lines += [
        f"| {row['thumbnails']} | {row['median_ms']:.0f} ms | {row['longest_ms']:.0f} ms |" for row in part["rows"]
    ]
    return "\n".join(lines)


def soak_text(part: dict[str, Any]) -> str:
    """Memory over a soak."""
    first, last, slope = part["first"]["anonymous"], part["last"]["anonymous"], part["slope_mib_min"]["anonymous"]
    answers = sum(count for statuses in part["counts"].values() for count in statuses.values())
    return (
        f"{part['minutes']:g} minutes of mixed load on two workers, {answers:,} answers, {part['broken']} broken: the"
        f" server's own memory was {first:,.0f} MiB after the warm-up and {last:,.0f} MiB at the end,"
        f" {slope:+.2f} MiB a minute."
    )


def killed_worker_text(part: dict[str, Any]) -> str:
    """What a killed worker took with it."""
    return (
        f"One of two workers killed (`kill -9`) with {part['connections']} of 8 connections, each with a request under"
        f" way: {part['failed']} requests failed, {part['answered']:,} were answered, {part['refused'] + part['other']}"
        f" were refused or went wrong otherwise; a new worker answered after {part['replaced_s']:.1f} s."
    )


def embed_table(record: dict[str, Any]) -> str:
    """Every way to embed photos, beside plain torch and the processor's ceiling."""
    lines = [
        "| | from JPEG | times naive, batch 1 | network alone | share of the ceiling |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['way']} | {row['jpeg_per_s']:.1f}/s | {row['times_naive']:.1f} | {row['network_per_s']:.1f}/s"
        f" | {100 * row['of_ceiling']:.0f}% of {row['format']} |"
        for row in record["rows"]
    ]
    ceilings = ", ".join(f"{kind} {rate:,.0f}" for kind, rate in record["ceilings_gflops"].items())
    note = (
        f"{record['checkpoint']}, {record['pictures']} photos, {record['side']} px, {record['gflop']:.2f} GFLOP each;"
        f" ceilings in GFLOP/s: {ceilings}. {record['threads']} threads, {record['machine']}, torch {record['torch']},"
        f" ONNX Runtime {record['onnxruntime']}."
    )
    if record["map"]:
        first, second = record["map"]["onnx"], record["map"]["onnx-int8"]
        note += f"\n\nmAP@all on unseen classes: {first:.4f}, with photos in 8 bits {second:.4f}."
    return closed(lines, note, record)


def latency_table(record: dict[str, Any]) -> str:
    """From a drawing to hits, part by part."""
    lines = ["| part | p50 | p95 |", "|---|---|---|"]
    lines += [f"| {part} | {each['p50']:.1f} ms | {each['p95']:.1f} ms |" for part, each in record["parts_ms"].items()]
    note = (
        f"{record['items']:,} items (synthetic), {record['queries']} drawings, one at a time, warm;"
        f" {record['checkpoint']}, {record['threads']} threads, {record['machine']},"
        f" ONNX Runtime {record['onnxruntime']}."
    )
    return closed(lines, note, record)


def startup_table(record: dict[str, Any]) -> str:
    """A search from a cold shell, and its heaviest imports."""
    lines = ["| runtime | time | of the processor | modules | heaviest imports, ms |", "|---|---|---|---|---|"]
    for row in record["rows"]:
        heaviest = ", ".join(f"{name} {spent:.0f}" for name, spent in row["heaviest_ms"].items())
        times = f"{row['median_s']:.2f} s | {row['processor_s']:.2f} s"
        lines.append(f"| {row['runtime']} | {times} | {row['modules']} | {heaviest} |")
    note = f"Medians of {len(record['rows'][0]['all_s'])} processes; {record['checkpoint']}, {record['machine']}."
    return closed(lines, note, record)


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
    "folder-choosing": folder_table,
    "folder-test": folder_table,
    "embed": embed_table,
    "latency": latency_table,
    "startup": startup_table,
    "evaluate": evaluator_table,
    "search": search_table,
    "shortlist": shortlist_table,
    "ingest": ingest_table,
    "decode": decode_table,
    "train": train_table,
    "kills": kills_table,
    "milvus": milvus_table,
    "serve": serve_table,
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
