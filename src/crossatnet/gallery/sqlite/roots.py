"""The folders that a gallery remembers: the table `folders`."""

import json
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from crossatnet.gallery.backend import Choice, Root
from crossatnet.gallery.sqlite.database import MESSAGES
from crossatnet.system.documents import parse_json
from crossatnet.system.errors import UserError

READ = "SELECT path, exclude, follow_links, videos FROM folders ORDER BY number"
WRITE = (
    "INSERT INTO folders (path, exclude, follow_links, videos) VALUES (?, ?, ?, ?) ON CONFLICT (path)"
    " DO UPDATE SET exclude = excluded.exclude, follow_links = excluded.follow_links, videos = excluded.videos"
)

Run = Callable[[str], Iterable[Any]]
"""Runs a statement and gives its rows."""


def read(gallery: Path, run: Run) -> list[Root]:
    """The remembered folders, in the order in which they came. Raises `UserError` if they are damaged."""
    return [_root(gallery, *row) for row in run(READ)]


def remember(gallery: Path, connection: sqlite3.Connection, root: Root) -> None:
    """Remember a folder in place of those in it, unless it lies in another one; see `Backend.remember`."""
    known = [each.folder for each in read(gallery, connection.execute)]
    if any(root.folder != each and root.folder.is_relative_to(each) for each in known):
        return
    choice = root.choice
    within = [(str(each),) for each in known if each != root.folder and each.is_relative_to(root.folder)]
    connection.executemany("DELETE FROM folders WHERE path = ?", within)
    connection.execute(WRITE, (str(root.folder), json.dumps(choice.exclude), choice.follow_links, choice.videos))


def forget(gallery: Path, connection: sqlite3.Connection, folder: Path) -> None:
    """No longer remember a folder and those in it."""
    known = [each.folder for each in read(gallery, connection.execute)]
    gone = [(str(each),) for each in known if each.is_relative_to(folder)]
    connection.executemany("DELETE FROM folders WHERE path = ?", gone)


def _root(gallery: Path, path: Any, exclude: Any, follow_links: Any, videos: Any) -> Root:
    try:
        patterns = parse_json(exclude)
    except (TypeError, ValueError):
        patterns = None
    if (
        not isinstance(path, str)
        or not isinstance(patterns, list)
        or not all(isinstance(each, str) for each in patterns)
    ):
        raise UserError(f"{gallery}: {MESSAGES[sqlite3.SQLITE_CORRUPT]} (the folders it was made from)")
    return Root(Path(path), Choice(tuple(patterns), bool(follow_links), bool(videos)))
