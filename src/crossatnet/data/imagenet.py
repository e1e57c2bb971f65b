"""Which classes ImageNet-1k has: most backbones have seen its pictures before any training of ours."""

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Literal

from crossatnet.data.splits import load_split

TABLE = Path(__file__).parent / "imagenet.json"  # made by tools/make_imagenet_table.py
PUBLISHED = (
    "sketchy-yelamarthi21"  # a split whose authors sorted Sketchy's classes: unseen are those not in ImageNet-1k
)

Standing = Literal["in", "not in", "unclear", "unknown"]


def standing(name: str) -> Standing:
    """Whether ImageNet-1k has a class, given in canonical spelling.

    Sketchy's classes are as `PUBLISHED` has them. Others are in it if WordNet's tree has one of the 1,000 at, below or
    above their place; `unclear` if it has their word in another sense only; `unknown` if they are in no packaged split.

    Example:
        >>> from crossatnet.data.imagenet import standing
        >>> standing("zebra"), standing("giraffe")
        ('in', 'not in')
    """
    published = load_split(PUBLISHED)
    if name in published.seen_set or name in published.unseen_set:
        return "in" if name in published.seen_set else "not in"
    if (relations := _table().get(name)) is None:
        return "unknown"
    return "in" if set(relations) - {"word"} else "unclear" if relations else "not in"


def counterparts(name: str) -> list[str]:
    """The classes of ImageNet-1k at, below or above a class in WordNet's tree, or of its word; those at it first.

    Example:
        >>> from crossatnet.data.imagenet import counterparts
        >>> counterparts("zebra")
        ['zebra']
    """
    relations = _table().get(name, {})
    return [other for relation in ("same", "narrower", "wider", "word") for other in relations.get(relation, ())]


def sorted_by_standing(names: Iterable[str]) -> dict[Standing, list[str]]:
    """Classes by their standing, in the order they have.

    Example:
        >>> from crossatnet.data.imagenet import sorted_by_standing
        >>> sorted_by_standing(["zebra", "giraffe"])["in"]
        ['zebra']
    """
    found: dict[Standing, list[str]] = {"in": [], "not in": [], "unclear": [], "unknown": []}
    for name in names:
        found[standing(name)].append(name)
    return found


@cache
def _table() -> dict[str, dict[str, list[str]]]:
    """Class -> relation -> classes of ImageNet-1k; a class without any has an empty row."""
    table: dict[str, dict[str, list[str]]] = json.loads(TABLE.read_text(encoding="utf-8"))
    return table
