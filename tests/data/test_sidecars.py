"""XMP files beside pictures, as darktable and Lightroom write them; broken and hostile ones count as absent."""

import io
import os
from pathlib import Path

import pytest

from crossatnet.data.metadata import LONGEST_XMP, Metadata, read_metadata
from crossatnet.data.sidecars import read_sidecars, sidecar_state
from gallery import known

RDF = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
DARKTABLE = f"""<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2"><rdf:RDF {RDF}>
<rdf:Description rdf:about="" xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:lr="http://ns.adobe.com/lightroom/1.0/"
 xmlns:darktable="http://darktable.sf.net/" exif:DateTimeOriginal="2018:02:03 04:05:06" xmp:Rating="4"
 darktable:history_end="2"><dc:subject><rdf:Seq><rdf:li>bridge</rdf:li></rdf:Seq></dc:subject>
<lr:hierarchicalSubject><rdf:Seq><rdf:li>places|Italy|Rome</rdf:li></rdf:Seq></lr:hierarchicalSubject>
<darktable:history><rdf:Seq><rdf:li darktable:num="0" darktable:operation="rawprepare"/></rdf:Seq></darktable:history>
</rdf:Description></rdf:RDF></x:xmpmeta>"""
LIGHTROOM = f"""<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Adobe XMP Core 7.0"><rdf:RDF {RDF}>
<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" xmp:Rating="2" photoshop:DateCreated="2017-01-02T03:04:05.67">
<dc:title><rdf:Alt><rdf:li xml:lang="x-default">At night</rdf:li></rdf:Alt></dc:title>
<dc:subject><rdf:Bag><rdf:li>river</rdf:li><rdf:li>Bridge</rdf:li></rdf:Bag></dc:subject>
</rdf:Description></rdf:RDF></x:xmpmeta>"""
BOMB = f'<!DOCTYPE x [<!ENTITY a "{"a" * 99}"><!ENTITY b "{"&a;" * 99}">]>' + DARKTABLE.split("?>\n")[1].replace(
    "bridge", "&b;"
)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return known.write(tmp_path / "IMG_20010101.jpg", 1, "2019:07:14 10:22:33", ("sea",), "inside")


def found(picture: Path) -> Metadata:
    return read_metadata(picture.read_bytes(), picture.name, read_sidecars(picture).packets)


def test_what_lies_beside_counts_before_what_is_inside(picture: Path) -> None:
    picture.with_suffix(".xmp").write_text(LIGHTROOM)
    assert found(picture) == Metadata(
        "2017-01-02T03:04:05", tags=("river", "Bridge", "sea"), caption="At night - inside", rating=2
    )
    Path(f"{picture}.xmp").write_text(DARKTABLE)
    assert found(picture) == Metadata(
        "2018-02-03T04:05:06",
        tags=("bridge", "Rome", "river", "sea"),
        caption="At night - inside",
        rating=4,
    )


def test_a_picture_that_another_process_reads_has_sidecars_too(tmp_path: Path) -> None:
    made = io.BytesIO()
    known.noise(3).save(made, "GIF")
    assert read_metadata(made.getvalue(), "IMG_20010101.gif", [DARKTABLE.encode()]) == Metadata(
        "2018-02-03T04:05:06", tags=("bridge", "Rome"), rating=4
    )
    assert read_metadata(made.getvalue(), "IMG_20010101.gif").taken == "2001-01-01T00:00:00"


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe\0", b"<x", b"<a/>", BOMB.encode(), DARKTABLE.encode() + b" " * LONGEST_XMP],
    ids=["empty", "no text", "cut off", "other XML", "entities", "endless"],
)
def test_what_is_no_sidecar_costs_nothing(picture: Path, content: bytes) -> None:
    Path(f"{picture}.xmp").write_bytes(content)
    assert found(picture) == Metadata("2019-07-14T10:22:33", tags=("sea",), caption="inside")


def test_links_and_pipes_are_left_alone(picture: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text(DARKTABLE)
    Path(f"{picture}.xmp").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(picture.with_suffix(".xmp"))
    assert read_sidecars(picture).packets == ()
    assert sidecar_state(picture) == ""


def test_the_state_changes_with_the_files(picture: Path) -> None:
    states = [sidecar_state(picture)]
    for path, text in ((f"{picture}.xmp", DARKTABLE), (f"{picture}.xmp", LIGHTROOM), (picture.with_suffix(".xmp"), "")):
        Path(path).write_text(text)
        states.append(sidecar_state(picture))
    assert states[0] == ""
    assert len(set(states)) == 4
    assert read_sidecars(picture).state == states[-1]
