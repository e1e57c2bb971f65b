"""A folder of real life, made by a script: what phones, cameras, scanners, network disks and people leave in one."""

import os
import socket
import struct
import unicodedata
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from picture_files import encoded, grey_tiff, multi_picture, patches, raw_photo, swapped_profile, video


@dataclass
class Awkward:
    """What is in the folder: pictures that must come in, files that cannot be used, and why others are passed over."""

    root: Path
    pictures: set[str] = field(default_factory=set)
    skipped: set[str] = field(default_factory=set)
    passed_over: dict[str, list[str]] = field(default_factory=dict)
    kinds: set[str] = field(default_factory=set)

    def picture(self, name: str, content: bytes, kind: str) -> None:
        """A file that must come in."""
        self._write(name, content, kind)
        self.pictures.add(name)

    def unusable(self, name: str, content: bytes, kind: str) -> None:
        """A file that looks like a picture and cannot be used."""
        self._write(name, content, kind)
        self.skipped.add(name)

    def other(self, name: str, content: bytes, kind: str, reason: str = "other") -> None:
        """A file that is passed over."""
        self._write(name, content, kind)
        self.passed_over.setdefault(reason, []).append(name)

    def link(self, name: str, target: Path, reason: str) -> None:
        """A link that is passed over."""
        (self.root / name).symlink_to(target)
        self.passed_over.setdefault(reason, []).append(name)

    def _write(self, name: str, content: bytes, kind: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.kinds.add(kind)


def make_awkward(root: Path, outside: Path) -> Awkward:
    """Fill a new folder; `outside` is a folder of pictures that links lead to."""
    root.mkdir()
    made = Awkward(root)
    for part in (_phones, _broken_beside, _depths, _names, _unusable, _no_pictures, _clutter):
        part(made)
    _links(made, outside)
    return made


def _seeds() -> Callable[[], Image.Image]:
    numbers = iter(range(10_000))
    return lambda: patches(64, 48, seed=next(numbers))


picture = _seeds()


def jpeg(**options: object) -> bytes:
    """A small JPEG, another one each time."""
    return encoded(picture(), "JPEG", quality=90, **options)


def _phones(made: Awkward) -> None:
    for number in range(8):
        made.picture(f"Camera Roll/IMG_{number:04}.HEIC", encoded(picture(), "HEIF", quality=80), "heic")
    made.picture("Camera Roll/portrait.heif", encoded(picture(), "HEIF", quality=80, thumbnails=[16]), "heif")
    made.picture("Camera Roll/new.avif", encoded(picture(), "AVIF", quality=80), "avif")
    made.picture("Camera Roll/future.jxl", encoded(picture(), "JXL"), "jxl")
    made.picture("Camera Roll/two lenses.jpg", multi_picture(picture(), picture()), "multi-picture jpeg")
    made.picture("Camera Roll/sent by somebody.jpg", encoded(picture(), "HEIF", quality=80), "heic named jpg")
    made.picture("Downloads/really a jpeg.png", jpeg(), "jpeg named png")
    made.picture("Downloads/windows.jfif", jpeg(), "jfif")
    made.picture("Downloads/old.jpe", jpeg(), "jpe")
    made.picture("Downloads/page.webp", encoded(picture(), "WEBP"), "webp")
    made.picture("camera/DSC_0001.dng", raw_photo(picture()), "raw")
    made.picture("camera/DSC_0002.NEF", raw_photo(patches(320, 240, seed=5000), flip=6), "raw, turned")
    made.other("Camera Roll/IMG_0001.MOV", video(picture(), form="mov"), "mov", "video")
    made.other("Camera Roll/clip.mp4", video(picture()), "mp4", "video")
    made.other("Camera Roll/IMG_0001.AAE", b"<plist/>", "edits beside a photo")


def _broken_beside(made: Awkward) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "c" * 3_000_000, zip=True)
    made.picture("mended/long text.png", encoded(picture(), "PNG", pnginfo=text), "png with huge text")
    whole = encoded(picture(), "PNG")
    side = b"tEXt" + b"Title\0x"
    bad = struct.pack(">I", len(side) - 4) + side + struct.pack(">I", zlib.crc32(side) ^ 1)
    made.picture("mended/bad checksum.png", whole[:33] + bad + whole[33:], "png with a bad checksum")
    made.picture("mended/no end.png", whole[:-12] if len(whole) > 12 else whole, "png without end")
    made.picture("mended/no end.jpg", jpeg()[:-2], "jpeg without end")
    made.picture("mended/broken exif.jpg", jpeg(exif=b"Exif\0\0II*\0\xff\xff\xff\xff"), "jpeg with broken exif")
    made.picture("mended/broken profile.jpg", jpeg(icc_profile=b"nothing"), "jpeg with a broken profile")
    made.picture("mended/no end.gif", encoded(picture(), "GIF")[:-1], "gif without end")
    made.picture("mended/after the end.jpg", jpeg() + b"appended by a phone" * 50, "jpeg with a trailer")


def _depths(made: Awkward) -> None:
    slope = np.linspace(0, 1, 64 * 48).reshape(48, 64)
    holed = slope.astype(np.float32)
    holed[:9, :9] = np.nan
    made.picture("scans/16 bits.tif", grey_tiff((slope * 65535).astype(np.uint16)), "tiff of 16 bits")
    made.picture("scans/negative.tif", grey_tiff((slope * 60000).astype(np.uint16), True), "tiff with white as zero")
    made.picture("scans/heights.tiff", grey_tiff(holed), "tiff with holes")
    made.picture("scans/signed.tif", grey_tiff((slope * 900 - 300).astype(np.int16), order=">"), "tiff, signed")
    made.picture("scans/print.jpg", encoded(picture().convert("CMYK"), "JPEG"), "cmyk jpeg")
    made.picture("scans/profile.png", encoded(picture(), "PNG", icc_profile=swapped_profile()), "colour profile")
    made.picture("scans/fax.tif", encoded(picture().convert("1"), "TIFF", compression="group4"), "fax")
    made.picture("scans/one bit.png", encoded(picture().convert("1"), "PNG"), "png of one bit")
    made.picture("scans/clear.png", encoded(picture().convert("RGBA"), "PNG"), "png with transparency")
    made.picture("scans/progressive.jpg", jpeg(progressive=True), "progressive jpeg")
    made.picture("scans/deep.png", encoded(Image.fromarray((slope * 65535).astype(np.uint16)), "PNG"), "deep png")
    made.picture("scans/device.bmp", encoded(picture(), "BMP"), "bmp")
    frames = {"save_all": True, "append_images": [picture(), picture()]}
    made.picture("scans/moving.gif", encoded(picture(), "GIF", **frames), "animation")
    made.picture("scans/moving.png", encoded(picture(), "PNG", **frames), "animated png")
    made.picture("scans/dot.png", encoded(Image.new("RGB", (1, 1), "red"), "PNG"), "one pixel")
    made.picture("scans/wide.png", encoded(Image.new("RGB", (3000, 2), "blue"), "PNG"), "panorama")


def _names(made: Awkward) -> None:
    names = [
        *("-rf.jpg", "a b  c.jpg", "it's.jpg", 'say "hi".jpg', "$(echo).jpg", "new\nline.jpg", "esc\x1b[31m.jpg"),
        *("trailing space .jpg", "con.jpg", "AUX.JPG", "a:b.jpg", "back\\slash.jpg", "dots...jpg", "😀🎉.jpg"),
        *("e\u0301te\u0301.jpg", "\u00e9t\u00e9.jpg", "ปี่/ปู.jpg", "UPPER.JPEG", "x" * 240 + ".jpg", "%s%d.jpg", "*.jpg"),
    ]
    assert unicodedata.normalize("NFC", names[14]) == names[15]
    for name in names:
        made.picture(f"names/{name}", jpeg(), "name")
    made.picture("names/" + "deep/" * 40 + "down.jpg", jpeg(), "deep folder")
    made.picture("names/folder.jpg/inside.jpg", jpeg(), "folder named like a picture")
    made.picture("names/without a suffix", jpeg(), "no suffix")
    bad = os.fsencode(made.root) + b"/names/latin-\xe9.jpg"
    Path(os.fsdecode(bad)).write_bytes(jpeg())
    made.skipped.add("names/" + os.fsdecode(b"latin-\xe9.jpg"))
    made.kinds.add("name that is not UTF-8")


def _unusable(made: Awkward) -> None:
    made.unusable("broken/empty.jpg", b"", "empty")
    made.unusable("broken/text.png", b"I am a text", "text named png")
    made.unusable("broken/cut.jpg", encoded(patches(300, 300), "JPEG", quality=95)[:2500], "cut jpeg")
    made.unusable("broken/cut.heic", encoded(patches(300, 300), "HEIF")[:400], "cut heic")
    made.unusable("broken/zeros.jpg", bytes(5000), "zeros")
    made.unusable("broken/page.jpg", b"<!DOCTYPE html><p>404</p>", "page named jpg")


def _no_pictures(made: Awkward) -> None:
    for name in (
        "notes.txt",
        "taxes.pdf",
        "drawing.psd",
        "logo.svg",
        "Thumbs.db",
        "desktop.ini",
        "all.zip",
    ):
        made.other(f"papers/{name}", b"something", Path(name).suffix)
    made.other("papers/photo.xmp", b"something", "XMP beside a picture", "sidecar")
    made.other("papers/half.jpg.part", jpeg()[:200], "unfinished download")
    made.other("papers/README", b"plain words", "text without a suffix")
    for name in (".DS_Store", "._IMG_0001.jpg", ".hidden.png", ".cache/a.jpg", ".cache/b.jpg", ".trash/c/d.heic"):
        made.other(name, jpeg(), "hidden", "hidden")
    os.mkfifo(made.root / "pipe.jpg")
    made.passed_over.setdefault("no file", []).append("pipe.jpg")
    server, here = socket.socket(socket.AF_UNIX), Path.cwd()
    os.chdir(made.root)  # as a socket's whole path must be short
    try:
        server.bind("socket.jpg")
    finally:
        os.chdir(here)
        server.close()
    made.passed_over["no file"].append("socket.jpg")
    made.kinds |= {"pipe", "socket"}


def _clutter(made: Awkward) -> None:
    library = "Photos Library.photoslibrary"
    made.picture(f"{library}/originals/0/0A.heic", encoded(picture(), "HEIF"), "photo library")
    for name in ("resources/derivatives/0/0A.jpeg", "resources/renders/0/0A.jpeg", "database/x.jpg"):
        made.other(f"{library}/{name}", jpeg(), "derivative", "clutter")
    for name in ("@eaDir/IMG.jpg/SYNOPHOTO_THUMB_M.jpg", "@eaDir/b.jpg", "#recycle/old.jpg", "__MACOSX/x.png"):
        made.other(f"nas/{name}", jpeg(), "network disk", "clutter")
    made.other("web/node_modules/icons/logo.png", encoded(picture(), "PNG"), "package", "clutter")
    made.other(
        "web/.crossatnetignore",
        b"# what is not mine\n*.tmp.jpg\n/build/\nstock/*\n!stock/kept.jpg\n",
        "ignore",
        "hidden",
    )
    for name in ("web/a.tmp.jpg", "web/deep/b.tmp.jpg", "web/build/c.jpg", "web/stock/bought.jpg"):
        made.other(name, jpeg(), "left out", "excluded")
    made.picture("web/stock/kept.jpg", jpeg(), "taken in again")
    made.picture("web/deep/build/mine.jpg", jpeg(), "anchored pattern")


def _links(made: Awkward, outside: Path) -> None:
    made.link("to a photo.jpg", outside / "a.jpg", "link")
    made.link("to photos", outside, "link")
    made.link("to itself", made.root, "link")
    made.link("to nothing.jpg", made.root / "nothing.jpg", "no file")
    (made.root / "inside.jpg").symlink_to(made.root / "scans" / "progressive.jpg")
    (made.root / "twice.jpg").hardlink_to(made.root / "scans" / "progressive.jpg")
    made.pictures |= {"inside.jpg", "twice.jpg"}
    made.kinds |= {"link", "hard link"}
