"""The table `items`: how facts of a picture become a row, and how a row becomes facts again."""

from typing import Any

from crossatnet.data.metadata import READER, Metadata
from crossatnet.gallery.backend import Description, Facts, FileState

# In this order rows are written and read.
_FILE = ("content_hash", "size", "mtime_ns", "ctime_ns", "described")
_DESCRIPTION = ("look", "taken", "camera", "has_place", "tags", "caption", "rating")
_FACTS = ("path", "class_name", *_FILE, "width", "height", *_DESCRIPTION)
_WRITTEN = (*_FACTS, "sidecar", "code", "embedding", "regions", "generation")

FILE = ", ".join((*_FILE, "sidecar"))
FACTS = ", ".join(_FACTS)
INSERT = (
    f"INSERT INTO items (added, {', '.join(_WRITTEN)})"
    f" VALUES ({', '.join('?' * len(_WRITTEN))}, (SELECT generation FROM meta)) ON CONFLICT (path) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _WRITTEN)
)
TOUCH = "UPDATE items SET size = ?, mtime_ns = ?, ctime_ns = ?, sidecar = ? WHERE path = ?"
DESCRIBE = f"UPDATE items SET {', '.join(f'{name} = ?' for name in ('described', *_DESCRIPTION))} WHERE path = ?"
MOVE = f"UPDATE OR IGNORE items SET {', '.join(f'{name} = ?' for name in (*_FACTS, 'sidecar'))} WHERE path = ?"


def row_of(facts: Facts) -> tuple[object, ...]:
    """Facts as the values of a row, in the order of `FACTS`."""
    state = facts.file
    described = READER if facts.description else 0
    return (
        *(facts.path, facts.class_name, state.content_hash, state.size, state.mtime_ns, state.ctime_ns, described),
        *(facts.width, facts.height, *described_row(facts.description)),
    )


def described_row(description: Description | None) -> tuple[object, ...]:
    """What is known of a photo as a part of its row."""
    known = description.metadata if description else Metadata()
    look = _signed(description.look) if description else None
    return (look, known.taken, known.camera, known.has_place, "\n".join(known.tags), known.caption, known.rating)


def facts_of(row: tuple[Any, ...]) -> Facts:
    """The facts in a row of `FACTS`."""
    path, class_name, *rest = row
    state, (width, height, *described) = _state(*rest[: len(_FILE)]), rest[len(_FILE) :]
    return Facts(path, class_name, state, width, height, _description_of(rest[len(_FILE) - 1], *described))


def state_of(row: tuple[Any, ...]) -> FileState:
    """The file state in a row of `FILE`."""
    return _state(*row)


def _state(
    content_hash: str, size: int, mtime_ns: int, ctime_ns: int | None, described: int, sidecar: str | None = None
) -> FileState:
    return FileState(size, mtime_ns, content_hash, ctime_ns, described >= READER, sidecar)


def _description_of(described: int, look: int | None, *known: Any) -> Description | None:
    if not described or look is None:
        return None
    taken, camera, has_place, tags, caption, rating = known
    metadata = Metadata(taken, camera, bool(has_place), tuple(filter(None, tags.split("\n"))), caption, rating)
    return Description(metadata, look % (1 << 64))


def _signed(look: int) -> int:
    """64 bits as SQLite's signed integer."""
    return look - (1 << 64) if look >> 63 else look
