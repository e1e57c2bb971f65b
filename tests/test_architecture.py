"""The house keeps its plan: what lies in it, and that no floor leans on one above."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "crossatnet"
FOLDERS = {  # the steps of the method with what all of them stand on, and what is shipped that is no code
    *("system", "data", "semantics", "model", "runtime", "training", "evaluation", "report"),
    *("gallery", "server", "cli", "checkpoints", "configs"),
}
CONTRACTS = (
    "Every folder uses only the floors below it",
    "No module leads back to itself",
    "What reads, keeps, serves and commands imports no torch of its own",
)
LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"


def linted(source: Path) -> subprocess.CompletedProcess[str]:
    """The contracts of pyproject.toml, checked on the package in this folder."""
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(source)!r}); {LINT}"]
    return subprocess.run([*command, "--no-cache"], capture_output=True, text=True, check=False, cwd=ROOT)


def test_the_package_is_the_sentence_of_the_method() -> None:
    files = (path.relative_to(PACKAGE).parts for path in PACKAGE.rglob("*") if path.is_file())
    folders = {parts[0] for parts in files if len(parts) > 1 and "__pycache__" not in parts}
    assert folders == FOLDERS
    assert len(list(PACKAGE.glob("*.py"))) <= 4
    assert not [path for path in PACKAGE.iterdir() if path.is_file() and path.suffix not in (".py", ".typed")]


def test_the_contracts_hold() -> None:
    done = linted(PACKAGE.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    for contract in CONTRACTS:
        assert f"{contract} KEPT" in done.stdout


def test_what_is_planted_against_them_is_found(tmp_path: Path) -> None:
    copy = tmp_path / "crossatnet"
    shutil.copytree(PACKAGE, copy, ignore=lambda folder, names: {*names} & {"__pycache__", "checkpoints", "static"})
    (copy / "data" / "upward.py").write_text("from crossatnet.server import app\n")
    (copy / "model" / "one.py").write_text("from crossatnet.model import other\n")
    (copy / "model" / "other.py").write_text("from crossatnet.model import one\n")
    (copy / "gallery" / "heavy.py").write_text("import torch\n")
    done = linted(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    for contract in CONTRACTS:
        assert f"{contract} BROKEN" in done.stdout
    for line in (
        "crossatnet.data.upward -> crossatnet.server.app",
        "No cycles are allowed in crossatnet.model.",
        "crossatnet.gallery.heavy -> torch",
    ):
        assert line in done.stdout
