"""Zero-shot evaluation against the same steps taken by hand."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from crossatnet import evaluation
from crossatnet.checkpoint import Provenance
from crossatnet.config import ModelConfig
from crossatnet.data.catalog import Catalog
from crossatnet.data.images import Modality
from crossatnet.data.layouts import read_catalog
from crossatnet.data.splits import Split, load_split
from crossatnet.errors import UserError
from crossatnet.evaluation import (
    Results,
    embed_catalog,
    evaluate_zero_shot,
    frozen_baselines,
    refuse_seen,
    save_results,
)
from crossatnet.metrics import evaluate
from crossatnet.model.network import CrossATNet
from oracles import metrics as oracle
from tiny_data import SEEN, UNSEEN, write_tiny

PICTURES = 3  # of each class and modality


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shapes")
    write_tiny(root, pictures=PICTURES)
    return root


@pytest.fixture(scope="module")
def catalog(root: Path) -> Catalog:
    return read_catalog(root, "folder", quiet=True)


@pytest.fixture(scope="module")
def split(root: Path) -> Split:
    return load_split(str(root / "tiny"))


@pytest.fixture(scope="module")
def network() -> CrossATNet:
    torch.manual_seed(0)
    network = CrossATNet(ModelConfig(image_size=64, dimension=16)).eval()
    network.backbone.load_imagenet_weights()
    network.sketch_centre.copy_(torch.randn(320))
    network.photo_centre.copy_(torch.randn(320))
    network.name = "shapes"
    return network


@pytest.fixture
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several batches and an incomplete last one, even for a few pictures."""
    monkeypatch.setattr(evaluation, "BATCH", 4)


def provenance(*training: str, validation: tuple[str, ...] = ()) -> Provenance:
    return Provenance(
        data="shapes",
        layout="folder",
        split="tiny",
        training_classes=training or SEEN,
        validation_classes=validation,
        seed=5,
        epochs=1,
        validation_map=0.5,
    )


def files(root: Path, folder: str) -> list[Path]:
    """The pictures of the unseen classes, in the catalog's order."""
    return [path for name in sorted(UNSEEN) for path in sorted((root / folder / name).glob("*.png"))]


@pytest.mark.usefixtures("_small_batches")
@pytest.mark.parametrize(("modality", "folder"), [("sketch", "sketches"), ("photo", "photos")])
def test_embeds_every_item_in_order(
    network: CrossATNet, catalog: Catalog, root: Path, modality: Modality, folder: str
) -> None:
    part = catalog.select(UNSEEN, modality)
    embedded = embed_catalog(network, part, modality, quiet=True)
    assert [item.path for item in embedded.items] == files(root, folder)
    assert embedded.classes == ["circle"] * PICTURES + ["hourglass"] * PICTURES
    np.testing.assert_allclose(embedded.embeddings, network.encode(files(root, folder), modality), atol=1e-5)


@pytest.mark.usefixtures("_small_batches")
def test_scores_are_those_of_a_loop_over_unseen_queries(
    network: CrossATNet, catalog: Catalog, split: Split, root: Path
) -> None:
    results = evaluate_zero_shot({"ours": network}, provenance(), catalog, split, at=(1, 2), quiet=True)
    queries = network.encode(files(root, "sketches"), "sketch").tolist()
    gallery = network.encode(files(root, "photos"), "photo").tolist()
    names = [path.parent.name for path in files(root, "photos")]
    scored: dict[str, list[float]] = {"circle": [], "hourglass": []}
    first, second = [], []
    for path, query in zip(files(root, "sketches"), queries, strict=True):
        relevant = [names[index] == path.parent.name for index in oracle.ranking(query, gallery)]
        scored[path.parent.name].append(oracle.average_precision(relevant))
        first.append(oracle.precision_at(relevant, 1))
        second.append(oracle.precision_at(relevant, 2))
    (row,) = results.rows
    assert (row.model, row.dimension) == ("ours", 16)
    assert row.metrics == pytest.approx(
        {"mAP@all": np.mean(scored["circle"] + scored["hourglass"]), "P@1": np.mean(first), "P@2": np.mean(second)}
    )
    assert row.per_class == pytest.approx({name: np.mean(values) for name, values in scored.items()})


def test_results_say_what_was_evaluated(network: CrossATNet, catalog: Catalog, split: Split, root: Path) -> None:
    results = evaluate_zero_shot({"ours": network}, provenance(), catalog, split, at=(1,), quiet=True)
    assert (results.checkpoint, results.fingerprint) == ("shapes", network.fingerprint)
    assert (results.data, results.split, results.seed) == (root.name, "tiny", 5)
    assert (results.queries, results.gallery, results.classes) == (6, 6, 2)
    assert (results.unusable, results.duplicates) == ([], [])


def test_several_networks_are_compared(network: CrossATNet, catalog: Catalog, split: Split) -> None:
    other = CrossATNet(network.config).eval()
    results = evaluate_zero_shot({"ours": network, "other": other}, provenance(), catalog, split, (1,), quiet=True)
    assert [row.model for row in results.rows] == ["ours", "other"]
    assert results.fingerprint == network.fingerprint
    alone = evaluate_zero_shot({"other": other}, provenance(), catalog, split, (1,), quiet=True)
    assert results.rows[1] == alone.rows[0]


def test_lists_what_could_not_be_used(network: CrossATNet, split: Split, tmp_path: Path) -> None:
    write_tiny(tmp_path / "data", pictures=2)
    circles = tmp_path / "data" / "photos" / "circle"
    (circles / "broken.png").write_bytes(b"not a picture")
    (circles / "copy.png").write_bytes((circles / "0.png").read_bytes())
    catalog = read_catalog(tmp_path / "data", "folder", quiet=True)
    results = evaluate_zero_shot({"ours": network}, provenance(), catalog, split, (1,), quiet=True)
    assert results.gallery == 4
    assert len(results.unusable) == 1
    assert "broken.png: not a picture" in results.unusable[0]
    assert results.duplicates == [f"{circles / 'copy.png'} equals {circles / '0.png'}"]


@pytest.mark.parametrize(
    "known",
    [provenance("star", "circle"), provenance("star", validation=("circle",))],
    ids=["trained on", "chosen on"],
)
def test_refuses_a_checkpoint_that_knows_an_unseen_class(
    network: CrossATNet, catalog: Catalog, split: Split, known: Provenance
) -> None:
    with pytest.raises(UserError, match=r"trained on 1 classes that tiny keeps unseen \(circle\).*--split tiny"):
        evaluate_zero_shot({"ours": network}, known, catalog, split, quiet=True)


def test_names_five_of_many_known_classes() -> None:
    names = tuple(f"class_{number}" for number in range(7))
    with pytest.raises(UserError, match=r"7 classes .*\(class_0, class_1, class_2, class_3, class_4 \.\.\.\)"):
        refuse_seen(provenance(*names), Split("all", ("star",), names))


def test_refuses_data_without_an_unseen_class(network: CrossATNet, catalog: Catalog) -> None:
    with pytest.raises(UserError, match=r"no pictures of 1 of the 2 classes for the test \(unicorn\)"):
        evaluate_zero_shot(
            {"ours": network}, provenance(), catalog, Split("x", SEEN, ("circle", "unicorn")), quiet=True
        )


def test_frozen_baselines_are_the_pooled_features(network: CrossATNet, root: Path) -> None:
    baselines = frozen_baselines(network)
    assert set(baselines) == {"frozen backbone, centred", "frozen backbone, raw"}
    photos = files(root, "photos")
    pixels = np.stack([network.preprocess(path, "photo") for path in photos])
    with torch.inference_mode():
        maps = network.backbone(torch.from_numpy(pixels).permute(0, 3, 1, 2)).numpy()
    pooled = maps.reshape(len(maps), 320, -1).sum(2) / (maps.shape[2] * maps.shape[3])
    for name, expected in (("raw", pooled), ("centred", pooled - network.photo_centre.numpy())):
        expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
        embeddings = baselines[f"frozen backbone, {name}"].encode(photos, "photo")
        np.testing.assert_allclose(embeddings, expected, atol=1e-5)


def test_frozen_baselines_owe_nothing_to_training(network: CrossATNet) -> None:
    changed = CrossATNet(network.config).eval()
    changed.load_state_dict(network.state_dict())
    torch.nn.init.normal_(changed.projection.weight)
    torch.nn.init.normal_(changed.backbone.stem[0].weight)
    for name, baseline in frozen_baselines(network).items():
        assert frozen_baselines(changed)[name].fingerprint == baseline.fingerprint


def test_results_survive_their_file(network: CrossATNet, catalog: Catalog, split: Split, tmp_path: Path) -> None:
    results = evaluate_zero_shot({"ours": network}, provenance(), catalog, split, quiet=True)
    save_results(results, tmp_path / "new" / "results.json")
    assert Results.model_validate_json((tmp_path / "new" / "results.json").read_text()) == results
    assert set(results.rows[0].metrics) == {"mAP@all", "P@100", "P@200"}


@pytest.mark.skipif("CROSSATNET_DATA" not in os.environ, reason="CROSSATNET_DATA does not name the data folder")
def test_real_sketches_and_photos(network: CrossATNet) -> None:
    names = ["airplane", "zebra", "pizza"]
    catalog = read_catalog(Path(os.environ["CROSSATNET_DATA"]) / "sketchy-mini", "sketchy", quiet=True, classes=names)
    assert set(catalog.counts()) == set(names)
    assert all(sketches and photos for sketches, photos in catalog.counts().values())
    sketches = embed_catalog(network, catalog.select(names, "sketch"), "sketch", quiet=True)
    photos = embed_catalog(network, catalog.select(names, "photo"), "photo", quiet=True)
    for embedded in (sketches, photos):
        np.testing.assert_allclose(np.linalg.norm(embedded.embeddings, axis=1), 1, atol=1e-5)
        assert len(np.unique(embedded.embeddings.round(4), axis=0)) == len(embedded.items)  # no two pictures alike
    scores = evaluate(sketches.embeddings, sketches.classes, photos.embeddings, photos.classes, at=(5,))
    assert len(scores.average_precision) == len(sketches.items)
    assert set(scores.per_class()) == set(names)
