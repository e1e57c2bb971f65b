"""The command line. Heavy imports stand inside the commands, so that `--help` and mistakes answer at once."""

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from crossatnet import __version__
from crossatnet.cli_gallery import compact, index, info, remove, search
from crossatnet.cli_options import DEFAULT_CHECKPOINT, Json, Quiet, RuntimeName, print_some
from crossatnet.cli_serve import serve
from crossatnet.errors import UserError

if TYPE_CHECKING:
    from crossatnet.data.catalog import Catalog
    from crossatnet.evaluation import Results

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
data_app = typer.Typer(help="Make and check data sets.", no_args_is_help=True)
app.add_typer(data_app, name="data")
screen = Console()

EXTRA_OF_MODULE = {"jinja2": "report", "lightning": "train", "matplotlib": "report", "sklearn": "report"}
EXTRA_OF_MODULE |= {"pymilvus": "scale", "ray": "scale", "torch": "torch", "onnx": "export", "onnxscript": "export"}
EXTRA_OF_MODULE |= {"fastapi": "serve", "prometheus_client": "serve", "uvicorn": "serve"}
DataRoot = Annotated[Path | None, typer.Option("--data", help="Folder of the data set.")]


def main() -> None:
    """Entry point: a user's mistake is one line on the error stream and exit code 2."""
    try:
        app()
    except UserError as error:
        sys.exit(_complain(str(error)))
    except OSError as error:  # a full disk, a missing right: nothing a traceback would explain better
        sys.exit(_complain(f"{error.filename or 'the system'}: {error.strerror or error}"))
    except ModuleNotFoundError as error:
        if (extra := EXTRA_OF_MODULE.get(error.name or "")) is None:
            raise
        sys.exit(_complain(f"this needs {error.name}, which is not installed: pip install 'crossatnet[{extra}]'"))
    except KeyboardInterrupt:
        print("stopped; the same command goes on where it was", file=sys.stderr)
        sys.exit(130)


@app.callback(invoke_without_command=True)
def options(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Draw a thing, find its pictures: zero-shot sketch-based image retrieval."""
    if version:
        print(__version__)
        raise typer.Exit


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write into.")] = Path("demo"),
    pictures: Annotated[
        Path | None, typer.Option(help="A folder of your own pictures: it is made searchable first, with no training.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Data, training, zero-shot test, gallery and report, from pip packages alone."""
    from crossatnet.demo import run_demo

    if pictures:
        output.mkdir(parents=True, exist_ok=True)
        index(pictures, str(output / "my.gallery"), quiet=quiet)
        print(f"search it: crossatnet search {output / 'my.gallery'} drawing.png -k 10")
    results, seconds = run_demo(output, quiet)
    _print_results(results)
    screen.print("Time: " + ", ".join(f"{name.lower()} {value:.0f} s" for name, value in seconds.items()))
    report = output / "report.html"
    screen.print(f"\nThe report: [bold]{report}[/bold]\n\nNext:")
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
    config: Annotated[str, typer.Argument(help="A YAML file, or a packaged config: quickstart, sketchy, folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the checkpoint.")],
    data: DataRoot = None,
    split: Annotated[str | None, typer.Option(help="Instead of the config's split.")] = None,
    seed: Annotated[int | None, typer.Option(help="Instead of the config's seed.")] = None,
    quiet: Quiet = False,
) -> None:
    """Train a checkpoint; a killed run goes on with the same command."""
    from crossatnet.config import load_config
    from crossatnet.data.splits import EVERYTHING, split_names
    from crossatnet.training import train as run

    if split and split not in (EVERYTHING, *split_names()):
        split = str(Path(split).resolve())  # the checkpoint remembers it, wherever it is used from
    given = {"data.root": data and str(data.resolve()), "data.split": split, "train.seed": seed}
    settings = load_config(config, {key: value for key, value in given.items() if value is not None})
    print(run(settings, output, quiet))


@app.command()
def evaluate(
    checkpoint: Annotated[str | None, typer.Argument(help="A folder, a packaged name or a hub id.")] = None,
    data: DataRoot = None,
    layout: Annotated[str | None, typer.Option(help="Layout of the data; the checkpoint's by default.")] = None,
    split: Annotated[str | None, typer.Option(help="The checkpoint's split by default.")] = None,
    direction: Annotated[
        list[str] | None,
        typer.Option(
            help="sketch-to-photo (default), photo-to-sketch, sketch-to-sketch or photo-to-photo; repeatable."
        ),
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option(help="zero-shot (default), generalised or all-seen-photos; repeatable.")
    ] = None,
    embeddings: Annotated[
        Path | None, typer.Option(help="Instead of a checkpoint: .npz of query, query_class, gallery, gallery_class.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the results as JSON.")] = None,
    baselines: Annotated[bool, typer.Option(help="Also score the frozen backbone.")] = False,
    guided: Annotated[bool, typer.Option(help="Also score after re-ranking by the guided attention.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score a checkpoint on the unseen classes of a split, or a file of embeddings of any model."""
    from crossatnet.evaluation import evaluate_embeddings, results_json, save_results

    if output and output.is_dir():
        raise UserError(f"{output} is a folder; give the name of a file with -o")
    if output and embeddings:
        _check_overwrites_none(output, [embeddings])
    if checkpoint and not embeddings:
        trials = (direction or ["sketch-to-photo"], setting or ["zero-shot"])
        results = _evaluate_checkpoint(checkpoint, (data, layout, split), trials, baselines, guided, quiet)
    elif embeddings and not checkpoint:
        ignored: dict[str, object] = {"--data": data, "--layout": layout, "--split": split, "--direction": direction}
        ignored |= {"--setting": setting, "--baselines": baselines, "--guided": guided}
        if given := [name for name, value in ignored.items() if value]:
            raise UserError(f"--embeddings are scored as they are; leave out {', '.join(given)}")
        results = [evaluate_embeddings(embeddings)]
    else:
        raise UserError("give either a checkpoint or --embeddings FILE.npz, one of the two")
    if output:
        save_results(results, output)
    if as_json:
        print(results_json(results))
        return
    for result in results:
        _print_results(result)


def _evaluate_checkpoint(
    checkpoint: str,
    source: tuple[Path | None, str | None, str | None],
    trials: tuple[list[str], list[str]],
    baselines: bool,
    guided: bool,
    quiet: bool,
) -> "list[Results]":
    """The results in every direction and setting of `trials`, on the data, layout and split of `source`."""
    from crossatnet.evaluation import evaluate_trials, load_networks, open_test
    from crossatnet.trials import check_names

    check_names(*trials)
    networks = load_networks(checkpoint, baselines)
    test = open_test(checkpoint, *source, quiet, seen_too=trials[1] != ["zero-shot"])
    found = evaluate_trials(
        *(networks, test.provenance, test.catalog, test.split),
        quiet=quiet,
        guided=guided,
        directions=trials[0],
        settings=trials[1],
    )
    return [each.results for each in found]


@app.command()
def report(
    checkpoint: Annotated[str, typer.Argument(help="A folder, a packaged name or a hub id.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write, such as report.html.")],
    data: DataRoot = None,
    layout: Annotated[str | None, typer.Option(help="Layout of the data; the checkpoint's by default.")] = None,
    split: Annotated[str | None, typer.Option(help="The checkpoint's split by default.")] = None,
    baselines: Annotated[bool, typer.Option(help="Also score the frozen backbone.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score a checkpoint on the unseen classes of a split: one page of charts and examples, and its JSON beside it."""
    from crossatnet.evaluation import load_networks, open_test, results_json
    from crossatnet.report import check_output, report_checkpoint

    check_output(output)
    networks = load_networks(checkpoint, baselines)
    test = open_test(checkpoint, data, layout, split, quiet)
    given = {"--data": data, "--layout": layout, "--split": split, "--output": output}
    command = ["crossatnet", "report", checkpoint, *(["--baselines"] if baselines else [])]
    command += [part for name, value in given.items() if value for part in (name, str(value))]
    results = report_checkpoint(networks, test, output, shlex.join(command), quiet)
    print(results_json(results) if as_json else output)


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="Results of `crossatnet evaluate -o`.")],
    second: Annotated[Path, typer.Argument(help="Others, of the same test.")],
    as_json: Json = False,
) -> None:
    """Two results side by side: differences of the scores, and the classes that gain and lose most."""
    from crossatnet.compare import compare_files

    compared = compare_files(first, second)
    if as_json:
        print(json.dumps([comparison.model_dump() for comparison in compared], indent=1))
        return
    for comparison in compared:
        screen.print(f"{comparison.direction}, {comparison.split}, {comparison.setting}", soft_wrap=True)
        for pair in comparison.pairs:
            table = Table("", pair.first, pair.second, "second - first")
            parts = (("", pair.metrics), ("gains: ", pair.gains), ("loses: ", pair.losses))
            for name, change in ((part + name, change) for part, changes in parts for name, change in changes.items()):
                table.add_row(name, f"{change.first:.3f}", f"{change.second:.3f}", f"{change.difference:+.3f}")
            screen.print(table)


@app.command()
def audit(
    checkpoint: Annotated[str, typer.Argument(help="A folder, a packaged name or a hub id.")],
    data: DataRoot = None,
    layout: Annotated[str | None, typer.Option(help="Layout of the data; the checkpoint's by default.")] = None,
    split: Annotated[str | None, typer.Option(help="The checkpoint's split by default.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Check that a checkpoint knows nothing of the unseen classes; exit code 1 if it may."""
    from crossatnet.audit import audit as run
    from crossatnet.evaluation import open_test

    test = open_test(checkpoint, data, layout, split, quiet, known_too=True)
    outcome = run(test.folder, test.catalog, test.split, quiet)
    if as_json:
        print(outcome.model_dump_json(indent=1))
    else:
        verdict = "passed" if outcome.passed else "NOT passed"
        print(f"{outcome.checkpoint}, {outcome.split}: {verdict}")
        for name, value in outcome.facts.items():
            print(f"  {name}: {value}")
        print_some("found", [f"{one.level}: {one.message}; {one.advice}" for one in outcome.findings])
    if not outcome.passed:
        raise typer.Exit(1)


for command_elsewhere in (index, search, remove, compact, info, serve):
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
    from crossatnet.explain import explain as run
    from crossatnet.model.interface import PictureModel

    if output.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise UserError(f"{output}: not the name of a picture; give one such as explained.png with -o")
    _check_overwrites_none(output, [sketch, *photos])
    run(PictureModel.from_pretrained(checkpoint, runtime), sketch, photos).save(output)
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
    from crossatnet.export import export_checkpoint, training_photos

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
    from crossatnet.doctor import examine

    report = examine()
    if as_json:
        print(json.dumps([asdict(finding) for finding in report], indent=1))
        return
    table = Table("", "what", "found", box=None)
    for finding in report:
        mark = "[green]ok[/green]" if finding.is_fine else "[yellow]--[/yellow]"
        table.add_row(mark, finding.what, escape(finding.found))
    screen.print(table, soft_wrap=True)


def _complain(message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _check_overwrites_none(output: Path, inputs: Sequence[Path]) -> None:
    if output.exists() and any(path.exists() and output.samefile(path) for path in inputs):
        raise UserError(f"{output}: is read by this command; give another name with -o")


def _print_results(results: "Results") -> None:
    from crossatnet.trials import ZERO_SHOT

    setting = "unseen only" if results.setting == ZERO_SHOT else results.setting
    title = f"{results.direction}, {results.split}: {results.queries} queries, gallery of {results.gallery}, {setting}"
    names = list(results.rows[0].metrics)
    table = Table("model", "D", *names)
    for row in results.rows:
        table.add_row(row.model, str(row.dimension), *(f"{row.metrics[name]:.3f}" for name in names))
    print(title)
    screen.print(table)
    first = results.rows[0]
    if first.interval:
        print(f"  {first.model}: mAP@all {first.interval[0]:.3f} to {first.interval[1]:.3f} (95%, over classes)")
    if first.seconds_per_query is not None and first.gallery_bytes is not None:
        print(f"  search: {1000 * first.seconds_per_query:.2f} ms a query, gallery of {first.gallery_bytes:,} bytes")
    if first.with_duplicates:
        print(f"  {first.model} with duplicates: mAP@all {first.with_duplicates['mAP@all']:.3f}")
    print_some("left out", results.unusable)
    print_some("duplicate, counted once", results.duplicates)


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


if __name__ == "__main__":
    main()
