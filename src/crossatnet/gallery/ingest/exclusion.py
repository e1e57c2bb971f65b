"""What of a folder is left out by patterns in the manner of .gitignore.

Patterns come from three places. The last that says anything of a path decides: first the known clutter below, then each
`.crossatnetignore` from the folder at the top down to the path's own, then the command line.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from crossatnet.system.errors import UserError

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

IGNORE_FILE = ".crossatnetignore"
MOST_BYTES = 1_000_000  # of an ignore file
LIBRARIES = (".photoslibrary", ".photolibrary", ".migratedphotolibrary", ".aplibrary")
CLUTTER = (  # folders that programs fill; patterns of folders only, so files need no look at them
    "@eaDir/",  # thumbnails and waste of network disks
    "@Recycle/",
    "\\#recycle/",  # without the stroke it would be a comment
    "\\#snapshot/",
    "@Recently-Snapshot/",
    "$RECYCLE.BIN/",
    "System Volume Information/",
    "lost+found/",
    "__MACOSX/",
    *(pattern for library in LIBRARIES for pattern in (f"**/*{library}/*/", f"!**/*{library}/originals/")),
    *(f"!**/*{library}/Masters/" for library in LIBRARIES),
    "*.lrdata/",  # previews of Lightroom, Capture One and others
    "**/CaptureOne/Cache/",
    "thumbnails.digikam/",
    "node_modules/",  # packages, with their icons and test pictures
    "bower_components/",
    "site-packages/",
    "dist-packages/",
    "__pycache__/",
    "*.app/",
    "*.framework/",
)


@dataclass(frozen=True)
class Patterns:
    """The patterns of one place. `base` is the folder, relative to the top, that they are relative to."""

    lines: tuple[str, ...]
    base: PurePosixPath
    spec: "GitIgnoreSpec"

    @staticmethod
    def of(lines: Sequence[str], base: PurePosixPath, where: str) -> "Patterns":
        """Read patterns; `where` is what messages call them. Raises `UserError` for one that is none."""
        from pathspec import GitIgnoreSpec  # here, as a search needs none

        try:
            return Patterns(tuple(lines), base, GitIgnoreSpec.from_lines(lines))
        except ValueError as error:
            raise UserError(f"{where}: not a pattern ({error}); write it as in .gitignore") from error

    def verdict(self, path: PurePosixPath, is_folder: bool) -> str | None:
        """The pattern that leaves a path out, "" if one takes it in again, None if none says anything of it."""
        relative = path.relative_to(self.base).as_posix() + ("/" if is_folder else "")
        found = self.spec.check_file(relative)
        if found.include is None:
            return None
        return self.lines[found.index or 0].strip() if found.include else ""


TOP = PurePosixPath()


@dataclass(frozen=True)
class Exclusion:
    """All patterns that hold in one folder; `entering` gives those of a folder below it."""

    given: Patterns
    clutter: Patterns
    files: tuple[Patterns, ...] = ()

    @staticmethod
    def at(root: Path, exclude: Sequence[str]) -> "Exclusion":
        """The patterns at the top of a folder, with those of the command line.

        The folder may itself be a library of photos: then its name is part of what the known clutter is compared with.
        """
        base = PurePosixPath(root.name) if root.suffix.lower() in LIBRARIES else TOP
        given = Patterns.of(exclude, TOP, "--exclude")
        clutter = Patterns.of(CLUTTER, TOP, "the known clutter")
        return Exclusion(given, Patterns(clutter.lines, base, clutter.spec)).entering(root, TOP)

    def entering(self, folder: Path, path: PurePosixPath) -> "Exclusion":
        """The patterns in a folder whose path from the top is `path`, with those of its own file, if it has one."""
        file = folder / IGNORE_FILE
        try:
            with file.open("rb") as opened:
                lines = opened.read(MOST_BYTES).decode("utf-8", errors="replace").splitlines()
        except OSError:  # there is none, or it is no file that can be read
            return self
        return Exclusion(self.given, self.clutter, (Patterns.of(lines, path, str(file)), *self.files))

    def pattern(self, path: PurePosixPath, is_folder: bool) -> str | None:
        """The pattern of a person that leaves a path out, or None."""
        for patterns in (self.given, *self.files):
            verdict = patterns.verdict(path, is_folder)
            if verdict is not None:
                return verdict or None
        return None

    def clutter_of(self, path: PurePosixPath) -> str | None:
        """The pattern of known clutter that leaves a folder out, if no person says anything of it, or None."""
        if any(patterns.verdict(path, True) is not None for patterns in (self.given, *self.files)):
            return None
        prefixed = self.clutter.base / path
        found = self.clutter.spec.check_file(prefixed.as_posix() + "/")
        return self.clutter.lines[found.index or 0].removeprefix("\\") if found.include else None
