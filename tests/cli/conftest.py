"""The command line run in the test's own process, with a small model for every checkpoint."""

import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from crossatnet.cli import main as cli
from gallery.fake_model import FakeModel


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `crossatnet` in this process; every checkpoint is the small model."""
    model = FakeModel(source="/models/fake")
    monkeypatch.setattr("crossatnet.runtime.load.load", lambda *_: model)
    monkeypatch.setattr("crossatnet.gallery.checkpoints.load", lambda *_: model)

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["crossatnet", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        return Outcome(code, *capsys.readouterr())

    return run
