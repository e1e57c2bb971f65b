"""The tests of a data set and a split: which pictures are queries and which the gallery, by direction and setting.

Shapes: `Q` queries, `K` copies.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossatnet.data.catalog import Catalog, Item
from crossatnet.data.images import Modality
from crossatnet.data.splits import Split
from crossatnet.model.checkpoint import Provenance
from crossatnet.system.errors import UserError, did_you_mean

SEED = 0  # of everything random in an evaluation
ZERO_SHOT = "zero-shot: queries and gallery of unseen classes only"
SETTINGS = ("zero-shot", "generalised", "all-seen-photos")
SHARE = 0.2  # in the setting `generalised`: seen-class items added, as a share of the unseen-class items
PLURALS: dict[Modality, str] = {"sketch": "sketches", "photo": "photos"}
DIRECTIONS: dict[str, tuple[Modality, Modality]] = {
    "sketch-to-photo": ("sketch", "photo"),
    "photo-to-sketch": ("photo", "sketch"),
    "sketch-to-sketch": ("sketch", "sketch"),
    "photo-to-photo": ("photo", "photo"),
}


@dataclass(frozen=True)
class Task:
    """The classes of queries and gallery, which query is itself in the gallery, and copies left out.

    `same` (Q,) is the gallery row that is the query itself, or -1. `copied` (K,) are gallery rows that the data holds a
    second time, under `copied_class`.
    """

    query_class: Sequence[object] | NDArray[np.generic]
    gallery_class: Sequence[object] | NDArray[np.generic]
    same: NDArray[np.int64] | None = None
    copied: Sequence[int] = ()
    copied_class: Sequence[str] = ()


@dataclass(frozen=True)
class Trial:
    """One test of a network: queries, gallery, and the copies (copy, kept item) left out of the gallery."""

    direction: str
    setting: str
    query: tuple[Item, ...]
    gallery: tuple[Item, ...]
    copies: tuple[tuple[Item, Item], ...]

    @property
    def task(self) -> Task:
        """What the evaluator has to know of this test."""
        position = {item: index for index, item in enumerate(self.gallery)}
        return Task(
            [item.class_name for item in self.query],
            [item.class_name for item in self.gallery],
            np.array([position.get(item, -1) for item in self.query]),
            [position[kept] for _, kept in self.copies],
            [copy.class_name for copy, _ in self.copies],
        )


def check_names(directions: Sequence[str], settings: Sequence[str]) -> None:
    """Raise `UserError` for an unknown direction or setting."""
    for what, names, known in (("direction", directions, DIRECTIONS), ("setting", settings, SETTINGS)):
        for name in names:
            if name not in known:
                raise UserError(f"unknown {what} '{name}'; {did_you_mean(name, known)}")


def refuse_seen(provenance: Provenance, split: Split) -> None:
    """Raise `UserError` if the checkpoint was trained, or its epoch chosen, on an unseen class of the split."""
    known = {*provenance.training_classes, *provenance.validation_classes} & split.unseen_set
    if known:
        shown = ", ".join(sorted(known)[:5]) + (" ..." if len(known) > 5 else "")
        raise UserError(
            f"not a zero-shot test: the checkpoint (split {provenance.split}) was trained on {len(known)} classes that"
            f" {split.name} keeps unseen ({shown}); evaluate it with --split {provenance.split}"
        )


def make_trial(catalog: Catalog, split: Split, direction: str, setting: str) -> Trial:
    """The queries and the gallery of a direction and a setting; a picture never searches itself.

    `zero-shot`: unseen classes only. `generalised`, as in SEM-PCYC (Dutta and Akata 2019): pictures of seen classes are
    added to queries and gallery, 20% of the number of unseen ones. They are drawn with seed `SEED`, queries only of
    classes that the drawn gallery holds. `all-seen-photos`: all pictures of seen classes in the gallery's modality are
    added to the gallery. Raises `UserError` for data without seen classes where they are needed, and for a query
    without a relevant item.
    """
    asking, searched = DIRECTIONS[direction]
    query, gallery = (catalog.select(split.unseen, modality).items for modality in (asking, searched))
    described = ZERO_SHOT
    if setting != "zero-shot":
        seen_query, seen_gallery = (catalog.select(split.seen, modality).items for modality in (asking, searched))
        if not seen_gallery or (setting == "generalised" and not seen_query):
            raise UserError(
                f"{catalog.root}: {len(seen_query)} {PLURALS[asking]} and {len(seen_gallery)} {PLURALS[searched]} of"
                f" seen classes to add, but the setting '{setting}' needs them; add some, or choose zero-shot"
            )
        if setting == "generalised":
            generator = random.Random(SEED)
            seen_gallery = _drawn(seen_gallery, SHARE * len(gallery), generator)
            seen_query = _drawn(_answered(seen_query, seen_gallery), SHARE * len(query), generator)
            query += seen_query
            described = (
                f"generalised as SEM-PCYC: {len(seen_query)} queries and {len(seen_gallery)} gallery items of seen"
                f" classes added, {SHARE:.0%} of the unseen ones, drawn with seed {SEED}"
            )
        else:
            described = f"generalised: all {len(seen_gallery)} {PLURALS[searched]} of seen classes added to the gallery"
        gallery += seen_gallery
    answered = frozenset(_answered(query, gallery))
    for item in query:
        if item not in answered:
            raise UserError(
                f"{item.label} is the only {searched} of class '{item.class_name}', so that {direction} has nothing to"
                " find for it; add another, or evaluate sketch-to-photo"
            )
    classes = {item.class_name for item in gallery}
    kept = frozenset(gallery)
    copies = tuple(pair for pair in catalog.duplicates if pair[1] in kept and pair[0].class_name in classes)
    return Trial(direction, described, query, gallery, copies)


def _answered(query: Sequence[Item], gallery: Sequence[Item]) -> list[Item]:
    """The queries for which the gallery has an item of their class, not counting the query itself."""
    sizes, items = Counter(item.class_name for item in gallery), frozenset(gallery)
    return [item for item in query if sizes[item.class_name] > (item in items)]


def _drawn(items: Sequence[Item], number: float, generator: random.Random) -> tuple[Item, ...]:
    """About this number of random items in their order: at least one, or all if there are fewer."""
    size = min(max(round(number), 1), len(items))
    return tuple(items[index] for index in sorted(generator.sample(range(len(items)), size)))
