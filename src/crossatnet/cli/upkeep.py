"""The commands that keep galleries whole: copies of them, and what another gallery is put in place by."""

import json
from pathlib import Path
from typing import Annotated

import typer

from crossatnet.cli.options import Json
from crossatnet.system.errors import UserError

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


def _require_file(gallery: Path) -> None:
    if str(gallery).startswith("milvus:"):
        raise UserError(f"{gallery}: on a server; this command is for gallery files, the server has its own backups")
