"""Pictures of noise with what cameras and photo programs write into their files, for the tests."""

import io
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmp:Rating="{rating}"><dc:subject><rdf:Bag>{tags}</rdf:Bag></dc:subject>
<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{caption}</rdf:li></rdf:Alt></dc:description>
</rdf:Description></rdf:RDF></x:xmpmeta>"""


def noise(seed: int, side: int = 8) -> Image.Image:
    """A picture of coarse noise, large enough for a look of its own."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((64, 64), Image.Resampling.NEAREST)


def exif(taken: str = "", make: str = "", model: str = "", place: bool = False) -> Image.Exif:
    """EXIF with the date a photo was taken (2019:07:14 10:22:33), its camera and a place."""
    made = Image.Exif()
    if make:
        made[ExifTags.Base.Make], made[ExifTags.Base.Model] = make, model
    if taken:
        made.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = taken
    if place:
        made.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (48.0, 8.0, 0.0)
    return made


def xmp(tags: tuple[str, ...] = (), caption: str = "", rating: int = 0) -> bytes:
    """An XMP packet."""
    bag = "".join(f"<rdf:li>{tag}</rdf:li>" for tag in tags)
    return XMP.format(tags=bag, caption=caption, rating=rating).encode()


def write(path: Path, seed: int, taken: str = "", tags: tuple[str, ...] = (), caption: str = "") -> Path:
    """A photo file with what is known of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content(noise(seed), taken, tags, caption))
    return path


def content(image: Image.Image, taken: str = "", tags: tuple[str, ...] = (), caption: str = "") -> bytes:
    """The bytes of a JPEG with what is known of it."""
    made = io.BytesIO()
    image.save(made, "JPEG", quality=95, exif=exif(taken), xmp=xmp(tags, caption))
    return made.getvalue()
