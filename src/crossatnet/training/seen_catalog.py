"""The training catalog: the split's seen classes, and what may be added to them from further data sets."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from itertools import compress
from pathlib import Path
from typing import NamedTuple

from crossatnet.config import DataConfig
from crossatnet.data.catalog import Catalog, Item
from crossatnet.data.layouts import list_classes, read_catalog
from crossatnet.data.names import are_related, canonical
from crossatnet.data.splits import EVERYTHING, Split, load_split
from crossatnet.model.interface import MODALITIES
from crossatnet.system.errors import UserError


class LeftOut(NamedTuple):
    """What training leaves out besides a split's unseen classes: whole classes, and single pictures by their place."""

    classes: frozenset[str]
    places: frozenset[str]

    @classmethod
    def read(cls, path: Path | None) -> "LeftOut":
        """Read a file of class names and places (`Item.place`), one a line; none gives nothing to leave out."""
        if path is None:
            return cls(frozenset(), frozenset())
        try:
            lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: cannot be read ({error}); give a text file as data.leave_out") from error
        entries = [line for line in lines if line]
        places = frozenset(entry for entry in entries if "/" in entry)
        return cls(frozenset(canonical(entry) for entry in entries if entry not in places), places)


def seen_catalog(config: DataConfig, quiet: bool) -> tuple[Catalog, Split, tuple[str, ...]]:
    """The pictures that training may see, the split, and the classes: the split's seen ones first, then further ones.

    In place of a split, `all` takes every class of the data set that has both sketches and photos as seen.
    From `config.extra` a class is left out if it is the same as, an alias of, or a relative of a class that the split
    keeps unseen (`names.are_related`) or that `config.leave_out` names. Further classes need sketches and photos in all
    sets together, or, with `config.one_sided`, either. Raises `UserError` if a seen class of the split lacks either,
    and for a further data set that has nothing to add.
    """
    left_out = LeftOut.read(config.leave_out)
    read = partial(read_catalog, quiet=quiet, choose=partial(chosen, left_out=left_out, most=config.most_pictures))
    if config.split == EVERYTHING:
        catalog = read(config.root, config.layout)
        split = Split(EVERYTHING, tuple(name for name in _with_both(catalog) if name not in left_out.classes), ())
    else:
        split = load_split(config.split)
        catalog = read(config.root, config.layout, classes=split.seen)
        catalog.require(split.seen, "training")
    forbidden = {*split.unseen, *left_out.classes}
    for extra in config.extra:
        offered = list_classes(extra.root, extra.layout)
        allowed = {name for name in offered if not any(are_related(name, other) for other in forbidden)}
        if offered and not allowed:
            raise UserError(
                f"{extra.root}: every class is unseen in the split {split.name}, or related to an unseen one; take this"
                " data set out of data.extra"
            )
        catalog = catalog.joined(read(extra.root, extra.layout, classes=allowed))
    offer: Callable[[Catalog], Collection[str]] = Catalog.counts if config.one_sided else _with_both
    seen = (*split.seen, *(name for name in offer(catalog) if name not in split.seen_set | left_out.classes))
    return catalog.select(seen), split, seen


def paired(catalog: Catalog, classes: Sequence[str]) -> tuple[Catalog, tuple[str, ...]]:
    """The sketches whose very photo is known and these photos, whatever data sets they are from; and their classes.

    Raises `UserError` if there are none.
    """
    shown = {
        modality: {(item.class_name, item.instance) for item in catalog.items if item.modality == modality}
        for modality in MODALITIES
    }
    both = shown["sketch"] & shown["photo"]
    kept = [item.instance is not None and (item.class_name, item.instance) in both for item in catalog.items]
    if not any(kept):
        raise UserError(
            "train.pairs is instance, but no sketch says of which photo it was drawn; that is for data such as Sketchy,"
            " where sketch nX_N-K.png was drawn of photo nX_N.jpg"
        )
    items, hashes = tuple(compress(catalog.items, kept)), tuple(compress(catalog.hashes, kept))
    named = {item.class_name for item in items}
    return replace(catalog, items=items, hashes=hashes), tuple(name for name in classes if name in named)


def chosen(items: list[Item], root: Path, left_out: LeftOut, most: int | None) -> list[Item]:
    """The pictures under a root that training reads: none left out, and at most `most` of a class and modality.

    Which ones, the digest of their places decides.
    """
    groups: dict[tuple[str, str], list[Item]] = defaultdict(list)
    for item in items:
        if item.place(root) not in left_out.places:
            groups[canonical(item.class_name), item.modality].append(item)
    ordered = (sorted(group, key=lambda item: _digest(item.place(root))) for group in groups.values())
    kept = {item for group in ordered for item in group[:most]}
    return [item for item in items if item in kept]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _with_both(catalog: Catalog) -> list[str]:
    """Classes with sketches and photos, in alphabetical order."""
    return [name for name, (sketches, photos) in catalog.counts().items() if sketches and photos]
