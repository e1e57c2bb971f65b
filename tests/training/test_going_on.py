"""Training that goes on from a checkpoint, and training that holds no classes out."""

from pathlib import Path

import pytest
import torch

from crossatnet.config import Config
from crossatnet.data.looks import ClassPictures
from crossatnet.model.backbones.efficientnet import ImageNetClassifier
from crossatnet.model.checkpoint import TrainingRecord, read_config, read_record
from crossatnet.model.proposals import RARE
from crossatnet.model.weights import load_network
from crossatnet.system.errors import UserError
from crossatnet.training.start import frozen_units, go_on_from, start_network
from crossatnet.training.train import train
from tiny_data import SEEN, write_tiny


def config_of(root: Path, **settings: object) -> Config:
    return Config.model_validate(
        {
            "name": "shapes",
            "data": {"root": root, "split": str(root / "tiny"), "validation_classes": 0},
            "model": {"image_size": 64, "dimension": 16, "code_lengths": [16]},
            "train": {"epochs": 2, "classes_per_batch": 4, "epoch_batches": 2, "trainable_units": 2, **settings},
        }
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shapes")
    write_tiny(root, corrupt_unseen=True)
    return root


@pytest.fixture(scope="module")
def first(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "first"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CROSSATNET_CACHE", str(tmp_path_factory.mktemp("cache")))
        return train(config_of(root), folder, quiet=True)


def test_without_classes_held_out_the_last_epoch_is_taken(first: Path) -> None:
    provenance = read_config(first).provenance
    assert sorted(provenance.training_classes) == sorted(SEEN)
    assert (provenance.validation_classes, provenance.validation_map, provenance.epochs) == ((), None, 2)
    assert "the config alone, no classes held out; 2 epochs" in (first / "card.md").read_text()


def test_the_network_is_the_checkpoints_but_for_frozen_units(root: Path, first: Path) -> None:
    config = config_of(root, start=str(first))
    network, given = start_network(config), load_network(first)
    frozen = frozen_units(network, config)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    go_on_from(network, str(first), frozen)
    passed = {
        f"backbone.{name}"
        for name, _ in network.backbone.named_parameters()
        if any(name.startswith(f"blocks.{block}.") for block in range(frozen - 1)) or name.startswith("stem.")
    }
    for name, tensor in network.state_dict().items():
        expected = before if name in passed else given.state_dict()
        if name in passed or not name.startswith("backbone.") or name.startswith(f"backbone.blocks.{frozen}."):
            assert torch.equal(tensor, expected[name]), name


def test_training_goes_on_and_the_record_has_both(
    root: Path, first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSSATNET_CACHE", str(tmp_path / "cache"))
    more = train(config_of(root, start=str(first), epochs=1), tmp_path / "more", quiet=True)
    record, before = read_record(more), read_record(first)
    assert record is not None
    assert before is not None
    assert {name: set(pictures.photo) for name, pictures in record.pictures.items()} == {
        name: set(pictures.photo) for name, pictures in before.pictures.items()
    }
    name = "projection.weight"
    assert not torch.equal(load_network(more).state_dict()[name], load_network(first).state_dict()[name])


def test_a_trained_network_gets_its_opinion_and_loses_it_to_go_on(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSSATNET_CACHE", str(tmp_path / "cache"))
    config = config_of(root, epochs=1)
    model = config.model.model_copy(update={"opinion": 0.5, "dimension": 288})
    config = config.model_copy(update={"model": model})
    opinionated = load_network(train(config, tmp_path / "opinionated", quiet=True))
    published = ImageNetClassifier().load_imagenet_weights()
    assert opinionated.opinion is not None
    for name, tensor in published.state_dict().items():  # frozen, and saved as half precision
        stored = tensor.half().float() if tensor.is_floating_point() else tensor
        assert torch.equal(opinionated.opinion.classifier.state_dict()[name], stored), name
    assert opinionated.opinion.photo_mean.abs().sum() > 0
    network = start_network(config)
    go_on_from(network, str(tmp_path / "opinionated"), frozen_units(network, config))
    assert network.opinion is None
    assert network.projection.out_features == 288
    last = "backbone.blocks.15.project.0.weight"
    assert torch.equal(network.state_dict()[last], opinionated.state_dict()[last])


def test_training_goes_on_with_and_without_regions(
    root: Path, first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSSATNET_CACHE", str(tmp_path / "cache"))
    few = {"epochs": 1, "scenes": 4}
    plain = config_of(root, start=str(first), **few)
    region_size = plain.model.model_copy(update={"region_size": 32})
    found = load_network(train(plain.model_copy(update={"model": region_size}), tmp_path / "found", quiet=True))
    assert found.proposer is not None
    assert found.proposer.numbers.bias[0] != RARE  # it was fitted

    network = start_network(plain.model_copy(update={"model": region_size}))
    own = {name: tensor.clone() for name, tensor in network.state_dict().items() if name.startswith("proposer.")}
    go_on_from(network, str(tmp_path / "found"), frozen_units(network, plain))
    last, state = "backbone.blocks.15.project.0.weight", network.state_dict()
    assert torch.equal(state[last], found.state_dict()[last])
    assert all(torch.equal(state[name], tensor) for name, tensor in own.items())  # it is fitted again in the end

    again = train(config_of(root, start=str(tmp_path / "found"), **few), tmp_path / "lost", quiet=True)
    lost = load_network(again)
    assert (lost.proposer, lost.regions) == (None, False)
    assert not any(name.startswith("proposer.") for name in lost.state_dict())


def test_a_checkpoint_that_has_read_unseen_classes_is_refused(root: Path, first: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.seen.txt").write_text("\n".join(SEEN[2:]))
    (tmp_path / "mine.unseen.txt").write_text("\n".join(SEEN[:2]))
    config = config_of(root, start=str(first))
    other = config.model_copy(update={"data": config.data.model_copy(update={"split": str(tmp_path / "mine")})})
    with pytest.raises(UserError, match=rf"train\.start: .* has read {SEEN[0]}, {SEEN[1]}, unseen in mine|has read"):
        train(other, tmp_path / "more", quiet=True)


def test_records_are_joined() -> None:
    def record(name: str, photo: str, look: str) -> TrainingRecord:
        return TrainingRecord(
            pictures={name: ClassPictures(photo=(photo,), look=(look,)), "both": ClassPictures(sketch=(photo,))},
            training_classes=(name, "both"),
            selection_classes=(f"chosen on {name}",),
            graph_classes=(),
            centring_classes=(name,),
            statistics_classes=(),
            hash_code_classes=(name,),
            aliases={},
        )

    joined = record("new", "a" * 16, "b" * 16).after(record("old", "c" * 16, "d" * 16))
    assert joined.training_classes == ("new", "both")
    assert joined.selection_classes == ("chosen on new",)
    assert set(joined.pictures) == {"new", "old", "both"}
    assert joined.pictures["both"].sketch == ("c" * 16, "a" * 16)
    assert set(joined.centring_classes) == {"new", "old", "both", "chosen on old"}
