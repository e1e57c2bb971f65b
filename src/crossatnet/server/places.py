"""What a person does with the files of hits: see where they lie, fetch the originals, show them in the file manager.

Only items of a gallery are reached, by their ids. An original is sent only if its file still has the bytes that were
indexed. Paths are told only where somebody asks for one: the server is for its own machine, or asks for a token.
"""

import os
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import typer
from PIL import Image

from crossatnet.data.elsewhere import is_elsewhere, is_url
from crossatnet.data.metadata import Metadata
from crossatnet.data.pictures.opening import opened_by_pillow
from crossatnet.gallery import StoredPicture
from crossatnet.gallery.ingest.moved import is_gone
from crossatnet.server.errors import ApiError
from crossatnet.server.galleries import Served
from crossatnet.server.pictures import file_name, read_known
from crossatnet.server.schemas import PlaceAnswer
from crossatnet.server.settings import ARCHIVE_BYTES

PIECE = 1 << 20  # bytes of an archive sent at a time
LEFT_OUT = "left out.txt"  # in an archive: the pictures that it lacks, and why
PLAIN = "application/octet-stream"


def place(stored: StoredPicture) -> PlaceAnswer:
    """Where a picture's file lies, and what is known of the photo."""
    facts = stored.facts
    known = facts.description.metadata if facts.description else Metadata()
    return PlaceAnswer(
        path=facts.path,
        gone=is_gone(facts.path),
        taken=known.taken,
        camera=known.camera,
        has_place=known.has_place,
        tags=list(known.tags),
        caption=known.caption,
        rating=known.rating,
    )


def original(stored: StoredPicture) -> tuple[bytes, str]:
    """The bytes of a picture's file, and their media type. Raises `ApiError` 409 if they are not those indexed."""
    content = read_known(stored)
    try:
        with opened_by_pillow(content) as image:
            return content, Image.MIME.get(image.format or "", PLAIN)
    except Exception:  # of a format that only another reader knows
        return content, PLAIN


def reveal(stored: StoredPicture) -> None:
    """Show a picture's file in this machine's file manager. Raises `ApiError` 409 if it is gone, 503 without one."""
    if is_elsewhere(stored.facts.path):
        raise ApiError(409, f"{file_name(stored)}: it lies in a store or an archive, where no file manager goes")
    if is_gone(stored.facts.path):
        raise ApiError(409, f"{file_name(stored)}: its file is gone; index its folder again")
    if typer.launch(stored.facts.path, locate=True):
        raise ApiError(503, "this machine has no file manager that the server can ask", "no_file_manager")


def archive(chosen: Sequence[tuple[Served, str]]) -> IO[bytes]:
    """A ZIP file of pictures' files, as they are, in a temporary file at its beginning.

    A file that is gone or has changed is left out, and named in `LEFT_OUT`. Raises `ApiError` 413 if the files are
    larger than `ARCHIVE_BYTES` together.
    """
    pictures = [served.stored(item_id) for served, item_id in chosen]
    if sum(stored.facts.file.size for stored in pictures) > ARCHIVE_BYTES:
        raise ApiError(413, f"these pictures have more than {ARCHIVE_BYTES // 10**9} GB: choose fewer")
    made = tempfile.TemporaryFile()  # noqa: SIM115  # whoever sends it closes it
    missing: list[str] = []
    names: set[str] = {LEFT_OUT}
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as packed:  # photos do not become smaller
        for stored in pictures:
            try:
                content = read_known(stored)
            except ApiError as error:
                missing.append(error.detail)
                continue
            packed.writestr(_free_name(file_name(stored), names), content)
        if missing:
            packed.writestr(LEFT_OUT, "\n".join(missing) + "\n")
    made.seek(0)
    return made


def pieces(file: IO[bytes]) -> Iterator[bytes]:
    """The content of a file, piece by piece; closes it at the end."""
    with file:
        while piece := file.read(PIECE):
            yield piece


def paths(chosen: Sequence[tuple[Served, str]]) -> list[str]:
    """The paths of pictures' files, in order."""
    return [served.stored(item_id).facts.path for served, item_id in chosen]


def folders(served: Served) -> list[tuple[str, int]]:
    """The folders of a gallery below the one that all its pictures share, with the pictures in them and below."""
    counts = served.gallery.store.folders()
    if not counts:
        return []
    if any(is_url(folder) for folder in counts):  # nothing is shared by a folder and a store
        return [*counts.items()]
    shared = Path(os.path.commonpath(counts))
    totals: dict[Path, int] = {}
    for folder, count in counts.items():
        path = Path(folder)
        while path != shared:
            totals[path] = totals.get(path, 0) + count
            path = path.parent
    return [(str(path.relative_to(shared)), totals[path]) for path in sorted(totals)]


def _free_name(name: str, taken: set[str]) -> str:
    """A name that no other file of the archive has, without any control character."""
    plain = "".join(letter if letter.isprintable() else "_" for letter in name)
    stem, suffix = Path(plain).stem, Path(plain).suffix
    free, number = plain, 1
    while free.casefold() in {each.casefold() for each in taken}:
        number += 1
        free = f"{stem} ({number}){suffix}"
    taken.add(free)
    return free
