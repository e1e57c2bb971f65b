"""The audit: a clean run passes, and all that breaks the zero-shot rule is named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from crossatnet.config import Config, DataConfig, LossConfig, ModelConfig, SemanticsConfig, TrainConfig
from crossatnet.data.hashes import short_hash
from crossatnet.data.layouts import read_catalog
from crossatnet.data.looks import ClassPictures
from crossatnet.data.splits import Split, load_split
from crossatnet.evaluation.audit import ALIKE, Audit, audit, imagenet_finding
from crossatnet.model.checkpoint import CONFIG, RECORD, WEIGHTS, read_record
from crossatnet.system.errors import UserError
from crossatnet.training.train import train, training_record
from tiny_data import SEEN, UNSEEN, write_tiny

LISTS = {  # field of the record -> its name in the audit
    "training_classes": "trained on",
    "selection_classes": "choice of the epoch",
    "graph_classes": "class graph",
    "centring_classes": "centring",
    "statistics_classes": "batch-norm statistics",
    "hash_code_classes": "hash codes",
}


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny data set, `data`, and the checkpoint `run` that was trained on its seen classes."""
    base = tmp_path_factory.mktemp("audit")
    write_tiny(base / "data")
    return trained(base)


def trained(base: Path) -> Path:
    """Train on the seen classes of `data` into `run`."""
    split = str(base / "data" / "tiny")
    config = Config(
        name="shapes",
        data=DataConfig(root=base / "data", split=split, validation_classes=2),
        model=ModelConfig(image_size=32, dimension=16, code_lengths=(16,)),
        train=TrainConfig(epochs=1, classes_per_batch=4),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CROSSATNET_CACHE", str(base / "cache"))
        train(config, base / "run", quiet=True)
    return base


@pytest.fixture
def base(clean: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    for part in ("data", "run"):
        shutil.copytree(clean / part, tmp_path / part)
    return tmp_path


def audited(base: Path, split: Split | None = None) -> Audit:
    split = split or load_split(str(base / "data" / "tiny"))
    return audit(base / "run", read_catalog(base / "data", "folder", quiet=True), split, quiet=True)


def doctor(base: Path, change: Callable[[dict[str, Any]], object], file: str = RECORD) -> None:
    """Change the record, or another JSON file, of the checkpoint."""
    content = json.loads((base / "run" / file).read_text())
    change(content)
    (base / "run" / file).write_text(json.dumps(content))


def found(result: Audit, level: str) -> list[tuple[str, str]]:
    return [(finding.kind, finding.offender) for finding in result.findings if finding.level == level]


# A clean run


def test_a_clean_run_passes(clean: Path) -> None:
    result = audited(clean)
    assert result.passed
    assert (found(result, "failure"), found(result, "unproven")) == ([], [])
    assert (result.checkpoint, result.data, result.split) == ("shapes", "data", "tiny")
    assert result.facts["classes: trained on"] == len(SEEN)
    assert result.facts["classes: choice of the epoch"] == 2
    assert result.facts["classes: class graph"] == 0
    assert result.facts["photos that training read"] == result.facts["sketches that training read"] == len(SEEN) * 4
    assert result.facts["test sketches"] == result.facts["test photos"] == len(UNSEEN) * 4
    assert json.loads(result.model_dump_json())["passed"] is True


def test_the_record_tells_what_was_read_and_nothing_of_the_machine(clean: Path) -> None:
    record = read_record(clean / "run")
    assert record is not None
    catalog = read_catalog(clean / "data", "folder", quiet=True, classes=SEEN)
    recorded = {
        (name, modality, content)
        for name, pictures in record.pictures.items()
        for modality in ("sketch", "photo")
        for content in getattr(pictures, modality)
    }
    assert recorded == {
        (item.class_name, item.modality, short_hash(digest))
        for item, digest in zip(catalog.items, catalog.hashes, strict=True)
    }
    assert set(record.training_classes) == set(record.centring_classes) == set(record.hash_code_classes) == set(SEEN)
    assert len(record.selection_classes) == 2
    text = (clean / "run" / RECORD).read_text()
    assert not any(private in text for private in (*UNSEEN, "/", "\\", ".png", clean.name))
    assert len(text) < 6000


@pytest.mark.parametrize(
    ("semantics", "loss", "graph"), [("free", 0.0, False), ("graph", 0.0, True), ("free", 0.1, True)]
)
@pytest.mark.parametrize("statistics", [0.0, 0.5])
def test_the_record_lists_classes_by_what_was_switched_on(
    semantics: Any, loss: float, graph: bool, statistics: float
) -> None:
    config = Config(
        name="any",
        data=DataConfig(split="tiny"),
        model=ModelConfig(sketch_statistics=statistics),
        semantics=SemanticsConfig(prototypes=semantics),
        loss=LossConfig(semantic_margin=loss),
    )
    pictures = {name: ClassPictures() for name in ("car_sedan", "cat", "cow")}
    record = training_record(config, pictures, ("cat", "cow"), ("car_sedan",))
    assert record.graph_classes == (("cat", "cow") if graph else ())
    assert record.statistics_classes == (("car_sedan", "cat", "cow") if statistics else ())
    assert record.centring_classes == record.hash_code_classes == record.training_classes == ("cat", "cow")
    assert record.selection_classes == ("car_sedan",)
    assert record.aliases == {"car_sedan": ("car",)}


# Classes


@pytest.mark.parametrize("field", LISTS)
def test_an_unseen_class_is_named_with_what_it_was_used_for(base: Path, field: str) -> None:
    doctor(base, lambda record: record[field].append("hourglass"))
    result = audited(base)
    assert not result.passed
    (finding,) = [finding for finding in result.findings if finding.kind == "unseen class"]
    assert (finding.level, finding.offender) == ("failure", "hourglass")
    assert finding.message == f"'hourglass' is unseen in tiny, but training had it for: {LISTS[field]}"
    assert "train it again" in finding.advice


def test_an_unseen_class_among_the_pictures_is_named(base: Path) -> None:
    doctor(base, lambda record: record["pictures"].update(circle={"sketch": ["0" * 16]}))
    result = audited(base)
    assert found(result, "failure") == [("unseen class", "circle")]
    assert result.findings[0].message.endswith("training had it for: pictures read")


@pytest.mark.parametrize("field", ["training_classes", "validation_classes"])
def test_an_unseen_class_in_the_config_alone_is_named(base: Path, field: str) -> None:
    doctor(base, lambda config: config["provenance"][field].append("circle"), CONFIG)
    assert found(audited(base), "failure") == [("unseen class", "circle"), ("other record", "circle")]


def with_car(base: Path) -> Split:
    """The data set with `circle` renamed to a class that has an alias."""
    for folder in ("sketches", "photos"):
        (base / "data" / folder / "circle").rename(base / "data" / folder / "car_(sedan)")
    return Split("cars", SEEN, ("car_sedan", "hourglass"))


def test_an_alias_of_an_unseen_class_is_named(base: Path) -> None:
    """The alias comes from today's table of names."""
    split = with_car(base)
    assert audited(base, split).passed
    doctor(base, lambda record: record["graph_classes"].append("Car"))
    result = audited(base, split)
    assert found(result, "failure") == [("unseen class", "Car")]
    assert "'Car', another name of the unseen class 'car_sedan', is unseen in cars" in result.findings[0].message


def test_an_alias_that_only_training_knew_is_named(base: Path) -> None:
    doctor(base, lambda record: record["aliases"].update(star=["Circle", "sun"]))
    result = audited(base)
    assert found(result, "failure") == [("unseen class", "star")]
    assert "another name of the unseen class 'circle'" in result.findings[0].message


def test_a_relative_is_a_warning(base: Path) -> None:
    for folder in ("sketches", "photos"):
        (base / "data" / folder / "circle").rename(base / "data" / folder / "five_pointed_star")
    result = audited(base, Split("stars", SEEN, ("five_pointed_star", "hourglass")))
    assert result.passed
    assert ("relative", "star") in found(result, "warning")
    (finding,) = [finding for finding in result.findings if finding.kind == "relative"]
    assert "the unseen five_pointed_star; training had it for: trained on, " in finding.message


# Pictures


@pytest.mark.parametrize("folder", ["photos", "sketches"])
def test_a_training_picture_under_an_unseen_class_is_named(base: Path, folder: str) -> None:
    copy = base / "data" / folder / "circle" / "new.png"
    shutil.copyfile(base / "data" / folder / "star" / "1.png", copy)
    # alone, as in a data set of its own, so that the scan does not see it twice
    split = load_split(str(base / "data" / "tiny"))
    catalog = read_catalog(base / "data", "folder", quiet=True, classes=split.unseen)
    result = audit(base / "run", catalog, split, quiet=True)
    assert found(result, "failure") == [("unseen picture", str(copy))]
    modality = {"photos": "photo", "sketches": "sketch"}[folder]
    assert f"(circle, {modality}) is a picture that training read as a {modality} of star" in result.findings[0].message
    assert not any(finding.offender == str(copy) for finding in result.findings[1:])  # not as near-duplicate too


def test_an_unseen_picture_in_training_is_named_with_all_its_classes(base: Path) -> None:
    split = load_split(str(base / "data" / "tiny"))
    catalog = read_catalog(base / "data", "folder", quiet=True)
    unseen = catalog.select(split.unseen, "photo")

    def add(record: dict[str, Any]) -> None:
        record["pictures"]["bar"]["photo"].append(short_hash(unseen.hashes[2]))
        record["pictures"]["plus"]["sketch"].append(short_hash(unseen.hashes[2]))

    doctor(base, add)
    result = audit(base / "run", catalog, split, quiet=True)
    assert found(result, "failure") == [("unseen picture", unseen.items[2].label)]
    assert "read as a photo of bar and a sketch of plus" in result.findings[0].message


@pytest.mark.parametrize("name", ["aaa.png", "zzz.png"])
@pytest.mark.parametrize("seen", ["arrow", "star"])  # a class before the unseen one in the alphabet, and one after it
def test_training_on_a_doctored_data_set_is_found_out(clean: Path, tmp_path: Path, seen: str, name: str) -> None:
    """A test photo lies among the training photos under another name before training; the record is not edited."""
    shutil.copytree(clean / "data", tmp_path / "data")
    photos = tmp_path / "data" / "photos"
    shutil.copyfile(photos / "circle" / "2.png", photos / seen / name)
    trained(tmp_path)
    split = load_split(str(tmp_path / "data" / "tiny"))
    for classes in (split.unseen_set, None):  # the test's pictures alone, as the command reads them, or all
        catalog = read_catalog(tmp_path / "data", "folder", quiet=True, classes=classes)
        result = audit(tmp_path / "run", catalog, split, quiet=True)
        assert not result.passed
        assert found(result, "failure") == [("unseen picture", str(photos / "circle" / "2.png"))]
        assert f"is a picture that training read as a photo of {seen}" in result.findings[0].message


def test_near_duplicates_are_warnings_the_most_alike_first(base: Path) -> None:
    with Image.open(base / "data" / "photos" / "star" / "1.png") as image:
        image.resize((40, 40)).save(base / "data" / "photos" / "hourglass" / "resized.jpg", quality=50)
        image.save(base / "data" / "photos" / "hourglass" / "same.bmp")  # the same pixels in other bytes
    result = audited(base)
    assert result.passed
    near = [finding for finding in result.findings if finding.kind == "near-duplicate"]
    distances = [finding.distance or 0 for finding in near]
    assert distances == sorted(distances)
    assert max(distances) <= ALIKE
    assert near[0].offender.endswith("same.bmp")
    assert "training read as star: 0 of 64 bits differ" in near[0].message
    assert any(finding.offender.endswith("resized.jpg") for finding in near)
    assert {finding.level for finding in near} == {"warning"}
    fact = str(result.facts["test photos that look like a training photo"])
    assert sum(int(part.split(" at ")[0]) for part in fact.split(", ")) == len(near)
    assert fact.startswith("1 at 0 of 64 bits")


def test_what_the_gallery_has_twice_and_what_nobody_can_read_are_warnings(base: Path) -> None:
    photos = base / "data" / "photos"
    shutil.copyfile(photos / "circle" / "0.png", photos / "circle" / "again.png")
    shutil.copyfile(photos / "star" / "0.png", photos / "star" / "again.png")  # of a seen class: not checked
    (photos / "circle" / "broken.png").write_bytes(b"no picture")
    (photos / "star" / "broken.png").write_bytes(b"no picture")
    result = audited(base)
    assert result.passed
    warnings = [warning for warning in found(result, "warning") if warning[0] != "near-duplicate"]
    assert warnings == [
        ("gallery duplicate", str(photos / "circle" / "again.png")),
        ("unreadable", str(photos / "circle" / "broken.png")),
    ]


def test_a_test_set_that_lacks_an_unseen_class_cannot_be_audited(base: Path) -> None:
    shutil.rmtree(base / "data" / "photos" / "circle")
    with pytest.raises(UserError, match="class 'circle' has 4 sketches and 0 photos; the audit needs"):
        audited(base)


# Records


def test_without_a_record_nothing_is_proven(base: Path) -> None:
    (base / "run" / RECORD).unlink()
    result = audited(base)
    assert not result.passed
    assert (found(result, "failure"), found(result, "unproven")) == ([], [("no record", RECORD)])
    assert "train it again" in result.findings[0].advice
    assert result.facts["photos that training read"] == "unknown"
    doctor(base, lambda config: config["provenance"]["training_classes"].append("circle"), CONFIG)
    assert found(audited(base), "failure") == [("unseen class", "circle")]  # what is recorded is still compared


def test_a_class_with_one_side_is_proven_where_the_record_says_so(base: Path) -> None:
    doctor(base, lambda record: record["pictures"]["plus"].update(photo=[], look=[]))
    assert found(audited(base), "unproven") == [("incomplete record", "plus")]
    doctor(base, lambda record: record.update(one_sided_classes=["plus"]))
    assert found(audited(base), "unproven") == []
    doctor(base, lambda record: record["pictures"]["plus"].update(sketch=[]))
    assert found(audited(base), "unproven") == [("incomplete record", "plus")]


def test_a_record_without_pictures_proves_nothing(base: Path) -> None:
    doctor(base, lambda record: record["pictures"]["plus"].update(photo=[], look=[]))
    doctor(base, lambda record: record["pictures"].pop("arrow"))
    result = audited(base)
    assert not result.passed
    assert found(result, "unproven") == [("incomplete record", "arrow")]
    assert "no pictures are recorded of 2 classes that training used: arrow, plus" in result.findings[0].message


def test_the_record_of_other_weights_fails(base: Path) -> None:
    with (base / "run" / WEIGHTS).open("ab") as file:
        file.write(b" ")
    assert found(audited(base), "failure") == [("other record", WEIGHTS)]


def test_the_record_of_other_classes_fails(base: Path) -> None:
    doctor(base, lambda record: record["training_classes"].remove("star"))
    assert found(audited(base), "failure") == [("other record", "star")]


@pytest.mark.parametrize("part", ["sketch", "photo", "look"])
@pytest.mark.parametrize("content", ["/home/me/star.png", "F" * 16, "0" * 15, 7])
def test_a_damaged_record_is_an_error(base: Path, part: str, content: object) -> None:
    """Such as a record with a file name in place of a hash."""
    doctor(base, lambda record: record["pictures"]["star"][part].append(content))
    with pytest.raises(UserError, match=r"record\.json: damaged"):
        audited(base)


# ImageNet


def test_the_split_that_was_chosen_for_it_has_no_class_of_imagenet() -> None:
    finding = imagenet_finding(load_split("sketchy-yelamarthi21"))
    assert (finding.level, finding.offender, finding.advice) == ("note", "0 of 21 unseen classes", "none")
    assert "unseen classes: not in: bat, cabin, cow, dolphin (killer whale), door (sliding door)," in finding.message


def test_classes_of_imagenet_are_reported_with_its_names() -> None:
    finding = imagenet_finding(load_split("sketchy-sake25"))
    assert finding.offender == "21 of 25 unseen classes"
    assert "in: airplane (airliner), bell (chime), butterfly (admiral, cabbage butterfly and 4 more)" in finding.message
    assert finding.message.endswith("not in: scissors, tree, wheelchair, windmill")
    assert finding.advice == "test on sketchy-yelamarthi21 too, if what the backbone was pretrained on matters"


def test_what_is_unclear_is_not_made_up() -> None:
    finding = imagenet_finding(Split("mine", ("star",), ("brain", "kite", "my_thing", "zebra")))
    assert finding.offender == "1 of 4 unseen classes, perhaps 2 more"
    assert finding.message.endswith(": in: zebra; not in: brain; unclear: kite; unknown: my_thing")


def test_the_audit_needs_no_picture_of_a_seen_class(clean: Path) -> None:
    split = load_split(str(clean / "data" / "tiny"))
    alone = read_catalog(clean / "data", "folder", quiet=True, classes=split.unseen)
    assert audit(clean / "run", alone, split, quiet=True) == audited(clean)
