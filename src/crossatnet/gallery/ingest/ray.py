"""Fills a gallery with many machines: Ray Data sends tasks of files to workers, which read and embed them.

If the gallery is on a server, each worker stores its results itself. If it is in a file, only the driver writes. Tasks
consist of the same batches as a run on one machine, and results come back in order, so the gallery is the same. When a
worker or a node is lost, Ray runs its unfinished tasks again elsewhere; what such a task had stored already is
replaced, not stored twice. Whether a new file is a stored one that moved, workers ask an actor beside the driver, as
they cannot see a gallery's file.
"""

import os
import pickle
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial, reduce
from pathlib import Path
from typing import Any

import numpy as np

from crossatnet.data.elsewhere import Entry, check_source, is_source, is_url
from crossatnet.gallery.backend import Backend, Choice, Facts
from crossatnet.gallery.backends import open_backend
from crossatnet.gallery.embedder import Embedder
from crossatnet.gallery.ingest.folder import (
    PICTURES_A_BATCH,
    Batch,
    BatchFiles,
    IngestSummary,
    Progress,
    Tally,
    embed_batches,
    remove_gone,
    store_batch,
)
from crossatnet.gallery.ingest.listing import Listing, list_pictures
from crossatnet.gallery.ingest.moved import Moves
from crossatnet.gallery.ingest.reading import Reader
from crossatnet.gallery.ingest.remembered import list_remembered, remember
from crossatnet.gallery.ingest.stream import NOT_KNOWN, Pictures, batch_of, in_parts, listed_paths
from crossatnet.gallery.milvus.calls import SCHEME
from crossatnet.system.errors import UserError

GPU_BATCH = 256  # pictures in one pass of the network on a GPU
BATCHES_A_TASK = 8  # a lost node's tasks are done again; a server is asked once for each task
THREADS_A_WORKER = 2  # on its one core, as one may wait for the disk
TASKS_A_ROUND = 400  # so that the driver holds the states of at most about 100,000 files at once
OBJECT_STORE_BYTES = 200_000_000  # of a Ray started here; a result has about 3 KB a picture and does not stay


@dataclass(frozen=True)
class Power:
    """What a worker has beside its core: GPUs, or a share of one, and how many pictures it embeds at once.

    By default as many as the model wishes, on a GPU `GPU_BATCH`.
    """

    gpus: float = 0.0
    batch_size: int | None = None

    @property
    def pictures_at_once(self) -> int | None:
        """Pictures in one pass of the network; None leaves it to the model."""
        return self.batch_size or (GPU_BATCH if self.gpus else None)

    @property
    def pictures_a_batch(self) -> int:
        """Pictures that are stored together: enough for one pass."""
        return max(PICTURES_A_BATCH, self.pictures_at_once or 0)


ONE_CORE = Power()


@dataclass(frozen=True)
class TaskSettings:
    """What all tasks share: Ray's reference to an `Embedder`, the server that workers store into, and who knows moves.

    The actor that knows `moves` is there only if files can have moved: if a gallery's file holds pictures already.
    """

    model: Any
    root: Path | str
    thumbnail_side: int
    server: str | None
    moves: Any = None
    power: Power = ONE_CORE
    regions: bool = False


def add_folder_by_ray(
    store: Backend,
    place: str,
    model: Embedder,
    folder: Path | str,
    progress: Progress | None = None,
    choice: Choice | None = None,
    power: Power = ONE_CORE,
) -> IngestSummary:
    """Do what `add_folder` does, on the cluster that RAY_ADDRESS names, or else on the cores of this machine.

    `place` is the gallery's address, by which workers reach `store`. `folder` may also be a source as `add_source` has
    it, or a text file of paths, one on each line; then nothing is removed. Each node must see the pictures under the
    same paths, and stores by credentials of its own. Raises `UserError` as `add_folder` does, and if a node does not
    see them.
    """
    if is_source(str(folder)):
        pictures = Pictures(store, check_source(str(folder)))
        job = Job(pictures.source, pictures, Tally([], ()), pictures.remove_gone)
        summary = _do(store, place, model, job, progress, power)
        return pictures.noted(Tally([], ())).summary(0, 0.0).joined(summary)
    if Path(folder).is_file():
        paths = listed_paths(Path(folder))
        return _do(store, place, model, Job(Path(folder).resolve().parent, paths, Tally([], ())), progress, power)
    listing = list_pictures(Path(folder), choice)
    remember(store, [listing.root], choice or Choice())
    return _do(store, place, model, _whole(store, listing), progress, power)


def update_by_ray(
    store: Backend,
    place: str,
    model: Embedder,
    progress: Progress | None = None,
    more: Choice | None = None,
    power: Power = ONE_CORE,
) -> IngestSummary:
    """Do what `add_folder_by_ray` does, with all folders that the gallery remembers; see `folder.update`."""
    listings, away = list_remembered(store, more or Choice())
    summary = reduce(
        IngestSummary.joined,
        [_do(store, place, model, _whole(store, listing), progress, power) for listing in listings],
    )
    return replace(summary, skipped=(*summary.skipped, *away))


@dataclass(frozen=True)
class Job:
    """Files to add, of which the driver holds one round at a time; `finish` says how many it removed at the end."""

    root: Path | str
    files: Iterable[str | Entry]
    tally: Tally
    finish: Callable[[], int] = lambda: 0
    total: int = NOT_KNOWN


def _whole(store: Backend, listing: Listing) -> Job:
    """A whole folder."""
    tally = Tally(listing.skipped, listing.passed_over)
    return Job(listing.root, listing.files, tally, lambda: remove_gone(store, listing), len(listing.files))


def _do(
    store: Backend, place: str, model: Embedder, job: Job, progress: Progress | None, power: Power
) -> IngestSummary:
    started, tally = time.monotonic(), job.tally
    store.touch([])  # a gallery that cannot be written says so before anything is embedded
    with _cluster() as ray:
        server = place if place.startswith(SCHEME) else None
        shared_model = ray.put(model)  # so nodes need no checkpoint
        moves = _moves(place) if server is None and len(store) else None
        settings = TaskSettings(
            shared_model, job.root, store.thumbnail_side, server, moves, power, store.made_with.regions
        )
        for part in in_parts(job.files, TASKS_A_ROUND * BATCHES_A_TASK * PICTURES_A_BATCH):
            for batch in _embedded(_tasks(store, part, tally, power), settings):
                tally.count(batch, store_batch(store, batch) if server is None else None)
                if progress is not None:
                    progress(tally.done, job.total)
    removed = job.finish()
    store.flush()
    return tally.summary(removed, time.monotonic() - started)


class AskedMoves:
    """The `Moves` of a worker, which asks those beside the driver."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def claim(self, content_hash: str, path: str) -> Facts | None:
        """See `Moves.claim`."""
        import ray

        found: Facts | None = ray.get(self._actor.claim.remote(content_hash, path))
        return found


class KnownMoves(Moves):
    """The `Moves` beside the driver, in a process of its own."""

    def __init__(self, place: str) -> None:
        super().__init__(open_backend(place))


def _moves(place: str) -> Any:
    """An actor that knows what moved, on the driver's node, which sees the gallery's file."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(KnownMoves).options(num_cpus=0, scheduling_strategy=here).remote(str(Path(place).resolve()))


class Worker:
    """Reads and embeds the files of tasks."""

    def __init__(self, settings: TaskSettings) -> None:
        import ray

        node = os.uname().nodename
        if not is_url(str(settings.root)) and not Path(settings.root).exists():
            raise UserError(f"{settings.root}: not seen on node {node}; mount it there under the same path")
        try:
            self._model: Embedder = ray.get(settings.model)
        except ray.exceptions.RaySystemError as error:  # without this, Ray would try again for ever in silence
            reason = str(error).strip().rpartition("\n")[2]
            raise UserError(f"node {node} cannot load the model ({reason}); install this crossatnet there") from error
        if settings.power.gpus and hasattr(self._model, "to"):
            self._model.to("cuda")  # the GPU that Ray has given to this process, the only one it sees
        self._power = settings.power
        moves = AskedMoves(settings.moves) if settings.moves is not None else None
        self._reader = Reader(settings.root, self._model, settings.thumbnail_side, moves, settings.regions)
        self._store = open_backend(settings.server) if settings.server else None

    def do(self, task: Sequence[BatchFiles]) -> list[Batch]:
        """Read and embed. If workers store, store too, and return the batches without codes, embeddings and regions."""
        size = self._power.pictures_at_once
        batches = [*embed_batches(self._reader, task, THREADS_A_WORKER, batch_size=size)]
        if self._store is not None:
            store_batch(self._store, _joined(batches))
            batches = [
                replace(batch, packed=batch.packed[:0], embeddings=batch.embeddings[:0], regions=[])
                for batch in batches
            ]
        return batches


@lru_cache(maxsize=1)
def worker_of_process(settings: TaskSettings) -> Worker:
    """The one worker of a process. It does many tasks, so each process loads the model once."""
    return Worker(settings)


def work(settings: TaskSettings, row: dict[str, Any]) -> dict[str, Any]:
    """Called by Ray: a pickled list of `BatchFiles` under "task" -> a pickled list of `Batch` under "batches".

    A `UserError` is returned as "trouble". Raised, it would reach the driver with pages of Ray's own messages.
    """
    try:
        batches = worker_of_process(settings).do(pickle.loads(row["task"]))
    except UserError as error:
        return {"batches": b"", "trouble": str(error)}
    return {"batches": pickle.dumps(batches), "trouble": ""}


def _joined(batches: Sequence[Batch]) -> Batch:
    """One batch to store in place of several, as a server takes as long for few rows as for many."""
    return Batch(
        sum(batch.size for batch in batches),
        frozenset().union(*(batch.stored for batch in batches)),
        [facts for batch in batches for facts in batch.facts],
        np.concatenate([batch.packed for batch in batches]),
        np.concatenate([batch.embeddings for batch in batches]),
        [thumbnail for batch in batches for thumbnail in batch.thumbnails],
        [state for batch in batches for state in batch.touched],
        [problem for batch in batches for problem in batch.skipped],
        [move for batch in batches for move in batch.moved],
        [description for batch in batches for description in batch.described],
        [one for batch in batches for one in batch.regions],
    )


def _tasks(store: Backend, files: Sequence[str | Entry], tally: Tally, power: Power) -> list[list[BatchFiles]]:
    """Tasks: files cut into batches, and several batches a task. Unchanged batches are counted and left out."""
    whole = batch_of(store, files)
    batches: list[BatchFiles] = []
    for paths in in_parts(whole.paths, power.pictures_a_batch):
        part = whole.only(paths)
        if part.to_read():
            batches.append(part)
        else:
            tally.count_unchanged(len(paths))
    return [*in_parts(batches, max(1, BATCHES_A_TASK * PICTURES_A_BATCH // power.pictures_a_batch))]


def _embedded(tasks: Sequence[list[BatchFiles]], settings: TaskSettings) -> Iterator[Batch]:
    """The batches of these tasks, in order, each as soon as it and all before it are done."""
    import ray
    import ray.data

    if not tasks:
        return
    rows = [{"task": pickle.dumps(task)} for task in tasks]
    done = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        partial(work, settings), num_cpus=1, num_gpus=settings.power.gpus or None
    )
    for row in done.iter_rows():
        if row["trouble"]:
            raise UserError(row["trouble"])
        yield from pickle.loads(row["batches"])


@contextmanager
def _cluster() -> Iterator[Any]:
    """Ray, connected: to the cluster of RAY_ADDRESS, else to one started here, which only this machine can reach."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage reports without consent
    import logging

    import ray
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    was_connected = ray.is_initialized()
    if not was_connected:
        here: dict[str, Any] = {"_node_ip_address": "127.0.0.1", "object_store_memory": OBJECT_STORE_BYTES}
        here |= {"include_dashboard": False, "address": "local"}  # local: start one, even if another cluster runs here
        started = {} if os.environ.get("RAY_ADDRESS") else here
        ray.init(logging_level=logging.ERROR, log_to_driver=False, **started)
    try:
        yield ray
    finally:
        if not was_connected:
            ray.shutdown()
