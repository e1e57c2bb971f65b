"""What the driver of an indexing run holds of very many names: its memory at its highest, with no picture read.

Two listings are made up. A list of paths is a text file. An object store is a server on loopback that speaks as much of
S3's protocol as listing and reading need; all its objects are one small picture. With `--index` the objects are also
read and indexed, by one process, and by two Ray nodes of which one is taken away halfway, with the tests' small model
in place of a network; the two galleries are compared. `--files` does the same with as many files, read as an object
store by `file://`, which takes a quarter of the time: of a picture from S3 most is the client's own work.

    python benchmarks/listing.py --objects 1e6 --paths 1e6,1e7
    python benchmarks/listing.py --index 1e5 --files 1e6
"""

import argparse
import io
import json
import os
import resource
import shlex
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

from PIL import Image

import record

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
SOURCE = "s3://made-up/photos"
MODIFIED = "2026-11-28T00:00:00.000Z"


def picture() -> bytes:
    """The content of every object."""
    file = io.BytesIO()
    Image.effect_noise((16, 16), 90).convert("RGB").save(file, "PNG")
    return file.getvalue()


def store_of(objects: int) -> type[BaseHTTPRequestHandler]:
    """A server's handler: `ListObjectsV2` and `GetObject` of so many objects."""
    content = picture()

    def listed(number: int) -> str:
        return (
            f"<Contents><Key>photos/{number // 1000:06d}/{number:09d}.png</Key><Size>{len(content)}</Size>"
            f'<ETag>"{number:032x}"</ETag><LastModified>{MODIFIED}</LastModified></Contents>'
        )

    class Store(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked = parse_qs(urlparse(self.path).query)
            if "list-type" not in asked:
                self._answer(206 if "Range" in self.headers else 200, content, "image/png")
                return
            first = int(asked.get("continuation-token", ["0"])[0])
            after = min(first + 1000, objects)
            body = "".join(map(listed, range(first, after)))
            more = f"<NextContinuationToken>{after}</NextContinuationToken>" if after < objects else ""
            flag = str(after < objects).lower()
            text = f"<ListBucketResult><IsTruncated>{flag}</IsTruncated>{more}{body}</ListBucketResult>"
            self._answer(200, text.encode(), "application/xml")

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def handle(self) -> None:
            with suppress(ConnectionResetError):  # of a client that ends
                super().handle()

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    return Store


@contextmanager
def served(objects: int) -> Iterator[None]:
    """The store in a process of its own, which the environment names."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, __file__, "--serve", f"{port},{objects}"])
    os.environ |= {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ |= {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing"}
    try:
        for _ in range(300):
            with closing(socket.socket()) as opened:
                if opened.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield
    finally:
        process.kill()
        process.wait()


def drive(source: str) -> dict[str, Any]:
    """What the driver of `--ray` does with a listing, but for sending the tasks: called in a process of its own."""
    from crossatnet.gallery import Gallery
    from crossatnet.gallery.ingest import ray
    from crossatnet.gallery.ingest.folder import PICTURES_A_BATCH, Tally
    from crossatnet.gallery.ingest.stream import Pictures, in_parts, listed_paths
    from gallery.fake_model import FakeModel

    with tempfile.TemporaryDirectory() as scratch, Gallery.create(f"{scratch}/g", FakeModel()) as gallery:
        before, begun, names = peak_mib(), time.perf_counter(), 0
        files = Pictures(gallery.store, source) if source.startswith("s3:") else listed_paths(Path(source))
        for part in in_parts(files, ray.TASKS_A_ROUND * ray.BATCHES_A_TASK * PICTURES_A_BATCH):
            tasks = ray._tasks(gallery.store, part, Tally([], ()), ray.ONE_CORE)
            names += sum(len(batch.paths) for task in tasks for batch in task)
        seconds = time.perf_counter() - begun
    return {"names": names, "seconds": round(seconds, 1), "before_mib": round(before), "peak_mib": round(peak_mib())}


def peak_mib() -> float:
    """This process's memory at its highest."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def driven(source: str) -> dict[str, Any]:
    """`drive`, measured in a fresh process."""
    done = subprocess.run([sys.executable, __file__, "--drive", source], stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@contextmanager
def filed(objects: int) -> Iterator[str]:
    """So many files, a thousand in a folder; those of a folder are one file with as many names."""
    content = picture()
    with tempfile.TemporaryDirectory() as scratch:
        for first in range(0, objects, 1000):
            folder = Path(scratch, f"{first // 1000:06d}")
            folder.mkdir()
            one, *others = (folder / f"{number:09d}.png" for number in range(first, min(first + 1000, objects)))
            one.write_bytes(content)
            for other in others:
                other.hardlink_to(one)
        yield f"file://{scratch}"


def indexed(source: str, objects: int) -> dict[str, Any]:
    """Seconds to index the objects alone and by two nodes, of which one is lost halfway; stops if they differ."""
    import ray
    from ray._private import ray_constants
    from ray.cluster_utils import Cluster

    from crossatnet.gallery import Gallery
    from crossatnet.gallery.ingest.ray import add_folder_by_ray
    from gallery.fake_model import FakeModel

    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": os.pathsep.join(sys.path)}
    ray_constants.ENABLE_RAY_CLUSTER = False
    node = {"num_cpus": 1, "object_store_memory": 100_000_000}
    with tempfile.TemporaryDirectory() as scratch:
        begun = time.perf_counter()
        with Gallery.create(f"{scratch}/alone", FakeModel()) as gallery:
            gallery.add_source(source)
        alone = time.perf_counter() - begun
        cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        second = [cluster.add_node(**node)]

        def lose(done: int, _: int) -> None:
            if second and done >= objects // 2:
                cluster.remove_node(second.pop(), allow_graceful=False)

        begun = time.perf_counter()
        with Gallery.create(f"{scratch}/together", FakeModel()) as gallery:
            added = add_folder_by_ray(gallery.store, f"{scratch}/together", FakeModel(), source, lose).added
        together = time.perf_counter() - begun
        ray.shutdown()
        cluster.shutdown()
        if second or added != objects or contents(f"{scratch}/alone") != contents(f"{scratch}/together"):
            raise SystemExit(f"the galleries differ, or no node was lost; {added} of {objects} added")
    seconds = {"alone_s": round(alone, 1), "two_nodes_one_lost_s": round(together, 1)}
    return {"objects": objects, "source": source.partition(":")[0], **seconds, "equal": True}


def contents(place: str) -> list[Any]:
    """All that is stored of each picture, but for the time when it was added."""
    columns = "id, path, class_name, content_hash, size, mtime_ns, width, height, code, embedding"
    with closing(sqlite3.connect(place)) as connection:
        return connection.execute(f"SELECT {columns} FROM items ORDER BY id").fetchall()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", default="", help="numbers of objects to list, such as 1e6")
    parser.add_argument("--paths", default="", help="numbers of paths in a list, such as 1e6,1e7")
    parser.add_argument("--index", default="", help="numbers of objects to list, read and index")
    parser.add_argument("--files", default="", help="numbers of files to list, read and index by file://")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--drive", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        port, objects = map(int, options.serve.split(","))
        ThreadingHTTPServer(("127.0.0.1", port), store_of(objects)).serve_forever()
    if options.drive:
        print(json.dumps(drive(options.drive)))
        return
    found = record.read("listing")
    rows = {(row["listing"], row["names"]): row for row in found.get("rows", [])}
    for number in numbers(options.objects):
        with served(number):
            rows["an object store", number] = {"listing": "an object store", **driven(SOURCE)}
    for number in numbers(options.paths):
        with tempfile.TemporaryDirectory() as scratch:
            with (Path(scratch) / "list.txt").open("w") as file:
                file.writelines(f"/photos/{name // 1000:06d}/{name:09d}.jpg\n" for name in range(number))
            rows["a list of paths", number] = {"listing": "a list of paths", **driven(f"{scratch}/list.txt")}
    found["rows"] = [rows[key] for key in sorted(rows)]
    runs = {(run["source"], run["objects"]): run for run in found.get("index", [])}
    for number in numbers(options.index):
        with served(number):
            runs["s3", number] = indexed(SOURCE, number)
    for number in numbers(options.files):
        with filed(number) as source:
            runs["file", number] = indexed(source, number)
    found["index"] = [runs[key] for key in sorted(runs)]
    before = found["command"].split("; ") if "command" in found else []
    said = f"python benchmarks/listing.py {shlex.join(sys.argv[1:])}"
    found["command"] = "; ".join(dict.fromkeys([*before, said]))
    found["machine"] = record.machine()
    print(record.write("listing", found))


def numbers(text: str) -> list[int]:
    """Counts as a person writes them."""
    return [int(float(part)) for part in text.split(",") if part]


if __name__ == "__main__":
    main()
