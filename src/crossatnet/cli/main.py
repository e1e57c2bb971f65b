"""The command line. Heavy imports stand inside the commands, so that `--help` and mistakes answer at once."""

import io
import json
import os
import signal
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.table import Table

from crossatnet.cli.defaults import read_defaults
from crossatnet.cli.evaluation import audit, compare, evaluate, print_results, report
from crossatnet.cli.gallery import compact, index, info, remove
from crossatnet.cli.options import (
    DEFAULT_CHECKPOINT,
    DataRoot,
    Json,
    Quiet,
    RuntimeName,
    check_overwrites_none,
    print_some,
    screen,
)
from crossatnet.cli.search import search
from crossatnet.cli.serve import serve
from crossatnet.cli.upkeep import backup, check, replace
from crossatnet.data.pictures.quiet import silence_libraries
from crossatnet.system.errors import EXTRA_OF_MODULE, UserError, how_to_install
from crossatnet.system.version import __version__
from crossatnet.system.visible import visible

if TYPE_CHECKING:
    from crossatnet.data.catalog import Catalog

GUIDE = """\
Draw a thing, find its pictures.

  1. crossatnet index ~/Pictures -o my.gallery      look through your folder; again later: only what changed
  2. crossatnet serve my.gallery --open             draw in the browser ...
     crossatnet search my.gallery drawing.png       ... or search by a drawing that you have

crossatnet doctor     what is installed, and where things are
crossatnet --help     all commands; each has its own --help"""
STOP_SECONDS = 8.0
STOPPED = 130  # the exit code after Ctrl-C, as shells have it

app = typer.Typer(
    pretty_exceptions_enable=False,
    add_completion=False,
)
data_app = typer.Typer(help="Make and check data sets.", no_args_is_help=True)
app.add_typer(data_app, name="data")


def main() -> None:
    """Entry point: a user's mistake is one line on the error stream and exit code 2; after Ctrl-C it is 130."""
    silence_libraries()
    for stream in (sys.stdout, sys.stderr):  # names of files may have letters that the locale has not
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    _end_in_time()
    try:
        app()
    except UserError as error:
        sys.exit(_report_error(str(error)))
    except OSError as error:  # a full disk, a missing right: nothing a traceback would explain better
        sys.exit(_report_error(f"{error.filename or 'the system'}: {error.strerror or error}"))
    except ModuleNotFoundError as error:
        if error.name not in EXTRA_OF_MODULE:
            raise
        sys.exit(_report_error(f"this needs {error.name}, which is not installed: {how_to_install(error.name)}"))
    except MemoryError:
        sys.exit(_report_error("not enough memory; give it more, or smaller files, and run the same command again"))
    except KeyboardInterrupt:
        sys.exit(_report_stop())
    except SystemExit as stop:
        if stop.code == STOPPED:  # typer's answer to Ctrl-C
            _report_stop()
        raise


def _report_stop() -> int:
    print("stopped; the same command goes on where it was", file=sys.stderr)
    return STOPPED


def _end_in_time() -> None:
    """After Ctrl-C, `STOP_SECONDS` are left: what is being decoded or computed is given up then, or by a second one."""
    is_stopping = False

    def stopped(number: int, frame: object) -> None:
        nonlocal is_stopping
        if is_stopping:
            os._exit(STOPPED)
        is_stopping = True
        timer = threading.Timer(STOP_SECONDS, os._exit, (STOPPED,))
        timer.daemon = True
        timer.start()
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, stopped)


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    """Draw a thing, find its pictures: zero-shot sketch-based image retrieval."""
    if version:
        print(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(GUIDE)
        raise typer.Exit
    context.default_map = read_defaults(vars(context.command)["commands"])


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write into.")] = Path("demo"),
    pictures: Annotated[
        Path | None, typer.Option(help="A folder of your own pictures: it is made searchable first, with no training.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Data, training, zero-shot test, gallery and report, from pip packages alone."""
    from crossatnet.cli.demo import run_demo

    if pictures:
        output.mkdir(parents=True, exist_ok=True)
        index(str(output / "my.gallery"), [pictures], quiet=quiet)
        print(f"search it: crossatnet search {output / 'my.gallery'} drawing.png -k 10")
    results, seconds = run_demo(output, quiet)
    print_results(results)
    screen.print("Time: " + ", ".join(f"{name.lower()} {value:.0f} s" for name, value in seconds.items()))
    screen.print(f"\nThe report: [bold]{output / 'report.html'}[/bold]\n\nNext:")
    for command in (
        "crossatnet index ~/Pictures -o my.gallery",
        "crossatnet search my.gallery drawing.png -k 10",
        "crossatnet train sketchy --data PATH/TO/sketchy -o runs/sketchy",
    ):
        screen.print(f"  {command}", highlight=False, soft_wrap=True)


@data_app.command("quickstart")
def data_quickstart(
    destination: Annotated[Path, typer.Argument(help="New or empty folder.")], quiet: Quiet = False
) -> None:
    """Draw the quickstart data set into a folder, in the layout `folder`."""
    from crossatnet.data.quickstart import build_quickstart

    print(build_quickstart(destination, progress=not quiet))


@data_app.command("check")
def data_check(
    root: Annotated[Path, typer.Argument(help="Folder of the data set.")],
    layout: Annotated[str, typer.Option(help="sketchy, tuberlin, quickdraw, folder or quickstart.")] = "folder",
    split: Annotated[str | None, typer.Option(help="Also check that every class of this split is there.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Read every picture of a data set; report counts, unusable files and duplicates."""
    from crossatnet.data.layouts import read_catalog
    from crossatnet.data.splits import load_split

    classes = load_split(split) if split else None
    catalog = read_catalog(root, layout, quiet)
    if as_json:
        print(json.dumps(_catalog_facts(catalog), indent=1))
    else:
        _print_catalog(catalog)
    if classes:
        catalog.require(classes.seen, "training")
        catalog.require(classes.unseen, "the test")


@app.command()
def train(
    config: Annotated[
        str,
        typer.Argument(help="A YAML file, or a packaged config, such as quickstart, sketchy, all-sets, dinov2-small."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the checkpoint.")],
    data: DataRoot = None,
    split: Annotated[str | None, typer.Option(help="Instead of the config's split.")] = None,
    seed: Annotated[int | None, typer.Option(help="Instead of the config's seed.")] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Instead of the config's: a folder or hub id of a vision model of transformers.")
    ] = None,
    extra: Annotated[
        list[str] | None, typer.Option(metavar="LAYOUT=FOLDER", help="A further training set; may be given again.")
    ] = None,
    leave_out: Annotated[
        Path | None, typer.Option(help="A file of classes and pictures that are not to be trained on.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Train a checkpoint; a killed run goes on with the same command."""
    from crossatnet.config import load_config
    from crossatnet.data.splits import EVERYTHING, split_names
    from crossatnet.training.train import train as run

    if split and split not in (EVERYTHING, *split_names()):
        split = str(Path(split).resolve())  # the checkpoint remembers it, wherever it is used from
    given = {
        "data.root": data and str(data.resolve()),
        "data.split": split,
        "data.extra": [_further_set(entry) for entry in extra] if extra else None,
        "data.leave_out": leave_out and str(leave_out.resolve()),
        "train.seed": seed,
        "model.backbone": str(Path(backbone).resolve()) if backbone and Path(backbone).is_dir() else backbone,
    }
    settings = load_config(config, {key: value for key, value in given.items() if value is not None})
    print(run(settings, output, quiet))


def _further_set(entry: str) -> dict[str, str]:
    layout, separator, folder = entry.partition("=")
    if not (separator and folder):
        raise UserError(f"--extra {entry}: give the layout and the folder, such as tuberlin=DATA/tuberlin-mini")
    return {"layout": layout, "root": str(Path(folder).resolve())}


for command_elsewhere in (
    evaluate,
    report,
    compare,
    audit,
    index,
    search,
    remove,
    compact,
    info,
    backup,
    check,
    replace,
    serve,
):
    app.command()(command_elsewhere)


@app.command()
def explain(
    sketch: Annotated[Path, typer.Argument(help="Your drawing: any picture file.")],
    photos: Annotated[list[Path], typer.Argument(help="The photos to look at.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The picture to write, such as explained.png.")],
    checkpoint: Annotated[str, typer.Option(help="A folder, a packaged name or a hub id.")] = DEFAULT_CHECKPOINT,
    runtime: RuntimeName = "auto",
) -> None:
    """Show which part of each photo a drawing matched."""
    from crossatnet.report.explanation import explain as run
    from crossatnet.runtime.load import load

    if output.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise UserError(f"{output}: not the name of a picture; give one such as explained.png with -o")
    check_overwrites_none(output, [sketch, *photos])
    run(load(checkpoint, runtime), sketch, photos).save(output)
    print(output)


@app.command()
def export(
    checkpoint: Annotated[str, typer.Argument(help="A folder, a packaged name or a hub id.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the checkpoint with its new form; it may be its own.")
    ],
    format: Annotated[Literal["onnx"], typer.Option(help="The form.")] = "onnx",
    int8: Annotated[
        bool, typer.Option("--int8", help="Also in 8 bits: faster, with ranges found on training photos.")
    ] = False,
    data: DataRoot = None,
    layout: Annotated[str | None, typer.Option(help="Layout of the data; the checkpoint's by default.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Give a checkpoint its ONNX form, which runs without torch and faster; it is checked against torch first.

    Photos for --int8 are those of classes that the checkpoint was trained on, in --data or else in the quickstart's.
    """
    from crossatnet.runtime.export.checkpoint import export_checkpoint, training_photos

    if not int8 and (data or layout):
        raise UserError("--data and --layout are for --int8, which finds its ranges on training photos")
    form = export_checkpoint(checkpoint, output, training_photos(checkpoint, data, layout, quiet) if int8 else None)
    if as_json:
        print(form.model_dump_json(indent=1))
        return
    print(f"{output}: as torch computes it but for {form.largest_error:.1g}")
    for part, file in form.files.items():
        print(f"  {part}.onnx: {file.bytes:,} bytes")
    if form.int8:
        print(f"  8 bits: cosine {form.int8.cosine:.4f} with floating point, on {form.int8.held_out} photos held out")


@app.command()
def doctor(as_json: Json = False) -> None:
    """Versions, devices, where data and checkpoints are, and what is missing."""
    from crossatnet.cli.doctor import examine

    findings = examine()
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
        return
    table = Table("", "what", "found", box=None)
    for finding in findings:
        mark = "[green]ok[/green]" if finding.is_fine else "[yellow]--[/yellow]"
        table.add_row(mark, finding.what, escape(finding.found))
    screen.print(table, soft_wrap=True)


def _report_error(message: str) -> int:
    print(f"error: {visible(' '.join(message.split()))}", file=sys.stderr)
    return 2


def _catalog_facts(catalog: "Catalog") -> dict[str, Any]:
    return {
        "root": str(catalog.root),
        "classes": {name: {"sketches": s, "photos": p} for name, (s, p) in catalog.counts().items()},
        "unusable": [{"picture": problem.item.label, "reason": problem.reason} for problem in catalog.problems],
        "duplicates": [{"picture": copy.label, "equals": kept.label} for copy, kept in catalog.duplicates],
    }


def _print_catalog(catalog: "Catalog") -> None:
    counts = catalog.counts()
    sketches, photos = (sum(column) for column in zip(*counts.values(), strict=True))
    print(f"{catalog.root}: {len(counts)} classes, {sketches} sketches, {photos} photos")
    print_some("unusable", [problem.reason for problem in catalog.problems])
    print_some("duplicate", [f"{copy.label} equals {kept.label}" for copy, kept in catalog.duplicates])
