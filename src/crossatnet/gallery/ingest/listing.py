"""The files of a folder: which are pictures to read, and for every other one why it is passed over.

Every entry below a folder that is not itself a folder is counted once, so that the numbers add up to what is on disk.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from crossatnet.data.pictures.formats import PHOTOS, RAW, VIDEO, format_of, picture_formats, suffixes
from crossatnet.data.sidecars import SUFFIX as SIDECAR
from crossatnet.gallery.backend import Choice
from crossatnet.gallery.ingest.exclusion import TOP, Exclusion
from crossatnet.system.errors import UserError, how_to_install

Reason = Literal["unreadable", "video", "sidecar", "other", "clutter", "excluded", "hidden", "link", "no file"]
NO_SUFFIX = "no suffix"
HEAD_BYTES = 64  # of a file without a suffix
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"RIFF", b"II*\0", b"MM\0*")


@dataclass(frozen=True)
class PassedOver:
    """How many files were not read for one reason, by kind: their suffix, or the pattern that left them out."""

    reason: Reason
    kinds: dict[str, int]

    @property
    def files(self) -> int:
        """How many files of all kinds."""
        return sum(self.kinds.values())


@dataclass(frozen=True)
class Listing:
    """What is in a folder. `root` and the sorted `files` are absolute; `excluded` are left out by patterns."""

    root: Path
    files: list[str]
    skipped: list[tuple[str, str]] = field(default_factory=list)
    passed_over: tuple[PassedOver, ...] = ()
    excluded: frozenset[str] = frozenset()

    def leaves_out(self, path: str) -> bool:
        """Whether a pattern leaves out a path below the folder, or a folder that it is in."""
        return path in self.excluded or any(str(parent) in self.excluded for parent in Path(path).parents)


def list_pictures(folder: Path, choice: Choice | None = None) -> Listing:
    """What is in a folder and below. Raises `UserError` if it is missing, no folder, or has no pictures to read."""
    root = _existing_folder(folder)
    listing = _Lister(root, choice or Choice()).list()
    if not listing.files:
        unreadable = next((passed for passed in listing.passed_over if passed.reason == "unreadable"), None)
        looked = ", ".join(sorted(suffixes(picture_formats())))
        what = f"only {explain(unreadable)}" if unreadable else f"looked for {looked}; check the path"
        raise UserError(f"{folder}: no pictures there ({what})")
    return listing


def outermost(folders: Sequence[Path]) -> list[Path]:
    """Folders, each once, without those that lie in others of them: a picture has one folder that it was found by.

    Raises `UserError` for one that is missing or no folder, before any of them is read.
    """
    roots = dict.fromkeys(_existing_folder(folder) for folder in folders)
    return [root for root in roots if not any(root != other and root.is_relative_to(other) for other in roots)]


def explain(passed: PassedOver) -> str:
    """One reason as a sentence: how many files, of which kinds, and what takes them in."""
    shown = ", ".join(
        f"{kind} {count:,}" for kind, count in sorted(passed.kinds.items(), key=lambda each: -each[1])[:8]
    )
    kinds = shown + (f" and {len(passed.kinds) - 8} kinds more" if len(passed.kinds) > 8 else "")
    is_one = passed.files == 1
    files = f"{passed.files:,} file{'' if is_one else 's'}"
    return {
        "unreadable": f"{files} of kinds that this installation cannot read ({kinds}): {how_to_install('pillow_heif')}",
        "video": f"{files} that {'is a video' if is_one else 'are videos'} ({kinds}): --videos takes the first frame",
        "sidecar": f"{files} beside pictures ({kinds}): read with them, for tags, captions, ratings and dates",
        "other": f"{files} that {'is no picture' if is_one else 'are no pictures'} ({kinds})",
        "clutter": f"{files} that programs made ({kinds}): a line such as !{next(iter(passed.kinds))} in"
        " .crossatnetignore takes them in",
        "excluded": f"{files} left out by patterns ({kinds})",
        "hidden": f"{files} hidden, or in hidden folders ({kinds})",
        "link": f"{files} linked to other places ({kinds}): --follow-links follows links out of the folder",
        "no file": f"{passed.files:,} that {'is no file' if is_one else 'are no files'}, or links to nothing ({kinds})",
    }[passed.reason]


class _Lister:
    """Walks a folder once."""

    def __init__(self, root: Path, choice: Choice) -> None:
        self._root = root
        self._choice = choice
        self._readable = suffixes(picture_formats())
        self._known = suffixes((*PHOTOS, RAW)) - self._readable
        self._videos = suffixes([VIDEO])
        self._files: list[str] = []
        self._skipped: list[tuple[str, str]] = []
        self._passed: dict[Reason, Counter[str]] = {}
        self._excluded: set[str] = set()
        self._followed: list[Path] = []

    def list(self) -> Listing:
        self._walk(self._root, TOP, Exclusion.at(self._root, self._choice.exclude))
        passed = tuple(PassedOver(reason, dict(kinds)) for reason, kinds in sorted(self._passed.items()))
        return Listing(self._root, sorted(self._files), self._skipped, passed, frozenset(self._excluded))

    def _walk(self, folder: Path, path: PurePosixPath, exclusion: Exclusion) -> None:
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            self._skipped.append((str(folder), error.strerror or "cannot be read"))
            return
        for entry in entries:
            try:
                self._look_at(entry, path / entry.name, exclusion)
            except OSError as error:  # in a folder that may be listed but not entered
                self._skipped.append((entry.path, error.strerror or "cannot be read"))

    def _look_at(self, entry: os.DirEntry[str], path: PurePosixPath, exclusion: Exclusion) -> None:
        is_folder = entry.is_dir()
        is_link = entry.is_symlink()
        if entry.name.startswith("."):
            self._pass_over("hidden", _suffix(entry.name), entry)
            return
        pattern = exclusion.pattern(path, is_folder)
        clutter = exclusion.clutter_of(path) if is_folder and not pattern else None
        if pattern or clutter:
            self._excluded.add(entry.path)
            self._pass_over("excluded" if pattern else "clutter", pattern or clutter or "", entry)
        elif is_link and not self._may_follow(Path(entry.path), is_folder):
            self._pass_over("link" if Path(entry.path).exists() else "no file", _suffix(entry.name), entry)
        elif is_folder:
            self._walk(Path(entry.path), path, exclusion.entering(Path(entry.path), path))
        elif not entry.is_file():  # a pipe would block the reader
            self._pass_over("no file", _suffix(entry.name), entry)
        else:
            self._sort_in(entry)

    def _sort_in(self, entry: os.DirEntry[str]) -> None:
        suffix = _suffix(entry.name)
        is_picture = suffix in self._readable or (suffix == NO_SUFFIX and _looks_like_a_picture(entry.path))
        if is_picture or (suffix in self._videos and self._choice.videos and VIDEO.is_readable):
            if _is_unicode(entry.path):
                self._files.append(entry.path)
            else:  # bytes that SQLite's text cannot hold
                self._skipped.append((ascii(entry.path), "the name is not valid UTF-8; rename it"))
        elif suffix in self._videos and VIDEO.is_readable:
            self._pass_over("video", suffix, entry)
        elif suffix == SIDECAR:
            self._pass_over("sidecar", suffix, entry)
        else:
            self._pass_over("unreadable" if suffix in self._known | self._videos else "other", suffix, entry)

    def _may_follow(self, link: Path, is_folder: bool) -> bool:
        """Whether what a link leads to is read by the link's name: inside, files only; outside, if that is wanted."""
        target = link.resolve()
        if target.is_relative_to(self._root):
            return not is_folder and target.is_file()
        if not self._choice.follow_links or not target.exists():
            return False
        if is_folder:
            known = [self._root, *self._followed]
            if any(target.is_relative_to(each) or each.is_relative_to(target) for each in known):
                return False  # it would be read twice, or for ever
            self._followed.append(target)
        return True

    def _pass_over(self, reason: Reason, kind: str, entry: os.DirEntry[str]) -> None:
        files = _kinds_below(entry.path) if entry.is_dir(follow_symlinks=False) else Counter({_suffix(entry.name): 1})
        by_pattern = reason in ("excluded", "clutter")
        counted = Counter({kind: files.total()}) if by_pattern and files else files
        self._passed.setdefault(reason, Counter()).update(counted)


def _kinds_below(folder: str) -> Counter[str]:
    """The suffixes of all that is in a folder and below and no folder itself; a link to one is none."""
    kinds: Counter[str] = Counter()
    for parent, folders, names in os.walk(folder):
        links = [name for name in folders if Path(parent, name).is_symlink()]
        kinds.update(_suffix(name) for name in (*names, *links))
    return kinds


def _suffix(name: str) -> str:
    """A name's suffix in small letters, as it may be shown; hidden files have one after their first dot only."""
    suffix = Path(name.lstrip(".")).suffix.lower()
    return suffix if suffix.isprintable() and suffix else NO_SUFFIX


def _looks_like_a_picture(path: str) -> bool:
    try:
        with Path(path).open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return False
    form = format_of(head)
    return head.startswith(SIGNATURES) or form in {each.name for each in picture_formats()}


def _existing_folder(folder: Path) -> Path:
    """`folder` made absolute and free of links, so that each picture has only one path."""
    if not folder.exists():
        raise UserError(f"{folder}: no such folder; check the path")
    if not folder.is_dir():
        raise UserError(f"{folder}: not a folder; give the folder that holds the pictures")
    return folder.resolve()


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
