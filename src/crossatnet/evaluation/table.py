"""Several results as one table, each compared with the first: as text, in Markdown or in LaTeX."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from crossatnet.evaluation.compare import difference_of, refuse_different
from crossatnet.evaluation.results import Results, load_results
from crossatnet.evaluation.significance import RESAMPLES, Difference
from crossatnet.system.errors import UserError

LATEX_SIGNS = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


class Line(BaseModel):
    """The model of one file: the first one, which the others in the file are compared with."""

    model_config = ConfigDict(frozen=True)

    model: str
    dimension: int
    metrics: dict[str, float]
    difference: Difference | None  # from the first line; None in it, and where results do not hold every query's score


class Table(BaseModel):
    """The models of several files in one direction and setting."""

    model_config = ConfigDict(frozen=True)

    title: str
    headline: str  # the metric that differences are of
    metrics: list[str]
    lines: list[Line]

    @property
    def best(self) -> dict[str, float]:
        """The highest value of each metric."""
        return {name: max(line.metrics[name] for line in self.lines) for name in self.metrics}


def tables(paths: Sequence[Path]) -> list[Table]:
    """One table for each direction and setting that the files hold; raises `UserError` as `compare_files` does."""
    files = [load_results(path) for path in paths]
    for path, file in zip(paths, files, strict=True):
        if len(file) != len(files[0]):
            raise UserError(
                f"cannot compare: {paths[0]} holds {len(files[0])} directions and settings, {path} {len(file)};"
                " evaluate both in the same ones"
            )
    return [_table([path.stem for path in paths], column) for column in zip(*files, strict=True)]


def as_text(table: Table) -> list[list[str]]:
    """Cells, the heading first."""
    heading = ["model", "D", *table.metrics, f"{table.headline} - first", "95% (queries)", "p", "95% (classes)", "p"]
    return [heading, *([*_cells(line, table, ("", "")), *_compared(line)] for line in table.lines)]


def markdown(table: Table) -> str:
    """A Markdown table, the best value of each metric in bold.

    Example:
        >>> from crossatnet.evaluation.table import Line, Table, markdown
        >>> lines = [Line(model="a|b", dimension=8, metrics={"mAP@all": 0.5}, difference=None)]
        >>> print(markdown(Table(title="t", headline="mAP@all", metrics=["mAP@all"], lines=lines)).splitlines()[2])
        | a\\|b | 8 | **0.500** | | | | | |
    """
    heading, *_ = as_text(table)
    rows = [[*_cells(line, table, ("**", "**")), *_compared(line)] for line in table.lines]
    escaped = [[cell.replace("|", r"\|") for cell in row] for row in (heading, *rows)]
    written = ["|" + "".join(f" {cell} |" if cell else " |" for cell in row) for row in escaped]
    return "\n".join([written[0], "|" + "---|" * len(heading), *written[1:]])


def latex(table: Table) -> str:
    """A LaTeX table for the package booktabs, the best value of each metric in bold.

    Example:
        >>> from crossatnet.evaluation.table import Line, Table, latex
        >>> lines = [Line(model="a_b", dimension=8, metrics={"mAP@all": 0.5}, difference=None)]
        >>> print(latex(Table(title="t", headline="mAP@all", metrics=["mAP@all"], lines=lines)).splitlines()[4])
        a\\_b & 8 & \\textbf{0.500} &  &  &  &  &  \\\\
    """
    heading, *_ = as_text(table)
    body = []
    for line in table.lines:
        name, *values = _cells(line, table, (r"\textbf{", "}"))
        body.append(" & ".join([_latex(name), *values, *_compared(line)]) + r" \\")
    return "\n".join(
        [
            f"\\begin{{tabular}}{{l{'r' * (len(heading) - 1)}}}",
            r"\toprule",
            " & ".join(map(_latex, heading)) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def note(table: Table) -> str:
    """What the columns mean, in one sentence."""
    return (
        f"{table.title}. Differences in {table.headline} from the first line, with 95% intervals and two-sided p-values"
        f" by a paired bootstrap of {RESAMPLES} resamples, over queries and over classes with their queries."
    )


def _table(names: Sequence[str], column: Sequence[Results]) -> Table:
    first = column[0]
    for other in column[1:]:
        refuse_different(first, other)
    rows = [results.rows[0] for results in column]
    shared = [name for name in rows[0].metrics if all(name in row.metrics for row in rows)]
    shown = [row.model for row in rows]
    lines = [
        Line(
            model=row.model if shown.count(row.model) == 1 else f"{row.model} ({name})",
            dimension=row.dimension,
            metrics={metric: row.metrics[metric] for metric in shared},
            difference=None if position == 0 else difference_of(rows[0], row),
        )
        for position, (name, row) in enumerate(zip(names, rows, strict=True))
    ]
    title = f"{first.direction}, {first.split}, {first.setting}"
    return Table(title=title, headline=first.headline, metrics=shared, lines=lines)


def _cells(line: Line, table: Table, bold: tuple[str, str]) -> list[str]:
    values = []
    for metric in table.metrics:
        value = f"{line.metrics[metric]:.3f}"
        values.append(f"{bold[0]}{value}{bold[1]}" if line.metrics[metric] == table.best[metric] else value)
    return [line.model, str(line.dimension), *values]


def _compared(line: Line) -> list[str]:
    found = line.difference
    if found is None:
        return [""] * 5
    cells = [f"{found.mean:+.3f}"]
    for (low, high), p in ((found.queries, found.queries_p), (found.classes, found.classes_p)):
        cells += [f"{low:+.3f} to {high:+.3f}", f"{p:.3f}"]
    return cells


def _latex(text: str) -> str:
    return "".join(LATEX_SIGNS.get(sign, sign) for sign in text)
