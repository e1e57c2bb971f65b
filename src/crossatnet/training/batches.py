"""Batches of sketch-photo pairs, balanced over classes.

Shapes: `B` pairs in a batch, `V` views, `C h w` the backbone's map.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

LONE_SHARE = 0.5  # classes with only sketches or only photos, for each class with both
NONE = torch.empty(0, dtype=torch.long)


class Pairs(NamedTuple):
    """A batch of `B` pairs: sketch i and photo i are of class `label[i]`, so that each sketch can guide its photo.

    After the pairs come `R` sketches and `T` photos without a counterpart, of classes that have only the one.
    """

    sketch: Tensor  # (B + R, C, h, w)
    photo: Tensor  # (B + T, C, h, w)
    label: Tensor  # (B,)
    lone_sketch_label: Tensor = NONE  # (R,)
    lone_photo_label: Tensor = NONE  # (T,)


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

    def draw(self, picked: Tensor, generator: torch.Generator) -> Tensor:
        """Random versions of the pictures with these numbers (B,): maps (B, C, h, w)."""

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

    def draw(self, picked: Tensor, generator: torch.Generator) -> Tensor:
        views = torch.randint(self.maps.shape[1], picked.shape, generator=generator)
        return self.maps[picked, views].float()  # (B, C, h, w)

    def plain(self, picked: Tensor) -> Tensor:
        return self.maps[picked, 0].float()  # (B, C, h, w)


class BalancedPairs(IterableDataset[Pairs]):
    """One epoch of batches, each with `classes_per_batch` classes and `pairs_per_class` pairs of each.

    For every two of them comes one class that has only sketches or only photos, if there are such, with as many of
    these. Every class comes as often as others of its kind, whatever its number of pictures. Within a class every data
    set that has it comes equally often; its pictures and their views are drawn at random with replacement. The order
    depends on `seed` and `epoch` alone, so a resumed run repeats it. There are `batches` of them, by default what shows
    as many pairs as the larger modality has pictures.

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
    ) -> None:
        self.sketches, self.photos = sketches, photos
        self.members = [_members(modality) for modality in (sketches, photos)]
        self.paired = sorted(self.members[0].keys() & self.members[1].keys())
        self.lone = sorted(self.members[0].keys() ^ self.members[1].keys())
        self.classes_per_batch = min(classes_per_batch, len(self.paired))
        self.lone_per_batch = min(round(LONE_SHARE * self.classes_per_batch), len(self.lone))
        self.pairs_per_class = pairs_per_class
        self.start = 1_000_003 * seed + epoch
        self.batches = batches
        self.generator = torch.Generator()

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
        alone = [[number for number in lone if number in members] for members in self.members]
        label, *lone_labels = (
            torch.tensor(numbers, dtype=torch.long).repeat_interleave(self.pairs_per_class)
            for numbers in (paired, *alone)
        )  # (B,), (R,), (T,)
        sketch, photo = (self._draw(side, torch.cat([label, lone_labels[side]])) for side in (0, 1))
        return Pairs(sketch, photo, label, *lone_labels)

    def _draw(self, side: int, label: Tensor) -> Tensor:
        members = self.members[side]
        picked = torch.tensor([self._one_of(members[number]) for number in label.tolist()], dtype=torch.long)
        return (self.sketches, self.photos)[side].draw(picked, self.generator)

    def _one_of(self, origins: list[Tensor]) -> int:
        members = origins[self._below(len(origins))] if len(origins) > 1 else origins[0]
        return int(members[self._below(len(members))])

    def _below(self, end: int) -> int:
        return int(torch.randint(end, (), generator=self.generator))


def _members(source: Source) -> dict[int, list[Tensor]]:
    """The pictures of each class that has some: one tensor of rows for each data set."""
    members = {}
    for number in source.label.unique().tolist():
        rows = torch.nonzero(source.label == number).flatten()
        members[number] = [rows[source.origin[rows] == origin] for origin in source.origin[rows].unique()]
    return members
