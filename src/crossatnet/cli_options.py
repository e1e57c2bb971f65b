"""What the commands of all parts share: options, and how lists are printed."""

from collections.abc import Sequence
from typing import Annotated

import typer

from crossatnet import Runtime

DEFAULT_CHECKPOINT = "crossatnet-open"
RuntimeName = Annotated[
    Runtime, typer.Option(help="What computes: auto takes the checkpoint's ONNX form if it has one, else torch.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")]


def print_some(what: str, lines: Sequence[str], most: int = 20) -> None:
    """The first lines, each after `what`, and how many more there are."""
    for line in lines[:most]:
        print(f"  {what}: {line}")
    if len(lines) > most:
        print(f"  ... and {len(lines) - most} more; --json lists them all")
