from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from crossatnet.config import Config, ModelConfig, cache_directory, explain, load_config, packaged_configs
from crossatnet.data.splits import load_split
from crossatnet.system.errors import UserError

MINIMAL = "name: run\ndata:\n  split: sketchy-sake25\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text)
    return path


def test_defaults_fill_in(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, MINIMAL))
    assert (config.name, config.data.split, config.data.layout, config.data.root) == (
        "run",
        "sketchy-sake25",
        "folder",
        None,
    )
    assert config.model == ModelConfig()
    assert (config.model.image_size, config.model.dimension, config.model.fit_strokes) == (224, 512, False)
    assert (config.train.epochs, config.train.learning_rate, config.loss.triplet) == (20, 1e-3, 3.0)


def test_values_are_read(tmp_path: Path) -> None:
    text = MINIMAL + "  root: pictures\nmodel: {dimension: 64}\ntrain: {learning_rate: 1e-4, refit: no}\n"
    config = load_config(str(written(tmp_path, text)))
    assert (config.data.root, config.model.dimension) == (Path("pictures"), 64)
    assert (config.train.learning_rate, config.train.refit) == (1e-4, False)  # YAML takes 1e-4 for a text


@pytest.mark.parametrize("name", ["quickstart", "sketchy", "sketchy-small", "sketchy-paper", "tuberlin-paper"])
def test_packaged_config(name: str) -> None:
    config = load_config(name)
    assert name in packaged_configs()
    assert config.data.split.startswith(config.data.layout)
    split = load_split(config.data.split)
    split.hold_out(config.data.validation_classes, config.train.seed)


def test_every_packaged_config_loads() -> None:
    assert {
        "all-sets",
        "dinov2-small",
        "folder",
        "open",
        "quickstart",
        "siglip2-base",
        "sketchy",
        "sketchy-instance",
        "sketchy-paper",
        "sketchy-small",
        "tuberlin-paper",
    } == set(packaged_configs())
    names = [load_config(name).name for name in packaged_configs()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("addition", "message"),
    [
        ("modle: {}\n", r"unknown key 'modle'; did you mean model\?"),
        ("train: {epoch: 3}\n", r"unknown key 'train\.epoch'; did you mean epochs"),
        ("model: {fit-strokes: yes}\n", r"unknown key 'model\.fit-strokes'; did you mean fit_strokes\?"),
        (
            "loss: {zzz: 1}\n",
            r"unknown key 'loss\.zzz'; known: agreement, classification, guided, instance, .*triplet",
        ),
        ("train: {epochs: 0, epoch: 3}\n", r"unknown key 'train\.epoch'"),  # told before the bad value
    ],
)
def test_unknown_key_is_named_with_the_nearest(tmp_path: Path, addition: str, message: str) -> None:
    with pytest.raises(UserError, match=rf"run\.yaml: {message}"):
        load_config(written(tmp_path, MINIMAL + addition))


def test_misspelt_required_key_is_not_called_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown key 'data\.splitt'; did you mean split\?"):
        load_config(written(tmp_path, "name: run\ndata: {splitt: sketchy-sake25}\n"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"train.epochs": 0}, r"train\.epochs: .*greater than or equal to 1"),
        ({"train.epochs": "many"}, r"train\.epochs: .*valid integer"),
        ({"model.dimension": 12}, r"model\.dimension: .*multiple of 8"),
        ({"model.dropout": 1}, r"model\.dropout: .*less than 1"),
        ({"loss.triplet": float("nan")}, r"loss\.triplet: .*greater than or equal to 0"),
        ({"data.layout": "tu-berlin"}, r"data\.layout: .*'sketchy', 'tuberlin'"),
        ({"data.split": None}, r"data\.split: .*valid string"),
        ({"data.validation_classes": -1}, r"data\.validation_classes: .*greater than or equal to 0"),
        ({"name": "../escape"}, "name: .*match pattern"),
        ({"model": 5}, "model: .*valid dictionary"),
    ],
)
def test_bad_value_is_named(tmp_path: Path, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=rf"run\.yaml: {message}"):
        load_config(written(tmp_path, MINIMAL), overrides)


def test_missing_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"run\.yaml: data\.split: Field required"):
        load_config(written(tmp_path, "name: run\ndata: {}\n"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name: [run\n", "not valid YAML"),
        (b"name: run\n\tdata: 1\n", "not valid YAML"),
        (b"name: \xff\n", "not valid YAML"),
        (b"name: 2020-13-45\n", "not valid YAML .*month"),
        (b"name: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
        (b"", "expected keys and values such as 'name: my-run', found NoneType"),
        (b"- name\n", "expected keys and values .* found list"),
        (b"just words\n", "expected keys and values .* found str"),
    ],
)
def test_what_is_not_a_config_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"run\.yaml: {message}"):
        load_config(path)


def test_missing_file_names_the_nearest_packaged_config(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no config file 'quickstrat'; did you mean quickstart\?"):
        load_config("quickstrat")
    with pytest.raises(UserError, match="no config file"):
        load_config(tmp_path)


def test_overrides_win(tmp_path: Path) -> None:
    path = written(tmp_path, MINIMAL + "train: {epochs: 3, seed: 7}\n")
    overrides = {"train.epochs": 5, "loss.margin": 0.5, "name": "other", "data.root": tmp_path}
    config = load_config(path, overrides)
    assert (config.train.epochs, config.train.seed, config.loss.margin) == (5, 7, 0.5)
    assert (config.name, config.data.root) == ("other", tmp_path)
    assert load_config(path).train.epochs == 3


def test_override_below_a_group_without_keys(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, MINIMAL + "train:\n"), {"train.epochs": 5}).train.epochs == 5


def test_faulty_overrides_are_named(tmp_path: Path) -> None:
    path = written(tmp_path, MINIMAL)
    with pytest.raises(UserError, match=r"unknown key 'train\.epoch'; did you mean epochs"):
        load_config(path, {"train.epoch": 5})
    with pytest.raises(UserError, match=r"run\.yaml: name: expected keys and values, found str"):
        load_config(path, {"name.first": 5})


def test_config_cannot_be_changed(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, MINIMAL))
    with pytest.raises(ValidationError, match="frozen"):
        config.train.epochs = 5  # type: ignore[misc]


def test_config_survives_json(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, MINIMAL), {"data.root": tmp_path, "model.fit_strokes": True})
    assert Config.model_validate_json(config.model_dump_json()) == config


def test_explain_for_another_model() -> None:
    with pytest.raises(ValidationError) as caught:
        ModelConfig.model_validate({"image_sise": 3})
    assert explain(caught.value, ModelConfig).startswith("unknown key 'image_sise'; did you mean image_size")


def test_cache_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSATNET_CACHE", str(tmp_path))
    assert cache_directory() == tmp_path
    monkeypatch.delenv("CROSSATNET_CACHE")
    assert cache_directory().is_absolute()
    assert "crossatnet" in cache_directory().name


def test_the_folder_config_shows_every_key_with_its_default() -> None:
    shown = yaml.safe_load(packaged_configs()["folder"].read_text())
    defaults = Config.model_validate({"name": "my-pictures", "data": {"split": "mine"}}).model_dump(mode="json")
    assert shown == defaults


@pytest.mark.parametrize(
    ("addition", "message"),
    [
        ("model: {code_lengths: [64, 12]}\n", r"model\.code_lengths\.1: Input should be "),
        ("model: {code_lengths: [20]}\n", r"model\.code_lengths\.0: Input should be a multiple of 8"),
        ("model: {code_lengths: [64, 64]}\n", r"model\.code_lengths: .*a length stands twice"),
        ("model: {code_lengths: []}\n", r"model\.code_lengths: .*at least 1 item"),
        ("loss: {classification: 0, triplet: 0}\n", r"loss: .*nothing tells classes apart"),
        ("loss: {knowledge: 1}\n", r"loss\.knowledge is for fine-tuning, but train\.trainable_units is 0"),
    ],
)
def test_settings_that_do_not_fit_together(tmp_path: Path, addition: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config(written(tmp_path, MINIMAL + addition))


def test_knowledge_is_kept_while_fine_tuning(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, MINIMAL + "loss: {knowledge: 1}\ntrain: {trainable_units: 1}\n"))
    assert config.loss.knowledge == 1


def test_further_data_sets_are_read(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, MINIMAL + "  extra:\n  - {layout: tuberlin, root: more}\n"))
    assert [(extra.layout, extra.root) for extra in config.data.extra] == [("tuberlin", Path("more"))]
    with pytest.raises(UserError, match=r"unknown key 'data\.extra\.0\.folder'; known: layout, root"):
        load_config(written(tmp_path, MINIMAL + "  extra:\n  - {layout: tuberlin, folder: more}\n"))


def test_a_setting_of_older_versions_that_says_nothing_is_passed_over(tmp_path: Path) -> None:
    older = {**ModelConfig(region_size=64).model_dump(), "region_clarity": None}
    assert ModelConfig.model_validate(older) == ModelConfig(region_size=64)
    assert "region_clarity" in older  # what was given stays as it was
    assert "region_clarity" not in ModelConfig.model_validate(older).model_dump()
    load_config(written(tmp_path, MINIMAL + "model: {region_clarity: null}\n"))
    with pytest.raises(UserError, match=r"unknown key 'model\.region_clarity'"):
        load_config(written(tmp_path, MINIMAL + "model: {region_clarity: 0.25}\n"))


@pytest.mark.parametrize(("setting", "value"), [("region_size", 16), ("region_size", 2048), ("region_penalty", 1.5)])
def test_regions_have_sensible_settings(setting: str, value: float) -> None:
    with pytest.raises(ValidationError, match=setting):
        ModelConfig.model_validate({setting: value})
