"""Groups hits that show the same picture: copies of a file, and the same photo resized or recompressed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from crossatnet.gallery.backend import NO_ITEM, StoredPicture
from crossatnet.gallery.ingest.moved import is_gone
from crossatnet.gallery.results import Hit

ALIKE = 4  # bits of 64: of 9 million pairs of photos so near, all that we looked at were one photo, or two of one burst
SAME_COSINE = 0.9  # what a near-duplicate's embedding has at least
DETAIL = 16  # bits that are set in a look: 32 as a rule, and few where a flat picture has nothing to be recognised by

DEEPER = 3  # so many times more hits are looked at where copies fill the page

Found = tuple[list[Hit], dict[int, StoredPicture]]
"""Hits, best first, and what is stored of their pictures, by id."""

Embedding = Callable[[int], NDArray[np.float32] | None]
"""The stored embedding (D,) of an item."""


def in_groups(
    hits: Sequence[Hit], pictures: Mapping[int, StoredPicture], embedding: Embedding | None
) -> list[list[Hit]]:
    """Hits, best first, in groups that show the same picture; groups in the order of their best hits.

    A copy has the same bytes, or a look (see `crossatnet.data.looks`) that differs in `ALIKE` bits at most and an
    embedding of nearly the same direction; flat pictures, which look alike by chance, only the same bytes. Each hit is
    compared with the best of each group. Without `embedding` each hit is a group of its own.
    """
    if embedding is None:
        return [[hit] for hit in hits]
    groups: list[list[Hit]] = []
    by_content: dict[str, int] = {}  # content hash -> number of its group
    looks = np.empty(len(hits), np.uint64)  # of the first of each group that has one
    owners = np.empty(len(hits), np.int64)  # the number of its group
    known = 0
    for hit in hits:
        facts = pictures[hit.id].facts
        number = by_content.get(facts.file.content_hash)
        has_look = facts.description is not None and facts.description.look.bit_count() >= DETAIL
        if number is None and facts.description is not None and has_look:
            look = np.uint64(facts.description.look)
            near = owners[:known][np.bitwise_count(looks[:known] ^ look) <= ALIKE]
            number = next((each for each in near.tolist() if _is_same(groups[each][0], hit, embedding)), None)
        if number is None:
            number = len(groups)
            groups.append([])
            if facts.description is not None and has_look:
                looks[known], owners[known] = facts.description.look, number
                known += 1
        by_content.setdefault(facts.file.content_hash, number)
        groups[number].append(hit)
    return groups


def deep_enough(
    best: Callable[[int], Found], depth: int, own: int, embedding: Embedding | None
) -> tuple[list[list[Hit]], dict[int, StoredPicture]]:
    """More than `depth` groups of hits, or all there are, without the item `own`, which is the query.

    `best` gives so many hits; it is asked for more where copies fill the page.
    """
    wanted = depth + 1 + (own != NO_ITEM)  # one more shows whether another page follows
    while True:
        hits, pictures = best(wanted)
        groups = in_groups([hit for hit in hits if hit.id != own], pictures, embedding)
        if len(groups) > depth or len(hits) < wanted:
            return groups, pictures
        wanted *= DEEPER


def as_one(group: Sequence[Hit]) -> Hit:
    """A group as its best hit, the others as its `copies`; all say whether their files are gone.

    If the file of the best is gone and that of a copy is not, the copy stands for the group.
    """
    marked = [replace(hit, gone=is_gone(hit.path)) for hit in group]
    first = next((hit for hit in marked if not hit.gone), marked[0])
    return replace(first, copies=tuple(hit for hit in marked if hit is not first))


def _is_same(one: Hit, other: Hit, embedding: Embedding) -> bool:
    ours, theirs = embedding(one.id), embedding(other.id)
    if ours is None or theirs is None:
        return False
    return float(ours @ theirs) >= SAME_COSINE * float(np.linalg.norm(ours) * np.linalg.norm(theirs))
