"""Draw the floors of the package, from the contract in pyproject.toml and the imports that the sources really have.

    python tools/draw_architecture.py            # writes docs/images/architecture.svg
    python tools/draw_architecture.py --check    # fails if that file is not what it would write

A row is a folder with its modules, the highest floor first. The grid beside it has a dot where the row imports the
column, larger for more imports. A dot left of the grey diagonal would be an import of a floor above.
"""

import argparse
import sys
import tomllib
from collections import Counter
from pathlib import Path
from textwrap import wrap
from xml.sax.saxutils import escape

import grimp

ROOT = Path(__file__).parents[1]
DRAWING = ROOT / "docs" / "images" / "architecture.svg"
PACKAGE = "crossatnet"
PURPOSE = {
    "cli": "the commands",
    "server": "the page and the HTTP API",
    "gallery": "pictures on disk, searchable",
    "report": "results as pages and pictures",
    "training": "losses, batches, fitting",
    "evaluation": "metrics, protocol, audit",
    "runtime": "loads; computes by torch or ONNX",
    "model": "interface, network, checkpoint",
    "semantics": "what class names mean",
    "data": "pictures and their classes",
    "config": "all settings",
    "system": "errors, threads, memory, progress",
}
WIDTH, NAMES, CELL, LINE, TOP, PADDING = 1000, 570, 34, 18, 96, 12
LETTERS = 72  # of module names in one line
LARGEST_DOT = 12.0  # radius
INK, FAINT, DOT, BANDS = "#1f2430", "#6b7280", "#4051b5", ("#eef1fb", "#f8f9fd")


def floors() -> list[list[str]]:
    """The folders of every floor, the highest first, as the import contract has them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [[name.strip().removeprefix(f"{PACKAGE}.") for name in layer.split("|")] for layer in layers]


def imports(graph: grimp.ImportGraph) -> Counter[tuple[str, str]]:
    """How many modules of one folder are imported by how many of another, by both folders' names."""
    found: Counter[tuple[str, str]] = Counter()
    for importer in graph.modules:
        for imported in graph.find_modules_directly_imported_by(importer):
            pair = tuple(name.split(".")[1] for name in (importer, imported) if name.count("."))
            if len(pair) == 2 and pair[0] != pair[1]:
                found[pair[0], pair[1]] += 1
    return found


def module_lines(graph: grimp.ImportGraph, folder: str) -> list[str]:
    """The modules of a folder in lines of at most `LETTERS`, each of its own folders from a new line on."""
    top = f"{PACKAGE}.{folder}"
    inside = sorted(name.removeprefix(f"{top}.") for name in graph.find_descendants(top))
    packages = {name for name in inside if graph.find_children(f"{top}.{name}")}
    groups = {"": [name for name in inside if "." not in name and name not in packages]}
    for package in sorted(packages):
        own = [name.rpartition(".")[2] for name in inside if name.rpartition(".")[0] == package]
        groups[f"{package.replace('.', '/')}/  "] = own
    return [line for head, names in groups.items() for line in wrap(head + ", ".join(names), LETTERS) if names]


def text(x: float, y: float, content: str, size: int = 13, colour: str = INK, more: str = "") -> str:
    """One line of text."""
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{colour}"{more}>{escape(content)}</text>'


def drawing() -> str:
    """The whole picture as SVG."""
    graph = grimp.build_graph(PACKAGE, exclude_type_checking_imports=False)
    found, rows = imports(graph), [(number, name) for number, floor in enumerate(floors()) for name in floor]
    most = max(found.values())
    parts, y = [], float(TOP)
    for column, (_, name) in enumerate(rows):
        x = NAMES + CELL * (column + 0.5)
        parts.append(text(x + 4, TOP - 10, name, 12, FAINT, f' transform="rotate(-60 {x + 4:g} {TOP - 10})"'))
    for row, (number, name) in enumerate(rows):
        lines = module_lines(graph, name)
        height = max(CELL, 2 * PADDING + LINE * (1 + len(lines)))
        parts.append(f'<rect x="8" y="{y:g}" width="{WIDTH - 16}" height="{height - 3}" fill="{BANDS[number % 2]}"/>')
        parts.append(text(20, y + PADDING + 12, name, 15, INK, ' font-weight="bold"'))
        parts.append(text(20 + 10 * len(name) + 10, y + PADDING + 12, PURPOSE[name], 13, FAINT))
        parts += [text(20, y + PADDING + 12 + LINE * (1 + at), line) for at, line in enumerate(lines)]
        middle = y + (height - 3) / 2
        for column, (_, other) in enumerate(rows):
            x = NAMES + CELL * (column + 0.5)
            if column == row:
                parts.append(f'<rect x="{x - 5:g}" y="{middle - 5:g}" width="10" height="10" fill="#c7cbd6"/>')
            elif count := found[name, other]:
                radius = 2.5 + (LARGEST_DOT - 2.5) * (count / most) ** 0.5
                title = f"<title>{name} imports {other}: {count}</title>"
                parts.append(f'<circle cx="{x:g}" cy="{middle:g}" r="{radius:.1f}" fill="{DOT}">{title}</circle>')
        y += height
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 8:g}" width="{WIDTH}" height="{y + 8:g}"'
        ' font-family="system-ui, sans-serif">\n<title>The floors of crossatnet and what each imports</title>\n'
        f'<rect width="{WIDTH}" height="{y + 8:g}" fill="white"/>\n'
    )
    head += text(20, 34, "A floor uses only the floors below it", 19, INK, ' font-weight="bold"') + "\n"
    head += text(20, 58, "a dot: the row imports the column; its size: how often", 13, FAINT) + "\n"
    return head + "\n".join(parts) + "\n</svg>\n"


def main() -> None:
    """Write the picture, or compare it with the one that is there."""
    parser = argparse.ArgumentParser(description="Draw the floors of the package.")
    parser.add_argument("--check", action="store_true", help="compare only")
    if not parser.parse_args().check:
        DRAWING.write_text(drawing(), encoding="utf-8")
    elif not DRAWING.is_file() or DRAWING.read_text(encoding="utf-8") != drawing():
        sys.exit(f"{DRAWING.relative_to(ROOT)} is not what the imports are: python tools/draw_architecture.py")


if __name__ == "__main__":
    main()
