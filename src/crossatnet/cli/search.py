"""The command that searches galleries. Heavy imports stand inside, as in `cli`."""

import json
import os
import shutil
import sys
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crossatnet.cli.dates import moment, period
from crossatnet.cli.options import (
    ConsistencyName,
    EmbedderPlace,
    Json,
    Place,
    Recall,
    RuntimeName,
    model_given,
    path_prefix,
)
from crossatnet.system.errors import UserError
from crossatnet.system.recall import RECALL
from crossatnet.system.visible import visible

if TYPE_CHECKING:
    from crossatnet.gallery import Filter, Gallery, Hit, Query, StoredPicture
    from crossatnet.gallery.ranking import Combine


def search(
    gallery: Place,
    queries: Annotated[
        list[str] | None,
        typer.Argument(help="Drawings: picture files, or FILE.ndjson:N, the Nth of a strokes file."),
    ] = None,
    k: Annotated[int, typer.Option("-k", help="Number of hits.")] = 10,
    photo: Annotated[bool, typer.Option("--photo", help="The query is a photo, not a drawing.")] = False,
    guided: Annotated[bool, typer.Option(help="Look again at the best hits through the drawing's eyes.")] = False,
    union: Annotated[bool, typer.Option("--union", help="What is near any of several drawings, not all.")] = False,
    words: Annotated[
        str, typer.Option(help="Only with all these words in path, class, tags or caption; also without a drawing.")
    ] = "",
    tag: Annotated[list[str] | None, typer.Option(help="Only with this tag; repeatable, all must be there.")] = None,
    taken: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Only taken then: 2019, 2019-07..2020, '3 months ago..'.")
    ] = None,
    folder: Annotated[str, typer.Option(metavar="NAME", help="Only in a folder of this name, wherever it is.")] = "",
    class_name: Annotated[list[str] | None, typer.Option("--class", help="Only of this class; repeatable.")] = None,
    under: Annotated[str | None, typer.Option(help="Only in this folder, or of paths that begin so.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Only added to the gallery then or later: '3 months ago'.")
    ] = None,
    before: Annotated[str | None, typer.Option(metavar="WHEN", help="Only added earlier than then.")] = None,
    also: Annotated[list[str] | None, typer.Option(metavar="GALLERY", help="Search this one too; repeatable.")] = None,
    ungrouped: Annotated[bool, typer.Option("--ungrouped", help="List copies of a picture as hits too.")] = False,
    open_best: Annotated[bool, typer.Option("--open", help="Open the best hit in its usual program.")] = False,
    copy_to: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Copy the hits into this folder.")] = None,
    print0: Annotated[
        bool, typer.Option("--print0", help="Print only paths, each with a zero byte after it, for `xargs -0`.")
    ] = False,
    checkpoint: Annotated[str | None, typer.Option(help="If the one that made the gallery has moved.")] = None,
    show_drawing: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Save what is searched for, as read, to a picture file.")
    ] = None,
    embedder: EmbedderPlace = None,
    runtime: RuntimeName = "auto",
    consistency: ConsistencyName = "session",
    recall: Recall = RECALL,
    as_json: Json = False,
) -> None:
    """Find the pictures that a drawing shows, several drawings of one thing together, or words, or both."""
    from crossatnet.gallery import Gallery
    from crossatnet.gallery.backend import EVERYTHING
    from crossatnet.gallery.classes import known_classes
    from crossatnet.gallery.together import best_of, check_comparable

    filter = _filter(class_name, under, (since, before), words, tag, taken, folder)
    combine: Combine = "union" if union else "average"
    if show_drawing and (photo or not queries):
        raise UserError("--show-drawing shows how a drawing is read; leave it out with --photo or without a drawing")
    drawings: list[Query] = [*(queries or [])]
    if not drawings and filter == EVERYTHING:
        raise UserError("nothing to search for: give a drawing, or --words, or another condition")
    model = model_given(checkpoint, embedder, runtime)
    with ExitStack() as opened:
        galleries = [
            opened.enter_context(Gallery.open(place, model, runtime, consistency, recall))
            for place in (gallery, *(also or []))
        ]
        check_comparable(galleries)
        if show_drawing:
            _save_drawings(galleries[0], drawings, show_drawing)
        results = [
            each.find(
                drawings or None,
                k,
                modality="photo" if photo else "sketch",
                ranking="guided" if guided else "float",
                filter=replace(filter, class_names=known_classes(each.store, filter.class_names)),
                combine=combine,
                grouped=not ungrouped,
            )
            for each in galleries
        ]
    places, _ = best_of(results, k)
    hits = [results[number].hits[place] for number, place in places]
    if as_json:
        print(json.dumps([asdict(hit) for hit in hits], indent=1))
    elif print0:
        sys.stdout.buffer.write(b"".join(os.fsencode(hit.path) + b"\0" for hit in hits))
        sys.stdout.flush()
    elif drawings:
        _print_hits(hits, [f"{hit.score:6.3f}" for hit in hits])
        report_doubt(hits)
    else:  # there is no likeness to show
        _print_hits(hits, [_day(results[number].pictures[place]) for number, place in places])
    _report_gone(gallery, sum(result.gone for result in results))
    _use(hits, open_best, copy_to)


def _print_hits(hits: "list[Hit]", left: list[str]) -> None:
    """Print the hits for people: a line each, what stands `left` of its class and path."""
    if not hits:
        print("nothing found: no picture of the gallery meets the conditions; see `crossatnet info`", file=sys.stderr)
    classes = _column([visible(hit.class_name or "") for hit in hits])
    for rank, (hit, score, class_name) in enumerate(zip(hits, left, classes, strict=True), 1):
        copies = f"  (and {len(hit.copies)} more like it)" if hit.copies else ""
        gone = "  (gone)" if hit.gone else ""
        print(f"{rank:3d}  {score}  {class_name}{visible(hit.path)}{_part(hit)}{gone}{copies}")


def _part(hit: "Hit") -> str:
    """Which part of the picture the drawing found, if not the whole."""
    if hit.box is None:
        return ""
    left, top, right, bottom = (round(100 * share) for share in hit.box)
    return f"  (part: {left}-{right}% across, {top}-{bottom}% down)"


def report_doubt(hits: "list[Hit]") -> None:
    """Say where the sure hits end, if the checkpoint knows."""
    from crossatnet.model.confidence import UNLIKELY

    if not hits or hits[0].chance is None:
        return
    sure = sum(bool(hit.sure) for hit in hits)
    if hits[0].chance < UNLIKELY:
        print("nothing here looks much like this; these are the nearest", file=sys.stderr)
    elif 0 < sure < len(hits):
        print(f"sure of the first {sure}; the others are less like it", file=sys.stderr)


def _day(stored: "StoredPicture") -> str:
    """The day when a photo was taken, or as much room."""
    description = stored.facts.description
    return ((description.metadata.taken if description else None) or "").partition("T")[0].ljust(len("2019-07-14"))


def _report_gone(gallery: str, gone: int) -> None:
    if gone:
        files = "1 of the files found is" if gone == 1 else f"{gone} of the files found are"
        print(
            f"{files} gone: if they moved or were deleted, bring the gallery in step with"
            f" `crossatnet index -o {visible(gallery)}`",
            file=sys.stderr,
        )


def _use(hits: "list[Hit]", open_best: bool, copy_to: Path | None) -> None:
    """Open the best hit, and copy all of them, as far as their files are there."""
    from crossatnet.data.elsewhere import is_elsewhere

    there = [hit for hit in hits if not hit.gone]
    if copy_to is not None:
        copy_to.mkdir(parents=True, exist_ok=True)
        copied = sum(_copy(hit.path, copy_to) for hit in there)
        print(f"copied {copied} of {len(hits)} to {visible(str(copy_to))}", file=sys.stderr)
    if open_best and there and is_elsewhere(there[0].path):
        raise UserError(f"{there[0].path}: lies in a store or an archive; --copy-to FOLDER fetches it")
    if open_best and there and typer.launch(there[0].path):
        raise UserError(f"{there[0].path}: no program opens it here; open it by hand")


def _copy(path: str, folder: Path) -> bool:
    """Copy a file into a folder under its name, or with a number where that name is taken; whether it was needed."""
    from crossatnet.data.elsewhere import fetch, is_elsewhere
    from crossatnet.data.pictures.opening import MAX_BYTES

    file = Path(path)
    content = fetch(path, MAX_BYTES - 1) if is_elsewhere(path) else file.read_bytes()
    name = file.name.rpartition(":")[2] if is_elsewhere(path) else file.name
    target, number = folder / name, 1
    while target.exists():
        if target.is_file() and target.read_bytes() == content:
            return False
        number += 1
        target = folder / f"{file.stem} ({number}){file.suffix}"
    if is_elsewhere(path):
        target.write_bytes(content)
    else:
        shutil.copy2(file, target)
    return True


def _column(values: list[str]) -> list[str]:
    """Values filled up to one width, with a gap after them; nothing at all if they are all empty."""
    from rich.cells import cell_len

    width = max(map(cell_len, values), default=0)
    return [value + " " * (width - cell_len(value) + 2) for value in values] if width else values


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
    class_names: list[str] | None,
    under: str | None,
    added: tuple[str | None, str | None],
    words: str,
    tags: list[str] | None,
    taken: str | None,
    folder: str,
) -> "Filter":
    from crossatnet.gallery import Filter

    since, before = added
    taken_since, taken_before = period(taken, "--taken") if taken is not None else (None, None)
    return Filter(
        class_names=tuple(class_names or ()),
        path_prefix=path_prefix(under) if under is not None else "",
        added_since=moment(since, "--since") if since else None,
        added_before=moment(before, "--before") if before else None,
        folder=folder,
        taken_since=taken_since,
        taken_before=taken_before,
        tags=tuple(tags or ()),
        words=words,
    )
