"""The catalog: a checked list of picture files, each with its class and modality."""

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from crossatnet.data.drawing.read import NothingDrawnError, read_drawing
from crossatnet.data.hashes import content_hash
from crossatnet.data.images import Modality, load_image
from crossatnet.data.names import canonical
from crossatnet.data.strokes import StrokeFile
from crossatnet.system.errors import ImageError, UserError
from crossatnet.system.progress import track
from crossatnet.system.threads import reading_threads


@dataclass(frozen=True)
class Item:
    """One picture: a file, or one drawing (`row`, counted from 0) in a file of strokes.

    `instance` names the one thing pictured where the data set says it: a Sketchy sketch and the photo it was
    drawn from share it.
    """

    path: Path
    class_name: str
    modality: Modality
    instance: str | None = None
    row: int | None = None

    def place(self, root: Path) -> str:
        """Where this picture lies, with the folder of its data set, and its row.

        Example:
            >>> from pathlib import Path
            >>> from crossatnet.data.catalog import Item
            >>> Item(Path("/data/mine/photos/owl/1.jpg"), "owl", "photo").place(Path("/data/mine"))
            'mine/photos/owl/1.jpg'
        """
        path = f"{root.name}/{self.path.relative_to(root).as_posix()}"
        return path if self.row is None else f"{path}:{self.row + 1}"

    @property
    def label(self) -> str:
        """How messages name this picture."""
        return str(self.path) if self.row is None else f"{self.path}:{self.row + 1}"


def by_another_hand(items: Sequence[Item]) -> list[Item]:
    """The photos that pictured something no sketch among `items` was drawn of: where two hands drew, the other's.

    Example:
        >>> from pathlib import Path
        >>> from crossatnet.data.catalog import Item, by_another_hand
        >>> drawn = Item(Path("one.png"), "owl", "sketch", instance="owl/one")
        >>> photos = [Item(Path(f"{hand}.jpg"), "owl", "photo", f"owl/{hand}") for hand in ("one", "two")]
        >>> [item.path.name for item in by_another_hand([drawn, *photos])]
        ['two.jpg']
    """
    drawn = {item.instance for item in items if item.modality == "sketch"}
    return [item for item in items if item.modality == "photo" and item.instance not in drawn]


@dataclass(frozen=True)
class Problem:
    """A picture that was left out, and why."""

    item: Item
    reason: str


@dataclass(frozen=True)
class Catalog:
    """Usable items with the hashes of their contents, and what was left out: unusable files and duplicates.

    A duplicate is a picture whose bytes equal an earlier item's of the same modality; the pair is
    (duplicate, the item that was kept).

    Example:
        >>> from pathlib import Path
        >>> from crossatnet.data.catalog import Catalog, Item
        >>> items = (Item(Path("a.png"), "owl", "sketch"), Item(Path("b.jpg"), "owl", "photo"))
        >>> catalog = Catalog(items, hashes=("1", "2"))
        >>> catalog.counts()
        {'owl': (1, 1)}
        >>> catalog.require(["owl"], "training")
        >>> len(catalog.select(["owl"], "photo").items)
        1
        >>> len(catalog.joined(catalog).items)
        2
    """

    items: tuple[Item, ...]
    hashes: tuple[str, ...]
    problems: tuple[Problem, ...] = ()
    duplicates: tuple[tuple[Item, Item], ...] = ()
    root: Path = field(default_factory=Path)

    def select(self, classes: Iterable[str], modality: Modality | None = None) -> "Catalog":
        """The part with these classes (canonical names) and this modality, in the same order."""
        wanted = frozenset(classes)
        keep = [
            index
            for index, item in enumerate(self.items)
            if item.class_name in wanted and modality in (None, item.modality)
        ]
        return Catalog(
            tuple(self.items[index] for index in keep), tuple(self.hashes[index] for index in keep), root=self.root
        )

    def joined(self, other: "Catalog") -> "Catalog":
        """Both catalogs' usable items under this one's root; a picture that both have is a duplicate of this one's."""
        known = {(hashed, item.modality): item for hashed, item in zip(self.hashes, self.items, strict=True)}
        new, copies = [], []
        for item, hashed in zip(other.items, other.hashes, strict=True):
            kept = known.get((hashed, item.modality))
            if kept is None:
                new.append((item, hashed))
            elif item != kept:
                copies.append((item, kept))
        return Catalog(
            (*self.items, *(item for item, _ in new)),
            (*self.hashes, *(hashed for _, hashed in new)),
            (*self.problems, *other.problems),
            (*self.duplicates, *other.duplicates, *copies),
            self.root,
        )

    def counts(self) -> dict[str, tuple[int, int]]:
        """(sketches, photos) of every class, in alphabetical order."""
        counter = Counter((item.class_name, item.modality) for item in self.items)
        names = sorted({item.class_name for item in self.items})
        return {name: (counter[name, "sketch"], counter[name, "photo"]) for name in names}

    def require(self, classes: Sequence[str], purpose: str) -> None:
        """Raise `UserError` unless each class has at least one sketch and one photo."""
        counts = self.counts()
        absent = [name for name in classes if name not in counts]
        if absent:
            shown = ", ".join(absent[:5]) + (" ..." if len(absent) > 5 else "")
            raise UserError(
                f"{self.root}: no pictures of {len(absent)} of the {len(classes)} classes for {purpose} ({shown});"
                " is this the data set that the split was made for?"
            )
        for name in classes:
            sketches, photos = counts[name]
            if not (sketches and photos):
                raise UserError(
                    f"{self.root}: class '{name}' has {sketches} sketches and {photos} photos; {purpose} needs at"
                    " least one of each: add pictures, or take the class out of the split"
                )


def open_item(item: Item) -> Image.Image:
    """The item's picture as RGB; raises `ImageError`.

    Example:
        >>> from crossatnet.data.catalog import Item, open_item
        >>> sketch.save("owl.png")
        >>> open_item(Item(tmp_path / "owl.png", "owl", "sketch")).size
        (100, 80)
    """
    return (
        load_image(item.path, modality=item.modality)
        if item.row is None
        else StrokeFile.open(item.path).image(item.row)
    )


def scan(items: Iterable[Item], root: Path, quiet: bool = False) -> Catalog:
    """Read every item once: decode it, hash its contents, and sort out what cannot be used.

    Nothing is fatal and nothing is dropped silently: unreadable and oversized pictures become `problems`,
    repeated ones `duplicates`. Raises `UserError` only if no usable picture remains.

    Example:
        >>> from crossatnet.data.catalog import Item, scan
        >>> sketch.save("owl.png")
        >>> _ = (tmp_path / "bad.png").write_bytes(b"no picture")
        >>> items = [Item(tmp_path / name, "owl", "sketch") for name in ("owl.png", "bad.png")]
        >>> catalog = scan(items, tmp_path, quiet=True)
        >>> len(catalog.items), len(catalog.problems)
        (1, 1)
    """
    candidates = [Item(item.path, canonical(item.class_name), item.modality, item.instance, item.row) for item in items]
    good: list[Item] = []
    hashes: list[str] = []
    problems: list[Problem] = []
    duplicates: list[tuple[Item, Item]] = []
    first: dict[tuple[str, Modality], Item] = {}
    with ThreadPoolExecutor(reading_threads()) as pool:
        checked = track(pool.map(_check, candidates), "checking pictures", len(candidates), quiet)
        for item, (hashed, reason) in zip(candidates, checked, strict=True):
            if reason is not None:
                problems.append(Problem(item, reason))
            elif (hashed, item.modality) in first:
                duplicates.append((item, first[hashed, item.modality]))
            else:
                first[hashed, item.modality] = item
                good.append(item)
                hashes.append(hashed)
    if not good:
        reason = f"; the first: {problems[0].reason}" if problems else ""
        raise UserError(f"{root}: no usable pictures{reason}")
    return Catalog(tuple(good), tuple(hashes), tuple(problems), tuple(duplicates), root)


def _check(item: Item) -> tuple[str, str | None]:
    """(content hash, None) of a usable picture, or ("", reason)."""
    try:
        image = open_item(item)
        if item.modality == "sketch":
            _check_drawing(image, item)
        content = item.path.read_bytes() if item.row is None else image.tobytes()
    except ImageError as error:
        return "", str(error)
    return content_hash(content), None


def _check_drawing(image: Image.Image, item: Item) -> None:
    """Raise `ImageError`, which names the item, for a sketch without strokes: it is of no use."""
    try:
        read_drawing(image)
    except NothingDrawnError as error:
        raise ImageError(f"{item.label}: {error}") from error
