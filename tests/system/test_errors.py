"""What a user is told to do: the nearest names, and the extra to install, as pyproject.toml has it."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from crossatnet.cli.doctor import EXTRAS
from crossatnet.system.errors import EXTRA_OF_MODULE, did_you_mean, how_to_install

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_did_you_mean_names_the_nearest_first() -> None:
    known = {"sketchy", "tuberlin", "quickdraw"}
    assert did_you_mean("sketcy", known) == "did you mean sketchy?"
    assert did_you_mean("seeen", ["green", "seen", "unseen"]).startswith("did you mean seen or ")


def test_did_you_mean_lists_all_if_none_is_near() -> None:
    assert did_you_mean("zzz", ["tuberlin", "sketchy"]) == "known: sketchy, tuberlin"


def test_an_extra_is_installed_by_name() -> None:
    assert how_to_install("sklearn") == "pip install 'crossatnet[report]'"


INSTALLED = metadata.packages_distributions()


def distributions(extra: str) -> set[str]:
    """What an extra of this project installs, by their plain names."""
    listed = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"][extra]
    found: set[str] = set()
    for requirement in listed:
        name, others = re.match(r"([\w.-]+)(?:\[(.*)\])?", requirement).groups()  # type: ignore[union-attr]
        if name == "crossatnet":
            found |= {each for other in others.split(",") for each in distributions(other)}
        else:
            found.add(plain(name))
    return found


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize(("module", "extra"), EXTRA_OF_MODULE.items())
def test_each_module_is_in_its_extra(module: str, extra: str) -> None:
    installed = {plain(name) for name in INSTALLED.get(module, [])}
    if not installed:
        pytest.skip(f"{module} is not installed")
    assert installed & distributions(extra)


@pytest.mark.parametrize(("extra", "packages"), EXTRAS.values())
def test_the_doctor_looks_for_what_the_extra_installs(extra: str, packages: tuple[str, ...]) -> None:
    assert {plain(name) for name in packages} <= distributions(extra)
