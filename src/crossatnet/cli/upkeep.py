"""The commands that keep galleries whole: copies of them, another one's contents, and what is damaged."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crossatnet.cli.options import Json, RuntimeName, print_some
from crossatnet.runtime.names import Runtime
from crossatnet.system.errors import UserError

if TYPE_CHECKING:
    from crossatnet.gallery.sqlite.checking import Embed, Fault, Findings

GalleryFile = Annotated[Path, typer.Argument(metavar="GALLERY", help="A gallery file.")]


def backup(
    gallery: GalleryFile,
    target: Annotated[Path, typer.Argument(metavar="COPY", help="The new file.")],
    as_json: Json = False,
) -> None:
    """Copy a gallery that may be in use; `crossatnet replace GALLERY COPY` restores it."""
    from crossatnet.gallery.sqlite.copies import backup as run

    _require_file(gallery)
    run(gallery, target)
    size = target.stat().st_size
    print(
        json.dumps({"gallery": str(gallery), "copy": str(target), "bytes": size})
        if as_json
        else f"{target}: a copy of {gallery}, {size:,} bytes; restore it: crossatnet replace {gallery} {target}"
    )


def replace(
    gallery: GalleryFile,
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="The gallery whose contents it gets; it stays.")],
    as_json: Json = False,
) -> None:
    """Put another gallery's contents into a gallery's place, also while it is served; also restores a backup."""
    from crossatnet.gallery import Gallery
    from crossatnet.gallery.sqlite.copies import replace as run

    _require_file(gallery)
    _require_file(source)
    run(gallery, source)
    with Gallery.open(gallery) as opened:
        size = len(opened)
    print(
        json.dumps({"gallery": str(gallery), "source": str(source), "size": size})
        if as_json
        else f"{gallery}: {size} pictures, from {source}"
    )


def check(
    gallery: GalleryFile,
    repair: Annotated[
        bool, typer.Option("--repair", help="Make damaged rows again from their files; stop other programs first.")
    ] = False,
    checkpoint: Annotated[str | None, typer.Option(help="If the one that made the gallery has moved.")] = None,
    runtime: RuntimeName = "auto",
    as_json: Json = False,
) -> None:
    """Examine every page and row of a gallery; exit code 1 if something is damaged and was not repaired."""
    from crossatnet.gallery.sqlite import checking

    _require_file(gallery)
    lost: tuple[checking.Fault, ...] = ()
    if repair:
        with _adding(checkpoint, runtime) as into:
            findings, lost = checking.repair(gallery, into)
    else:
        findings = checking.check(gallery)
    if as_json:
        facts = {"gallery": str(gallery), "repaired": repair and not findings.are_none, "lost": [f.id for f in lost]}
        print(json.dumps({**facts, **asdict(findings)}, indent=1))
    else:
        _print_findings(gallery, findings, repair)
        print_some("lost", [_named(fault) for fault in lost])
    if lost or not (repair or findings.are_none):
        raise typer.Exit(1)


def _print_findings(gallery: Path, findings: "Findings", repair: bool) -> None:
    if findings.are_none:
        print(f"{gallery}: whole, {findings.rows:,} pictures")
        return
    done = "was damaged and is repaired" if repair else "is damaged; --repair makes again what it can"
    print(f"{gallery}: {done}; {findings.rows:,} rows are whole, {len(findings.faults):,} are not")
    print_some("file", findings.of_file)
    print_some("row", [_named(fault) for fault in findings.faults])


def _named(fault: "Fault") -> str:
    return f"{fault.id}, {fault.path or 'no path'}: {fault.reason}"


@contextmanager
def _adding(checkpoint: str | None, runtime: Runtime) -> "Iterator[Callable[[Path], Embed]]":
    """How a picture is added to a new gallery file; it is closed at the end."""
    from crossatnet.gallery import Gallery
    from crossatnet.runtime.load import load

    model = load(checkpoint, runtime) if checkpoint else None
    opened: list[Gallery] = []

    def into(place: Path) -> "Embed":
        gallery = Gallery.open(place, model, runtime)
        opened.append(gallery)

        def embed(path: Path, class_name: str | None) -> None:
            gallery.add_picture(path, class_name)

        return embed

    try:
        yield into
    finally:
        for gallery in opened:
            gallery.close()


def _require_file(gallery: Path) -> None:
    if str(gallery).startswith("milvus:"):
        raise UserError(f"{gallery}: on a server; this command is for gallery files, the server has its own backups")
