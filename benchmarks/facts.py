"""What cells and notes of `sections.py` need that the results do not hold as it is shown: rows, columns, facts."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

Record = dict[str, Any]


def zero_shot_rows(record: Record) -> Iterator[Record]:
    """Means with their spread, if there is one."""
    for row in record["rows"]:
        spreads = {name: f" ± {spread:.3f}" if spread is not None else "" for name, spread in row["spread"].items()}
        yield {**row, **{name: f"{value:.3f}{spreads[name]}" for name, value in row["mean"].items()}}


def zero_shot_hidden(record: Record) -> tuple[str, ...]:
    """Where a query has hardly more than one right picture, precision among the first says little."""
    return () if record["gallery"] >= record["classes"] * 2 else ("P@10", "P@100")


def search_rows(record: Record) -> Iterator[Record]:
    """A row for each number of hits; times counted from fewer items are marked."""
    for row in record["rows"]:
        exact = {
            name.split()[0]: f"{part['p50_ms']:.1f} ms" + ("" if part["timed_items"] == row["items"] else "*")
            for name, part in row["exact"].items()
        }
        for k in (10, 100):
            names = ("shortlist", "recall", "p50_ms", "p95_ms")
            yield {**row, "k": k, **exact, **{name: row[f"{name}_k{k}"] for name in names}}


def size_rows(record: Record) -> Iterator[Record]:
    for row in record["rows"]:
        sizes = {name: row["bytes"].get(name, 0) / 1e6 for name in ("sqlite", "-index")}
        yield {"own_mib": 0, **row, **sizes, "stored_s": row["fill_s"] + row["settle_s"]}


def regions_rows(record: Record) -> Iterator[Record]:
    """A row for each number of hits, with how many times longer it takes than without regions."""
    plain = {row["items"]: row for row in record["rows"] if not row["regions"]}
    for row in record["rows"]:
        for k in (10, 100):
            facts = {name: row[f"{name}_k{k}"] for name in ("recall", "p50_ms", "cpu_p50_ms")}
            yield {**row, "k": k, **facts, "times": facts["cpu_p50_ms"] / plain[row["items"]][f"cpu_p50_ms_k{k}"]}


def region_size_rows(record: Record) -> Iterator[Record]:
    for row in record["rows"]:
        sizes = {name: row["bytes"].get(name, 0) / 1e6 for name in ("sqlite", "-index")}
        yield {"own_mib": 0, **row, **sizes, "stored_s": row["fill_cpu_s"] + row["settle_cpu_s"]}


def shortlist_rows(record: Record) -> Iterator[Record]:
    return (row for row in record["rows"] if row["k"] >= 10)


def inverted_rows(record: Record) -> Iterator[Record]:
    """A row for each recall, measured before and after a fifth of the items changed."""
    for row in record["rows"]:
        for asked in ("0.95", "0.99"):
            before, unwritten, after = (row[state][asked] for state in ("before", "unwritten", "after"))
            lists, length = before["reach"]
            read = f"{lists:,} of {row['lists']:,} lists" if lists else "all codes"
            exact = row["before"]["exact_p50_ms"]
            yield {**row, **before, "asked": asked, "read": read, "length": length, "exact": exact} | {
                "changed": f"{unwritten['recall']:.3f}, {unwritten['p50_ms']:.1f} ms",
                "written": f"{after['recall']:.3f}, {after['p50_ms']:.1f} ms",
            }


def simulated_rows(record: Record) -> Iterator[Record]:
    for row in record["rows"]:
        if simulated := row.get("simulated"):
            for asked in ("0.95", "0.99"):
                read, length = simulated[asked]["reach"]
                codes = simulated["items"] * read // simulated["lists"]
                yield {**simulated, **simulated[asked], "asked": asked, "read": read, "length": length, "codes": codes}


def ingest_rows(record: Record) -> Iterator[Record]:
    for row in record["rows"]:
        main = row["cpu_ms"]["decode and resize"] + row["cpu_ms"]["network"]
        yield {**row, "rest_ms": sum(row["cpu_ms"].values()) - main}


def decode_rows(record: Record) -> Iterator[Record]:
    return ({**row, "kilobytes": row["mean_bytes"] / 1000} for row in record["rows"])


def train_rows(record: Record) -> Iterator[Record]:
    return ({**row, "views": row["views"] or "none kept"} for row in record["rows"])


def scale_rows(record: Record) -> Iterator[Record]:
    """So many pictures: the command, its memory and its latency, measured or as a sum of what was measured."""
    measured = {row["items"]: row for row in record["rows"] if row["bits"] == 512}
    largest = max(measured)
    for items, row in sorted(measured.items()):
        yield {
            "size": power(items),
            "command": "`crossatnet index FOLDER -o my.gallery`",
            "memory": f"{row['own_mib']:,} MiB, {row['peak_mib']:,} MiB with mapped pages",
            "latency": f"{row['p50_ms_k10']:.1f} ms",
            "how": "measured",
        }
    for items in (10 * largest, 100 * largest):
        times, latency = items // largest, measured[largest]["p50_ms_k10"]
        codes, embeddings = items * 64 / 1e9, items * 1368 / 1e9  # as text
        yield {
            "size": power(items),
            "command": "`crossatnet index FOLDER --ray --to milvus://HOST:PORT/NAME`",
            "memory": f"{power(items)} x 64 B = {codes:,.1f} GB of codes; {power(items)} x 1,368 B ="
            f" {embeddings:,.0f} GB of embeddings, on disk if need be",
            "latency": f"{times} x {latency:.1f} ms = {times * latency / 1000:.1f} s of one core, divided by the cores",
            "how": "arithmetic",
        }


def power(items: int) -> str:
    """A power of ten as 1e5."""
    return f"1e{len(str(items)) - 1}"


def load_rows(record: Record) -> Iterator[Record]:
    """Only what differs from the usual is said."""
    for row in record["rows"]:
        refused = "{refused_per_s:.1f}/s, {refused_p50_ms:.1f} ms" if row["refused"] else "none"
        at_once = f", {row['searches']} searches at once" if row["searches"] else ""
        patience = ", impatient" if row["impatient"] else ""
        yield {**row, "refusals": refused.format_map(row), "at_once": at_once, "patience": patience}


def latency_rows(record: Record) -> Iterator[Record]:
    return ({"part": part, **figures} for part, figures in record["parts_ms"].items())


def startup_rows(record: Record) -> Iterator[Record]:
    for row in record["rows"]:
        yield {**row, "heaviest": ", ".join(f"{name} {spent:.0f}" for name, spent in row["heaviest_ms"].items())}


def folder_rows(record: Record) -> Iterator[Record]:
    """A row for each kind of hand, with each checkpoint's figures for it."""
    for figures in zip(*(model["rows"] for model in record["models"].values()), strict=True):
        yield {**figures[0], "known": "met" if figures[0]["met"] else "never met", "figures": figures}


def folder_columns(record: Record) -> Iterator[tuple[str, str]]:
    """Three columns for each checkpoint."""
    for number, name in enumerate(record["models"]):
        of = f"{{figures[{number}]"
        interval = f"{of}[interval][success@10]"
        yield f"{name} @1", f"{of}[success@1]:.2f}}"
        yield "@10", f"{of}[success@10]:.2f}} ({interval}[0]:.2f}} to {interval}[1]:.2f}})"
        yield "mAP", f"{of}[mAP]:.2f}}"


def folder_facts(record: Record) -> Record:
    measured = [f"`{model['command']}`, {model['date']}" for model in record["models"].values()]
    return {"unknown": len(record["whole"]), "commands": "\n\n".join(measured)}


def embed_facts(record: Record) -> Record:
    ceilings = ", ".join(f"{kind} {rate:,.0f}" for kind, rate in record["ceilings_gflops"].items())
    found = "\n\nmAP@all on unseen classes: {onnx:.4f}, with photos in 8 bits {onnx-int8:.4f}."
    return {"ceilings": ceilings, "accuracy": found.format_map(record["map"]) if record["map"] else ""}


def paper_rows(kind: str) -> Callable[[Record], Iterator[Record]]:
    """The ways of one kind that a drawing arrives, and their mean."""

    def rows(record: Record) -> Iterator[Record]:
        ways = record["rows"][kind]
        for way, figures in ways.items():
            yield {"way": way, "before": figures["before"]["kept"], "now": figures["now"]["kept"]}
        means = {when: sum(each[when]["kept"] for each in ways.values()) / len(ways) for when in ("before", "now")}
        yield {"way": "**mean**", **means}

    return rows


def kills_facts(record: Record) -> Record:
    during = Counter(row["during"] for row in record["rounds"])
    return {
        "moments": len(record["rounds"]),
        "counts": ", ".join(f"{count} during {step}" for step, count in sorted(during.items())),
        "checked": sum(row["acknowledged"] for row in record["rounds"]),
    }


def serve_facts(part: Record) -> Record:
    return {"names": ", ".join(part["checkpoints"])}


def soak_facts(part: Record) -> Record:
    answers = sum(count for statuses in part["counts"].values() for count in statuses.values())
    return {**serve_facts(part), "answers": answers}


def kill_facts(part: Record) -> Record:
    return {**serve_facts(part), "wrong": part["refused"] + part["other"]}


def large_facts(record: Record) -> Record:
    """Which share of the queries was asked, where it is not all of them."""
    row = record["rows"][0]
    share = f"A share: the first {row['queries']:,} of {row['all_queries']:,} queries, the whole gallery. "
    return {"share": share if row["queries"] < row["all_queries"] else ""}


def instance_rows(record: Record) -> Iterator[Record]:
    """Means over seeds, with their standard deviation where there are several."""
    for row in record["rows"]:
        cells = {
            name: f"{value:.3f}" + (f" ± {row['stdev'][name]:.3f}" if row["seeds"] > 1 else "")
            for name, value in row["mean"].items()
        }
        yield {"model": row["model"], "seeds": row["seeds"], **cells}
