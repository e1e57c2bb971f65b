"""Batches of sketch-photo pairs, balanced over classes.

Shapes: `B` pairs in a batch, `V` views, `C h w` the backbone's map.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import IterableDataset


class Pairs(NamedTuple):
    """A batch: sketch i and photo i are of class `label[i]`, so that each sketch can guide its photo."""

    sketch: Tensor  # (B, C, h, w)
    photo: Tensor  # (B, C, h, w)
    label: Tensor  # (B,)


class Source(Protocol):
    """The training pictures of one modality, each with its class number 0..K-1.

    Example:
        >>> import torch
        >>> from crossatnet.training.batches import CachedViews, Source
        >>> source: Source = CachedViews(maps=torch.randn(6, 2, 8, 3, 3), label=torch.arange(6) % 3)
        >>> source.draw(torch.tensor([0, 5]), torch.Generator()).shape
        torch.Size([2, 8, 3, 3])
        >>> source.plain(torch.tensor([1])).shape
        torch.Size([1, 8, 3, 3])
    """

    @property
    def label(self) -> Tensor:
        """Class numbers (N,)."""

    def draw(self, picked: Tensor, generator: torch.Generator) -> Tensor:
        """Random versions of the pictures with these numbers (B,): maps (B, C, h, w)."""

    def plain(self, picked: Tensor) -> Tensor:
        """The same pictures as they are: maps (B, C, h, w)."""


class CachedViews(NamedTuple):
    """Maps computed once, of a fixed number of views of each picture; the first view is the plain picture.

    Example:
        >>> import torch
        >>> from crossatnet.training.batches import CachedViews
        >>> views = CachedViews(maps=torch.randn(6, 2, 8, 3, 3), label=torch.arange(6) % 3)
        >>> torch.equal(views.plain(torch.tensor([1]))[0], views.maps[1, 0])
        True
        >>> views.draw(torch.tensor([0, 5]), torch.Generator()).shape
        torch.Size([2, 8, 3, 3])
    """

    maps: Tensor  # (N, V, C, h, w)
    label: Tensor  # (N,)

    def draw(self, picked: Tensor, generator: torch.Generator) -> Tensor:
        views = torch.randint(self.maps.shape[1], picked.shape, generator=generator)
        return self.maps[picked, views].float()  # (B, C, h, w)

    def plain(self, picked: Tensor) -> Tensor:
        return self.maps[picked, 0].float()  # (B, C, h, w)


class BalancedPairs(IterableDataset[Pairs]):
    """One epoch of batches, each with `classes_per_batch` classes and `pairs_per_class` pairs of each.

    Every class comes equally often, whatever its number of pictures; within a class, pictures and their views are
    drawn at random with replacement. The order depends on `seed` and `epoch` alone, so a resumed run repeats it.
    The length is what shows as many pairs as the larger modality has pictures.

    Example:
        >>> import torch
        >>> from crossatnet.training.batches import BalancedPairs, CachedViews
        >>> source = CachedViews(maps=torch.randn(6, 2, 8, 3, 3), label=torch.arange(6) % 3)
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
    ) -> None:
        self.sketches, self.photos = sketches, photos
        self.classes = int(sketches.label.max()) + 1
        self.classes_per_batch = min(classes_per_batch, self.classes)
        self.pairs_per_class = pairs_per_class
        self.start = 1_000_003 * seed + epoch
        self.generator = torch.Generator()
        self.members = [
            [torch.nonzero(modality.label == number).flatten() for number in range(self.classes)]
            for modality in (sketches, photos)
        ]

    def __len__(self) -> int:
        pictures = max(len(self.sketches.label), len(self.photos.label))
        return -(-pictures // (self.classes_per_batch * self.pairs_per_class))

    def __iter__(self) -> Iterator[Pairs]:
        self.generator.manual_seed(self.start)
        waiting = torch.empty(0, dtype=torch.long)
        for _ in range(len(self)):
            if len(waiting) < self.classes_per_batch:
                fresh = torch.randperm(self.classes, generator=self.generator)
                again = torch.isin(fresh, waiting)  # these come last, so that no class is twice in a batch
                waiting = torch.cat([waiting, fresh[~again], fresh[again]])
            chosen, waiting = waiting[: self.classes_per_batch], waiting[self.classes_per_batch :]
            label = chosen.repeat_interleave(self.pairs_per_class)  # (B,)
            yield Pairs(self._draw(0, label), self._draw(1, label), label)

    def _draw(self, side: int, label: Tensor) -> Tensor:
        picked = torch.stack([self._one_of(self.members[side][number]) for number in label.tolist()])
        return (self.sketches, self.photos)[side].draw(picked, self.generator)

    def _one_of(self, members: Tensor) -> Tensor:
        return members[torch.randint(len(members), (), generator=self.generator)]
