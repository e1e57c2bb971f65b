"""Batches of sketch-photo pairs, balanced over classes.

Shapes: `B` pairs in a batch, `V` views, `C h w` the backbone's map.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from crossatnet.system.errors import UserError
from crossatnet.training.ranks import ALONE, Ranks

LONE_SHARE = 0.5  # classes with only sketches or only photos, for each class with both
NONE = torch.empty(0, dtype=torch.long)
ALL = slice(None)


class Pairs(NamedTuple):
    """A batch of `B` pairs: sketch i and photo i are of class `label[i]`, so that each sketch can guide its photo.

    After the pairs come `R` sketches and `T` photos without a counterpart, of classes that have only the one. Where
    several ranks train together each has all labels, but only its own rows of the maps (`Ranks.rows`).
    """

    sketch: Tensor  # (B + R, C, h, w)
    photo: Tensor  # (B + T, C, h, w)
    label: Tensor  # (B,)
    lone_sketch_label: Tensor = NONE  # (R,)
    lone_photo_label: Tensor = NONE  # (T,)
    instance: Tensor = NONE  # (B,), the number of what both show, where pairs are of one instance


class Source(Protocol):
    """The training pictures of one modality, each with its class number 0..K-1.

    Example:
        >>> import torch
        >>> from crossatnet.training.batches import CachedViews, Source
        >>> maps = torch.randn(6, 2, 8, 3, 3)
        >>> source: Source = CachedViews(maps=maps, label=torch.arange(6) % 3, origin=torch.zeros(6))
        >>> source.draw(torch.tensor([0, 5]), torch.Generator()).shape
        torch.Size([2, 8, 3, 3])
        >>> source.plain(torch.tensor([1])).shape
        torch.Size([1, 8, 3, 3])
    """

    @property
    def label(self) -> Tensor:
        """Class numbers (N,)."""

    @property
    def origin(self) -> Tensor:
        """The number of the data set that each picture is from (N,)."""

    @property
    def instance(self) -> Tensor:
        """The number of the very thing that each picture shows, -1 where that is not known (N,)."""

    def draw(self, picked: Tensor, generator: torch.Generator, own: Tensor | slice = ALL) -> Tensor:
        """Random versions of the pictures with these numbers (B,): maps (B, C, h, w), or the `own` rows of them.

        The generator is asked for all rows, so that every rank's is in the same state afterwards.
        """

    def plain(self, picked: Tensor) -> Tensor:
        """The same pictures as they are: maps (B, C, h, w)."""


class CachedViews(NamedTuple):
    """Maps computed once, of a fixed number of views of each picture; the first view is the plain picture.

    Example:
        >>> import torch
        >>> from crossatnet.training.batches import CachedViews
        >>> views = CachedViews(maps=torch.randn(6, 2, 8, 3, 3), label=torch.arange(6) % 3, origin=torch.zeros(6))
        >>> torch.equal(views.plain(torch.tensor([1]))[0], views.maps[1, 0])
        True
        >>> views.draw(torch.tensor([0, 5]), torch.Generator()).shape
        torch.Size([2, 8, 3, 3])
    """

    maps: Tensor  # (N, V, C, h, w)
    label: Tensor  # (N,)
    origin: Tensor  # (N,)
    instance: Tensor = NONE  # (N,)

    def draw(self, picked: Tensor, generator: torch.Generator, own: Tensor | slice = ALL) -> Tensor:
        views = torch.randint(self.maps.shape[1], picked.shape, generator=generator)
        return self.maps[picked[own], views[own]].float()  # (B, C, h, w)

    def plain(self, picked: Tensor) -> Tensor:
        return self.maps[picked, 0].float()  # (B, C, h, w)


class BalancedPairs(IterableDataset[Pairs]):
    """One epoch of batches, each with `classes_per_batch` classes and `pairs_per_class` pairs of each.

    For every two of them comes one class that has only sketches or only photos, if there are such, with as many of
    these. Every class comes as often as others of its kind, whatever its number of pictures. Within a class every data
    set that has it comes equally often; its pictures and their views are drawn at random with replacement. The order
    depends on `seed` and `epoch` alone, so a resumed run repeats it. There are `batches` of them, by default what shows
    as many pairs as the larger modality has pictures.

    `by_instance`: a pair is a photo and a sketch that was drawn of it. The pairs of a class in a batch are of different
    photos as far as it has enough; pictures without a counterpart are not drawn.

    With `ranks`, each of them draws the same batches and reads its own rows. Raises `UserError` for fewer pairs in a
    batch than ranks.

    Example:
        >>> import torch
        >>> from crossatnet.training.batches import BalancedPairs, CachedViews
        >>> source = CachedViews(maps=torch.randn(6, 2, 8, 3, 3), label=torch.arange(6) % 3, origin=torch.zeros(6))
        >>> pairs = BalancedPairs(source, source, classes_per_batch=3, pairs_per_class=2, seed=0, epoch=0)
        >>> batch = next(iter(pairs))
        >>> batch.sketch.shape, sorted(batch.label.tolist())
        (torch.Size([6, 8, 3, 3]), [0, 0, 1, 1, 2, 2])
    """

    def __init__(
        self,
        sketches: Source,
        photos: Source,
        classes_per_batch: int,
        pairs_per_class: int,
        seed: int,
        epoch: int,
        batches: int | None = None,
        by_instance: bool = False,
        ranks: Ranks = ALONE,
    ) -> None:
        self.sketches, self.photos = sketches, photos
        self.drawn_of = _drawn_of(sketches, photos) if by_instance else None
        self.members = [_members(modality) for modality in (sketches, photos)]
        self.paired = sorted(self.drawn_of or self.members[0].keys() & self.members[1].keys())
        self.lone = [] if by_instance else sorted(self.members[0].keys() ^ self.members[1].keys())
        self.classes_per_batch = min(classes_per_batch, len(self.paired))
        self.lone_per_batch = min(round(LONE_SHARE * self.classes_per_batch), len(self.lone))
        self.pairs_per_class = pairs_per_class
        self.start = 1_000_003 * seed + epoch
        self.batches = batches
        self.ranks = ranks
        self.generator = torch.Generator()
        if (pairs := self.classes_per_batch * pairs_per_class) < ranks.count:
            raise UserError(f"a batch has {pairs} pairs, fewer than the {ranks.count} processes; take fewer --devices")

    def __len__(self) -> int:
        if self.batches is not None:
            return self.batches
        pictures = max(len(self.sketches.label), len(self.photos.label))
        return -(-pictures // (self.classes_per_batch * self.pairs_per_class))

    def __iter__(self) -> Iterator[Pairs]:
        self.generator.manual_seed(self.start)
        paired = self._in_turn(self.paired, self.classes_per_batch)
        lone = self._in_turn(self.lone, self.lone_per_batch)
        for _ in range(len(self)):
            yield self._batch(next(paired), next(lone))

    def _in_turn(self, classes: list[int], number: int) -> Iterator[list[int]]:
        """So many of the classes at a time, without end: each as often as the others, none twice at a time."""
        waiting = torch.empty(0, dtype=torch.long)
        while True:
            if len(waiting) < number:
                fresh = torch.randperm(len(classes), generator=self.generator)
                again = torch.isin(fresh, waiting)  # these come last, so that no class is twice in a batch
                waiting = torch.cat([waiting, fresh[~again], fresh[again]])
            chosen, waiting = waiting[:number], waiting[number:]
            yield [classes[place] for place in chosen.tolist()]

    def _batch(self, paired: list[int], lone: list[int]) -> Pairs:
        if self.drawn_of is not None:
            return self._instances(self.drawn_of, paired)
        alone = [[number for number in lone if number in members] for members in self.members]
        label, *lone_labels = (
            torch.tensor(numbers, dtype=torch.long).repeat_interleave(self.pairs_per_class)
            for numbers in (paired, *alone)
        )  # (B,), (R,), (T,)
        sketch, photo = (self._draw(side, label, lone_labels[side]) for side in (0, 1))
        return Pairs(sketch, photo, label, *lone_labels)

    def _instances(self, drawn_of: dict[int, dict[int, Tensor]], classes: list[int]) -> Pairs:
        rows: list[tuple[int, int, int]] = []  # class, photo, sketch
        for number in classes:
            photos = list(drawn_of[number])
            order = torch.randperm(len(photos), generator=self.generator).tolist()
            for place in range(self.pairs_per_class):
                photo = photos[order[place % len(order)]]
                drawings = drawn_of[number][photo]
                rows.append((number, photo, int(drawings[self._below(len(drawings))])))
        label, photo_rows, sketch_rows = (torch.tensor(column, dtype=torch.long) for column in zip(*rows, strict=True))
        sketch, shown = (
            source.draw(picked, self.generator, self.ranks.rows(len(label)))
            for source, picked in ((self.sketches, sketch_rows), (self.photos, photo_rows))
        )
        return Pairs(sketch, shown, label, instance=self.photos.instance[photo_rows])

    def _draw(self, side: int, label: Tensor, lone_label: Tensor) -> Tensor:
        members, labels = self.members[side], [*label.tolist(), *lone_label.tolist()]
        picked = torch.tensor([self._one_of(members[number]) for number in labels], dtype=torch.long)
        own = self.ranks.rows(len(label), len(lone_label))
        return (self.sketches, self.photos)[side].draw(picked, self.generator, own)

    def _one_of(self, origins: list[Tensor]) -> int:
        members = origins[self._below(len(origins))] if len(origins) > 1 else origins[0]
        return int(members[self._below(len(members))])

    def _below(self, end: int) -> int:
        return int(torch.randint(end, (), generator=self.generator))


def _drawn_of(sketches: Source, photos: Source) -> dict[int, dict[int, Tensor]]:
    """Of each class, the rows of photos that were drawn, each with the rows of its sketches."""
    drawings: dict[tuple[int, int], list[int]] = {}
    for row, thing in enumerate(zip(sketches.label.tolist(), sketches.instance.tolist(), strict=True)):
        drawings.setdefault(thing, []).append(row)
    found: dict[int, dict[int, Tensor]] = {}
    for row, (number, instance) in enumerate(zip(photos.label.tolist(), photos.instance.tolist(), strict=True)):
        if instance >= 0 and (number, instance) in drawings:
            found.setdefault(number, {})[row] = torch.tensor(drawings[number, instance])
    return found


def _members(source: Source) -> dict[int, list[Tensor]]:
    """The pictures of each class that has some: one tensor of rows for each data set."""
    members = {}
    for number in source.label.unique().tolist():
        rows = torch.nonzero(source.label == number).flatten()
        members[number] = [rows[source.origin[rows] == origin] for origin in source.origin[rows].unique()]
    return members
