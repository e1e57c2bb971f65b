"""Zero-shot evaluation against the same steps by hand."""

import os
import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor

from crossatnet.config import ModelConfig
from crossatnet.data.catalog import Catalog
from crossatnet.data.images import Modality
from crossatnet.data.layouts import read_catalog
from crossatnet.data.splits import Split
from crossatnet.evaluation import zero_shot as evaluation
from crossatnet.evaluation.protocol import DIRECTIONS, SETTINGS, ZERO_SHOT
from crossatnet.evaluation.ranking import evaluate
from crossatnet.evaluation.results import Results, save_results
from crossatnet.evaluation.zero_shot import embed_catalog, evaluate_trials
from crossatnet.model.checkpoint import Provenance
from crossatnet.model.network import CrossATNet, Guided
from crossatnet.system.errors import UserError
from oracles import metrics as oracle
from tiny_data import SEEN, UNSEEN, write_tiny

PICTURES = 3  # of each class and modality
LENGTHS = (64, 16, 24)


@pytest.fixture
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small batches, so that even a few pictures need several, the last one incomplete."""
    monkeypatch.setattr(evaluation, "EMBEDDED_AT_ONCE", 4)


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


def first_results(*arguments: Any, **options: Any) -> Results:
    """The results of the first direction and setting, sketch-to-photo and zero-shot unless others are asked for."""
    return evaluate_trials(*arguments, **options)[0].results


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


Found = tuple[str, list[str]]
"""Class of the query, and those of the gallery, best first."""


def loop_scores(rankings: list[Found], at: tuple[int, ...]) -> tuple[dict[str, float], dict[str, float]]:
    """A row's metrics and its mAP@all of each class, one query at a time."""
    relevant = [[name == wanted for name in names] for wanted, names in rankings]
    metrics = {f"P@{k}": np.mean([oracle.precision_at(ranking, k) for ranking in relevant]) for k in at}
    metrics["mAP@all"] = np.mean([oracle.average_precision(ranking) for ranking in relevant])
    per_class = {
        name: np.mean(
            [
                oracle.average_precision(row)
                for row, (wanted, _) in zip(relevant, rankings, strict=True)
                if wanted == name
            ]
        )
        for name in UNSEEN
    }
    return metrics, per_class


@pytest.mark.usefixtures("_small_batches")
def test_scores_are_those_of_a_loop_over_unseen_queries(
    network: CrossATNet, catalog: Catalog, split: Split, root: Path
) -> None:
    results = first_results({"ours": network}, provenance(), catalog, split, at=(1, 2), quiet=True)
    queries = network.encode(files(root, "sketches"), "sketch").tolist()
    gallery = network.encode(files(root, "photos"), "photo").tolist()
    names = [path.parent.name for path in files(root, "photos")]
    metrics, per_class = loop_scores(
        [
            (path.parent.name, [names[index] for index in oracle.ranking(query, gallery)])
            for path, query in zip(files(root, "sketches"), queries, strict=True)
        ],
        (1, 2),
    )
    row = results.rows[0]
    assert (row.model, row.dimension) == ("ours", 16)
    assert row.metrics == pytest.approx(metrics)
    assert row.per_class == pytest.approx(per_class)


@pytest.mark.usefixtures("_small_batches")
def test_codes_of_every_length_have_a_row(network: CrossATNet, catalog: Catalog, split: Split, root: Path) -> None:
    results = first_results({"ours": network}, provenance(), catalog, split, at=(1, 4), quiet=True)
    named = [("ours, 64 bits", 64), ("ours, 16 bits", 16), ("ours, 24 bits", 24)]
    hamming = [row for row in results.rows if "asymmetric" not in row.model]
    assert [(row.model, row.dimension) for row in hamming] == [("ours", 16), *named]
    for row, (_, bits) in zip(hamming[1:], named, strict=True):
        gallery = network.encode(files(root, "photos"), "photo", bits=bits).tolist()
        precisions, at_4 = [], []
        for path in files(root, "sketches"):
            (code,) = network.encode([path], "sketch", bits=bits).tolist()
            distances = [oracle.hamming(code, item) for item in gallery]
            relevant = [photo.parent.name == path.parent.name for photo in files(root, "photos")]
            precisions.append(oracle.tie_averaged_average_precision(distances, relevant))
            at_4.append(oracle.tie_averaged_precision_at(distances, relevant, 4))
        assert row.metrics["mAP@all"] == pytest.approx(np.mean(precisions))
        assert row.metrics["P@4"] == pytest.approx(np.mean(at_4))
        assert row.per_class["circle"] == pytest.approx(np.mean(precisions[:PICTURES]))  # sorted by class


@pytest.mark.usefixtures("_small_batches")
def test_codes_are_also_asked_by_a_query_that_is_no_code(
    network: CrossATNet, catalog: Catalog, split: Split, root: Path
) -> None:
    results = first_results({"ours": network}, provenance(), catalog, split, at=(1,), quiet=True)
    names = [path.parent.name for path in files(root, "photos")]
    for bits in LENGTHS:
        row = next(row for row in results.rows if row.model == f"ours, {bits} bits, asymmetric")
        weight, offset = network.hyperplanes(bits)
        packed = network.encode(files(root, "photos"), "photo", bits=bits)
        gallery = [[1 if bit else -1 for bit in code] for code in np.unpackbits(packed, axis=1)]
        rankings = []
        for path in files(root, "sketches"):
            (query,) = network.encode([path], "sketch")
            distances = [float(plane @ query - shift) for plane, shift in zip(weight, offset, strict=True)]
            scores = [sum(sign * far for sign, far in zip(code, distances, strict=True)) for code in gallery]
            best_first = sorted(range(len(gallery)), key=lambda index: -scores[index])
            rankings.append((path.parent.name, [names[index] for index in best_first]))
        assert row.metrics == pytest.approx(loop_scores(rankings, (1,))[0])


def guided_by_hand(network: CrossATNet, root: Path, reranked: int) -> list[Found]:
    """Rankings of the unseen queries, of which the first `reranked` hits are looked at again."""
    names = [path.parent.name for path in files(root, "photos")]
    photos = np.stack([network.preprocess(path, "photo") for path in files(root, "photos")])
    gallery = network.encode(files(root, "photos"), "photo").tolist()
    queries = network.encode(files(root, "sketches"), "sketch").tolist()
    rankings = []
    for path, query in zip(files(root, "sketches"), queries, strict=True):
        seen = network.guide(network.preprocess(path, "sketch"), photos).similarity.tolist()
        mean = [(oracle.cosine(query, item) + seen[index]) / 2 for index, item in enumerate(gallery)]
        plain = oracle.ranking(query, gallery)
        first = sorted(plain[:reranked], key=lambda index: -mean[index])
        rankings.append((path.parent.name, [names[index] for index in first + plain[reranked:]]))
    return rankings


@pytest.mark.usefixtures("_small_batches")
def test_guided_scores_are_those_of_a_loop(network: CrossATNet, catalog: Catalog, split: Split, root: Path) -> None:
    results = first_results({"ours": network}, provenance(), catalog, split, (1, 2, 4), quiet=True, guided=True)
    row = results.rows[-1]
    assert (row.model, row.dimension) == ("ours, guided", 16)
    metrics, per_class = loop_scores(guided_by_hand(network, root, evaluation.GUIDED), (1, 2, 4))
    assert row.metrics == pytest.approx(metrics)
    assert row.per_class == pytest.approx(per_class)


@pytest.mark.parametrize("reranked", [1, 4, 5, 50])
def test_guided_re_orders_the_first_hits_only(
    network: CrossATNet,
    catalog: Catalog,
    split: Split,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    reranked: int,
) -> None:
    """The guided similarity is a pseudo-random number in -1..1 for each pair, so the rankings change a lot."""

    def digest(feature_map: Tensor, start: int = 0) -> int:
        return zlib.crc32((feature_map.numpy().round(2) + 0.0).tobytes(), start)  # 0.0: there are two zeros

    def guide_maps(sketch: Tensor, photos: Tensor) -> Guided:
        seen = [digest(photo, digest(sketch)) / 2**31 - 1 for photo in photos]
        return Guided(np.array(seen, dtype=np.float32), np.empty((len(photos), 0, 0, 0), dtype=np.float32))

    monkeypatch.setattr(network, "guide_maps", guide_maps)
    monkeypatch.setattr(evaluation, "GUIDED", reranked)
    results = first_results({"ours": network}, provenance(), catalog, split, (1, 2, 4), quiet=True, guided=True)
    metrics, per_class = loop_scores(guided_by_hand(network, root, reranked), (1, 2, 4))
    assert results.rows[-1].metrics == pytest.approx(metrics)
    assert results.rows[-1].per_class == pytest.approx(per_class)
    others = [guided_by_hand(network, root, number) for number in (1, 4, 5, 6) if number != min(reranked, 6)]
    assert all(metrics != loop_scores(other, (1, 2, 4))[0] for other in others)  # else too many would not be noticed


def test_only_the_checkpoint_is_scored_in_other_ways(network: CrossATNet, catalog: Catalog, split: Split) -> None:
    networks = {"ours": network, "other": CrossATNet(network.config).eval()}
    results = first_results(networks, provenance(), catalog, split, (1,), quiet=True, guided=True)
    codes = [f"ours, {bits} bits{way}" for bits in LENGTHS for way in ("", ", asymmetric")]
    assert [row.model for row in results.rows] == ["ours", *codes, "ours, guided", "other"]


def test_a_network_without_attention_has_no_guided_row(catalog: Catalog, split: Split) -> None:
    config = ModelConfig(image_size=64, dimension=16, attention_heads=0, code_lengths=(16,))
    networks = {"plain": CrossATNet(config).eval()}
    results = first_results(networks, provenance(), catalog, split, (1,), quiet=True, guided=True)
    assert [row.model for row in results.rows] == ["plain", "plain, 16 bits", "plain, 16 bits, asymmetric"]


def test_results_say_what_was_evaluated(network: CrossATNet, catalog: Catalog, split: Split, root: Path) -> None:
    results = first_results({"ours": network}, provenance(), catalog, split, at=(1,), quiet=True)
    assert (results.checkpoint, results.fingerprint) == ("shapes", network.fingerprint)
    assert (results.data, results.split, results.seed) == (root.name, "tiny", 5)
    assert (results.queries, results.gallery, results.classes) == (6, 6, 2)
    assert (results.unusable, results.duplicates) == ([], [])
    assert (results.direction, results.setting) == ("sketch->photo", ZERO_SHOT)
    for row in results.rows:
        assert row.interval is not None
        assert row.interval[0] <= row.metrics["mAP@all"] <= row.interval[1]
        assert row.gallery_bytes == 6 * (row.dimension // 8 if "bits" in row.model else row.dimension * 4)
        assert row.seconds_per_query is not None
        assert row.with_duplicates is None


def test_several_networks_are_compared(network: CrossATNet, catalog: Catalog, split: Split) -> None:
    other = CrossATNet(network.config).eval()
    results = first_results({"ours": network, "other": other}, provenance(), catalog, split, (1,), quiet=True)
    assert [row.model for row in results.rows if "bits" not in row.model] == ["ours", "other"]
    assert results.fingerprint == network.fingerprint
    alone = first_results({"other": other}, provenance(), catalog, split, (1,), quiet=True)
    untimed = {"seconds_per_query": None}
    assert results.rows[-1].model_copy(update=untimed) == alone.rows[0].model_copy(update=untimed)


def test_lists_what_could_not_be_used(network: CrossATNet, split: Split, tmp_path: Path) -> None:
    write_tiny(tmp_path / "data", pictures=2)
    circles = tmp_path / "data" / "photos" / "circle"
    (circles / "broken.png").write_bytes(b"not a picture")
    (circles / "copy.png").write_bytes((circles / "0.png").read_bytes())
    catalog = read_catalog(tmp_path / "data", "folder", quiet=True)
    results = first_results({"ours": network}, provenance(), catalog, split, (1,), quiet=True)
    assert results.gallery == 4
    assert len(results.unusable) == 1
    assert "broken.png: not a picture" in results.unusable[0]
    assert results.duplicates == [f"{circles / 'copy.png'} equals {circles / '0.png'}"]


def test_scores_stand_beside_those_with_duplicates(network: CrossATNet, split: Split, tmp_path: Path) -> None:
    write_tiny(tmp_path / "data", pictures=2)
    photos = tmp_path / "data" / "photos"
    shutil.copy(photos / "circle" / "0.png", photos / "circle" / "copy.png")
    shutil.copy(photos / "star" / "0.png", photos / "star" / "copy.png")  # seen: no part of the gallery
    catalog = read_catalog(tmp_path / "data", "folder", quiet=True)
    rows = first_results({"ours": network}, provenance(), catalog, split, (2,), quiet=True).rows
    everything = [*files(tmp_path / "data", "photos")]
    everything.sort(key=lambda path: path.stem == "copy")  # behind all others
    gallery = network.encode(everything, "photo").tolist()
    names = [path.parent.name for path in everything]
    metrics, _ = loop_scores(
        [
            (path.parent.name, [names[index] for index in oracle.ranking(query, gallery)])
            for path in files(tmp_path / "data", "sketches")
            for query in network.encode([path], "sketch").tolist()
        ],
        (2,),
    )
    assert rows[0].with_duplicates is not None
    assert {name: rows[0].with_duplicates[name] for name in metrics} == pytest.approx(metrics)
    assert all(row.with_duplicates is not None for row in rows)


# Other directions and settings


@pytest.mark.usefixtures("_small_batches")
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_every_direction_is_that_of_a_loop_without_the_query_itself(
    network: CrossATNet, catalog: Catalog, split: Split, root: Path, direction: str
) -> None:
    (evaluated,) = evaluate_trials(
        {"ours": network}, provenance(), catalog, split, (1, 2), quiet=True, directions=[direction]
    )
    results = evaluated.results
    folders = {"sketch": "sketches", "photo": "photos"}
    asking, searched = DIRECTIONS[direction]
    rankings, distances = [], []
    for path in files(root, folders[asking]):
        others = [other for other in files(root, folders[searched]) if other != path]
        (query,) = network.encode([path], asking).tolist()
        order = oracle.ranking(query, network.encode(others, searched).tolist())
        rankings.append((path.parent.name, [others[index].parent.name for index in order]))
        (code,) = network.encode([path], asking, bits=16).tolist()
        codes = network.encode(others, searched, bits=16).tolist()
        relevant = [other.parent.name == path.parent.name for other in others]
        distances.append(
            oracle.tie_averaged_average_precision([oracle.hamming(code, item) for item in codes], relevant)
        )
    metrics, per_class = loop_scores(rankings, (1, 2))
    assert results.direction == f"{asking}->{searched}"
    assert (results.queries, results.gallery) == (6, 6)
    assert {name: results.rows[0].metrics[name] for name in metrics} == pytest.approx(metrics)
    assert results.rows[0].per_class == pytest.approx(per_class)
    of_16_bits = next(row for row in results.rows if row.model == "ours, 16 bits")
    assert of_16_bits.metrics["mAP@all"] == pytest.approx(np.mean(distances))


def test_all_trials_share_one_embedding_of_every_picture(
    network: CrossATNet, catalog: Catalog, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded: list[int] = []
    embed = network.embed

    def counted(pixels: NDArray[np.uint8], modality: Modality) -> NDArray[np.float32]:
        embedded.append(len(pixels))
        return embed(pixels, modality)

    monkeypatch.setattr(network, "embed", counted)
    arguments = ({"ours": network}, provenance(), catalog, split, (1, 2), True)
    together = [each.results for each in evaluate_trials(*arguments, directions=list(DIRECTIONS), settings=SETTINGS)]
    assert sum(embedded) == len(catalog.items)
    asked = [(direction, setting) for direction in DIRECTIONS for setting in SETTINGS]
    assert len(together) == len(asked)
    for (direction, setting), results in zip(asked, together, strict=True):
        alone = evaluate_trials(*arguments, directions=[direction], settings=[setting])[0].results
        assert (alone.direction, alone.setting, alone.queries, alone.gallery) == (
            results.direction,
            results.setting,
            results.queries,
            results.gallery,
        )
        assert alone.rows[0].metrics == pytest.approx(results.rows[0].metrics)


def test_nothing_is_fitted_on_the_test(network: CrossATNet, catalog: Catalog, split: Split) -> None:
    """The evaluation fits nothing to the test pictures: the network is the same before and after."""
    before = network.fingerprint
    arguments = ({"ours": network}, provenance(), catalog, split, (1,), True, True)
    evaluate_trials(*arguments, directions=list(DIRECTIONS), settings=SETTINGS)
    assert network.fingerprint == before
    assert not network.training


def test_unknown_directions_and_settings(network: CrossATNet, catalog: Catalog, split: Split) -> None:
    arguments = ({"ours": network}, provenance(), catalog, split)
    with pytest.raises(UserError, match=r"unknown direction 'sketch-photo'; did you mean sketch-to-photo"):
        evaluate_trials(*arguments, directions=["sketch-photo"])
    with pytest.raises(UserError, match=r"unknown setting 'generalized'; did you mean generalised"):
        evaluate_trials(*arguments, settings=["generalized"])


@pytest.mark.parametrize(
    "known",
    [provenance("star", "circle"), provenance("star", validation=("circle",))],
    ids=["trained on", "chosen on"],
)
def test_refuses_a_checkpoint_that_knows_an_unseen_class(
    network: CrossATNet, catalog: Catalog, split: Split, known: Provenance
) -> None:
    with pytest.raises(UserError, match=r"trained on 1 classes that tiny keeps unseen \(circle\).*--split tiny"):
        first_results({"ours": network}, known, catalog, split, quiet=True)


def test_refuses_data_without_an_unseen_class(network: CrossATNet, catalog: Catalog) -> None:
    with pytest.raises(UserError, match=r"no pictures of 1 of the 2 classes for the test \(unicorn\)"):
        first_results({"ours": network}, provenance(), catalog, Split("x", SEEN, ("circle", "unicorn")), quiet=True)


def test_results_survive_their_file(network: CrossATNet, catalog: Catalog, split: Split, tmp_path: Path) -> None:
    results = first_results({"ours": network}, provenance(), catalog, split, quiet=True)
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
