"""What the docs site needs beyond mkdocs: equations without scripts, examples by their usual name, all commands.

mkdocs calls the `on_...` functions (`hooks` of mkdocs.yml), mkdocstrings the class (`extensions` there).
"""

import html
import re
from typing import Any

import typer
from griffe import Extension, Object
from latex2mathml.converter import convert

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
COMMANDS = "<!-- commands -->"


class RunnableExamples(Extension):
    """Docstrings here say `Example:`, as the field's libraries do; the parser of Google style knows `Examples:`."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rename the section before the docstring is parsed."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)


def on_page_content(content: str, **_: Any) -> str:
    """Formulas of a page as MathML, which browsers draw themselves: no script, no font from elsewhere."""
    return FORMULA.sub(lambda found: convert(html.unescape(found[2]), display=_display(found[1])), content)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The commands and their options, from the command line itself, where a page asks for them."""
    return markdown.replace(COMMANDS, _commands()) if COMMANDS in markdown else markdown


def _display(tag: str) -> str:
    return "inline" if tag == "span" else "block"


def _commands() -> str:
    """Every command's own help, as a section of its name."""
    from typer.testing import CliRunner

    from crossatnet.cli.main import app

    def sections(group: Any, path: tuple[str, ...]) -> list[str]:
        made = []
        for name, command in group.commands.items():
            here = (*path, name)
            if hasattr(command, "commands"):
                made += sections(command, here)
                continue
            environment = {"COLUMNS": "76", "TERM": "dumb", "NO_COLOR": "1"}
            shown = CliRunner().invoke(app, [*here, "--help"], env=environment, prog_name="crossatnet").stdout
            made.append(f"## {' '.join(here)}\n\n```text\n{shown.strip()}\n```\n")
        return made

    return "\n".join(sections(typer.main.get_command(app), ()))
