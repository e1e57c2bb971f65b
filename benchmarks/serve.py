"""How many searches does the server answer, how fast, and how does it bear load, days and accidents?

    python benchmarks/serve.py                # throughput and thumbnails
    python benchmarks/serve.py --share        # one worker and two, in turns: throughput, and processor time a search
    python benchmarks/serve.py --soak 10      # so many minutes of mixed load: does its memory stay flat?
    python benchmarks/serve.py --kill         # kill -9 of one of two workers under load: what fails?

`crossatnet serve` runs as users start it, in processes of its own, and so does the load (`serve_load.py`), which takes
its part of the same cores: its share is told. Drawings are Quick, Draw!'s (`CROSSATNET_DATA/quickdraw-mini`), sent as
strokes and embedded by a shipped checkpoint. The gallery that is searched is synthetic: embeddings in clusters
(`synthetic.Clusters`) with the checkpoint's own codes. Thumbnails, explanations and photos are of drawn pictures.

Answered requests alone are timed; refused ones (503) are counted beside them, with how quickly the refusal came. Where
a time goes: `network` and `search` as the answer's `milliseconds` tell, `queue` the rest of what the server counts
(waiting for its turn, and making the answer), `http` what the client waited beyond that.

Prints tables and writes its part of `benchmarks/results/serve.json`; the other parts stay as they are.
"""

import argparse
import base64
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from crossatnet import CrossATNet
from crossatnet.data.strokes import Drawing, read_ndjson, render
from record import machine, read, today, write
from serve_accidents import killed, soaked
from serve_process import THUMBNAIL_SIDE, Server, draw_pictures, make_large, make_of_pictures

HERE = Path(__file__).parent
HITS = 24
ROWS = (  # workers, searches at once in each (0: its share of the cores), connections, impatient
    *((workers, 0, connections, False) for workers in (1, 2) for connections in (1, 8, 64)),
    (1, 0, 256, False),  # more than find room
    (1, 0, 256, True),
    (1, 64, 64, False),  # a thread for each request
)
WARM_UP_S = 1.0
WAYS = (  # name, workers, searches at once, OMP_NUM_THREADS: what one core does, and two ways to use both
    ("one worker on one core", 1, 1, "1"),
    ("one worker", 1, 0, ""),
    ("two workers", 2, 0, ""),
)
ROUNDS, SHARE_CONNECTIONS = 4, 8
PARTS = ("network", "search", "queue", "http")
BROWSER_CONNECTIONS = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=float, default=1e5)
    parser.add_argument("--seconds", type=float, default=15.0, help="of load for each row")
    parser.add_argument("--checkpoints", default="crossatnet-open,crossatnet-quickstart")
    parser.add_argument("--share", action="store_true", help="instead of the rest")
    parser.add_argument("--soak", type=float, nargs="?", const=10.0, metavar="MINUTES", help="instead of the rest")
    parser.add_argument("--kill", action="store_true", help="instead of the rest")
    parser.add_argument("--scratch", type=Path, help="where galleries are made; the system's temporary folder if not")
    options = parser.parse_args()
    drawings, checkpoints = quickdraw(), options.checkpoints.split(",")
    with TemporaryDirectory(dir=options.scratch, prefix="crossatnet-") as scratch:
        folder, items = Path(scratch), int(options.items)
        draw_pictures(folder / "pictures")
        if options.share:
            galleries = made_galleries(folder, checkpoints[0], items)
            keep("share", share(folder, galleries, drawings, options.seconds), checkpoints[:1], items)
        if options.soak is not None:
            galleries = made_galleries(folder, checkpoints[0], items)
            keep("soak", soak(folder, galleries, drawings, options.soak), checkpoints[:1], items)
        if options.kill:
            galleries = made_galleries(folder, checkpoints[0], items)
            keep("kill", kill(folder, galleries, drawings, options.seconds), checkpoints[:1], items)
        if options.soak is None and not options.kill and not options.share:
            rows, pages = [], []
            for checkpoint in checkpoints:
                galleries = made_galleries(folder, checkpoint, items)
                rows += list(throughput(folder, galleries, drawings, options.seconds, checkpoint))
                pages = pages or list(thumbnails(folder, galleries))
            keep("throughput", {"seconds": options.seconds, "rows": rows}, checkpoints, items)
            keep("thumbnails", {"rows": pages}, checkpoints[:1], items)


def keep(part: str, found: dict[str, Any], checkpoints: list[str], items: int) -> None:
    """Write one part of the results; the others stay."""
    record = read("serve")
    record[part] = {
        "command": " ".join(["python benchmarks/serve.py", *sys.argv[1:]]),
        "machine": machine(),
        "date": today(),
        "torch": torch.__version__,
        "checkpoints": checkpoints,
        "items": items,
        **found,
    }
    write("serve", record)


def quickdraw() -> list[Drawing]:
    """Some drawings of every class there is."""
    root = Path(os.environ.get("CROSSATNET_DATA", "."), "quickdraw-mini")
    files = sorted(root.glob("*.ndjson"))
    if not files:
        raise SystemExit(f"{root}: no drawings there; let CROSSATNET_DATA name the folder that holds quickdraw-mini")
    return [row.drawing for file in files for row in read_ndjson(file, recognized_only=True)[:5]]


def made_galleries(folder: Path, checkpoint: str, items: int) -> list[Path]:
    """`large`, and two of the drawn pictures: `stored` with thumbnails in it, `plain` without."""
    made = folder / checkpoint
    made.mkdir()
    model, pictures = CrossATNet.from_pretrained(checkpoint), folder / "pictures"
    make_large(made / "large.gallery", model, items)
    make_of_pictures(made / "stored.gallery", model, pictures, THUMBNAIL_SIDE)
    make_of_pictures(made / "plain.gallery", model, pictures, 0)
    return [made / f"{name}.gallery" for name in ("large", "stored", "plain")]


# Plans of requests


def by_strokes(drawings: list[Drawing], path: str = "/api/v1/galleries/large/search/strokes") -> list[dict[str, str]]:
    return [
        posted("strokes", path, "application/json", json.dumps({"strokes": strokes(drawing), "k": HITS}).encode())
        for drawing in drawings
    ]


def strokes(drawing: Drawing) -> list[list[list[float]]]:
    return [stroke.tolist() for stroke in drawing]


def posted(kind: str, path: str, type: str, content: bytes) -> dict[str, str]:
    return {"kind": kind, "method": "POST", "path": path, "type": type, "body": base64.b64encode(content).decode()}


def got(kind: str, path: str) -> dict[str, str]:
    return {"kind": kind, "method": "GET", "path": path}


def mixed(server: Server, folder: Path, drawings: list[Drawing]) -> list[dict[str, str]]:
    """What a busy day brings: for every ten searches by strokes a few of each of the rest, and mistakes."""
    base, plan = "/api/v1/galleries", by_strokes(drawings)
    hits = page_of_hits(server, "plain", folder) + page_of_hits(server, "stored", folder)
    for number, drawing in enumerate(drawings):
        hit = hits[number % len(hits)]
        content = json.dumps({"strokes": strokes(drawing)}).encode()
        drawn = io.BytesIO()
        render(drawing).save(drawn, "PNG")
        plan += [got("thumbnail", hit["thumbnail"]), got("thumbnail", hit["thumbnail"])]
        if number % 2 == 0:
            plan.append(posted("sketch", f"{base}/large/search/sketch?k={HITS}", "image/png", drawn.getvalue()))
        if number % 4 == 0:
            address = hit["image"].partition("/image")[0]
            plan.append(posted("explanation", f"{address}/explanation/strokes", "application/json", content))
            plan.append(got("image", hit["image"]))
            plan.append(got("similar", f"{address}/similar"))
        if number % 10 == 0:
            path = f"{base}/large/search/strokes"
            plan += [
                posted("mistake", path, "application/json", content[:-5]),
                posted("mistake", path, "application/json", b'{"strokes": [[[1, 1e9]]]}'),
                posted("mistake", f"{base}/large/search/sketch", "image/png", drawn.getvalue()[:200]),
                posted("mistake", f"{base}/large/search/photo", "text/plain", b"no picture"),
                got("mistake", f"{base}/none/items/1"),
            ]
    return plan


def page_of_hits(server: Server, gallery: str, folder: Path) -> list[dict[str, Any]]:
    """All pictures of a gallery of drawn pictures, as a search tells of them."""
    content = next((folder / "pictures").iterdir()).read_bytes()
    hits: list[dict[str, Any]] = server.ask(f"/api/v1/galleries/{gallery}/search/photo?k=200", content, "image/jpeg")[
        "hits"
    ]
    return hits


@contextmanager
def loading(server: Server, folder: Path, plan: list[dict[str, str]], *options: object) -> Iterator[dict[str, Any]]:
    """Load while the block runs; what came of it is in the dictionary once the block is over."""
    file, found = folder / "plan.json", dict[str, Any]()
    file.write_text(json.dumps(plan), encoding="utf-8")
    command = [sys.executable, str(HERE / "serve_load.py"), server.address, str(file), *map(str, options)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield found
        found |= json.loads(process.communicate()[0])


def loaded(server: Server, folder: Path, plan: list[dict[str, str]], *options: object) -> dict[str, Any]:
    """What came of a load."""
    with loading(server, folder, plan, *options) as found:
        pass
    return found


# The parts


def throughput(
    folder: Path, galleries: list[Path], drawings: list[Drawing], seconds: float, checkpoint: str
) -> Iterator[dict[str, Any]]:
    """A row for each number of workers and connections."""
    print(f"{checkpoint}: searches by strokes")
    for workers, searches, connections, impatient in ROWS:
        with Server(galleries[:1], workers, folder / "log", searches) as server:
            options = ["--impatient"] if impatient else []
            cpu = server.cpu_seconds()
            found = loaded(
                server, folder, by_strokes(drawings), "--connections", connections, "--seconds", seconds, *options
            )
            cpu = server.cpu_seconds() - cpu
        row = {"checkpoint": checkpoint, "workers": workers, "searches": searches, "connections": connections}
        row |= {"impatient": impatient, "server_cpu_share": cpu / found["seconds"]} | summed_up(found, seconds)
        show(row)
        yield row


def show(row: dict[str, Any]) -> None:
    how = f"{row['searches'] or 'default'} searches{', impatient' if row['impatient'] else ''}"
    print(
        f"  {row['workers']} workers, {how}, {row['connections']} connections:"
        f" {row['per_s']:.1f}/s, p50 {row['p50_ms']:.1f}, p95 {row['p95_ms']:.1f}, p99 {row['p99_ms']:.1f} ms"
    )
    print("    " + ", ".join(f"{part} {row[f'{part}_ms']:.1f} ms" for part in PARTS))
    refusals = f" in {row['refused_p50_ms']:.1f} ms" if row["refused"] else ""
    print(f"    refused {row['refused_per_s']:.1f}/s{refusals}", end="; ")
    print(f"cores: server {row['server_cpu_share']:.2f}, load {row['load_cpu_share']:.2f}", flush=True)


def summed_up(found: dict[str, Any], seconds: float) -> dict[str, Any]:
    """A row's figures: rates, percentiles of the answered and of the refused, and the parts of a mean answer."""
    strange = [answer for answer in found["answers"] if answer["status"] not in (200, 503)]
    if strange or found["broken"]:
        raise SystemExit(f"only answers and refusals are expected, not {(strange + found['broken'])[:3]}")
    kept = [answer for answer in found["answers"] if answer["started"] >= WARM_UP_S]
    answered = [answer for answer in kept if answer["status"] == 200]
    refused = [answer["ms"] for answer in kept if answer["status"] == 503]
    wall = np.array([answer["ms"] for answer in answered])
    network, search, total = (
        np.array([answer["server_ms"][part] for answer in answered]) for part in ("network", "search", "total")
    )
    span = seconds - WARM_UP_S
    ends = [answer["started"] + answer["ms"] / 1000 for answer in found["answers"] if answer["status"] == 200]
    return {
        "answered": len(answered),
        "per_s": sum(WARM_UP_S <= end < seconds for end in ends) / span,
        **{f"p{percent}_ms": float(np.percentile(wall, percent)) for percent in (50, 95, 99)},
        "refused": len(refused),
        "refused_per_s": len(refused) / span,
        **{f"refused_p{p}_ms": float(np.percentile(refused, p)) if refused else None for p in (50, 99)},
        "network_ms": float(network.mean()),
        "search_ms": float(search.mean()),
        "queue_ms": float((total - network - search).mean()),
        "http_ms": float((wall - total).mean()),
        "http_p50_ms": float(np.median(wall - total)),
        "load_cpu_share": found["cpu_share"],
    }


def thumbnails(folder: Path, galleries: list[Path]) -> Iterator[dict[str, Any]]:
    """How soon all 24 thumbnails of a page are there, over as many connections as a browser opens."""
    with Server(galleries[1:], 1, folder / "log") as server:
        for name, gallery in (("made of the files", "plain"), ("made before", "plain"), ("in the gallery", "stored")):
            hits, pages = page_of_hits(server, gallery, folder), []
            for start in range(0, len(hits), HITS):
                plan = [got("thumbnail", hit["thumbnail"]) for hit in hits[start : start + HITS]]
                answers = loaded(server, folder, plan, "--connections", BROWSER_CONNECTIONS, "--once")["answers"]
                if [answer["status"] for answer in answers] != [200] * len(plan):
                    raise SystemExit(f"{gallery}: a thumbnail is missing")
                ends = [1000 * answer["started"] + answer["ms"] for answer in answers]
                pages.append({"page_ms": max(ends) - 1000 * min(answer["started"] for answer in answers)})
                pages[-1]["kilobytes"] = sum(answer["bytes"] for answer in answers) / 1000
            times = [page["page_ms"] for page in pages]
            row = {"thumbnails": name, "median_ms": float(np.median(times)), "longest_ms": max(times), "pages": pages}
            print(f"24 thumbnails {name}: {row['median_ms']:.1f} ms, at most {row['longest_ms']:.1f}", flush=True)
            yield row


def share(folder: Path, galleries: list[Path], drawings: list[Drawing], seconds: float) -> dict[str, Any]:
    """One worker and two, asked in turns in short rounds, so that other work on the machine slows all of them."""
    plan = by_strokes(drawings)
    rows: list[dict[str, Any]] = [{"way": way[0], "answered": 0, "s": 0.0, "cpu": 0.0, "load": 0.0} for way in WAYS]
    with ExitStack() as stack:
        servers = [
            stack.enter_context(Server(galleries[:1], workers, folder / f"log {name}", searches, threads))
            for name, workers, searches, threads in WAYS
        ]
        for server in servers:
            loaded(server, folder, plan, "--connections", SHARE_CONNECTIONS, "--seconds", WARM_UP_S)
        for _ in range(ROUNDS):
            for server, row in zip(servers, rows, strict=True):
                cpu = server.cpu_seconds()
                found = loaded(server, folder, plan, "--connections", SHARE_CONNECTIONS, "--seconds", seconds)
                row["cpu"] += server.cpu_seconds() - cpu
                row["load"] += found["cpu_share"] * found["seconds"]
                row["answered"] += sum(answer["status"] == 200 for answer in found["answers"])
                row["s"] += found["seconds"]
    for row in rows:
        row["per_s"] = row["answered"] / row["s"]
        row["cpu_ms"], row["load_ms"] = (1000 * row[name] / row["answered"] for name in ("cpu", "load"))
        row["cores"], row["load_cores"] = row["cpu"] / row["s"], row["load"] / row["s"]
        row["times"] = row["per_s"] / rows[0]["per_s"]
        print(
            f"{row['way']}: {row['per_s']:.1f}/s, {row['times']:.2f} times; {row['cpu_ms']:.1f} ms of processor time a"
            f" search, load {row['load_ms']:.1f}; cores: server {row['cores']:.2f}, load {row['load_cores']:.2f}",
            flush=True,
        )
    return {"seconds": seconds, "rounds": ROUNDS, "connections": SHARE_CONNECTIONS, "rows": rows}


def soak(folder: Path, galleries: list[Path], drawings: list[Drawing], minutes: float) -> dict[str, Any]:
    """Mixed load on two workers, their memory watched."""
    with Server(galleries, 2, folder / "log") as server:
        plan = mixed(server, folder, drawings)
        with loading(server, folder, plan, "--connections", 4, "--seconds", 60 * minutes) as found:
            memory = soaked(server, 60 * minutes)
    counts: dict[str, dict[str, int]] = {}
    for answer in found["answers"]:
        statuses = counts.setdefault(answer["kind"], {})
        statuses[str(answer["status"])] = statuses.get(str(answer["status"]), 0) + 1
    for kind, statuses in sorted(counts.items()):
        print(f"  {kind}: {', '.join(f'{count} x {status}' for status, count in sorted(statuses.items()))}")
    print(f"  broken: {len(found['broken'])}")
    return {"minutes": minutes, **memory, "counts": counts, "broken": len(found["broken"])}


def kill(folder: Path, galleries: list[Path], drawings: list[Drawing], seconds: float) -> dict[str, Any]:
    """Strokes on two workers, one of which is killed a third of the way."""
    with Server(galleries[:1], 2, folder / "log") as server:
        plan = by_strokes(drawings)
        with loading(server, folder, plan, "--connections", 8, "--seconds", seconds) as found:
            time.sleep(seconds / 3)
            happened = killed(server)
    statuses = [answer["status"] for answer in found["answers"]]
    result = {
        **happened,
        "failed": len(found["broken"]),
        "answered": statuses.count(200),
        "refused": statuses.count(503),
        "other": len(statuses) - statuses.count(200) - statuses.count(503),
        "longest_ms": max(answer["ms"] for answer in found["answers"]),
    }
    print(
        f"killed a worker with {result['connections']} of 8 connections: {result['failed']} requests failed,"
        f" {result['answered']} answered, {result['refused']} refused, {result['other']} others; a new worker"
        f" answered after {result['replaced_s']:.1f} s"
    )
    return result


if __name__ == "__main__":
    main()
