"""What `crossatnet train` makes of its options."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from crossatnet.cli.main import app
from crossatnet.config import Config

RUNNER = CliRunner()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """The configs that training was called with; nothing is trained."""
    configs: list[Config] = []

    def train(config: Config, output: Path, quiet: bool, ranks: object) -> Path:
        configs.append(config)
        return output

    monkeypatch.setattr("crossatnet.training.train.train", train)
    return configs


def test_further_sets_and_what_is_left_out(asked: list[Config], tmp_path: Path) -> None:
    further = [f"tuberlin={tmp_path / 'tuberlin'}", f"folder={tmp_path / 'mine'}"]
    options: list[Any] = ["--data", tmp_path, "--leave-out", tmp_path / "held.txt", "-o", tmp_path / "run"]
    result = RUNNER.invoke(
        app, ["train", "all-sets", *map(str, options), *(word for entry in further for word in ("--extra", entry))]
    )
    assert result.exit_code == 0, result.output
    (config,) = asked
    assert [(extra.layout, extra.root) for extra in config.data.extra] == [
        ("tuberlin", tmp_path / "tuberlin"),
        ("folder", tmp_path / "mine"),
    ]
    assert config.data.leave_out == tmp_path / "held.txt"
    assert config.data.one_sided


def test_a_further_set_needs_layout_and_folder(asked: list[Config], tmp_path: Path) -> None:
    result = RUNNER.invoke(app, ["train", "all-sets", "--extra", "tuberlin", "-o", str(tmp_path / "run")])
    assert "give the layout and the folder" in str(result.exception)
    assert not asked


def test_another_backbone_by_folder_or_hub_id(
    asked: list[Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder is remembered wherever the run goes on from; what is no folder here is a hub id, or a known name."""
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    for given in ("mine", "owner/name", None):
        options = ["--backbone", given] if given else []
        result = RUNNER.invoke(app, ["train", "dinov2-small", *options, "-o", "run"])
        assert result.exit_code == 0, result.output
    assert [config.model.backbone for config in asked] == [
        str(tmp_path / "mine"),
        "owner/name",
        "facebook/dinov2-small",
    ]
    assert {config.train.adapt for config in asked} == {"lora"}
