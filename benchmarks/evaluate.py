"""How long does an evaluation of published size take, and how much memory?

    python benchmarks/evaluate.py --size both
    python benchmarks/evaluate.py --size million

Random embeddings in clusters, and hash codes of them, in the sizes of TU-Berlin-extended and Sketchy-extended are
scored by `evaluation.ranking` (every definition it has) and by what most public code does: the whole matrix of
similarities, and scikit-learn's average precision (nothing else) of one query after another. Each runs in a process of
its own, whose peak of memory is told. `--queries` scores only the first queries, for a quick look, and writes nothing.

A million items are searched by the evaluator alone, since the whole matrix would take 40 GB; `--queries` is then a
share of the 10,000, and the results say so.

Of embeddings both must find the same mAP@all. Of codes they cannot, since scikit-learn takes all of a tie at once,
which lies between the pessimistic and the optimistic value; both are told.

Prints a table and writes `benchmarks/results/evaluate.json`, or `evaluate-million.json`.
"""

import argparse
import json
import subprocess
import sys
import time
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from measure import peak_mib
from record import machine, write

PUBLISHED = {"tuberlin": (2_400, 27_989, 30, 512), "sketchy": (15_229, 17_101, 25, 512)}
LARGE = {"million": (10_000, 1_000_000, 100, 128)}
SIZES = PUBLISHED | LARGE  # queries, gallery, unseen classes, dimensions
BITS = 64
ROWS = 10_000  # made at once
AT = (100, 200)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=[*SIZES, "both"], default="both")
    parser.add_argument("--queries", type=int, help="score only so many")
    parser.add_argument("--run", nargs=2, metavar=("METHOD", "KIND"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(json.dumps(measured(*options.run, options.size, options.queries)))
        return
    rows = []
    for size in PUBLISHED if options.size == "both" else [options.size]:
        for kind in ("embeddings", "codes"):
            rows.append(compared(size, kind, options.queries))
            show(rows[-1])
    record = {
        "command": " ".join(["python benchmarks/evaluate.py", *sys.argv[1:]]),
        "machine": machine(),
        "software": f"NumPy {np.__version__}, scikit-learn {version('scikit-learn')}",
        "rows": rows,
    }
    if options.size in LARGE:
        write(f"evaluate-{options.size}", record)
    elif options.queries is None:
        write("evaluate", record)


def compared(size: str, kind: str, queries: int | None) -> dict[str, Any]:
    """The methods on the same arrays, each in a process of its own."""
    found = {}
    for method in ["ours"] if size in LARGE else METHODS:
        command = [sys.executable, __file__, "--size", size, "--run", method, kind]
        command += [] if queries is None else ["--queries", str(queries)]
        found[method] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    all_queries, items, _, dimension = SIZES[size]
    row = {"size": size, "kind": kind, "queries": min(queries or all_queries, all_queries), "gallery": items, **found}
    row |= {"all_queries": all_queries, "width": f"{dimension} dimensions" if kind == "embeddings" else f"{BITS} bits"}
    if whole := found.get("whole matrix"):
        row["ratio"] = round(whole["seconds"] / found["ours"]["seconds"], 1)
        row["difference"] = abs(found["ours"]["means"]["mAP@all"] - whole["means"]["mAP@all"])
    return row


def show(row: dict[str, Any]) -> None:
    print(f"{row['size']}, {row['kind']}: {row['queries']:,} queries x {row['gallery']:,} items")
    for method in METHODS:
        if method not in row:
            return
        part = row[method]
        values = ", ".join(f"{name} {value:.4f}" for name, value in part["means"].items() if "mAP@all" in name)
        print(f"  {method:14}{part['seconds']:9.2f} s {part['peak_mib']:7,.0f} MiB  {values}")
    agreement = f", mAP@all differs by {row['difference']:.1e}" if row["kind"] == "embeddings" else ""
    print(f"  {row['ratio']} times faster{agreement}", flush=True)


def measured(method: str, kind: str, size: str, queries: int | None) -> dict[str, Any]:
    """Seconds, those of processors too, and the peak of the process with its arrays, of one method."""
    arrays = made(*SIZES[size])
    for part in ("query", "query_class"):
        arrays[part] = arrays[part][:queries]
    if kind == "codes":
        arrays |= {part: np.packbits(arrays[part][:, :BITS] > 0, axis=1) for part in ("query", "gallery")}
    score = METHODS[method][kind]()
    begin, computed = time.perf_counter(), time.process_time()
    means = score(**arrays)
    seconds, processor = time.perf_counter() - begin, time.process_time() - computed
    times = {"seconds": round(seconds, 3), "processor_s": round(processor, 3)}
    return {**times, "peak_mib": round(peak_mib()), "means": means}


def made(queries: int, items: int, classes: int, dimension: int) -> dict[str, NDArray[Any]]:
    """Embeddings (Q, D) and (N, D) around the centres of their classes, so far apart that some are confused."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((classes, dimension), dtype=np.float32)
    arrays: dict[str, NDArray[Any]] = {}
    for name, rows in (("query", queries), ("gallery", items)):
        number = random.permutation(np.arange(rows) % classes)
        noise = random.standard_normal((rows, dimension), dtype=np.float32)
        for start in range(0, rows, ROWS):  # in parts, as the peak of memory is that of the evaluator
            part = slice(start, start + ROWS)
            noise[part] += np.float32(0.3) * centres[number[part]]
        arrays |= {name: noise, f"{name}_class": np.array([f"class {n}" for n in number])}
    return arrays


# Each method is imported before its time is taken: a maker of a function of the four arrays


def ours(evaluator: str) -> Any:
    from crossatnet.evaluation import ranking

    return lambda **arrays: getattr(ranking, evaluator)(**arrays, at=AT).all_means()


def whole_matrix(similarity: Any) -> Any:
    from sklearn.metrics import average_precision_score

    def score(
        query: NDArray[Any], query_class: NDArray[Any], gallery: NDArray[Any], gallery_class: NDArray[Any]
    ) -> dict[str, float]:
        matrix = similarity(query, gallery)  # (Q, N)
        precisions = [
            average_precision_score(gallery_class == name, row) for name, row in zip(query_class, matrix, strict=True)
        ]
        return {"mAP@all": float(np.mean(precisions))}

    return score


def cosine(query: NDArray[Any], gallery: NDArray[Any]) -> NDArray[Any]:
    query, gallery = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (query, gallery))
    return query @ gallery.T  # type: ignore[no-any-return]


def equal_bits(query: NDArray[Any], gallery: NDArray[Any]) -> NDArray[Any]:
    """BITS less the Hamming distance, halved: the product of codes of ones and minus ones."""
    query, gallery = (np.unpackbits(codes, axis=1).astype(np.float32) * 2 - 1 for codes in (query, gallery))
    return query @ gallery.T  # type: ignore[no-any-return]


METHODS = {
    "ours": {"embeddings": lambda: ours("evaluate"), "codes": lambda: ours("evaluate_codes")},
    "whole matrix": {"embeddings": lambda: whole_matrix(cosine), "codes": lambda: whole_matrix(equal_bits)},
}


if __name__ == "__main__":
    main()
