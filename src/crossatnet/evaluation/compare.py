"""Two results side by side, if they were measured in the same way."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from crossatnet.evaluation.results import Results, Row, load_results
from crossatnet.evaluation.significance import Difference, paired_bootstrap
from crossatnet.system.errors import UserError

PROTOCOL = ("data", "split", "direction", "setting", "level", "queries", "gallery", "classes")
MOST = 5  # classes to name that gain most, and as many that lose most


class Change(BaseModel):
    """One figure of both results, and the difference: the second minus the first."""

    model_config = ConfigDict(frozen=True)

    first: float
    second: float
    difference: float


class Pair(BaseModel):
    """One model of the first results, and the model of the second results that it is compared with."""

    model_config = ConfigDict(frozen=True)

    first: str
    second: str
    metrics: dict[str, Change]  # those that both have
    gains: dict[str, Change]  # classes with the largest rise of mAP@all, largest first
    losses: dict[str, Change]  # and with the largest fall
    chance: Difference | None  # of the first metric; None where results do not hold every query's score


class Comparison(BaseModel):
    """Two results of one direction and setting."""

    model_config = ConfigDict(frozen=True)

    split: str
    direction: str
    setting: str
    pairs: list[Pair]


def compare_files(first: Path, second: Path) -> list[Comparison]:
    """Compare two files of results, one direction and setting after another. Raises `UserError` as `compare` does."""
    left, right = load_results(first), load_results(second)
    if len(left) != len(right):
        raise UserError(
            f"cannot compare: {first} holds {len(left)} directions and settings, {second} {len(right)}; evaluate both"
            " in the same ones"
        )
    return [compare(*results) for results in zip(left, right, strict=True)]


def compare(first: Results, second: Results) -> Comparison:
    """Pair the rows of equal names, and the two first rows if the other results have no row of their name.

    Raises `UserError` for results of different data, splits, directions, settings, sizes or definitions.
    """
    refuse_different(first, second)
    others = {row.model: row for row in second.rows}
    pairs = [pair(row, others[row.model]) for row in first.rows if row.model in others]
    if first.rows[0].model not in others and second.rows[0].model not in {row.model for row in first.rows}:
        pairs.insert(0, pair(first.rows[0], second.rows[0]))
    return Comparison(split=first.split, direction=first.direction, setting=first.setting, pairs=pairs)


def pair(first: Row, second: Row) -> Pair:
    """The figures of two rows."""
    metrics, classes = (
        {
            name: Change(first=old[name], second=new[name], difference=new[name] - old[name])
            for name in old
            if name in new
        }
        for old, new in ((first.metrics, second.metrics), (first.per_class, second.per_class))
    )
    rising = sorted(classes, key=lambda name: -classes[name].difference)
    gains = [name for name in rising if classes[name].difference > 0][:MOST]
    losses = [name for name in reversed(rising) if classes[name].difference < 0][:MOST]
    return Pair(
        first=first.model,
        second=second.model,
        metrics=metrics,
        gains={name: classes[name] for name in gains},
        losses={name: classes[name] for name in losses},
        chance=difference_of(first, second),
    )


def difference_of(first: Row, second: Row) -> Difference | None:
    """Whether the rows differ by more than chance; None where they do not hold the scores of the same queries."""
    if first.per_query is None or second.per_query is None or first.per_query.classes != second.per_query.classes:
        return None
    (old, number), (new, _) = first.per_query.arrays(), second.per_query.arrays()
    return paired_bootstrap(old, new, number)


def refuse_different(first: Results, second: Results) -> None:
    """Raise `UserError` unless both results were measured in the same way."""
    facts = [(name, getattr(first, name), getattr(second, name)) for name in PROTOCOL]
    meanings = dict.fromkeys((*first.definitions, *second.definitions))
    facts += [
        (f"definition of {name}", first.definitions.get(name, "none"), second.definitions.get(name, "none"))
        for name in meanings
    ]
    for name, left, right in facts:
        if left != right:
            raise UserError(
                f"cannot compare: {name} is '{left}' in the first results and '{right}' in the second; evaluate both"
                " in the same way"
            )
