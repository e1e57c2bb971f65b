"""What is read of photos' files, in every standard, and from files that break every one of them."""

import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from crossatnet.data.metadata import LONGEST_CAPTION, MOST_TAGS, Metadata, read_metadata
from gallery.known import exif, noise, xmp

ALL = exif("2019:07:14 10:22:33", "Canon", "Canon EOS 5D", place=True)


def saved(form: str, **options: object) -> bytes:
    made = io.BytesIO()
    noise(1).save(made, form, **options)  # type: ignore[arg-type]
    return made.getvalue()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_exif_and_xmp_are_read_of_every_format_that_has_them(form: str) -> None:
    packet = xmp(("holiday", "Sea"), "Evening at the sea", 4)
    options: dict[str, object] = {"exif": ALL, "xmp": packet}
    if form == "PNG":
        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", packet.decode())
        options = {"exif": ALL, "pnginfo": info}
    assert read_metadata(saved(form, **options)) == Metadata(
        "2019-07-14T10:22:33", "Canon EOS 5D", True, ("holiday", "Sea"), "Evening at the sea", 4
    )


def test_what_a_png_has_behind_its_pixels_is_read_too() -> None:
    content = saved("PNG", exif=ALL)
    at = content.index(b"eXIf") - 4
    length = 12 + struct.unpack(">I", content[at : at + 4])[0]
    chunk, rest = content[at : at + length], content[:at] + content[at + length :]
    moved = rest[:-12] + chunk + rest[-12:]  # before IEND
    assert moved.index(b"IDAT") < moved.index(b"eXIf")
    assert read_metadata(moved).taken == "2019-07-14T10:22:33"


def test_windows_writes_in_its_own_way() -> None:
    made = Image.Exif()
    made[0x9C9E] = "beach;Meer".encode("utf-16-le") + b"\0\0"
    made[0x9C9B] = "Ein Tag am Meer".encode("utf-16-le") + b"\0\0"
    made[0x4746] = 5
    made[ExifTags.Base.Make], made[ExifTags.Base.Model] = "NIKON", "D750"
    found = read_metadata(saved("JPEG", exif=made))
    assert (found.tags, found.caption, found.rating, found.camera) == (
        ("beach", "Meer"),
        "Ein Tag am Meer",
        5,
        "NIKON D750",
    )


def iptc(*fields: tuple[int, bytes]) -> bytes:
    """A JPEG with fields of IPTC's second record, as press archives write them."""
    records = b"".join(b"\x1c\x02" + bytes([key]) + struct.pack(">H", len(value)) + value for key, value in fields)
    block = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(records)) + records + b"\0" * (len(records) % 2)
    segment = b"Photoshop 3.0\0" + block
    content = saved("JPEG")
    return content[:2] + b"\xff\xed" + struct.pack(">H", len(segment) + 2) + segment + content[2:]


def test_iptc_is_read() -> None:
    found = read_metadata(
        iptc((25, b"press"), (25, "Zürich".encode()), (120, b"The mayor"), (55, b"20031231"), (60, b"235958+0100"))
    )
    assert found == Metadata("2003-12-31T23:59:58", "", False, ("press", "Zürich"), "The mayor", None)
    assert read_metadata(iptc((25, b"press"))).tags == ("press",)


def test_when_a_photo_was_taken_counts_before_when_it_was_scanned_or_changed() -> None:
    made = Image.Exif()
    made[ExifTags.Base.DateTime] = "2021:01:01 00:00:00"
    assert read_metadata(saved("JPEG", exif=made)).taken == "2021-01-01T00:00:00"
    made.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeDigitized] = "2020:01:01 00:00:00"
    assert read_metadata(saved("JPEG", exif=made)).taken == "2020-01-01T00:00:00"
    made.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "1999:01:01 00:00:00"
    assert read_metadata(saved("JPEG", exif=made), "IMG_20240101.jpg").taken == "1999-01-01T00:00:00"


@pytest.mark.parametrize(
    "wrong",
    ["0000:00:00 00:00:00", "2019:02:30 10:00:00", "    :  :     :  :  ", "2019:13:01 00:00:00", "yesterday", ""],
)
def test_dates_that_are_none_count_as_unknown(wrong: str) -> None:
    assert read_metadata(saved("JPEG", exif=exif(wrong))).taken is None


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("IMG_20190714_102233.jpg", "2019-07-14T10:22:33"),
        ("PXL_20210305_080910123.MP.jpg", "2021-03-05T08:09:10"),
        ("IMG-20190714-WA0001.jpg", "2019-07-14T00:00:00"),
        ("Screenshot 2020-03-04 at 11.22.33.png", "2020-03-04T11:22:33"),
        ("2016_05_06 party.jpg", "2016-05-06T00:00:00"),
        ("12345678901234.jpg", None),
        ("20191340.jpg", None),
        ("owl.jpg", None),
        ("2019-0714.jpg", None),
    ],
)
def test_a_date_in_the_name_counts_where_the_file_has_none(name: str, taken: str | None) -> None:
    assert read_metadata(saved("JPEG"), name).taken == taken


def test_texts_are_bounded_and_can_be_stored_and_shown() -> None:
    tags = tuple(f"tag {number}" for number in range(1000))
    found = read_metadata(saved("JPEG", xmp=xmp(("two\nlines", "two lines", "TWO LINES", *tags[:300]))))
    assert found.tags[0] == "two lines"
    assert len(found.tags) == MOST_TAGS
    long = saved("JPEG", xmp=xmp(caption="\u202e evil \x7f" + "x" * 10_000))
    caption = read_metadata(long).caption
    assert LONGEST_CAPTION - 10 < len(caption) <= LONGEST_CAPTION
    assert caption.isprintable()


def test_an_xml_bomb_is_no_xmp() -> None:
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>' + xmp(("&b;",))
    assert read_metadata(saved("JPEG", exif=ALL, xmp=bomb)).tags == ()
    assert read_metadata(saved("JPEG", exif=ALL, xmp=bomb)).taken == "2019-07-14T10:22:33"


def test_damage_of_any_kind_costs_nothing_but_itself() -> None:
    whole = saved("JPEG", exif=ALL, xmp=xmp(("holiday",), "Evening", 4))

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(st.integers(2, 900), st.binary(min_size=1, max_size=40), st.booleans())
    def check(place: int, bytes_: bytes, cut: bool) -> None:
        damaged = whole[:place] + bytes_ + (b"" if cut else whole[place + len(bytes_) :])
        found = read_metadata(damaged)
        assert isinstance(found, Metadata)
        assert len(found.tags) <= MOST_TAGS

    check()
    assert read_metadata(b"") == read_metadata(b"no picture") == Metadata()
