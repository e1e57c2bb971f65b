"""Progress bars, on the error stream so that results can be piped."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")

console = Console(stderr=True)


def track(values: Iterable[T], description: str, total: int, quiet: bool = False) -> Iterator[T]:
    """Yield the values under a progress bar with count and time left, which goes away when done."""
    if quiet:
        yield from values
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield from progress.track(values, total=total, description=description)


@contextmanager
def gallery_progress(description: str, quiet: bool = False) -> Iterator[Callable[[int, int], None] | None]:
    """A bar with rate and time left, driven by calls of (done, total); None if quiet."""
    if quiet:
        yield None
        return
    rate = TextColumn("{task.fields[rate]}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(description, total=None, rate="")

        def report(done: int, total: int) -> None:
            speed = progress.tasks[0].finished_speed or progress.tasks[0].speed
            progress.update(task, completed=done, total=total or None, rate=f"{speed:.0f}/s" if speed else "")

        yield report
