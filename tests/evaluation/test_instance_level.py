"""Fine-grained evaluation of a checkpoint against the same steps by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from crossatnet.data.catalog import Catalog, Item
from crossatnet.data.images import load_image
from crossatnet.data.splits import Split
from crossatnet.evaluation import zero_shot
from crossatnet.evaluation.instance_level import evaluate_instance_level
from crossatnet.model.checkpoint import Provenance
from crossatnet.model.network import CrossATNet
from crossatnet.system.errors import UserError
from tiny_data import SEEN, UNSEEN

PROVENANCE = Provenance(
    data="shapes",
    layout="folder",
    split="tiny",
    training_classes=SEEN,
    validation_classes=(),
    seed=5,
    epochs=1,
    validation_map=0.5,
)


@pytest.fixture
def drawn(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    """Sketch N of a class was drawn of photo N, but the last of each of a photo that is not there."""
    monkeypatch.setattr(zero_shot, "EMBEDDED_AT_ONCE", 4)

    def instance(item: Item) -> str:
        return "elsewhere" if item.path.stem == "2" and item.modality == "sketch" else item.path.stem

    return replace(catalog, items=tuple(replace(item, instance=instance(item)) for item in catalog.items))


def expected(similarity: np.ndarray, at: tuple[int, ...]) -> dict[str, float]:
    """Six photos, three of each class; queries 0 and 1 of each class seek photo 0 and 1 of it."""
    found: dict[str, list[float]] = {}
    for row, (group, photo) in enumerate((group, photo) for group in (0, 1) for photo in (0, 1)):
        own = similarity[row, 3 * group + photo]
        for suffix, columns in (("", range(3 * group, 3 * group + 3)), (" (all)", range(6))):
            rank = 1 + sum(similarity[row, column] > own for column in columns)
            for k in at:
                found.setdefault(f"acc@{k}{suffix}", []).append(rank <= k)
            found.setdefault(f"MRR{suffix}", []).append(1 / rank)
    return {name: float(np.mean(values)) for name, values in found.items()}


def test_scores_are_those_of_a_loop(network: CrossATNet, drawn: Catalog, split: Split, root: Path) -> None:
    results = evaluate_instance_level({"ours": network, "again": network}, PROVENANCE, drawn, split, quiet=True)
    names = sorted(UNSEEN)
    sketches = [root / "sketches" / name / f"{number}.png" for name in names for number in (0, 1)]
    photos = [root / "photos" / name / f"{number}.png" for name in names for number in (0, 1, 2)]
    similarity = network.encode(sketches, "sketch") @ network.encode(photos, "photo").T
    assert [row.model for row in results.rows] == ["ours", "ours, 64 bits", "ours, 16 bits", "ours, 24 bits", "again"]
    assert results.rows[0].metrics == pytest.approx(expected(similarity, (1, 5, 10)))
    assert results.rows[-1].metrics == results.rows[0].metrics
    assert (results.queries, results.gallery, results.classes, results.level) == (4, 6, 2, "instance")
    bits = [network.encode(sketches, "sketch", bits=64), network.encode(photos, "photo", bits=64)]
    distance = np.bitwise_count(bits[0][:, None] ^ bits[1]).sum(2)
    untied = all(len(set(row)) == len(row) for row in distance.tolist())
    if untied:
        assert results.rows[1].metrics == pytest.approx(expected(-distance, (1, 5, 10)))


def test_guided_re_orders_all_photos_of_the_class(
    network: CrossATNet, drawn: Catalog, split: Split, root: Path
) -> None:
    results = evaluate_instance_level({"ours": network}, PROVENANCE, drawn, split, quiet=True, guided=True)
    names = sorted(UNSEEN)
    photos = [root / "photos" / name / f"{number}.png" for name in names for number in (0, 1, 2)]
    sketches = [root / "sketches" / name / f"{number}.png" for name in names for number in (0, 1)]
    plain = network.encode(sketches, "sketch") @ network.encode(photos, "photo").T
    pixels = np.stack([network.shape(load_image(path), "photo") for path in photos])
    asking = [network.shape(load_image(path), "sketch") for path in sketches]
    guided = np.stack([network.guide(sketch, pixels).similarity for sketch in asking])
    assert results.rows[-1].model == "ours, guided"
    assert results.rows[-1].metrics == pytest.approx(expected((plain + guided) / 2, (1, 5, 10)))


def test_refuses_data_that_does_not_say_what_was_drawn(network: CrossATNet, catalog: Catalog, split: Split) -> None:
    with pytest.raises(UserError, match="no sketch says of which photo it was drawn"):
        evaluate_instance_level({"ours": network}, PROVENANCE, catalog, split, quiet=True)


def test_refuses_a_checkpoint_that_has_seen_the_classes(network: CrossATNet, drawn: Catalog, split: Split) -> None:
    seen = PROVENANCE.model_copy(update={"training_classes": UNSEEN})
    with pytest.raises(UserError, match="not a zero-shot test"):
        evaluate_instance_level({"ours": network}, seen, drawn, split, quiet=True)
