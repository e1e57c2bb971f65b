"""What the commands of all parts share: options, the screen, and how lists are printed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from crossatnet.runtime.names import Runtime
from crossatnet.system.errors import UserError
from crossatnet.system.visible import visible

DEFAULT_CHECKPOINT = "crossatnet-open"
RuntimeName = Annotated[
    Runtime, typer.Option(help="What computes: auto takes the checkpoint's ONNX form if it has one, else torch.")
]
DataRoot = Annotated[Path | None, typer.Option("--data", help="Folder of the data set.")]
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
