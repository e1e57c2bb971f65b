"""The commands that score checkpoints and say what scores are worth. Heavy imports stand inside, as in `cli`."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from crossatnet.cli.options import DataRoot, Json, Quiet, check_overwrites_none, print_some, screen
from crossatnet.system.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from crossatnet.evaluation.results import Results


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
    level: Annotated[
        str, typer.Option(help="What is a right hit: class, or instance, the very photo that was drawn.")
    ] = "class",
    embeddings: Annotated[
        Path | None,
        typer.Option(
            help="Instead of a checkpoint: .npz of query, query_class, gallery, gallery_class, a folder of these as"
            " .npy, or .parquet."
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the results as JSON.")] = None,
    baselines: Annotated[bool, typer.Option(help="Also score the frozen backbone.")] = False,
    guided: Annotated[bool, typer.Option(help="Also score after re-ranking by the guided attention.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score a checkpoint on the unseen classes of a split, or a file of embeddings of any model."""
    from crossatnet.evaluation.embeddings import evaluate_embeddings
    from crossatnet.evaluation.results import results_json, save_results

    if output and output.is_dir():
        raise UserError(f"{output} is a folder; give the name of a file with -o")
    if output and embeddings:
        check_overwrites_none(output, [embeddings])
    if level not in ("class", "instance"):
        raise UserError(f"unknown level '{level}'; {did_you_mean(level, ('class', 'instance'))}")
    if checkpoint and not embeddings and level == "instance":
        if direction not in (None, ["sketch-to-photo"]) or setting not in (None, ["zero-shot"]):
            raise UserError("level instance is sketch-to-photo, zero-shot; leave out --direction and --setting")
        results = [_evaluate_instances(checkpoint, (data, layout, split), baselines, guided, quiet)]
    elif checkpoint and not embeddings:
        trials = (direction or ["sketch-to-photo"], setting or ["zero-shot"])
        results = _evaluate_checkpoint(checkpoint, (data, layout, split), trials, baselines, guided, quiet)
    elif embeddings and not checkpoint:
        ignored: dict[str, object] = {"--data": data, "--layout": layout, "--split": split, "--direction": direction}
        ignored |= {"--setting": setting, "--baselines": baselines, "--guided": guided}
        if given := [name for name, value in ignored.items() if value]:
            raise UserError(f"--embeddings are scored as they are; leave out {', '.join(given)}")
        results = [evaluate_embeddings(embeddings, level="instance" if level == "instance" else "class")]
    else:
        raise UserError("give either a checkpoint or --embeddings FILE.npz, one of the two")
    if output:
        save_results(results, output)
    if as_json:
        print(results_json(results))
        return
    for result in results:
        print_results(result)


def report(
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write, such as report.html.")],
    checkpoint: Annotated[str | None, typer.Argument(help="A folder, a packaged name or a hub id.")] = None,
    embeddings: Annotated[
        Path | None, typer.Option(help="Instead of a checkpoint: a file of embeddings, as `evaluate` takes it.")
    ] = None,
    data: DataRoot = None,
    layout: Annotated[str | None, typer.Option(help="Layout of the data; the checkpoint's by default.")] = None,
    split: Annotated[str | None, typer.Option(help="The checkpoint's split by default.")] = None,
    baselines: Annotated[bool, typer.Option(help="Also score the frozen backbone.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score a checkpoint on unseen classes, or any embeddings: a page of charts and examples, its JSON beside it."""
    from crossatnet.evaluation.results import results_json
    from crossatnet.evaluation.zero_shot import load_networks, open_test
    from crossatnet.report.embeddings import report_embeddings
    from crossatnet.report.page import check_output, report_checkpoint

    check_output(output)
    if (checkpoint is None) == (embeddings is None):
        raise UserError("give either a checkpoint or --embeddings FILE, one of the two")
    if checkpoint is None or embeddings is not None:
        ignored: dict[str, object] = {"--data": data, "--layout": layout, "--split": split, "--baselines": baselines}
        if names := [name for name, value in ignored.items() if value]:
            raise UserError(f"--embeddings are scored as they are; leave out {', '.join(names)}")
        check_overwrites_none(output.with_suffix(".json"), [path for path in [embeddings] if path is not None])
        shown = report_embeddings(Path(str(embeddings)), output)
        print(results_json(shown) if as_json else output)
        return
    networks = load_networks(checkpoint, baselines)
    test = open_test(checkpoint, data, layout, split, quiet)
    given = {"--data": data, "--layout": layout, "--split": split, "--output": output}
    command = ["crossatnet", "report", checkpoint, *(["--baselines"] if baselines else [])]
    command += [part for name, value in given.items() if value for part in (name, str(value))]
    results = report_checkpoint(networks, test, output, shlex.join(command), quiet)
    print(results_json(results) if as_json else output)


def compare(
    files: Annotated[list[Path], typer.Argument(help="Results of `crossatnet evaluate -o`, of the same test.")],
    markdown: Annotated[bool, typer.Option("--markdown", help="Print one Markdown table.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="Print one LaTeX table, for booktabs.")] = False,
    as_json: Json = False,
) -> None:
    """Results side by side, and whether they differ by more than chance; of two, also which classes gain and lose."""
    if len(files) < 2:
        raise UserError("give two or more files of results to compare")
    if markdown + latex + as_json > 1:
        raise UserError("give one of --markdown, --latex and --json")
    if len(files) > 2 or markdown or latex:
        _print_tables(files, markdown, latex, as_json)
        return
    from crossatnet.evaluation.compare import compare_files

    compared = compare_files(*files)
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
            if (chance := pair.chance) is not None:
                tests = ((chance.classes, chance.classes_p, "classes"), (chance.queries, chance.queries_p, "queries"))
                found = [f"{low:+.3f} to {high:+.3f} over {of} (p {p:.3f})" for (low, high), p, of in tests]
                print(f"  {next(iter(pair.metrics))}: {chance.mean:+.3f}, {', '.join(found)}")


def _print_tables(files: list[Path], as_markdown: bool, as_latex: bool, as_json: bool) -> None:
    """A table for each direction and setting."""
    from crossatnet.evaluation.table import as_text, latex, markdown, note, tables

    found = tables(files)
    if as_json:
        print(json.dumps([table.model_dump() for table in found], indent=1))
        return
    for each in found:
        if as_markdown or as_latex:
            written, remark = (latex(each), f"% {note(each)}") if as_latex else (markdown(each), note(each))
            print(f"{written}\n\n{remark}")
            continue
        heading, *rows = as_text(each)
        table = Table(*heading)
        table.columns[0].min_width = max(len(row[0]) for row in rows)  # names stay whole, whatever the width
        for row in rows:
            table.add_row(*row)
        screen.print(table)
        print(note(each))


def audit(
    checkpoint: Annotated[str, typer.Argument(help="A folder, a packaged name or a hub id.")],
    data: DataRoot = None,
    layout: Annotated[str | None, typer.Option(help="Layout of the data; the checkpoint's by default.")] = None,
    split: Annotated[str | None, typer.Option(help="The checkpoint's split by default.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Check that a checkpoint knows nothing of the unseen classes; exit code 1 if it may."""
    from crossatnet.evaluation.audit import audit as run
    from crossatnet.evaluation.zero_shot import open_test

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


def print_results(results: "Results") -> None:
    """A table of scores, and below it what else was found."""
    from crossatnet.evaluation.protocol import ZERO_SHOT

    setting = "unseen only" if results.setting == ZERO_SHOT else results.setting
    title = f"{results.direction}, {results.split}: {results.queries} queries, gallery of {results.gallery}, {setting}"
    names = list(results.rows[0].metrics)
    table = Table("model", "D", *names)
    table.columns[0].min_width = max(len(row.model) for row in results.rows)  # names stay whole, whatever the width
    for row in results.rows:
        table.add_row(row.model, str(row.dimension), *(f"{row.metrics[name]:.3f}" for name in names))
    print(title)
    screen.print(table)
    first = results.rows[0]
    if first.interval:
        low, high = first.interval
        print(f"  {first.model}: {results.headline} {low:.3f} to {high:.3f} (95%, over classes)")
    if first.seconds_per_query is not None and first.gallery_bytes is not None:
        print(f"  search: {1000 * first.seconds_per_query:.2f} ms a query, gallery of {first.gallery_bytes:,} bytes")
    if first.with_duplicates:
        print(f"  {first.model} with duplicates: mAP@all {first.with_duplicates['mAP@all']:.3f}")
    print_some("left out", results.unusable)
    print_some("duplicate, counted once", results.duplicates)


def _evaluate_checkpoint(
    checkpoint: str,
    source: tuple[Path | None, str | None, str | None],
    trials: tuple[list[str], list[str]],
    baselines: bool,
    guided: bool,
    quiet: bool,
) -> "list[Results]":
    """The results in every direction and setting of `trials`, on the data, layout and split of `source`."""
    from crossatnet.evaluation.protocol import check_names
    from crossatnet.evaluation.zero_shot import evaluate_trials, load_networks, open_test

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


def _evaluate_instances(
    checkpoint: str,
    source: tuple[Path | None, str | None, str | None],
    baselines: bool,
    guided: bool,
    quiet: bool,
) -> "Results":
    """The fine-grained results on the data, layout and split of `source`."""
    from crossatnet.evaluation.instance_level import evaluate_instance_level
    from crossatnet.evaluation.zero_shot import load_networks, open_test

    networks = load_networks(checkpoint, baselines)
    test = open_test(checkpoint, *source, quiet)
    return evaluate_instance_level(networks, test.provenance, test.catalog, test.split, quiet, guided)
