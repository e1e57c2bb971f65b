"""What a photo's file says of it: when and by which camera it was taken, its tags, caption and rating.

Three standards are read, as Pillow finds them: EXIF (cameras), IPTC (press archives) and XMP (photo programs). Where
they differ, XMP comes first, as programs write it last, and what lies in a file of its own before what is in the
picture. Files are untrusted: whatever is broken, huge or absurd counts as absent, and costs nothing else.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from PIL import ExifTags, Image, IptcImagePlugin
from PIL.ImageFile import ImageFile

from crossatnet.data.decoders import decoders, is_read_here
from crossatnet.data.pictures.opening import opened_by_pillow
from crossatnet.system.errors import ImageError

READER = 1  # raise it when more is read, so that galleries fill in what older versions did not
MOST_TAGS, LONGEST_TAG, LONGEST_CAPTION = 200, 200, 4_000  # letters
LONGEST_XMP = 2_000_000  # bytes; XMP in photos is a few thousand
EARLIEST_YEAR = 1826  # of the first photo
BEHIND_PIXELS = (b"eXIf", b"XML:com.adobe.xmp")  # what a PNG may have behind its pixels, which must be read then

WINDOWS_TITLE, WINDOWS_COMMENT, WINDOWS_KEYWORDS, WINDOWS_SUBJECT, RATING = 0x9C9B, 0x9C9C, 0x9C9E, 0x9C9F, 0x4746
IPTC_TITLE, IPTC_TAGS, IPTC_DATE, IPTC_TIME, IPTC_CAPTION = (2, 5), (2, 25), (2, 55), (2, 60), (2, 120)
DATE = re.compile(r"\s*(\d{4})[:\-/.]?(\d\d)[:\-/.]?(\d\d)(?:[T\s]*(\d\d):?(\d\d)(?::?(\d\d))?)?")
DATE_IN_NAME = re.compile(
    r"(?<!\d)((?:19|20)\d\d)([-_.]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])"
    r"(?:(?:[-_ T.]|at| )*([01]\d|2[0-3])[-_.:h]?([0-5]\d)[-_.:m]?([0-5]\d)\d{0,3})?(?!\d)"
)


@dataclass(frozen=True)
class Metadata:
    """What is known of a photo. `taken` is ISO 8601 without a zone, as the camera's clock showed it; None: unknown.

    `rating` is 1 to 5, or -1 for rejected. `has_place` tells whether the file holds a position on Earth; the position
    itself is not kept.
    """

    taken: str | None = None
    camera: str = ""
    has_place: bool = False
    tags: tuple[str, ...] = ()
    caption: str = ""
    rating: int | None = None


def read_metadata(content: bytes, name: str = "", packets: Sequence[bytes] = ()) -> Metadata:
    """The metadata in a picture file's bytes, and in XMP `packets` beside it. Raises nothing; no pixel is decoded.

    If none has a date, one in the file's name counts, as phones and messengers write it (`IMG_20190714_102233.jpg`).

    Example:
        >>> from crossatnet.data.metadata import read_metadata
        >>> photo.save("photo.jpg")
        >>> read_metadata((tmp_path / "photo.jpg").read_bytes(), "IMG_20190714_102233.jpg").taken
        '2019-07-14T10:22:33'
    """
    sources = [*(_tolerant(partial(_packet, packet)) or _Source() for packet in packets), *_inside(content)]
    texts = [text for source in sources for text in source.captions if text]
    ratings = (source.rating for source in sources)
    return Metadata(
        taken=_first_date(source.dates[kind] for kind in range(3) for source in sources) or _date_in(name),
        camera=next((source.camera for source in sources if source.camera), ""),
        has_place=any(source.has_place for source in sources),
        tags=_distinct(tag for source in sources for tag in source.tags),
        caption=" - ".join(dict.fromkeys(texts))[:LONGEST_CAPTION],
        rating=next((rating for rating in ratings if rating is not None), None),
    )


@dataclass(frozen=True)
class _Source:
    """What one standard says. `dates`: when the photo was taken, when it was digitised, when the file was changed."""

    dates: tuple[str, str, str] = ("", "", "")
    camera: str = ""
    has_place: bool = False
    tags: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    rating: int | None = None


def _inside(content: bytes) -> list[_Source]:
    """What a picture file says; one that is not read in this process says it as one source."""
    try:
        if is_read_here(content):
            return _sources(content)
        found = decoders().ask("metadata", content, name="")[0]
    except ImageError:
        return []
    known = Metadata(**{**found, "tags": tuple(found["tags"])})
    dates = known.taken or "", "", ""
    return [_Source(dates, known.camera, known.has_place, known.tags, (known.caption,), known.rating)]


def _sources(content: bytes) -> list[_Source]:
    """What the standards say, the one that counts most first; those that a file lacks or breaks are left out."""
    readers: tuple[Callable[[Image.Image], _Source], ...] = (_xmp, _iptc, _exif)
    found: list[_Source] = []
    try:
        with opened_by_pillow(content) as image:
            if image.format == "PNG" and any(mark in content for mark in BEHIND_PIXELS):
                _tolerant(image.load)
            for reader in readers:
                if (source := _tolerant(lambda reader=reader: reader(image))) is not None:  # type: ignore[misc]
                    found.append(source)
    except Exception:  # damaged bytes make Pillow raise nearly anything
        return found
    return found


def _tolerant(read: Callable[[], Any]) -> Any:
    """What `read` returns, or None where the bytes that it reads are broken, which makes it raise nearly anything."""
    try:
        return read()
    except Exception:
        return None


def _exif(image: Image.Image) -> _Source:
    if image.format == "PNG" and "exif" not in image.info:
        return _Source()  # Pillow would decode the whole picture to look for it
    exif = image.getexif()
    details = _tolerant(lambda: exif.get_ifd(ExifTags.IFD.Exif)) or {}
    place = _tolerant(lambda: exif.get_ifd(ExifTags.IFD.GPSInfo)) or {}
    make, model = _plain(exif.get(ExifTags.Base.Make)), _plain(exif.get(ExifTags.Base.Model))
    return _Source(
        dates=(
            _plain(details.get(ExifTags.Base.DateTimeOriginal)),
            _plain(details.get(ExifTags.Base.DateTimeDigitized)),
            _plain(exif.get(ExifTags.Base.DateTime)),
        ),
        camera=model if model.lower().startswith(make.lower()) else f"{make} {model}".strip(),
        has_place=ExifTags.GPS.GPSLatitude in place,
        tags=tuple(_windows(exif.get(WINDOWS_KEYWORDS)).split(";")),
        captions=(
            *(_windows(exif.get(tag)) for tag in (WINDOWS_TITLE, WINDOWS_SUBJECT, WINDOWS_COMMENT)),
            _plain(exif.get(ExifTags.Base.ImageDescription)),
        ),
        rating=_rating(exif.get(RATING)),
    )


def _iptc(image: Image.Image) -> _Source:
    found: dict[tuple[int, int], Any] = (
        IptcImagePlugin.getiptcinfo(image) if isinstance(image, ImageFile) else {}
    ) or {}

    def texts(key: tuple[int, int]) -> tuple[str, ...]:
        values = found.get(key, ())
        return tuple(_plain(value) for value in (values if isinstance(values, list | tuple) else [values]))

    return _Source(
        dates=(f"{' '.join(texts(IPTC_DATE)[:1])}T{' '.join(texts(IPTC_TIME)[:1])}", "", ""),
        tags=texts(IPTC_TAGS),
        captions=(*texts(IPTC_TITLE), *texts(IPTC_CAPTION)),
    )


def _xmp(image: Image.Image) -> _Source:
    packet = image.info.get("xmp", b"") or image.info.get("XML:com.adobe.xmp", b"")
    if not packet:
        return _Source()
    return _packet(packet.encode() if isinstance(packet, str) else packet)


def _packet(packet: bytes) -> _Source:
    """What an XMP packet says. Pillow reads it by defusedxml, which refuses entities; raises nearly anything."""
    if len(packet) > LONGEST_XMP:
        return _Source()
    bearer = Image.new("1", (1, 1))
    bearer.info["xmp"] = packet
    found = bearer.getxmp()
    described = found.get("xmpmeta", found)["RDF"]["Description"]
    facts: dict[str, Any] = {}
    for part in described if isinstance(described, list) else [described]:
        facts |= {key: value for key, value in part.items() if key not in facts}
    branches = (branch.rpartition("|")[2] for branch in _leaves(facts.get("hierarchicalSubject")))  # animals|birds|owl
    return _Source(
        dates=(_plain(facts.get("DateTimeOriginal") or facts.get("DateCreated")), _plain(facts.get("CreateDate")), ""),
        has_place="GPSLatitude" in facts,
        tags=(*_leaves(facts.get("subject")), *branches),
        captions=tuple(text for key in ("title", "description") for text in [*_leaves(facts.get(key))][:1]),
        rating=_rating(facts.get("Rating")),
    )


def _leaves(node: Any, depth: int = 0) -> Iterator[str]:
    """The texts in a part of XMP, however deep its lists are."""
    if isinstance(node, str):
        yield _plain(node)
    elif depth > 6:
        return
    elif isinstance(node, dict):
        if "text" in node:
            yield _plain(node["text"])
            return
        for value in node.values():
            yield from _leaves(value, depth + 1)
    elif isinstance(node, list):
        for value in node:
            yield from _leaves(value, depth + 1)


def _plain(value: Any) -> str:
    """A text of any origin, on one line, without what cannot be stored or shown."""
    if isinstance(value, bytes):
        value = value.decode("utf-8") if _is_utf8(value) else value.decode("latin-1")
    if not isinstance(value, str):
        return "" if value is None else _plain(str(value))
    kept = value[:LONGEST_CAPTION].encode("utf-8", "ignore").decode()
    return " ".join("".join(letter if letter.isprintable() else " " for letter in kept).split())


def _windows(value: Any) -> str:
    """A text as Windows writes it into EXIF: UTF-16, as bytes or as a row of numbers."""
    if isinstance(value, tuple):
        value = bytes(value)
    return _plain(value.decode("utf-16-le", "ignore")) if isinstance(value, bytes) else _plain(value)


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _rating(value: Any) -> int | None:
    rating = _tolerant(lambda: round(float(value)))
    return rating if rating in (-1, 1, 2, 3, 4, 5) else None  # 0 means that none was given


def _distinct(tags: Iterable[str]) -> tuple[str, ...]:
    """The tags, each once in whatever case."""
    found: dict[str, str] = {}
    for tag in tags:
        plain = _plain(tag)[:LONGEST_TAG]
        if plain and len(found) < MOST_TAGS:
            found.setdefault(plain.casefold(), plain)
    return tuple(found.values())


def _first_date(texts: Iterable[str]) -> str | None:
    """The first of these texts that is a date, in ISO 8601."""
    for text in texts:
        match = DATE.match(text)
        if match and (date := _date(*(int(part or 0) for part in match.groups()))):
            return date
    return None


def _date_in(name: str) -> str | None:
    """The date in a file's name, in ISO 8601."""
    match = DATE_IN_NAME.search(name)
    if match is None:
        return None
    year, _, month, day, *time = match.groups()
    return _date(int(year), int(month), int(day), *(int(part or 0) for part in time))


def _date(year: int, month: int, day: int, hour: int, minute: int, second: int) -> str | None:
    if year < EARLIEST_YEAR:
        return None
    moment = _tolerant(lambda: datetime(year, month, day, hour, minute, min(second, 59)))
    return None if moment is None else str(moment.isoformat(timespec="seconds"))
