"""What the documents show of each results file: tables and a note, for `tables.py` to write.

A cell is a format string over its row, so that it names a value and how to write it; headings and notes are format
strings over the whole record. What they need beyond the record is worked out in `facts.py`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import itemgetter

from facts import (
    Record,
    decode_rows,
    embed_facts,
    folder_columns,
    folder_facts,
    folder_rows,
    ingest_rows,
    instance_rows,
    inverted_rows,
    kill_facts,
    kills_facts,
    large_facts,
    latency_rows,
    load_rows,
    paper_rows,
    region_size_rows,
    regions_rows,
    scale_rows,
    search_rows,
    serve_facts,
    shortlist_rows,
    simulated_rows,
    size_rows,
    soak_facts,
    startup_rows,
    train_rows,
    zero_shot_hidden,
    zero_shot_rows,
)


@dataclass(frozen=True)
class Table:
    """Columns, a heading and its cell each, over the rows of a record."""

    columns: dict[str, str]
    rows: Callable[[Record], Iterable[Record]] = itemgetter("rows")
    hidden: Callable[[Record], tuple[str, ...]] = lambda record: ()  # headings that this record needs not
    further: Callable[[Record], Iterable[tuple[str, str]]] = lambda record: ()  # columns at the end, by the record


@dataclass(frozen=True)
class Section:
    """Tables about one measurement, what is to be known about them, and facts for both beyond the record."""

    note: str
    tables: tuple[Table, ...] = ()
    facts: Callable[[Record], Record] = lambda record: {}
    part: str = ""  # of the results file, if it holds several; left out where that was not measured
    measured: str = "`{command}`"  # how


ZERO_SHOT = "zero-shot"  # results files named CONFIG-SPLIT-DATA
SERVED = "{names}; {items:,} items; {machine}, torch {torch}, {date}."

ZERO_SHOT_TABLE = Table(
    {
        "{data}, {split}": "{model}",
        "dimensions": "{dimension}",
        "mAP@all": "{mAP@all}",
        "P@10": "{P@10}",
        "P@100": "{P@100}",
        "seeds": "{seeds}",
    },
    zero_shot_rows,
    zero_shot_hidden,
)
FORMATS_TABLE = Table(
    {
        "pixels": "{size}",
        "format": "{format}",
        "kB": "{kilobytes:,}",
        "reading": "{read_ms:.1f} ms",
        "times JPEG": "{read_ratio:.2f}",
        "with the network": "{embed_ratio:.2f}",
    }
)
EVALUATE_TABLE = Table(
    {
        "queries x gallery": "{queries:,} x {gallery:,}",
        "": "{kind}",
        "evaluator": "{ours[seconds]:.1f} s, {ours[peak_mib]:,} MiB",
        "whole matrix and scikit-learn": "{whole matrix[seconds]:.1f} s, {whole matrix[peak_mib]:,} MiB",
        "times faster": "{ratio:.1f}",
    }
)
LARGE_TABLE = Table(
    {
        "queries x gallery": "{queries:,} x {gallery:,}",
        "": "{kind}, {width}",
        "time": "{ours[seconds]:,.0f} s",
        "peak memory": "{ours[peak_mib]:,} MiB",
    }
)
INSTANCE_TABLE = Table(
    {
        "model": "{model}",
        "acc@1": "{acc@1}",
        "acc@5": "{acc@5}",
        "acc@10": "{acc@10}",
        "MRR": "{MRR}",
        "acc@1 (all)": "{acc@1 (all)}",
        "acc@5 (all)": "{acc@5 (all)}",
        "seeds": "{seeds}",
    },
    instance_rows,
)
SEARCH_TABLE = Table(
    {
        "items": "{items:,}",
        "bits": "{bits}",
        "k": "{k}",
        "shortlist": "{shortlist:,}",
        "recall@k": "{recall:.4f}",
        "p50, p95": "{p50_ms:.1f}, {p95_ms:.1f} ms",
        "faiss exact p50": "{faiss}",
        "NumPy exact p50": "{numpy}",
    },
    search_rows,
)
REGIONS_TABLE = Table(
    {
        "items": "{items:,}",
        "regions of each": "{regions}",
        "k": "{k}",
        "recall@k": "{recall:.4f}",
        "p50": "{p50_ms:.1f} ms",
        "processor time, p50": "{cpu_p50_ms:.1f} ms",
        "times that without": "{times:.2f}",
    },
    regions_rows,
)
REGION_SIZE_TABLE = Table(
    {
        "items": "{items:,}",
        "regions of each": "{regions}",
        "SQLite file": "{sqlite:,.0f} MB",
        "side file": "{-index:,.0f} MB",
        "opening, cold": "{opening_warm_s:.2f}, {opening_cold_s:.2f} s",
        "own memory": "{own_mib:,} MiB",
        "with mapped pages": "{peak_mib:,} MiB",
        "stored in": "{stored_s:.0f} s of processor time",
    },
    region_size_rows,
)
SIZE_TABLE = Table(
    {
        "items": "{items:,}",
        "bits": "{bits}",
        "SQLite file": "{sqlite:,.0f} MB",
        "side file": "{-index:,.0f} MB",
        "opening, cold": "{opening_warm_s:.2f}, {opening_cold_s:.2f} s",
        "own memory": "{own_mib:,} MiB",
        "with mapped pages": "{peak_mib:,} MiB",
        "stored in": "{stored_s:.0f} s",
    },
    size_rows,
)
SCALE_TABLE = Table(
    {
        "pictures": "{size}",
        "command": "{command}",
        "memory": "{memory}",
        "an exact search (p50)": "{latency}",
        "": "{how}",
    },
    scale_rows,
)
SHORTLIST_TABLE = Table(
    {
        "gallery": "{gallery}",
        "items": "{items:,}",
        "bits": "{bits}",
        "k": "{k}",
        "needed": "{needed:,}",
        "taken": "{length:,}",
        "recall": "{recall:.4f}",
    },
    shortlist_rows,
)
INVERTED_TABLE = Table(
    {
        "gallery": "{gallery}",
        "items": "{items:,}",
        "recall asked for": "{asked}",
        "read": "{read}",
        "shortlist": "{length:,}",
        "recall@10": "{recall:.3f}",
        "p50, p95": "{p50_ms:.1f}, {p95_ms:.1f} ms",
        "exact p50": "{exact:.1f} ms",
        "a fifth changed": "{changed}",
        "and written": "{written}",
    },
    inverted_rows,
)
INDEX_TABLE = Table(
    {
        "gallery": "{gallery}",
        "items": "{items:,}",
        "index": "{index_mb:,.0f} MB",
        "made in": "{index_s:.0f} s",
        "after a fifth changed": "{again_s:.0f} s",
        "exact search: shortlist taken": "{rule:,}",
        "needed": "{needed:,}",
    },
    lambda record: ({**row, "index_mb": row["index_bytes"] / 1e6} for row in record["rows"]),
)
SIMULATED_TABLE = Table(
    {
        "random codes": "{items:,}",
        "recall asked for": "{asked}",
        "read": "{read:,} of {lists:,} lists, {codes:,} codes",
        "shortlist": "{length:,}",
        "p50": "{p50_ms:.1f} ms",
    },
    simulated_rows,
)
INGEST_TABLE = Table(
    {
        "pictures": "{pictures}",
        "network alone": "{network_per_s:.1f}/s",
        "index": "{index_per_s:.1f}/s",
        "of it": "{ratio:.2f}",
        "bound": "{bound:.2f}",
        "decode and resize": "{cpu_ms[decode and resize]:.1f} ms",
        "network": "{cpu_ms[network]:.1f} ms",
        "all else": "{rest_ms:.1f} ms",
    },
    ingest_rows,
)
DECODE_TABLE = Table(
    {
        "JPEG files": "{pictures}, {kilobytes:.0f} kB",
        "way": "{way}",
        "processor time": "{cpu_ms:.2f} ms",
        "images/s of one core": "{per_s:,.0f}",
        "times faster": "{times_faster:.2f}",
        "cosine, mean": "{mean_cosine:.5f}",
        "least": "{least_cosine:.5f}",
    },
    decode_rows,
)
TRAIN_TABLE = Table(
    {
        "views": "{views}",
        "precision": "{precision}",
        "device alone": "{device_per_s:.1f}/s",
        "training": "{train_per_s:.1f}/s",
        "of it": "{ratio:.2f}",
        "before training": "{prepare_s:.0f} s",
    },
    train_rows,
)
MILVUS_TABLE = Table(
    {
        "items": "{items:,}",
        "regions of each": "{regions}",
        "gallery": "{where}",
        "filled in": "{fill_s} s",
        "p50, p95": "{p50_ms:.1f}, {p95_ms:.1f} ms",
        "processor time a search": "{cpu_ms:.1f} ms",
        "same top 10": "{same_top_10:.2f}",
    }
)
RANKS_TABLE = Table(
    {
        "units that learn": "{units}",
        "one process": "{alone_ms:.0f} ms",
        "of its core": "{alone_core_ms:.0f} ms",
        "two processes": "{two_ms:.0f} ms",
        "of the slower one's core": "{two_core_ms:.0f} ms",
        "most to gain": "{most:.2f}",
    }
)
LISTING_TABLE = Table(
    {
        "listing": "{listing}",
        "names": "{names:,}",
        "before": "{before_mib} MiB",
        "at its highest": "{peak_mib} MiB",
        "listed and compared with the gallery in": "{seconds} s",
    }
)
INDEXED_TABLE = Table(
    {
        "store": "{source}://",
        "objects": "{objects:,}",
        "indexed by one process": "{alone_s:,.0f} s",
        "by two Ray nodes, one lost halfway": "{two_nodes_one_lost_s:,.0f} s",
        "the galleries are equal": "{equal}",
    },
    lambda found: found.get("index", []),
)
LOAD_TABLE = Table(
    {
        "checkpoint": "{checkpoint}",
        "workers": "{workers}{at_once}",
        "connections": "{connections}{patience}",
        "answered": "{per_s:.1f}/s",
        "p50, p95, p99": "{p50_ms:.0f}, {p95_ms:.0f}, {p99_ms:.0f} ms",
        "refused, in (p50)": "{refusals}",
        "network": "{network_ms:.1f} ms",
        "search": "{search_ms:.1f} ms",
        "queue": "{queue_ms:.1f} ms",
        "HTTP": "{http_ms:.1f} ms",
        "cores: server, load": "{server_cpu_share:.2f}, {load_cpu_share:.2f}",
    },
    load_rows,
)
SHARE_TABLE = Table(
    {
        "": "{way}",
        "answered": "{per_s:.1f}/s",
        "times one core's": "{times:.2f}",
        "processor time a search: server, load": "{cpu_ms:.1f}, {load_ms:.1f} ms",
        "cores: server, load": "{cores:.2f}, {load_cores:.2f}",
    }
)
THUMBNAIL_TABLE = Table(
    {
        "24 thumbnails, 6 connections": "{thumbnails}",
        "median": "{median_ms:.0f} ms",
        "longest": "{longest_ms:.0f} ms",
    }
)
EMBED_TABLE = Table(
    {
        "": "{way}",
        "from JPEG": "{jpeg_per_s:.1f}/s",
        "times naive, batch 1": "{times_naive:.1f}",
        "network alone": "{network_per_s:.1f}/s",
        "share of the ceiling": "{of_ceiling:.0%} of {format}",
    }
)
LATENCY_TABLE = Table({"part": "{part}", "p50": "{p50:.1f} ms", "p95": "{p95:.1f} ms"}, latency_rows)
SCENES_TABLE = Table(
    {
        "size of the thing": "{size}",
        "things": "{things}",
        "whole: mAP": "{whole[mAP]:.3f}",
        "success@1": "{whole[success@1]:.2f}",
        "@10": "{whole[success@10]:.2f}",
        "with regions: mAP": "{regions[mAP]:.3f}",
        "success@1 ": "{regions[success@1]:.2f}",
        "@10 ": "{regions[success@10]:.2f}",
        "points": "{regions[pointing]:.2f}",
        "guided @10, before": "{before guiding[success@10]:.2f}",
        "after": "{guided[success@10]:.2f}",
        "attention points": "{guided[pointing]:.2f}",
    }
)
REAL_TABLES = tuple(
    Table(
        {
            f"picture, {which}": "{picture}",
            "thing": "{thing}",
            "sketches": "{sketches}",
            "among the first ten: whole": "{whole}",
            "with regions": "{regions}",
            "with the boxes drawn by hand": "{drawn}",
            "framed": "{framed}",
            "points": "{points}",
        },
        rows,
    )
    for which, rows in (
        ("held back", lambda record: [row for row in record["rows"] if row["held back"]]),
        ("looked at before", lambda record: [row for row in record["rows"] if not row["held back"]]),
    )
)
FOLDER_TABLE = Table(
    {"things": "{known}", "drawn by": "{hand}", "things, drawings": "{things}, {drawings:,}"},
    folder_rows,
    further=folder_columns,
)
STARTUP_TABLE = Table(
    {
        "runtime": "{runtime}",
        "time": "{median_s:.2f} s",
        "of the processor": "{processor_s:.2f} s",
        "modules": "{modules}",
        "heaviest imports, ms": "{heaviest}",
    },
    startup_rows,
)

FOLDER_SECTION = Section(
    "{photos:,} photos of {things} things, {unknown} of them in no training. Means over things, with the middle 95% of"
    " means over things drawn again.",
    (FOLDER_TABLE,),
    folder_facts,
    measured="{commands}",
)

PAPER_TABLES = tuple(
    Table({heading: "{way}", "before": "{before:.2f}", "now": "{now:.2f}"}, paper_rows(kind))
    for kind, heading in (("ways", "a drawing arrives"), ("other ways", "other ways, seen on the way"))
)

SECTIONS: dict[str, tuple[Section, ...]] = {
    "paper": (
        Section(
            "Share kept of the {clean} drawings, of {tried}, that find a right photo among the first ten of {photos:,}"
            " when they are clean. One drawing is 3 points. {machine}; {date}.",
            PAPER_TABLES,
        ),
    ),
    ZERO_SHOT: (
        Section(
            "{direction}, {setting}: {queries} queries, gallery of {gallery}, {classes} classes. Mean and standard"
            " deviation over seeds; {epochs} epochs, chosen on held-out seen classes. {machine}, {date}, {software};"
            " {seconds:.0f} s of training once features are cached.",
            (ZERO_SHOT_TABLE,),
            lambda record: {"seconds": min(record["train_seconds"]["CrossATNet"])},
        ),
    ),
    "scenes-test": (
        Section(
            "{scenes} scenes and {photos} photos, {queries} sketches, of which {guided_queries} guide."
            " {regions[scenes]} regions a scene, {regions[photos]} a photo. mAP@all of the photos alone:"
            " {plain[whole]:.4f}, with regions {plain[regions]:.4f}. {checkpoint}, {machine}.",
            (SCENES_TABLE,),
            measured="`{command}`, {date}",
        ),
    ),
    "real-scenes": (
        Section(
            "{pictures} pictures, each beside up to {beside} photos of other things; {checkpoint}, {machine}, {date}.",
            REAL_TABLES,
        ),
    ),
    "scene-costs": (
        Section(
            "Indexing takes {index[photos][times]} times the processor time on plain photos of 256 x 256 pixels"
            " ({index[photos][with_ms]:.1f} ms for {index[photos][without_ms]:.1f} ms) and {index[scenes][times]} times"
            " on scenes of 640 x 480 ({index[scenes][with_ms]:.1f} for {index[scenes][without_ms]:.1f}), of each"
            " {indexed}. Enlarged to the 12 million pixels of a phone's, it is {index[photos_of_phones][times]} times"
            " ({index[photos_of_phones][with_ms]:.1f} for {index[photos_of_phones][without_ms]:.1f}) and"
            " {index[scenes_of_phones][times]} times ({index[scenes_of_phones][with_ms]:.1f} for"
            " {index[scenes_of_phones][without_ms]:.1f}). 8 bits and floating point: both find regions, or neither"
            " does, in {agreement[both_or_none]:.3f} of {scenes} scenes and {photos} photos;"
            " {agreement[same_places]:.3f} of the regions lie in the same place, with a mean cosine of"
            " {agreement[cosine]:.3f}; success@10 of things under 15% is {found[onnx-int8][success@10]:.3f} and"
            " {found[onnx][success@10]:.3f}. {checkpoint}, {machine}.",
            measured="`{command}`, {date}",
        ),
    ),
    "folder-choosing": (FOLDER_SECTION,),
    "folder-test": (FOLDER_SECTION,),
    "evaluate": (
        Section(
            "Peak memory is that of the process, arrays included. {machine}, {software}, {date}.", (EVALUATE_TABLE,)
        ),
    ),
    "evaluate-million": (
        Section(
            "{share}Peak memory is that of the process, arrays included. {machine}, {software}, {date}.",
            (LARGE_TABLE,),
            large_facts,
        ),
    ),
    "instances": (
        Section(
            "{facts[queries]} sketches and {facts[gallery]} photos of {facts[classes]} unseen classes ({facts[split]},"
            " {facts[data]}); trained on {pairs:,} pairs of seen classes, {settings[train][epochs]} x"
            " {settings[train][epoch_batches]} batches. {machine}, {date}.",
            (INSTANCE_TABLE,),
        ),
    ),
    "search": (
        Section(
            "{data}; {asked} queries, one at a time, one thread. \\*: from fewer items, multiplied."
            " {machine}, {date}; faiss {faiss}, NumPy {numpy}.",
            (SEARCH_TABLE, SIZE_TABLE),
            lambda record: {"asked": " or ".join(map(str, sorted({row["queries"] for row in record["rows"]})))},
        ),
    ),
    "search:scale": (
        Section(
            "Codes of 512 bits, 10 hits; {data}; one query at a time on one thread. {machine}, {date}.", (SCALE_TABLE,)
        ),
    ),
    "regions": (
        Section(
            "Synthetic: 512-dimensional embeddings in clusters, codes of {bits} bits; {queries} queries, each to all"
            " galleries in turn, one thread. {machine}, {date}.",
            (REGIONS_TABLE, REGION_SIZE_TABLE),
        ),
    ),
    "shortlist": (
        Section(
            "{queries} queries; needed for a mean recall of {recall}; {checkpoint}'s codes; {date}.", (SHORTLIST_TABLE,)
        ),
    ),
    "inverted": (
        Section(
            "Codes of {bits} bits, ten hits; {queries} queries, one at a time on one thread; the machine's load was"
            " {load}. needed: for .99 of the ten nearest by cosine. {machine}, {dates}.",
            (INVERTED_TABLE, INDEX_TABLE, SIMULATED_TABLE),
            lambda record: {
                "bits": record["rows"][0]["bits"],
                "queries": record["rows"][0]["queries"],
                "dates": ", ".join(sorted({row["date"] for row in record["rows"]})),
                "load": " to ".join(f"{most(row['load'] for row in record['rows']):.1f}" for most in (min, max)),
            },
        ),
    ),
    "ingest": (
        Section(
            "Milliseconds are of processor time a picture; the bound is the network's share of all of it."
            " {checkpoint}, {threads} threads, {machine}, torch {torch}, {date}.",
            (INGEST_TABLE,),
        ),
    ),
    "decode": (
        Section(
            "{checkpoint}; {machine}; {versions}; {date}.",
            (DECODE_TABLE,),
            lambda record: {"versions": ", ".join(f"{name} {number}" for name, number in record["packages"].items())},
        ),
    ),
    "formats": (Section("Processor time, the best of the turns; {machine}, {date}.", (FORMATS_TABLE,)),),
    "train": (
        Section(
            "Pictures a second, sketches and photos together; batches of {batch} pairs; {config}, the last"
            " {trainable_units} units trained; {pictures:,} pictures. {device}; {machine}; torch {torch}; {date}.",
            (TRAIN_TABLE,),
        ),
    ),
    "kills": (
        Section(
            "Killed at {moments} moments ({counts}): of {checked:,} acknowledged changes none was lost and none done"
            " twice. {machine}, SQLite {sqlite}, {date}.",
            facts=kills_facts,
        ),
    ),
    "ranks": (
        Section(
            "A step of EfficientNet-Lite0 at 224 pixels, 128 pairs, one thread a process, gloo. {machine}; {date}.",
            (RANKS_TABLE,),
        ),
    ),
    "listing": (
        Section(
            "`before` is what the program itself takes. Objects and paths are made up. {machine}; {date}.",
            (LISTING_TABLE, INDEXED_TABLE),
        ),
    ),
    "milvus": (Section("{data}; {queries} queries, one at a time; {machine}, {date}.", (MILVUS_TABLE,)),),
    "serve": (
        Section(SERVED, (LOAD_TABLE,), serve_facts, "throughput"),
        Section(
            "{connections} connections; {rounds} rounds of {seconds:g} s each, in turns. " + SERVED,
            (SHARE_TABLE,),
            serve_facts,
            "share",
        ),
        Section(SERVED, (THUMBNAIL_TABLE,), serve_facts, "thumbnails"),
        Section(
            "{minutes:g} minutes of mixed load on two workers, {answers:,} answers, {broken} broken: the server's own"
            " memory was {first[anonymous]:,.0f} MiB after the warm-up and {last[anonymous]:,.0f} MiB at the end,"
            " {slope_mib_min[anonymous]:+.2f} MiB a minute.\n\n" + SERVED,
            (),
            soak_facts,
            "soak",
        ),
        Section(
            "One of two workers killed (`kill -9`) with {connections} of 8 connections, each with a request under way:"
            " {failed} requests failed, {answered:,} were answered, {wrong} were refused or went wrong otherwise; a new"
            " worker answered after {replaced_s:.1f} s.\n\n" + SERVED,
            (),
            kill_facts,
            "kill",
        ),
    ),
    "embed": (
        Section(
            "{checkpoint}, {pictures} photos, {side} px, {gflop:.2f} GFLOP each; ceilings in GFLOP/s: {ceilings}."
            " {threads} threads, {machine}, torch {torch}, ONNX Runtime {onnxruntime}, {date}.{accuracy}",
            (EMBED_TABLE,),
            embed_facts,
        ),
    ),
    "latency": (
        Section(
            "{items:,} items (synthetic), {queries} drawings, one at a time, warm; {checkpoint}, {threads} threads,"
            " {machine}, ONNX Runtime {onnxruntime}, {date}.",
            (LATENCY_TABLE,),
        ),
    ),
    "startup": (
        Section(
            "Medians of {repeats} processes; {checkpoint}, {machine}, {date}.",
            (STARTUP_TABLE,),
            lambda record: {"repeats": len(record["rows"][0]["all_s"])},
        ),
    ),
    "page": (
        Section(
            "From the end of a stroke to its pictures on the screen: {page_ms[p50]:.0f} ms (p50), {page_ms[p95]:.0f} ms"
            " (p95), of which the server takes {server_ms[p50]:.0f} ms; {strokes} strokes, {pictures:,} pictures,"
            " Chromium {chromium}, {machine}, {date}."
        ),
    ),
}
