"""The commands that make, search and mend galleries. Heavy imports stand inside, as in `cli`."""

import json
import sys
from dataclasses import asdict
from functools import partial, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

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
)
from crossatnet.runtime.names import Runtime
from crossatnet.system.errors import UserError
from crossatnet.system.visible import visible

if TYPE_CHECKING:
    from crossatnet.gallery import Gallery, IngestSummary
    from crossatnet.gallery.backend import Choice, Root
    from crossatnet.gallery.embedder import Embedder
    from crossatnet.gallery.ingest.folder import Progress

OnOff = Literal["on", "off"]


def index(
    output: Annotated[
        str, typer.Option("--output", "-o", "--to", help="The gallery: a file, or milvus://HOST:PORT/NAME.")
    ],
    folders: Annotated[
        list[str] | None,
        typer.Argument(
            help="Folders of pictures, by default those indexed before; s3://BUCKET/PREFIX; .tar archives; with --ray"
            " also a list of paths."
        ),
    ] = None,
    checkpoint: Annotated[str | None, typer.Option(help="A folder, a packaged name or a hub id.")] = None,
    thumbnails: Annotated[int, typer.Option(help="Keep thumbnails of so many pixels (new galleries).", min=0)] = 0,
    regions: Annotated[
        OnOff | None, typer.Option(help="Keep parts of the pictures too, to find small things (new galleries; off).")
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Leave out what it matches, as in .gitignore; may be given again."),
    ] = None,
    follow_links: Annotated[bool, typer.Option("--follow-links", help="Follow links out of the folder.")] = False,
    videos: Annotated[bool, typer.Option("--videos", help="Also take the first frames of videos.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Then keep the gallery in step with the folder.")] = False,
    every: Annotated[float, typer.Option(help="Seconds between two looks at the folder.", min=0.1)] = 10.0,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every file again, whatever its size and times say.")
    ] = False,
    by_ray: Annotated[
        bool, typer.Option("--ray", help="Embed on the Ray cluster of RAY_ADDRESS, or on all cores here.")
    ] = False,
    gpus: Annotated[
        float, typer.Option(help="With --ray: GPUs of each worker; .5: two share one. Needs --runtime torch.", min=0)
    ] = 0.0,
    batch_size: Annotated[
        int | None, typer.Option(help="With --ray: pictures embedded at once, on a GPU 256 by default.", min=1)
    ] = None,
    embedder: EmbedderPlace = None,
    runtime: RuntimeName = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a gallery of folders' pictures, or bring it up to date; a killed run goes on with the same command.

    Without folders, those that the gallery was made from are looked at again, with their options. A file
    .crossatnetignore in a folder says, as .gitignore does, what of it is left out.
    """
    from crossatnet.gallery.backend import Choice
    from crossatnet.gallery.ingest.watch import watch_folder
    from crossatnet.system.progress import gallery_progress

    choice = Choice(tuple(exclude or ()), follow_links, videos)
    if by_ray and verify:
        raise UserError("--ray starts many workers for one big run; leave out --verify, or run it without --ray")
    if by_ray and embedder:
        raise UserError("--ray sends checkpoints to its workers, no model of your own; leave out --ray or --embedder")
    if (gpus or batch_size) and not by_ray:
        raise UserError("--gpus and --batch-size are for the workers of --ray")
    _check_folders(folders or [], choice, by_ray, watch)
    model, keeps_regions = model_given(checkpoint, embedder, runtime), None if regions is None else regions == "on"
    gallery = _opened_or_made(output, model, thumbnails, keeps_regions, runtime, bool(folders))
    with gallery:
        with gallery_progress("indexing pictures", quiet) as report:
            if by_ray:
                summary = _add_by_ray(gallery, output, folders or [], report, choice, (gpus, batch_size))
            elif folders:
                summary = _add(gallery, folders, report, choice, verify)
            else:
                summary = gallery.update(report, choice, verify)
        _print_summary(gallery, output, summary, as_json)
        if not len(gallery):
            raise UserError(f"{output}: none of the pictures can be read; the first: {summary.skipped[0][1]}")
        if watch:
            update = partial(_add, gallery, folders, None, choice, False) if folders else gallery.update
            for change in watch_folder(update, every, _report_error, summary.skipped):
                _print_summary(gallery, output, change, as_json)


def remove(
    gallery: Place,
    paths: Annotated[list[str], typer.Argument(help="Pictures, or folders with all below them.")],
    as_json: Json = False,
) -> None:
    """Forget pictures; their files stay where they are."""
    from crossatnet.gallery import Gallery

    with Gallery.open(gallery, consistency="strong") as opened:
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

    with Gallery.open(gallery, consistency="strong") as opened:
        store = opened.store
        counts, roots = store.classes(), store.roots()
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
            "regions": store.made_with.regions,
            "bytes": _sizes(gallery),
            "folders": [{"folder": str(root.folder), **asdict(root.choice)} for root in roots],
        }
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    print(f"{store.name}: {facts['pictures']:,} pictures, made with {visible(str(facts['checkpoint']))}")
    print(f"  embeddings of {facts['dimension']} dimensions, codes of {facts['code_bits']} bits")
    print(f"  thumbnails: {f'{store.thumbnail_side} pixels' if store.thumbnail_side else 'none'}")
    print(f"  regions of pictures: {'kept' if facts['regions'] else 'none'}")
    print_some("folder", [_as_given(root) for root in roots])
    for name, size in _sizes(gallery).items():
        print(f"  {name}: {size:,} bytes")
    print_some("class", [f"{name} ({count:,})" for name, count in classes.items()])
    if classes and without_class:
        print(f"  without class: {without_class:,}")


def _add(
    gallery: "Gallery", folders: list[str], report: "Progress | None", choice: "Choice", verify: bool
) -> "IngestSummary":
    """Add folders together, then sources that are none, one after the other."""
    from crossatnet.data.elsewhere import is_source

    plain = [folder for folder in folders if not is_source(folder)]
    added = [gallery.add_folders(plain, report, choice, verify)] if plain else []
    added += [gallery.add_source(each, report, verify) for each in folders if is_source(each)]
    return reduce(lambda one, other: one.joined(other), added)


def _check_folders(folders: list[str], choice: "Choice", by_ray: bool, watch: bool) -> None:
    """Report a mistyped folder or a missing library before a gallery is made or a network loaded."""
    from crossatnet.data.elsewhere import check_source, is_source
    from crossatnet.data.pictures.formats import VIDEO, what_is_missing
    from crossatnet.gallery.ingest.listing import list_pictures
    from crossatnet.gallery.ingest.stream import listed_paths

    if by_ray and watch:
        raise UserError("--ray starts many workers for one big run; leave out --watch, or run it without --ray")
    if choice.videos and not VIDEO.is_readable:
        raise UserError(f"--videos needs the library PyAV: {what_is_missing(VIDEO.name)}")
    for folder in folders:
        if is_source(folder):
            check_source(folder)
            if choice != type(choice)():
                raise UserError(f"{folder}: --exclude, --follow-links and --videos are for folders; leave them out")
        elif by_ray and Path(folder).is_file():
            next(listed_paths(Path(folder)))
        else:
            list_pictures(Path(folder), choice)


def _add_by_ray(
    gallery: "Gallery",
    place: str,
    folders: list[str],
    report: "Progress | None",
    choice: "Choice",
    power: tuple[float, int | None],
) -> "IngestSummary":
    import ray  # noqa: F401  # where it is missing, report that before the network is loaded

    from crossatnet.gallery.ingest.ray import Power, add_folder_by_ray, update_by_ray

    by, with_ = (gallery.store, place, gallery.model), Power(*power)
    if not folders:
        return update_by_ray(*by, report, choice, with_)
    added = (add_folder_by_ray(*by, each, report, choice, with_) for each in folders)
    return reduce(lambda one, other: one.joined(other), added)


def _opened_or_made(
    place: str, model: "Embedder | None", thumbnails: int, regions: bool | None, runtime: Runtime, may_make: bool
) -> "Gallery":
    from crossatnet.gallery import Gallery, GalleryMissingError
    from crossatnet.runtime.load import load

    try:
        gallery = Gallery.open(place, model, runtime, "strong")  # it reports what it did
    except GalleryMissingError:
        if not may_make:
            raise
        model = model or load(DEFAULT_CHECKPOINT, runtime)
        Gallery.create(place, model, thumbnails, bool(regions)).close()
        return Gallery.open(place, model, consistency="strong")
    if regions not in (None, gallery.store.made_with.regions):
        gallery.close()
        raise UserError(
            f"{place}: was made {'without' if regions else 'with'} regions; leave out --regions, or index into another"
            " file, as every picture must be embedded again for that"
        )
    kept = gallery.store.thumbnail_side
    if thumbnails not in (0, kept):
        gallery.close()
        raise UserError(
            f"{place}: was made {f'with thumbnails of {kept} pixels' if kept else 'without thumbnails'}; leave out"
            " --thumbnails, or index into another file"
        )
    return gallery


def _as_given(root: "Root") -> str:
    """A remembered folder with the options that it was indexed with."""
    excludes = [f"--exclude {pattern}" for pattern in root.choice.exclude]
    flags = {"--follow-links": root.choice.follow_links, "--videos": root.choice.videos}
    return " ".join([str(root.folder), *excludes, *(name for name, is_set in flags.items() if is_set)])


def _report_error(trouble: str) -> None:
    print(f"error: {visible(' '.join(trouble.split()))}", file=sys.stderr, flush=True)


def _sizes(place: str) -> dict[str, int]:
    """Bytes of the gallery's files that are there, by name; none if it lies elsewhere."""
    files = [Path(place + suffix) for suffix in ("", "-wal", "-index")]
    return {file.name: file.stat().st_size for file in files if file.is_file()}


def _print_summary(gallery: "Gallery", place: str, summary: "IngestSummary", as_json: bool) -> None:
    from crossatnet.gallery.ingest.listing import explain

    size = len(gallery)
    if as_json:
        facts = {"gallery": place, "size": size, "files": summary.files, **asdict(summary)}
        print(json.dumps(facts, indent=1), flush=True)
        return
    embedded = summary.added + summary.updated
    rate = f", {embedded / summary.seconds:.3g}/s" if embedded and summary.seconds else ""
    moved = f" {summary.moved} moved," if summary.moved else ""
    described = f" ({summary.described} with new metadata)" if summary.described else ""
    print(
        f"{place}: {size} pictures ({summary.added} added, {summary.updated} updated,{moved}"
        f" {summary.unchanged} unchanged{described}, {summary.removed} removed, {len(summary.skipped)} skipped)"
        f" in {summary.seconds:.1f} s{rate}",
        flush=True,
    )
    print_some("passed over", [explain(passed) for passed in summary.passed_over])
    print_some("skipped", [reason if path in reason else f"{path}: {reason}" for path, reason in summary.skipped])
