"""The audit: whether a checkpoint may be tested on a split's unseen classes, from what its training recorded.

Every class and picture that training read is compared with the unseen classes and their pictures. What was not
recorded is not proven, and the audit says so. It compares; it trusts no claim.

Shapes: `N` test photos.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, computed_field

from crossatnet.data.catalog import Catalog
from crossatnet.data.hashes import short_hash
from crossatnet.data.imagenet import PUBLISHED, counterparts, sorted_by_standing
from crossatnet.data.images import Modality
from crossatnet.data.looks import Looks, looks, near
from crossatnet.data.names import are_related, canonical
from crossatnet.data.splits import Split
from crossatnet.model.checkpoint import (
    CONFIG,
    RECORD,
    WEIGHTS,
    CheckpointConfig,
    Provenance,
    TrainingRecord,
    read_config,
    read_record,
    weights_hash,
)

ALIKE = 4  # near-duplicates differ in at most so many of 64 bits; photos of seen and unseen classes differ in 8 or more
Level = Literal["failure", "unproven", "warning", "note"]
Kind = Literal[
    "unseen class",  # a class, or an alias of one
    "relative",  # a class that shows much the same thing
    "unseen picture",  # a test picture's content among the training pictures
    "near-duplicate",  # a test photo that looks like a training photo
    "gallery duplicate",  # a test picture that the data set has twice
    "unreadable",  # a test picture that could not be compared
    "no record",  # record.json is missing
    "incomplete record",  # classes without pictures
    "other record",  # record.json is not that of these weights or this config.json
    "imagenet",  # what the pretrained backbone may have seen
]
COPY_AGAIN = "copy the whole checkpoint again, or train it again"
MEANING: dict[Kind, tuple[Level, str]] = {  # how serious it is, and what to do
    "unseen class": ("failure", "train it again without it: `crossatnet train` takes no unseen class of its split"),
    "relative": ("warning", "keep it if it is a seen class of the split itself, and say so beside the scores"),
    "unseen picture": (
        "failure",
        "remove the file from one of the two classes; if it was in the training data, train again without it",
    ),
    "near-duplicate": (
        "warning",
        "look at both; if they are the same picture, remove one; train again if it was in the training data",
    ),
    "gallery duplicate": (
        "warning",
        "if both are of one class, do nothing: it counts once; else remove the one in the wrong class",
    ),
    "unreadable": ("warning", "repair the file or remove it"),
    "no record": ("unproven", "train it again with this version of crossatnet, which writes the record"),
    "incomplete record": ("unproven", COPY_AGAIN),
    "other record": ("failure", COPY_AGAIN),
    "imagenet": ("note", f"test on {PUBLISHED} too, if what the backbone was pretrained on matters"),
}


class Finding(BaseModel):
    """One thing that the audit found: the class or file it is about (`offender`), and what to do."""

    model_config = ConfigDict(frozen=True)

    level: Level
    kind: Kind
    offender: str
    message: str
    advice: str
    distance: int | None = None  # of near-duplicates: bits of 64 in which their looks differ

    @classmethod
    def of(cls, kind: Kind, offender: str, message: str, distance: int | None = None) -> "Finding":
        """A finding of this kind, with the kind's level and advice.

        Example:
            >>> from crossatnet.evaluation.audit import Finding
            >>> Finding.of("relative", "mug", "'mug' shows much the same as the unseen cup").level
            'warning'
        """
        level, advice = MEANING[kind]
        return cls(level=level, kind=kind, offender=offender, message=message, advice=advice, distance=distance)


class Audit(BaseModel):
    """What was compared (`facts`, for a table) and what was found, the most serious first."""

    model_config = ConfigDict(frozen=True)

    checkpoint: str
    data: str
    split: str
    facts: dict[str, str | int]
    findings: tuple[Finding, ...]

    @computed_field  # type: ignore[prop-decorator]  # pydantic's own way; mypy does not know it
    @property
    def passed(self) -> bool:
        """Whether the zero-shot rule is proven: no finding breaks it or leaves it open."""
        return not any(finding.level in ("failure", "unproven") for finding in self.findings)


def audit(folder: Path, catalog: Catalog, split: Split, quiet: bool = False) -> Audit:
    """Compare what a checkpoint's training read with a split's unseen classes and their pictures in `catalog`.

    Only the catalog's unseen classes matter; the checkpoint may have been trained on another split. Raises `UserError`
    for a folder that is no checkpoint, a damaged record, and a catalog that lacks sketches or photos of an unseen
    class, as missing pictures cannot be compared.

    Example:
        >>> from crossatnet.data.layouts import read_catalog
        >>> from crossatnet.data.splits import Split
        >>> from crossatnet.evaluation.audit import audit
        >>> from crossatnet.model.checkpoint import locate
        >>> for part, picture in (("sketches", sketch), ("photos", photo)):
        ...     (tmp_path / part / "unicorn").mkdir(parents=True)
        ...     picture.save(f"{part}/unicorn/1.png")
        >>> split = Split("mine", seen=("zebra",), unseen=("unicorn",))
        >>> catalog = read_catalog(tmp_path, "folder", quiet=True)
        >>> audit(locate("crossatnet-sketchy"), catalog, split, quiet=True).passed
        True
    """
    config, record = read_config(folder), read_record(folder)
    catalog.require(split.unseen, "the audit")
    unseen = tested(catalog, split)
    findings = class_findings(classes_by_use(config.provenance, record), record.aliases if record else {}, split)
    facts = _facts(config, record, unseen, split)
    if record is None:
        findings.append(
            Finding.of(
                "no record",
                RECORD,
                f"{folder} has no record of the pictures it was trained on, so only the classes named in {CONFIG}"
                " were compared",
            )
        )
    else:
        findings += record_findings(folder, config.provenance, record) + picture_findings(record, unseen)
        pairs = look_findings(record, unseen, looks([i for i in unseen.items if i.modality == "photo"], quiet))
        findings += pairs
        counts = Counter(pair.distance for pair in pairs)
        facts["test photos that look like a training photo"] = (
            ", ".join(f"{count} at {bits} of 64 bits" for bits, count in counts.items())
            or f"none within {ALIKE} of 64 bits"
        )
    findings += [*gallery_findings(catalog, split), imagenet_finding(split)]
    gravity: tuple[Level, ...] = ("failure", "unproven", "warning", "note")
    return Audit(
        checkpoint=config.name,
        data=catalog.root.name,
        split=split.name,
        facts=facts,
        findings=tuple(sorted(findings, key=lambda finding: gravity.index(finding.level))),
    )


def tested(catalog: Catalog, split: Split) -> Catalog:
    """The pictures of unseen classes, with those that the scan left out because a seen class has them too."""
    unseen, hashes = catalog.select(split.unseen), dict(zip(catalog.items, catalog.hashes, strict=True))
    copies = {
        copy: hashes[kept]
        for copy, kept in catalog.duplicates
        if copy.class_name in split.unseen_set and kept.class_name not in split.unseen_set
    }
    return replace(unseen, items=(*unseen.items, *copies), hashes=(*unseen.hashes, *copies.values()))


def classes_by_use(provenance: Provenance, record: TrainingRecord | None) -> dict[str, set[str]]:
    """The classes that each part of training used, as far as they are recorded."""
    uses = {
        "trained on": {*provenance.training_classes},
        "choice of the epoch": {*provenance.validation_classes},
    }
    if record is not None:
        uses["trained on"] |= {*record.training_classes}
        uses["choice of the epoch"] |= {*record.selection_classes}
        uses |= {
            "pictures read": {*record.pictures},
            "class graph": {*record.graph_classes},
            "centring": {*record.centring_classes},
            "batch-norm statistics": {*record.statistics_classes},
            "hash codes": {*record.hash_code_classes},
        }
    return uses


def class_findings(uses: Mapping[str, set[str]], aliases: Mapping[str, tuple[str, ...]], split: Split) -> list[Finding]:
    """Unseen classes among those that training used, under any of their names (failures), and relatives (warnings)."""
    found = []
    for name in sorted(set().union(*uses.values())):
        purposes = ", ".join(use for use, names in uses.items() if name in names)
        ours = {canonical(known): known for known in (*aliases.get(name, ()), name)}  # its own name last
        forbidden = sorted(split.unseen_set & set(ours))
        for unseen in forbidden:
            known = "" if name == unseen else f", another name of the unseen class '{unseen}',"
            found.append(
                Finding.of(
                    "unseen class",
                    name,
                    f"'{name}'{known} is unseen in {split.name}, but training had it for: {purposes}",
                )
            )
        relatives = [unseen for unseen in split.unseen if not forbidden and are_related(canonical(name), unseen)]
        if relatives:
            found.append(
                Finding.of(
                    "relative",
                    name,
                    f"'{name}' shows much the same as the unseen {', '.join(relatives)}; training had it for:"
                    f" {purposes}",
                )
            )
    return found


def record_findings(folder: Path, provenance: Provenance, record: TrainingRecord) -> list[Finding]:
    """Whether the record belongs to this checkpoint and is complete."""
    found = []
    differing = sorted(
        {*record.training_classes} ^ {*provenance.training_classes}
        | ({*record.selection_classes} ^ {*provenance.validation_classes})
    )
    if differing:
        message = f"{RECORD} and {CONFIG} disagree about {len(differing)} classes: {', '.join(differing[:5])}"
        found.append(Finding.of("other record", differing[0], message))
    if record.weights != weights_hash(folder):
        message = f"{RECORD} was written for other weights than {folder / WEIGHTS}"
        found.append(Finding.of("other record", WEIGHTS, message))
    bare = [
        name
        for name in sorted({*record.training_classes, *record.selection_classes})
        if not (pictures := record.pictures.get(name))
        or not (pictures.sketch or pictures.photo)
        or not (name in record.one_sided_classes or (pictures.sketch and pictures.photo))
    ]
    if bare:
        message = f"no pictures are recorded of {len(bare)} classes that training used: {', '.join(bare[:5])}"
        found.append(Finding.of("incomplete record", bare[0], message))
    return found


def picture_findings(record: TrainingRecord, unseen: Catalog) -> list[Finding]:
    """Test pictures whose content training read, under any class and modality."""
    known = _known(record)
    return [
        Finding.of(
            "unseen picture",
            item.label,
            f"{item.label} ({item.class_name}, {item.modality}) is a picture that training read as"
            f" {' and '.join(known[short_hash(content_hash)])}",
        )
        for item, content_hash in zip(unseen.items, unseen.hashes, strict=True)
        if short_hash(content_hash) in known
    ]


def look_findings(record: TrainingRecord, unseen: Catalog, shown: Looks) -> list[Finding]:
    """Test photos, with looks `shown` (N,), that nearly equal a training photo; the most alike first.

    `picture_findings` reports photos of equal content.
    """
    known = _known(record)
    trained = [(name, look) for name, pictures in record.pictures.items() for look in pictures.look]
    photos = [pair for pair in zip(unseen.items, unseen.hashes, strict=True) if pair[0].modality == "photo"]
    found = []
    pairs = near(shown, np.array([int(look, 16) for _, look in trained], dtype=np.uint64), ALIKE)
    for row, other, distance in zip(*pairs, strict=True):
        item, content_hash = photos[row]
        if short_hash(content_hash) not in known:
            found.append(
                Finding.of(
                    "near-duplicate",
                    item.label,
                    f"{item.label} ({item.class_name}) looks like a photo that training read as {trained[other][0]}:"
                    f" {distance} of 64 bits differ",
                    int(distance),
                )
            )
    return found


def gallery_findings(catalog: Catalog, split: Split) -> list[Finding]:
    """Test pictures that the data set has twice, or that cannot be read."""
    found = [
        Finding.of(
            "gallery duplicate",
            copy.label,
            f"{copy.label} ({copy.class_name}, {copy.modality}) equals {kept.label} ({kept.class_name})",
        )
        for copy, kept in catalog.duplicates
        if {copy.class_name, kept.class_name} & split.unseen_set
    ]
    found += [
        Finding.of("unreadable", problem.item.label, f"not compared, and not part of the test: {problem.reason}")
        for problem in catalog.problems
        if problem.item.class_name in split.unseen_set
    ]
    return found


def imagenet_finding(split: Split) -> Finding:
    """Which unseen classes ImageNet-1k has, so that a backbone pretrained on it may have seen them."""
    found = sorted_by_standing(split.unseen)
    doubtful = len(found["unclear"]) + len(found["unknown"])
    listed = "; ".join(f"{how}: {', '.join(map(_with_counterparts, names))}" for how, names in found.items() if names)
    perhaps = f", perhaps {doubtful} more" if doubtful else ""
    finding = Finding.of(
        "imagenet",
        f"{len(found['in'])} of {len(split.unseen)} unseen classes{perhaps}",
        f"ImageNet-1k and the unseen classes: {listed}",
    )
    return finding if len(found["not in"]) < len(split.unseen) else finding.model_copy(update={"advice": "none"})


def _with_counterparts(name: str) -> str:
    """A class and what ImageNet calls it, if that is another name: at most two."""
    others = [other for other in counterparts(name) if canonical(other) != name]
    more = f" and {len(others) - 2} more" if len(others) > 2 else ""
    return f"{name} ({', '.join(others[:2])}{more})" if others else name


def _known(record: TrainingRecord) -> dict[str, list[str]]:
    """Short hash of every picture that training read -> its classes and modalities, in words."""
    modalities: tuple[Modality, ...] = ("sketch", "photo")
    known: dict[str, list[str]] = {}
    for name, pictures in record.pictures.items():
        for modality in modalities:
            for content in getattr(pictures, modality):
                known.setdefault(content, []).append(f"a {modality} of {name}")
    return known


def _facts(
    config: CheckpointConfig, record: TrainingRecord | None, unseen: Catalog, split: Split
) -> dict[str, str | int]:
    """How many classes and pictures were compared."""
    uses = classes_by_use(config.provenance, record)
    tested = Counter(item.modality for item in unseen.items)
    facts: dict[str, str | int] = {
        "trained by split": config.provenance.split,
        "trained with": config.provenance.trained_with,
        "backbone": config.model.backbone,
        **{f"classes: {use}": len(names) for use, names in uses.items()},
    }
    read = record.pictures.values() if record else None
    facts["sketches that training read"] = "unknown" if read is None else sum(len(part.sketch) for part in read)
    facts["photos that training read"] = "unknown" if read is None else sum(len(part.photo) for part in read)
    return {
        **facts,
        "unseen classes": len(split.unseen),
        "test sketches": tested["sketch"],
        "test photos": tested["photo"],
    }
