"""Make the tables of the documents from `benchmarks/results/*.json`; `--check` only compares.

`sections.SECTIONS` says what is shown of each results file.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sections import SECTIONS, ZERO_SHOT, Table

ROOT = Path(__file__).parents[1]
DOCUMENTS = (
    ROOT / "README.md",
    *(ROOT / "docs" / f"{name}.md" for name in ("results", "gallery", "scaling", "server", "speed", "training")),
)
BEGIN, END = "<!-- table: {} -->", "<!-- end of table -->"


def rendered(name: str, record: dict[str, Any]) -> str:
    """A results file as Markdown: of each section its tables, what is to be known, and the command that measured it."""
    texts = []
    for section in SECTIONS[name]:
        if section.part and section.part not in record:
            continue
        part = record[section.part] if section.part else record
        known = {**part, **section.facts(part)}
        texts += ["\n".join(lines(table, known)) for table in section.tables]
        texts += [section.note.format_map(known), section.measured.format_map(known)]
    return "\n\n".join(texts)


def lines(table: Table, record: dict[str, Any]) -> Iterator[str]:
    """A Markdown table."""
    columns = [(heading, cell) for heading, cell in table.columns.items() if heading not in table.hidden(record)]
    columns += table.further(record)
    yield line(heading.format_map(record) for heading, _ in columns)
    yield "|" + "---|" * len(columns)
    for row in table.rows(record):
        yield line(cell.format_map(row) for _, cell in columns)


def line(cells: Iterable[str]) -> str:
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells)


def made(name: str) -> str:
    """The table of a results file, or a further one, FILE:WHAT; it says so where that is not measured yet."""
    path = ROOT / "benchmarks" / "results" / f"{name.partition(':')[0]}.json"
    if name in SECTIONS and not path.exists():
        return "Not measured yet."
    return rendered(name if name in SECTIONS else ZERO_SHOT, json.loads(path.read_text(encoding="utf-8")))


def filled(text: str) -> str:
    """The text with every table between its markers made again; a marker names its results file."""
    parts = text.split(BEGIN.partition("{}")[0])
    for index in range(1, len(parts)):
        name, _, rest = parts[index].partition(" -->")
        _, end, after = rest.partition(END)
        if not end:
            raise SystemExit(f"the table {name} has no '{END}'")
        parts[index] = f"{name} -->\n{made(name)}\n{END}{after}"
    return BEGIN.partition("{}")[0].join(parts)


def main() -> None:
    stale = []
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        if filled(text) != text:
            stale.append(path.name)
            if "--check" not in sys.argv:
                path.write_text(filled(text), encoding="utf-8")
    if "--check" in sys.argv and stale:
        raise SystemExit(f"stale tables in {', '.join(stale)}: run python benchmarks/tables.py")


if __name__ == "__main__":
    main()
