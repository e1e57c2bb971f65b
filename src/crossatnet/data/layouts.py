"""How published data sets lie on disk: one function a layout, each listing the files under a root.

A file of strokes is listed once; `read_catalog` makes it one item a drawing.
"""

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path

from crossatnet.config import cache_directory
from crossatnet.data.catalog import Catalog, Item, scan
from crossatnet.data.images import Modality
from crossatnet.data.names import canonical
from crossatnet.data.pictures.formats import picture_formats, suffixes
from crossatnet.data.quickstart import build_quickstart
from crossatnet.data.strokes import StrokeFile, is_stroke_file
from crossatnet.system.errors import UserError, did_you_mean

SKETCH_OF_PHOTO = re.compile(r"^(?P<photo>.+)-\d+$")
SKETCHY_PHOTO = re.compile(r"(?:^|_)(n\d{8}_\d+)$")  # ImageNet's name of a photo, which Sketchy's files keep


def sketchy(root: Path) -> Iterator[Item]:
    """Sketchy: `256x256/{photo,sketch}/tx_000000000000/CLASS/*`, extended photos in `EXTEND_image_sketchy/CLASS/*`.

    Also the re-packed names `tx_000000000000_ready` and `all_photo`, and a root that is `256x256` itself. The K-th
    sketch of photo `nXXXXXXXX_N` is called `nXXXXXXXX_N-K`: both get the photo's name as their instance.

    Example:
        >>> from crossatnet.data.layouts import sketchy
        >>> for name in ("photo/tx_000000000000/owl/n01_2.jpg", "sketch/tx_000000000000/owl/n01_2-1.png"):
        ...     (tmp_path / name).parent.mkdir(parents=True)
        ...     sketch.save(name)
        >>> [(item.modality, item.instance) for item in sketchy(tmp_path)]
        [('sketch', 'n01_2'), ('photo', 'n01_2')]
    """
    base = root / "256x256" if (root / "256x256").is_dir() else root
    for sketches in _existing(base / "sketch", "tx_000000000000", "tx_000000000000_ready"):
        for item in _class_folders(sketches, "sketch"):
            match = SKETCH_OF_PHOTO.match(item.path.stem)
            yield Item(item.path, item.class_name, "sketch", match["photo"] if match else None)
    photos = _existing(base / "photo", "tx_000000000000", "tx_000000000000_ready")
    for folder in photos + _existing(root, "EXTEND_image_sketchy", "all_photo"):
        for item in _class_folders(folder, "photo"):
            yield Item(item.path, item.class_name, "photo", item.path.stem)


def tuberlin(root: Path) -> Iterator[Item]:
    """TU-Berlin-extended: `png/CLASS/N.png` and `ImageResized/CLASS/*` (or `png_ready` and `ImageResized_ready`).

    Example:
        >>> from crossatnet.data.layouts import tuberlin
        >>> (tmp_path / "png" / "hot air balloon").mkdir(parents=True)
        >>> sketch.save("png/hot air balloon/1.png")
        >>> [(item.class_name, item.modality) for item in tuberlin(tmp_path)]
        [('hot air balloon', 'sketch')]
    """
    for folder in _existing(root, "png", "png_ready"):
        yield from _class_folders(folder, "sketch")
    for folder in _existing(root, "ImageResized", "ImageResized_ready"):
        yield from _class_folders(folder, "photo")


def quickdraw(root: Path) -> Iterator[Item]:
    """QuickDraw-extended: `sketches/CLASS/ID.png` or Google's strokes, and `photos/CLASS/*`.

    A file of strokes, `.ndjson` or packed `.ndjson.gz`, shows what its name says. Its rows say it too (`word`), but a
    file is opened only once its class is known to be a seen one.

    Example:
        >>> from crossatnet.data.layouts import quickdraw
        >>> _ = (tmp_path / "owl.ndjson").write_text("")
        >>> [(item.class_name, item.modality) for item in quickdraw(tmp_path)]
        [('owl', 'sketch')]
    """
    for folder in _existing(root, "photos"):
        yield from _class_folders(folder, "photo")
    for folder in [root, *_existing(root, "sketches")]:
        for path in sorted(folder.iterdir()):
            if is_stroke_file(path) and not path.name.startswith("."):
                yield Item(path, path.name.partition(".ndjson")[0], "sketch")
    for folder in _existing(root, "sketches"):
        yield from _class_folders(folder, "sketch")


def folder(root: Path) -> Iterator[Item]:
    """Your own pictures: `photos/CLASS/*` and `sketches/CLASS/*`.

    Photos and sketches that have Sketchy's names keep what they say: sketch `nXXXXXXXX_N-K` was drawn of photo
    `nXXXXXXXX_N`, also where the name of the set it is from stands before (`pacs_dog_nXXXXXXXX_N`).

    Example:
        >>> from crossatnet.data.layouts import folder
        >>> (tmp_path / "photos" / "owl").mkdir(parents=True)
        >>> photo.save("photos/owl/1.jpg")
        >>> [(item.class_name, item.modality) for item in folder(tmp_path)]
        [('owl', 'photo')]
    """
    for sketches in _existing(root, "sketches"):
        for item in _class_folders(sketches, "sketch"):
            match = SKETCH_OF_PHOTO.match(item.path.stem)
            yield _of_sketchy(item, match["photo"] if match else "")
    for photos in _existing(root, "photos"):
        for item in _class_folders(photos, "photo"):
            yield _of_sketchy(item, item.path.stem)


def _of_sketchy(item: Item, photo: str) -> Item:
    """The item, with the photo's name for its instance if it is one of Sketchy's."""
    found = SKETCHY_PHOTO.search(photo)
    return replace(item, instance=found[1]) if found else item


def quickstart(root: Path) -> Iterator[Item]:
    """The quickstart set: as `folder`; the file's name names the hand, and each hand drew one instance of a concept.

    Example:
        >>> from crossatnet.data.layouts import quickstart
        >>> (tmp_path / "photos" / "owl").mkdir(parents=True)
        >>> photo.save("photos/owl/twemoji.png")
        >>> [item.instance for item in quickstart(tmp_path)]
        ['owl/twemoji']
    """
    for item in folder(root):
        hand = item.path.stem.partition("-")[0]
        yield Item(item.path, item.class_name, item.modality, f"{item.class_name}/{hand}")


LAYOUTS: dict[str, Callable[[Path], Iterator[Item]]] = {
    "sketchy": sketchy,
    "tuberlin": tuberlin,
    "quickdraw": quickdraw,
    "folder": folder,
    "quickstart": quickstart,
}


def list_items(root: Path, layout: str) -> list[Item]:
    """Every picture under a root as it is listed, none opened; of a file of strokes, every drawing.

    Raises `UserError` for an unknown layout or a missing root.

    Example:
        >>> from crossatnet.data.layouts import list_items
        >>> (tmp_path / "photos" / "owl").mkdir(parents=True)
        >>> photo.save("photos/owl/1.jpg")
        >>> [(item.class_name, item.modality) for item in list_items(tmp_path, "folder")]
        [('owl', 'photo')]
    """
    return [drawing for item in LAYOUTS[layout](_checked(root, layout)) for drawing in _drawings(item)]


def list_classes(root: Path, layout: str) -> set[str]:
    """Canonical names of the classes under a root, without opening a picture.

    Example:
        >>> from crossatnet.data.layouts import list_classes
        >>> (tmp_path / "photos" / "Hot Air Balloon").mkdir(parents=True)
        >>> photo.save("photos/Hot Air Balloon/1.jpg")
        >>> list_classes(tmp_path, "folder")
        {'hot_air_balloon'}
    """
    root = _checked(root, layout)
    return {canonical(item.class_name) for item in LAYOUTS[layout](root)}


def read_catalog(
    root: Path | None,
    layout: str,
    quiet: bool = False,
    classes: Collection[str] | None = None,
    choose: Callable[[list[Item], Path], list[Item]] | None = None,
) -> Catalog:
    """List and check the pictures of a data set; with `classes` (canonical names), only theirs are opened.

    With `choose` only what it gives, of the pictures listed and their root, is opened.

    Without a root the quickstart set is built in the cache directory; other layouts need one. Raises `UserError` for
    a missing, empty or differently laid-out root.

    Example:
        >>> from crossatnet.data.layouts import read_catalog
        >>> for part, picture in (("sketches", sketch), ("photos", photo)):
        ...     (tmp_path / part / "owl").mkdir(parents=True)
        ...     picture.save(f"{part}/owl/1.png")
        >>> read_catalog(tmp_path, "folder", quiet=True).counts()
        {'owl': (1, 1)}
    """
    if layout == "quickstart":
        root = build_quickstart(root or cache_directory() / "quickstart", progress=not quiet)
    root = _checked(root, layout)
    listed = list(LAYOUTS[layout](root))
    wanted = [item for item in listed if classes is None or canonical(item.class_name) in classes]
    items = [drawing for item in wanted for drawing in _drawings(item)]
    if choose is not None:
        items = choose(items, root)
    if listed and not wanted:
        raise UserError(f"'{root}' has none of the classes asked for; is it the data set that the split was made for?")
    if not items:
        description = " ".join((LAYOUTS[layout].__doc__ or "").partition("\n")[0].split())
        raise UserError(f"no pictures found under '{root}' in the layout '{layout}'. {description}")
    return scan(items, root, quiet)


def _checked(root: Path | None, layout: str) -> Path:
    """The root, if the layout is known and the folder there."""
    if layout not in LAYOUTS:
        raise UserError(f"unknown layout '{layout}'; {did_you_mean(layout, LAYOUTS)}")
    if root is None:
        raise UserError(f"the layout '{layout}' needs the folder of the data set: give it with --data")
    if not root.is_dir():
        raise UserError(f"no folder '{root}'; give the folder that holds the data set")
    return root


def _existing(parent: Path, *names: str) -> list[Path]:
    return [parent / name for name in names if (parent / name).is_dir()]


def _drawings(item: Item) -> list[Item]:
    """The item itself, or one item for every drawing if it is a file of strokes."""
    if not is_stroke_file(item.path):
        return [item]
    return [replace(item, row=row) for row in range(len(StrokeFile.open(item.path)))]


def _class_folders(parent: Path, modality: Modality) -> Iterator[Item]:
    readable = suffixes(picture_formats())
    for class_folder in sorted(parent.iterdir()):
        if class_folder.is_dir() and not class_folder.name.startswith("."):
            for path in sorted(class_folder.iterdir()):
                if path.suffix.lower() in readable and not path.name.startswith("."):
                    yield Item(path, class_folder.name, modality)
