"""The folders that a gallery remembers, brought in step with one call.

A folder that is away, such as one of a disk that is not mounted, is named, and its pictures stay.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from crossatnet.gallery.backend import Backend, Choice, Root
from crossatnet.gallery.ingest.listing import Listing, list_pictures
from crossatnet.system.errors import UserError


def list_remembered(store: Backend, more: Choice) -> tuple[list[Listing], list[tuple[str, str]]]:
    """What is in the folders that a gallery remembers, and which are away, each with the reason.

    What `more` asks for counts for all of them, and is remembered. A folder that is gone and has no stored pictures is
    forgotten: it was moved, or removed. Raises `UserError` if none is remembered, or all are away.
    """
    roots = _present_or_missed(store)
    if not roots:
        raise UserError(
            f"{store.name}: no folder is remembered (servers keep none); name it:"
            f" crossatnet index FOLDER -o {store.name}"
        )
    listings: list[Listing] = []
    away: list[tuple[str, str]] = []
    for root in roots:
        choice = _both(root.choice, more)
        try:
            listings.append(list_pictures(root.folder, choice))
        except UserError as error:
            away.append((str(root.folder), f"{error}; its pictures stay in the gallery"))
            continue
        if choice != root.choice:
            store.remember(replace(root, choice=choice))
    if not listings:
        raise UserError("; ".join(reason for _, reason in away))
    return listings, away


def remember(store: Backend, folders: Sequence[Path], choice: Choice) -> None:
    """Remember folders, absolute, with what of them is wanted."""
    for folder in folders:
        store.remember(Root(folder, choice))


def _present_or_missed(store: Backend) -> list[Root]:
    kept: list[Root] = []
    for root in store.roots():
        if root.folder.exists() or next(store.paths_under(root.folder), None) is not None:
            kept.append(root)
        else:
            store.forget(root.folder)
    return kept


def _both(one: Choice, other: Choice) -> Choice:
    exclude = tuple(dict.fromkeys((*one.exclude, *other.exclude)))
    return Choice(exclude, one.follow_links or other.follow_links, one.videos or other.videos)
