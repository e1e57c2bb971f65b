"""The two cuts of the folder benchmark: which classes and pictures take no part in training, by a fixed rule.

The choosing cut serves for choosing settings, the test cut for one measurement at the end. Of each, `WHOLE` classes are
held out whole. They have nothing to do with Sketchy's classes, so the checkpoints from before have not met them either.
Of every other class a share of its photos and drawings is held out for each cut. Which ones, the SHA-256 digest of
their names decides, so the cuts depend on nothing but the data sets' files.

The choosing cut shows nothing of the classes that sketchy-sake25 and sketchy-yelamarthi21 keep unseen, nor of their
relatives: what is chosen on it is chosen on seen classes under both splits.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

from crossatnet.data.catalog import Item
from crossatnet.data.layouts import list_items
from crossatnet.data.names import are_related, canonical
from crossatnet.data.splits import load_split

Cut = Literal["choosing", "test"]
CUTS: tuple[Cut, Cut] = ("choosing", "test")
SETS = {  # folder of each data set -> its layout
    "sketchy-mini": "sketchy",
    "tuberlin-mini": "tuberlin",
    "quickdraw-mini": "quickdraw",
    "doodles-extra": "folder",
    "photos-extra": "folder",
}
HANDS = {  # how the names of drawings tell who drew them
    "children": re.compile(r"doodles-extra/.*/child\d+_"),
    "mouse": re.compile(r"doodles-extra/.*/mouse_"),
    "Quick, Draw!": re.compile(r"quickdraw-mini/"),
    "TU-Berlin": re.compile(r"tuberlin-mini/"),
    "Sketchy": re.compile(r"photos-extra/sketches/"),  # those of sketchy-mini are all for training
}
WHOLE = 40  # classes held out whole, for each cut
FEWEST_PHOTOS = 10  # of a class held out whole
PHOTO_SHARE, MOST_PHOTOS = 0.2, 10  # of a class, for each cut
DRAWING_SHARE, MOST_DRAWINGS = 0.15, 12  # of a class and hand, for each cut,
MOST_OF_WHOLE = 40  # and of a class held out whole
PROTECTED = ("sketchy-sake25", "sketchy-yelamarthi21")


class Picture(NamedTuple):
    """One picture of the data sets, its place below their common folder, its class and, for a drawing, its hand."""

    item: Item
    place: str
    class_name: str
    hand: str | None  # of a drawing; "" where it is not measured


class Folder(NamedTuple):
    """What a cut measures: the photos to search in, and the drawings to search with."""

    photos: list[Picture]
    drawings: list[Picture]
    whole: frozenset[str]  # classes that no training meets


class Cuts:
    """The data sets' pictures, and what of them each cut holds out."""

    def __init__(self, pictures: Sequence[Picture]) -> None:
        self.pictures = pictures

    @classmethod
    def of(cls, data: Path) -> "Cuts":
        """The cuts of the data sets that lie in the folder `data`."""
        return cls([picture for name, layout in SETS.items() for picture in listed(data / name, layout)])

    @cached_property
    def whole(self) -> dict[Cut, frozenset[str]]:
        """The classes that are held out whole, by cut: those with drawings first, relatives together."""
        photos: dict[str, int] = defaultdict(int)
        hands: dict[str, set[str]] = defaultdict(set)
        for picture in self.pictures:
            photos[picture.class_name] += picture.hand is None
            hands[picture.class_name] |= {picture.hand} if picture.hand else set()
        known = {picture.class_name for picture in self.pictures if picture.place.startswith("sketchy-mini/")}
        fit = [
            name
            for name, count in photos.items()
            if count >= FEWEST_PHOTOS and not any(are_related(name, other) for other in known)
        ]
        groups = sorted(families(fit), key=lambda group: digest(group[0]))
        drawn_by = {group: tuple(sorted(set().union(*(hands[name] for name in group)))) for group in groups}
        chosen: dict[Cut, set[str]] = {cut: set() for cut in CUTS}
        by_hands = sorted(groups, key=lambda group: (-len(drawn_by[group]), drawn_by[group]))
        for group in by_hands:  # always to the cut that has fewer of these hands' classes
            same = {cut: sum(len(hands[name] & hands_of(group, hands)) for name in chosen[cut]) for cut in CUTS}
            cut = min(CUTS, key=lambda cut: (same[cut], len(chosen[cut])))
            if len(chosen[cut]) < WHOLE:
                chosen[cut] |= set(group)
        return {cut: frozenset(names) for cut, names in chosen.items()}

    @cached_property
    def shares(self) -> dict[Cut, frozenset[str]]:
        """Places of the single pictures that are held out of the other classes, by cut."""
        kept = [name for names in self.whole.values() for name in names]
        groups: dict[tuple[str, str | None], list[str]] = defaultdict(list)
        for picture in self.pictures:
            if picture.hand != "" and picture.class_name not in kept:
                groups[picture.class_name, picture.hand].append(picture.place)
        held: dict[Cut, set[str]] = {cut: set() for cut in CUTS}
        for (_, hand), places in groups.items():
            share, most = (PHOTO_SHARE, MOST_PHOTOS) if hand is None else (DRAWING_SHARE, MOST_DRAWINGS)
            count = min(round(share * len(places)), most)
            mixed = sorted(places, key=digest)
            for number, cut in enumerate(CUTS):
                held[cut] |= {*mixed[number * count : (number + 1) * count]}
        return {cut: frozenset(places) for cut, places in held.items()}

    def folder(self, cut: Cut) -> Folder:
        """What this cut measures; at most `MOST_PHOTOS` of a class and so many drawings of a class and hand."""
        whole = self.whole[cut]
        unseen = [name for split in PROTECTED for name in load_split(split).unseen] if cut == "choosing" else []
        names = {picture.class_name for picture in self.pictures}
        banned = {name for name in names if any(are_related(name, other) for other in unseen)}
        groups: dict[tuple[str, str | None], list[Picture]] = defaultdict(list)
        for picture in sorted(self.pictures, key=lambda picture: digest(picture.place)):
            held = picture.class_name in whole or picture.place in self.shares[cut]
            if picture.hand != "" and held and picture.class_name not in banned:
                groups[picture.class_name, picture.hand].append(picture)
        photos = [p for (_, hand), some in groups.items() if hand is None for p in some[:MOST_PHOTOS]]
        shown = {photo.class_name for photo in photos}
        drawings = [
            picture
            for (name, hand), some in groups.items()
            if hand and name in shown
            for picture in some[: MOST_OF_WHOLE if name in whole else MOST_DRAWINGS]
        ]
        return Folder(photos, drawings, whole)

    def left_out(self, cuts: Iterable[Cut]) -> list[str]:
        """What training must leave out for these cuts, as `data.leave_out` takes it: classes and single pictures."""
        return sorted(entry for cut in cuts for entry in (*self.whole[cut], *self.shares[cut]))


def listed(root: Path, layout: str) -> list[Picture]:
    """The pictures of one data set, none of them opened."""
    pictures = []
    for item in list_items(root, layout):
        place = item.place(root)
        hand = None
        if item.modality == "sketch":
            hand = next((hand for hand, pattern in HANDS.items() if pattern.match(place)), "")
        pictures.append(Picture(item, place, canonical(item.class_name), hand))
    return pictures


def families(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Classes in groups, relatives together, each group and the groups in alphabetical order."""
    groups: list[set[str]] = []
    for name in names:
        kin = [group for group in groups if any(are_related(name, other) for other in group)]
        groups = [group for group in groups if group not in kin] + [{name}.union(*kin)]
    return sorted(tuple(sorted(group)) for group in groups)


def hands_of(group: Iterable[str], hands: dict[str, set[str]]) -> set[str]:
    """Whoever drew one of these classes."""
    return set().union(*(hands[name] for name in group))


def digest(text: str) -> str:
    """What decides the order."""
    return hashlib.sha256(text.encode()).hexdigest()
