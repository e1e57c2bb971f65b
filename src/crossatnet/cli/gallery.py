"""The commands that make, search and mend galleries. Heavy imports stand inside, as in `cli`."""

import json
import os
import sys
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crossatnet.cli.options import DEFAULT_CHECKPOINT, Json, Quiet, RuntimeName, print_some
from crossatnet.runtime.names import Runtime
from crossatnet.system.errors import UserError
from crossatnet.system.visible import visible

if TYPE_CHECKING:
    from crossatnet.gallery import Filter, Gallery, IngestSummary, Query
    from crossatnet.gallery.gallery import Combine
    from crossatnet.gallery.ingest.folder import Progress

Place = Annotated[str, typer.Argument(metavar="GALLERY", help="A gallery made by `crossatnet index`.")]


def index(
    folder: Annotated[Path, typer.Argument(help="Folder of pictures; with --ray also a text file of their paths.")],
    output: Annotated[
        str, typer.Option("--output", "-o", "--to", help="The gallery: a file, or milvus://HOST:PORT/NAME.")
    ],
    checkpoint: Annotated[str | None, typer.Option(help="A folder, a packaged name or a hub id.")] = None,
    thumbnails: Annotated[int, typer.Option(help="Keep thumbnails of so many pixels (new galleries).", min=0)] = 0,
    watch: Annotated[bool, typer.Option("--watch", help="Then keep the gallery in step with the folder.")] = False,
    every: Annotated[float, typer.Option(help="Seconds between two looks at the folder.", min=0.1)] = 10.0,
    by_ray: Annotated[
        bool, typer.Option("--ray", help="Embed on the Ray cluster of RAY_ADDRESS, or on all cores here.")
    ] = False,
    runtime: RuntimeName = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a gallery of a folder's pictures, or bring it up to date; a killed run goes on with the same command."""
    from crossatnet.gallery.ingest.folder import list_pictures
    from crossatnet.gallery.ingest.watch import watch_folder
    from crossatnet.system.progress import gallery_progress

    if by_ray and watch:
        raise UserError("--ray starts many workers for one big run; leave out --watch, or run it without --ray")
    # report a mistyped folder before a gallery is made or a network loaded
    _check_list(folder) if by_ray and folder.is_file() else list_pictures(folder)
    gallery = _opened_or_made(output, checkpoint, thumbnails, runtime)
    with gallery:
        with gallery_progress("indexing pictures", quiet) as report:
            summary = _add_by_ray(gallery, output, folder, report) if by_ray else gallery.add_folder(folder, report)
        _print_summary(gallery, output, summary, as_json)
        if not len(gallery):
            raise UserError(f"{folder}: none of its pictures can be read; the first: {summary.skipped[0][1]}")
        if watch:
            for change in watch_folder(lambda: gallery.add_folder(folder), every, _report_error, summary.skipped):
                _print_summary(gallery, output, change, as_json)


def search(
    gallery: Place,
    queries: Annotated[
        list[str], typer.Argument(help="Drawings: picture files, or FILE.ndjson:N, the Nth of a file of strokes.")
    ],
    k: Annotated[int, typer.Option("-k", help="Number of hits.")] = 10,
    photo: Annotated[bool, typer.Option("--photo", help="The query is a photo, not a drawing.")] = False,
    guided: Annotated[bool, typer.Option(help="Look again at the best hits through the drawing's eyes.")] = False,
    union: Annotated[bool, typer.Option("--union", help="What is near any of several drawings, not all.")] = False,
    class_name: Annotated[list[str] | None, typer.Option("--class", help="Only of this class; repeatable.")] = None,
    under: Annotated[str | None, typer.Option(help="Only in this folder, or of paths that begin so.")] = None,
    since: Annotated[datetime | None, typer.Option(help="Only added then or later.")] = None,
    before: Annotated[datetime | None, typer.Option(help="Only added earlier than then.")] = None,
    checkpoint: Annotated[str | None, typer.Option(help="If the one that made the gallery has moved.")] = None,
    show_drawing: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Save what is searched for, as read, to a picture file.")
    ] = None,
    runtime: RuntimeName = "auto",
    as_json: Json = False,
) -> None:
    """Find the pictures that a drawing shows, or several drawings of one thing together."""
    from crossatnet.gallery import Gallery
    from crossatnet.runtime.load import load

    filter = _filter(class_name, under, since, before)
    combine: Combine = "union" if union else "average"
    if show_drawing and photo:
        raise UserError("--show-drawing shows how a drawing is read; leave it out with --photo")
    drawings = [_query(query) for query in queries]
    model = load(checkpoint, runtime) if checkpoint else None
    with Gallery.open(gallery, model, runtime) as opened:
        if show_drawing:
            _save_drawings(opened, drawings, show_drawing)
        hits = opened.find(
            drawings,
            k,
            modality="photo" if photo else "sketch",
            ranking="guided" if guided else "float",
            filter=filter,
            combine=combine,
        ).hits
    if as_json:
        print(json.dumps([asdict(hit) for hit in hits], indent=1))
        return
    if not hits:
        print("nothing found: no picture of the gallery meets the conditions; see `crossatnet info`", file=sys.stderr)
    column = _column([visible(hit.class_name or "") for hit in hits])
    for rank, (hit, shown) in enumerate(zip(hits, column, strict=True), 1):
        print(f"{rank:3d}  {hit.score:6.3f}  {shown}{visible(hit.path)}")


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
    print(f"{store.name}: {facts['pictures']:,} pictures, made with {facts['checkpoint']}")
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


def _opened_or_made(place: str, checkpoint: str | None, thumbnails: int, runtime: Runtime) -> "Gallery":
    from crossatnet.gallery import Gallery, GalleryMissingError
    from crossatnet.runtime.load import load

    model = load(checkpoint, runtime) if checkpoint else None
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


def _column(values: list[str]) -> list[str]:
    """Values filled up to one width, with a gap after them; nothing at all if they are all empty."""
    from rich.cells import cell_len

    width = max(map(cell_len, values), default=0)
    return [value + " " * (width - cell_len(value) + 2) for value in values] if width else values


def _report_error(trouble: str) -> None:
    print(f"error: {visible(' '.join(trouble.split()))}", file=sys.stderr, flush=True)


def _query(text: str) -> "Query":
    """A picture file, or the strokes of one drawing: `FILE.ndjson` means its first, `FILE.ndjson:3` its third."""
    from crossatnet.data.strokes import StrokeFile

    path, _, row = text.rpartition(":") if ".ndjson:" in text else (text, "", "1")
    if not path.endswith(".ndjson"):
        return Path(text)
    if not row.isascii() or not row.isdigit() or int(row) < 1:
        raise UserError(f"{text}: give the number of a drawing, from 1, after the colon")
    return StrokeFile.open(Path(path)).read(int(row) - 1).drawing


def _save_drawings(gallery: "Gallery", drawings: "list[Query]", file: Path) -> None:
    """Save the drawings as they are read, side by side."""
    import numpy as np
    from PIL import Image

    read = np.concatenate([*gallery.as_read(drawings)], axis=1)  # (S, S * drawings, 3)
    try:
        Image.fromarray(read).save(file)
    except (OSError, ValueError) as error:  # ValueError: a suffix that names no format
        raise UserError(f"{file}: cannot be written ({error}); give the name of a .png file") from error


def _filter(
    class_names: list[str] | None, under: str | None, since: datetime | None, before: datetime | None
) -> "Filter":
    from crossatnet.gallery import Filter

    prefix = ""
    if under == "":
        raise UserError("--under: an empty path; give a folder, or what paths begin with")
    if under is not None:
        is_folder = under.endswith(os.sep) or Path(under).is_dir()
        prefix = str(Path(under).resolve()).rstrip(os.sep) + (os.sep if is_folder else "")
    return Filter(tuple(class_names or ()), prefix, since, before)


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
    print(
        f"{place}: {size} pictures ({summary.added} added, {summary.updated} updated, {summary.unchanged} unchanged,"
        f" {summary.removed} removed, {len(summary.skipped)} skipped) in {summary.seconds:.1f} s{rate}",
        flush=True,
    )
    print_some("skipped", [reason if path in reason else f"{path}: {reason}" for path, reason in summary.skipped])
