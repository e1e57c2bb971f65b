"""The docs cannot rot: what the API reference shows has an example, and docstrings name what is there.

Everything is read from the sources, so that no module is imported for it. That examples are right and the site builds
is shown beside this file: `pytest --doctest-modules src` and `mkdocs build --strict`, both in `make test`.
"""

import ast
import json
import re
import runpy
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import pytest
from PIL import Image
from typer.testing import CliRunner

import crossatnet.cli.main

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "src" / "crossatnet"
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

EXCUSED = {  # public, but without an example: may only shrink
    "crossatnet.training.train.train": "it trains for a minute at least; `make demo` runs it",
}


class Public(NamedTuple):
    """A function or method without a leading underscore, and the class it stands in."""

    name: str
    module: ast.Module
    node: ast.FunctionDef | ast.AsyncFunctionDef
    owner: ast.ClassDef | None

    @property
    def text(self) -> str:
        """Its docstring."""
        return ast.get_docstring(self.node) or ""

    @property
    def parameters(self) -> set[str]:
        """Names of what it takes."""
        given = self.node.args
        every = [*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, (given.vararg, given.kwarg))]
        return {each.arg for each in every} - {"self", "cls"}


@cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of a source file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def public(path: Path) -> Iterator[Public]:
    """The public functions of a module and methods of its public classes; properties are read, not called."""
    module = parsed(path)
    dotted = ".".join(path.relative_to(SOURCES.parent).with_suffix("").parts)
    for node in module.body:
        if isinstance(node, FUNCTIONS) and not node.name.startswith("_"):
            yield Public(f"{dotted}.{node.name}", module, node, None)
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for part in node.body:
                if isinstance(part, FUNCTIONS) and not part.name.startswith("_") and not is_property(part):
                    yield Public(f"{dotted}.{node.name}.{part.name}", module, part, node)


def is_property(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether it is read like an attribute."""
    return any("property" in ast.unparse(decorator) for decorator in node.decorator_list)


def everything() -> list[Public]:
    """All public functions of the package."""
    return [each for path in sorted(SOURCES.rglob("*.py")) for each in public(path)]


def reference() -> list[Public]:
    """Those that the pages of the API reference show."""
    shown: list[Public] = []
    for page in sorted((ROOT / "docs" / "api").glob("*.md")):
        for found in re.finditer(r"^::: ([\w.]+)\n((?: +.*\n)*)", page.read_text(encoding="utf-8"), re.MULTILINE):
            path = SOURCES.parent / f"{found[1].replace('.', '/')}.py"
            members = re.search(r"members: \[(.*)\]", found[2])
            wanted = set(members[1].split(", ")) if members else None
            here = [each for each in public(path) if each.text]  # without a docstring the page does not show it
            first = len(found[1]) + 1
            shown += [each for each in here if wanted is None or each.name[first:].split(".")[0] in wanted]
    return shown


def has_example(each: Public) -> bool:
    """Whether its docstring has an example, or that of its class, which calls it; a contract has nothing to run."""
    if "Example:\n    >>> " in each.text:
        return True
    if each.owner is None:
        return False
    story = ast.get_docstring(each.owner) or ""
    is_contract = any("Protocol" in ast.unparse(base) for base in each.owner.bases)
    called = f".{each.node.name}(" in story or (each.node.name == "forward" and ")(" in story)
    return is_contract or ("Example:\n    >>> " in story and called)


def test_what_the_reference_shows_has_an_example() -> None:
    shown = reference()
    assert len(shown) > 100
    bare = {each.name for each in shown if not has_example(each)}
    assert bare - set(EXCUSED) == set(), "give each an Example: that doctest can run"
    assert set(EXCUSED) - bare == set(), "these have one by now, or are gone: take them out of EXCUSED"


def arguments_section(text: str) -> str:
    """The `Args:` of a docstring, up to what it returns or raises, the next paragraph, or the end."""
    found = re.search(r"^Args:(.*?)(?:\bReturns\b|\bRaises\b|\n\n|\Z)", text, re.DOTALL | re.MULTILINE)
    return found[1] if found else ""


def test_an_args_section_names_the_parameters() -> None:
    wrong = {}
    for each in everything():
        section = arguments_section(each.text)
        missing = {name for name in each.parameters if not re.search(rf"\b{name}\b", each.text)}
        if section and missing:
            wrong[each.name] = missing
    assert wrong == {}, "name these in the docstring, which has an Args section"


@cache
def words_of_the_code() -> set[str]:
    """Every name that the package's code defines, reads or spells in a text; docstrings do not count."""
    words = set()
    for path in SOURCES.rglob("*.py"):
        words |= {path.stem, path.parent.name}
        nodes = list(ast.walk(parsed(path)))
        docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            words |= {getattr(node, kind) for kind in ("name", "id", "attr", "arg") if hasattr(node, kind)}
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                words |= set(re.findall(r"\w+", node.value))
    return words


def test_quoted_names_are_in_the_code() -> None:
    """A name in backticks that was renamed or removed is found here."""
    gone = {}
    for each in everything():
        if unknown := set(re.findall(r"`([a-z_][a-z_0-9]*)`", prose(each))) - words_of_the_code():
            gone[each.name] = unknown
    assert gone == {}, "no code has these names: correct the docstring"


def prose(each: Public) -> str:
    """A docstring without its example."""
    return each.text.partition("Example:")[0]


def test_letters_of_shapes_are_declared() -> None:
    """`(N, D)` in a docstring means something only where the module, or the docstring, says what N and D are."""
    bare = {}
    for each in everything():
        where = (ast.get_docstring(each.module) or "") + prose(each)
        declared = {letter for quoted in re.findall(r"`([^`]+)`", where) for letter in quoted.split()}
        shapes = re.findall(r"\(([A-Z](?:, [^()]*)?),?\)", prose(each))
        letters = {letter for shape in shapes for letter in re.findall(r"\b[A-Z]\b", shape)}
        if letters - declared:
            bare[each.name] = letters - declared
    assert bare == {}, "declare these letters in the module's docstring: Shapes: `N` items, ..."


def test_the_drawing_shows_the_imports_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["draw_architecture.py", "--check"])
    runpy.run_path(str(ROOT / "tools" / "draw_architecture.py"), run_name="__main__")  # exits with what to do


def test_a_search_goes_the_way_that_the_map_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row of the map's walk is first entered after the row above it, and no file stands there twice."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CROSSATNET_CACHE", str(tmp_path / "cache"))
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (120, 90), "skyblue").save("photos/sky.png")
    row = {"word": "hill", "key_id": "1", "recognized": True, "drawing": [[[0, 9, 18], [9, 0, 9]]]}
    (tmp_path / "hills.ndjson").write_text(json.dumps(row), encoding="utf-8")
    run = CliRunner().invoke
    index = ["index", "photos", "-o", "my.gallery", "--quiet", "--runtime", "onnx"]
    assert run(crossatnet.cli.main.app, index).exit_code == 0
    entered: dict[tuple[str, str], None] = {}

    def note(frame: FrameType, event: str, _: object) -> None:
        file = Path(frame.f_code.co_filename)
        if event == "call" and file.is_relative_to(SOURCES):
            entered[file.relative_to(SOURCES).as_posix(), frame.f_code.co_name] = None

    sys.setprofile(note)
    try:
        result = run(crossatnet.cli.main.app, ["search", "my.gallery", "hills.ndjson:1", "--runtime", "onnx"])
    finally:
        sys.setprofile(None)
    assert "sky.png" in result.output
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    walk = re.findall(r"^\| \d+ \| `([\w/.]+)` \| `(\w+)` \|", text, re.MULTILINE)
    assert len(walk) > 8
    assert len({file for file, _ in walk}) == len(walk)
    functions, order = [step for step in walk if step[1].islower()], list(entered)  # a class is made, not entered
    assert set(functions) <= set(order)
    places = [order.index(step) for step in functions]
    assert places == sorted(places)


def test_lines_of_prose_are_short() -> None:
    """120 characters, but for tables, which cannot be broken, and what `benchmarks/tables.py` writes."""
    long = []
    for page in [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        text = re.sub(r"<!-- table: .*?<!-- end of table -->", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        long += [f"{page.name}: {line}" for line in text.splitlines() if len(line) > 120 and not line.startswith("|")]
    assert long == []
