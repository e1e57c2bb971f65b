"""The commands that make, search and mend galleries. Heavy imports stand inside, as in `cli`."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crossatnet.cli.options import (
    DEFAULT_CHECKPOINT,
    EmbedderPlace,
    Json,
    Place,
    Quiet,
    RuntimeName,
    model_given,
    print_some,
    shown,
)
from crossatnet.runtime.names import Runtime
from crossatnet.system.errors import UserError

if TYPE_CHECKING:
    from crossatnet.gallery import Gallery, IngestSummary
    from crossatnet.gallery.embedder import Embedder
    from crossatnet.gallery.ingest.folder import Progress


def index(
    folder: Annotated[Path, typer.Argument(help="Folder of pictures; with --ray also a text file of their paths.")],
    output: Annotated[
        str, typer.Option("--output", "-o", "--to", help="The gallery: a file, or milvus://HOST:PORT/NAME.")
    ],
    checkpoint: Annotated[str | None, typer.Option(help="A folder, a packaged name or a hub id.")] = None,
    thumbnails: Annotated[int, typer.Option(help="Keep thumbnails of so many pixels (new galleries).", min=0)] = 0,
    watch: Annotated[bool, typer.Option("--watch", help="Then keep the gallery in step with the folder.")] = False,
    every: Annotated[float, typer.Option(help="Seconds between two looks at the folder.", min=0.1)] = 10.0,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every file again, whatever its size and times say.")
    ] = False,
    by_ray: Annotated[
        bool, typer.Option("--ray", help="Embed on the Ray cluster of RAY_ADDRESS, or on all cores here.")
    ] = False,
    embedder: EmbedderPlace = None,
    runtime: RuntimeName = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a gallery of a folder's pictures, or bring it up to date; a killed run goes on with the same command."""
    from crossatnet.gallery.ingest.folder import list_pictures
    from crossatnet.gallery.ingest.watch import watch_folder
    from crossatnet.system.progress import gallery_progress

    if by_ray and (watch or verify):
        option = "--watch" if watch else "--verify"
        raise UserError(f"--ray starts many workers for one big run; leave out {option}, or run it without --ray")
    if by_ray and embedder:
        raise UserError("--ray sends checkpoints to its workers, no model of your own; leave out --ray or --embedder")
    # report a mistyped folder before a gallery is made or a network loaded
    _check_list(folder) if by_ray and folder.is_file() else list_pictures(folder)
    gallery = _opened_or_made(output, model_given(checkpoint, embedder, runtime), thumbnails, runtime)
    with gallery:
        with gallery_progress("indexing pictures", quiet) as report:
            summary = (
                _add_by_ray(gallery, output, folder, report) if by_ray else gallery.add_folder(folder, report, verify)
            )
        _print_summary(gallery, output, summary, as_json)
        if not len(gallery):
            raise UserError(f"{folder}: none of its pictures can be read; the first: {summary.skipped[0][1]}")
        if watch:
            for change in watch_folder(lambda: gallery.add_folder(folder), every, _report_error, summary.skipped):
                _print_summary(gallery, output, change, as_json)


def remove(
    gallery: Place,
    paths: Annotated[list[str], typer.Argument(help="Pictures, or folders with all below them.")],
    as_json: Json = False,
) -> None:
    """Forget pictures; their files stay where they are."""
    from crossatnet.gallery import Gallery

    with Gallery.open(gallery) as opened:
        removed, size = opened.remove(paths), len(opened)
    print(
        json.dumps({"gallery": gallery, "size": size, "removed": removed})
        if as_json
        else f"{gallery}: {size} pictures ({removed} removed)"
    )


def compact(gallery: Place, as_json: Json = False) -> None:
    """Give back the room of removed and changed pictures; needs as much free disk as the gallery is large."""
    from crossatnet.gallery import Gallery

    before = sum(_sizes(gallery).values())
    with Gallery.open(gallery) as opened:
        opened.store.compact()
    if not before:
        print(json.dumps({"gallery": gallery}) if as_json else f"{gallery}: its server gives the room back")
        return
    after = sum(_sizes(gallery).values())
    print(
        json.dumps({"gallery": gallery, "bytes_before": before, "bytes": after})
        if as_json
        else f"{gallery}: {before:,} bytes before, {after:,} now"
    )


def info(gallery: Place, as_json: Json = False) -> None:
    """How many pictures a gallery holds, what made it, and how large it is."""
    from crossatnet.gallery import Gallery

    with Gallery.open(gallery) as opened:
        store = opened.store
        counts = store.classes()
        without_class = counts.pop(None, 0)
        classes = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0] or "")))
        facts = {
            "gallery": store.name,
            "pictures": len(store),
            "classes": classes,
            "without_class": without_class,
            "checkpoint": store.made_with.source or store.made_with.name,
            "fingerprint": store.made_with.fingerprint,
            "dimension": store.made_with.dimension,
            "code_bits": store.made_with.code_bits,
            "thumbnail_side": store.thumbnail_side,
            "bytes": _sizes(gallery),
        }
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    print(f"{store.name}: {facts['pictures']:,} pictures, made with {shown(str(facts['checkpoint']))}")
    print(f"  embeddings of {facts['dimension']} dimensions, codes of {facts['code_bits']} bits")
    print(f"  thumbnails: {f'{store.thumbnail_side} pixels' if store.thumbnail_side else 'none'}")
    for name, size in _sizes(gallery).items():
        print(f"  {name}: {size:,} bytes")
    print_some("class", [f"{name} ({count:,})" for name, count in classes.items()])
    if classes and without_class:
        print(f"  without class: {without_class:,}")


def _check_list(file: Path) -> None:
    from crossatnet.gallery.ingest.ray import read_list

    read_list(file)


def _add_by_ray(gallery: "Gallery", place: str, folder: Path, report: "Progress | None") -> "IngestSummary":
    import ray  # noqa: F401  # where it is missing, report that before the network is loaded

    from crossatnet.gallery.ingest.ray import add_folder_by_ray

    return add_folder_by_ray(gallery.store, place, gallery.model, folder, report)


def _opened_or_made(place: str, model: "Embedder | None", thumbnails: int, runtime: Runtime) -> "Gallery":
    from crossatnet.gallery import Gallery, GalleryMissingError
    from crossatnet.runtime.load import load

    try:
        gallery = Gallery.open(place, model, runtime)
    except GalleryMissingError:
        model = model or load(DEFAULT_CHECKPOINT, runtime)
        return Gallery.create(place, model, thumbnails)
    kept = gallery.store.thumbnail_side
    if thumbnails not in (0, kept):
        gallery.close()
        raise UserError(
            f"{place}: was made {f'with thumbnails of {kept} pixels' if kept else 'without thumbnails'}; leave out"
            " --thumbnails, or index into another file"
        )
    return gallery


def _report_error(trouble: str) -> None:
    print(f"error: {shown(' '.join(trouble.split()))}", file=sys.stderr, flush=True)


def _sizes(place: str) -> dict[str, int]:
    """Bytes of the gallery's files that are there, by name; none if it lies elsewhere."""
    files = [Path(place + suffix) for suffix in ("", "-wal", "-index")]
    return {file.name: file.stat().st_size for file in files if file.is_file()}


def _print_summary(gallery: "Gallery", place: str, summary: "IngestSummary", as_json: bool) -> None:
    size = len(gallery)
    if as_json:
        print(json.dumps({"gallery": place, "size": size, **asdict(summary)}, indent=1), flush=True)
        return
    embedded = summary.added + summary.updated
    rate = f", {embedded / summary.seconds:.0f}/s" if embedded and summary.seconds else ""
    moved = f" {summary.moved} moved," if summary.moved else ""
    print(
        f"{place}: {size} pictures ({summary.added} added, {summary.updated} updated,{moved}"
        f" {summary.unchanged} unchanged, {summary.removed} removed, {len(summary.skipped)} skipped)"
        f" in {summary.seconds:.1f} s{rate}",
        flush=True,
    )
    print_some("skipped", [reason if path in reason else f"{path}: {reason}" for path, reason in summary.skipped])
