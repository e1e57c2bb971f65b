"""How far a search of a large gallery on a Milvus server must look: measured there, and kept with the collection.

Letters: `T` tests, `H` hits of a test, `S` shortlist, `D` embedding dimension.

Milvus divides a collection into segments, and the codes of each into `LISTS` lists (`BIN_IVF_FLAT`). A search reads the
lists nearest to its query in every segment, and all of a segment that is new; if it reads all lists, it is exact. How
many it must read is measured when the server has indexed what was written.
"""

import base64
import json
import time
import zlib

import numpy as np
from numpy.typing import NDArray

from crossatnet.gallery.milvus.rows import embeddings_of
from crossatnet.gallery.milvus.table import LISTS, Table
from crossatnet.gallery.reach import INDEXED, TESTED_HITS, Tested, asked_as_drawings
from crossatnet.gallery.shortlist import best_places, cosines, shortlist_length, unit_rows

PROPERTY = "crossatnet.reach"  # of the collection
TESTS = 400
LONGEST_TESTED = 4000  # shortlist of a test: so many embeddings are 6 MB as text
TESTS_A_CALL = 50
READ = (64, 32, 16, 8, 4, 2, 1)  # lists
GROWN = 0.2  # share of the items by which a gallery grows or shrinks until it is measured again
PATIENCE_S, PAUSE_S = 900.0, 2.0  # until the server has indexed what was written


def measure(table: Table, dimension: int, code_bits: int) -> None:
    """Measure a large gallery anew, if it is no longer what it was when it was measured; nothing for a small one.

    Waits until the server has indexed what was written. If that takes too long, the next time is soon enough: until
    then all is read, or as much as before.
    """
    items = table.count()
    if items <= INDEXED:
        return
    known = read(table)
    if known is not None and abs(items - known.items) <= GROWN * known.items:
        return
    give_up = time.monotonic() + PATIENCE_S
    while not table.is_indexed():
        if time.monotonic() > give_up:
            return
        time.sleep(PAUSE_S)
    tests = _tests(table, dimension, min(shortlist_length(TESTED_HITS, code_bits, items), LONGEST_TESTED))
    text = base64.b64encode(zlib.compress(tests.astype("<u2").tobytes())).decode()
    table.keep(PROPERTY, json.dumps({"items": items, "tests": text}))


def read(table: Table) -> Tested | None:
    """What was measured; None before that, or if another program wrote something else there."""
    try:
        record = json.loads(table.kept(PROPERTY) or "{}")
        halves = np.frombuffer(zlib.decompress(base64.b64decode(record["tests"])), "<u2")
        return Tested(halves.reshape(-1, TESTED_HITS, 2).astype(np.int32), LISTS, int(record["items"]))
    except (ValueError, TypeError, KeyError, zlib.error):
        return None


def _tests(table: Table, dimension: int, length: int) -> NDArray[np.int32]:
    """Where the exact search, with a shortlist of this length, finds the hits of items that are queries: (T, H, 2)."""
    rows = table.loaded("id >= 0", ["id", "code", "embedding"], limit=TESTS)  # ids are hashes: these are any items
    codes = np.frombuffer(b"".join(row["code"][0] for row in rows), np.uint8).reshape(len(rows), -1)
    asked = asked_as_drawings(codes, np.random.default_rng(len(rows)))  # (T, B)
    queries = unit_rows(embeddings_of([row["embedding"] for row in rows], dimension).astype(np.float32))  # (T, D)
    found = np.zeros((len(rows), TESTED_HITS, 2), np.int32)
    hits = []
    for number, (row, code, query) in enumerate(zip(rows, asked, queries, strict=True)):
        (shortlist,) = table.nearest(code[None], length, "", ["embedding"])
        ids = np.array([hit["id"] for hit in shortlist], np.int64)  # (S,)
        halves = embeddings_of([hit["entity"]["embedding"] for hit in shortlist], dimension)
        best = best_places(ids, cosines(query, halves), TESTED_HITS + 1)
        best = best[ids[best] != row["id"]][:TESTED_HITS]  # an item is no hit of its own
        hits.append(ids[best])
        found[number, : len(best)] = np.stack([np.full(len(best), LISTS - 1), best], axis=1)
    longest = 1 + int(found[..., 1].max())
    for lists in READ:
        for start in range(0, len(rows), TESTS_A_CALL):
            answers = table.nearest(asked[start : start + TESTS_A_CALL], longest, "", [], lists)
            for number, answer in enumerate(answers, start):
                is_met = np.isin(hits[number], [hit["id"] for hit in answer])
                found[number, : len(is_met), 0][is_met] = lists - 1
    return found
