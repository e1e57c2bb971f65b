"""The training catalog: the split's seen classes, and what may be added to them from further data sets."""

from crossatnet.config import DataConfig
from crossatnet.data.catalog import Catalog
from crossatnet.data.layouts import list_classes, read_catalog
from crossatnet.data.names import are_related
from crossatnet.data.splits import EVERYTHING, Split, load_split
from crossatnet.system.errors import UserError


def seen_catalog(config: DataConfig, quiet: bool) -> tuple[Catalog, Split, tuple[str, ...]]:
    """The pictures that training may see, the split, and the classes: the split's seen ones first, then further ones.

    In place of a split, `all` takes every class of the data set that has both sketches and photos as seen.
    From `config.extra` a class is left out if it is the same as, an alias of, or a relative of a class that the split
    keeps unseen (`names.are_related`), and if it has no sketches or no photos in all sets together. Raises `UserError`
    if a seen class of the split lacks either, and for a further data set that has nothing to add.
    """
    if config.split == EVERYTHING:
        catalog = read_catalog(config.root, config.layout, quiet)
        split = Split(EVERYTHING, tuple(_with_both(catalog)), ())
    else:
        split = load_split(config.split)
        catalog = read_catalog(config.root, config.layout, quiet, classes=split.seen)
        catalog.require(split.seen, "training")
    for extra in config.extra:
        offered = list_classes(extra.root, extra.layout)
        allowed = {name for name in offered if not any(are_related(name, unseen) for unseen in split.unseen)}
        if offered and not allowed:
            raise UserError(
                f"{extra.root}: every class is unseen in the split {split.name}, or related to an unseen one; take this"
                " data set out of data.extra"
            )
        catalog = catalog.joined(read_catalog(extra.root, extra.layout, quiet, classes=allowed))
    seen = (*split.seen, *(name for name in _with_both(catalog) if name not in split.seen_set))
    return catalog.select(seen), split, seen


def _with_both(catalog: Catalog) -> list[str]:
    """Classes with sketches and photos, in alphabetical order."""
    return [name for name, (sketches, photos) in catalog.counts().items() if sketches and photos]
