"""What the commands of all parts share: options, the screen, and how lists are printed."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from crossatnet.runtime.names import Runtime
from crossatnet.system.consistency import Consistency
from crossatnet.system.errors import UserError
from crossatnet.system.visible import visible

if TYPE_CHECKING:
    from crossatnet.gallery.embedder import Embedder

DEFAULT_CHECKPOINT = "crossatnet-open"
RuntimeName = Annotated[
    Runtime, typer.Option(help="What computes: auto takes the checkpoint's ONNX form if it has one, else torch.")
]
EmbedderPlace = Annotated[
    str | None,
    typer.Option("--embedder", metavar="MODULE:OBJECT", help="A model of your own, in place of a checkpoint."),
]
DataRoot = Annotated[Path | None, typer.Option("--data", help="Folder of the data set.")]
ConsistencyName = Annotated[
    Consistency,
    typer.Option(
        "--consistency",
        help="What is seen on a Milvus server: session, this process's changes at once; strong, all, but slowly.",
    ),
]
Recall = Annotated[
    float,
    typer.Option("--recall", metavar="SHARE", help="Of an exact search's hits, in a gallery of over 2e6; 1: all."),
]
Place = Annotated[str, typer.Argument(metavar="GALLERY", help="A gallery made by `crossatnet index`.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")]


screen = Console()


def print_some(what: str, lines: Sequence[str], most: int = 20) -> None:
    """The first lines, each after `what`, and how many more there are."""
    for line in lines[:most]:
        print(f"  {what}: {visible(line)}")
    if len(lines) > most:
        print(f"  ... and {len(lines) - most} more; --json lists them all")


def check_overwrites_none(output: Path, inputs: Sequence[Path]) -> None:
    """Raise `UserError` if a command would write over what it reads."""
    if output.exists() and any(path.exists() and output.samefile(path) for path in inputs):
        raise UserError(f"{output}: is read by this command; give another name with -o")


def model_given(checkpoint: str | None, embedder: str | None, runtime: Runtime = "auto") -> "Embedder | None":
    """The model that a command's options name, loaded; None if they leave it to the gallery."""
    from crossatnet.gallery.embedder import load_embedder
    from crossatnet.runtime.load import load

    check_one_model(checkpoint, embedder, runtime)
    if embedder:
        return load_embedder(embedder)
    return load(checkpoint, runtime) if checkpoint else None


def check_one_model(checkpoint: str | None, embedder: str | None, runtime: Runtime = "auto") -> None:
    """Raise `UserError` if options name two models, or a runtime for one that computes itself."""
    if embedder and (checkpoint or runtime != "auto"):
        raise UserError("--embedder brings a model that computes itself; leave out --checkpoint and --runtime")


def path_prefix(under: str) -> str:
    """What the paths begin with that `--under` means. Raises `UserError` for an empty one, and where nothing begins so.

    A name that is not a whole path means a place below the current folder: if nothing there begins so, it was meant
    otherwise, such as a folder's name alone.
    """
    from crossatnet.data.elsewhere import MEMBER, is_url

    if not under:
        raise UserError("--under: an empty path; give a folder, or what paths begin with")
    if is_url(under) or MEMBER in under:
        return under
    whole = Path(under).resolve()
    is_folder = under.endswith(os.sep) or whole.is_dir()
    is_there = whole.parent.is_dir() and any(each.name.startswith(whole.name) for each in whole.parent.iterdir())
    if not Path(under).is_absolute() and not is_folder and not is_there:
        raise UserError(f"--under {under}: nothing here begins so ({whole}); give the whole path, or --folder NAME")
    return str(whole).rstrip(os.sep) + (os.sep if is_folder else "")
