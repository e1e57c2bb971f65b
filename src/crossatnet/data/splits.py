"""Named splits: which classes of a data set may be seen in training, and which are kept for the test."""

import random
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from crossatnet.data.names import canonical
from crossatnet.system.errors import UserError, did_you_mean

EVERYTHING = "all"  # in place of a split: every class is trained on
PACKAGED = Path(__file__).parent / "splits"


@dataclass(frozen=True)
class Split:
    """Two disjoint lists of classes, in canonical spelling.

    `seen` classes train and choose the model; `unseen` ones are only ever queries and gallery of the test.

    Example:
        >>> from crossatnet.data.splits import Split
        >>> split = Split("mine", seen=("cat", "dog", "owl"), unseen=("fox",))
        >>> training, validation = split.hold_out(1, seed=0)
        >>> len(training), len(validation)
        (2, 1)
    """

    name: str
    seen: tuple[str, ...]
    unseen: tuple[str, ...]

    def __post_init__(self) -> None:
        both = sorted(set(self.seen) & set(self.unseen))
        if both:
            raise UserError(f"split {self.name}: {', '.join(both)} both seen and unseen (aliases count as one class)")
        for part, classes in (("seen", self.seen), ("unseen", self.unseen)):
            twice = sorted({name for name in classes if classes.count(name) > 1})
            if twice:
                raise UserError(f"split {self.name}: {', '.join(twice)} twice among the {part} classes")
            if not classes and self.name != EVERYTHING:
                raise UserError(f"split {self.name}: no {part} classes")

    @cached_property
    def seen_set(self) -> frozenset[str]:
        return frozenset(self.seen)

    @cached_property
    def unseen_set(self) -> frozenset[str]:
        return frozenset(self.unseen)

    def hold_out(self, number: int, seed: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Divide the SEEN classes into (training, validation) with `number` validation classes, by seed."""
        if not 0 <= number < len(self.seen):
            raise UserError(
                f"validation_classes is {number}, but the split {self.name} has {len(self.seen)} seen classes;"
                " leave some for training"
            )
        held = frozenset(random.Random(seed).sample(sorted(self.seen), number))
        return (
            tuple(name for name in self.seen if name not in held),
            tuple(name for name in self.seen if name in held),
        )


def split_names() -> list[str]:
    """Names of the packaged splits.

    Example:
        >>> from crossatnet.data.splits import split_names
        >>> "sketchy-sake25" in split_names()
        True
    """
    return sorted(path.name.removesuffix(".seen.txt") for path in PACKAGED.glob("*.seen.txt"))


def load_split(name: str) -> Split:
    """A packaged split by name, or a user's own by the path prefix of its two lists, one class a line.

    Raises `UserError` for an unknown name, an empty list, or a class that stands in both.

    Example:
        >>> from crossatnet.data.splits import load_split
        >>> split = load_split("sketchy-sake25")
        >>> len(split.seen), len(split.unseen)
        (100, 25)
    """
    if name == EVERYTHING:
        raise UserError(f"'{EVERYTHING}' keeps no class unseen, so that there is nothing to test on; name a split")
    prefix = PACKAGED / name if name in split_names() else Path(name)
    lists = []
    for part in ("seen", "unseen"):
        path = Path(f"{prefix}.{part}.txt")
        if not path.is_file():
            raise UserError(f"unknown split '{name}' (no file {path}); {did_you_mean(name, split_names())}")
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: not UTF-8 text ({error}); save it as UTF-8, one class a line") from error
        lists.append(tuple(canonical(line) for line in lines if line.strip()))
    return Split(prefix.name, lists[0], lists[1])
