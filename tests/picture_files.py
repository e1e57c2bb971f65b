"""Picture files of all kinds, made by the tests themselves: what phones, cameras, scanners and programs write."""

import io
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

ASCII, SHORT, LONG, RATIONAL, BYTE, SRATIONAL = 2, 3, 4, 5, 1, 10  # types of TIFF
SIZES = {ASCII: 1, SHORT: 2, LONG: 4, RATIONAL: 8, BYTE: 1, SRATIONAL: 8}
Tag = tuple[int, int, Sequence[int]]  # number, type, values; of rationals numerators and denominators in turn


def patches(width: int = 240, height: int = 180, seed: int = 0) -> Image.Image:
    """Large patches of colour, which survive every lossy format."""
    colours = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize((width, height), Image.Resampling.NEAREST)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """A picture as the bytes of a file, by Pillow or a library that it knows."""
    if kind == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
    if kind == "JXL":
        import imagecodecs

        return bytes(imagecodecs.jpegxl_encode(np.asarray(image), **options))
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def multi_picture(first: Image.Image, second: Image.Image) -> bytes:
    """A JPEG of two pictures, as phones with two lenses write it."""
    return encoded(first, "MPO", save_all=True, append_images=[second], quality=95)


def swapped_profile() -> bytes:
    """A colour profile of a display whose red and blue have changed places."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    at = {bytes(profile[start : start + 4]): start for start in range(132, 132 + 12 * profile[131], 12)}
    red, blue = at[b"rXYZ"], at[b"bXYZ"]
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(profile)


def tiff(directories: Sequence[tuple[Sequence[Tag], bytes]], order: str = "<", sub: int = 0) -> bytes:
    """A TIFF of several directories, each with the bytes of its one strip, whose place and length become tags.

    With `sub` the directories from that number on are the first one's SubIFDs, as in raw files, else they follow.
    """
    places: list[int] = []
    content = bytearray((b"II*\0" if order == "<" else b"MM\0*") + bytes(4))
    for number in reversed(range(len(directories))):
        tags, strip = directories[number]
        place_of_strip = len(content)
        content += strip + bytes(len(strip) % 2)
        every = [*tags, (273, LONG, [place_of_strip]), (279, LONG, [len(strip)])]
        if sub and number == 0:
            every.append((330, LONG, places[::-1]))
        rows = []
        for tag, kind, values in sorted(every):
            letters = {ASCII: "B", BYTE: "B", SHORT: "H", LONG: "I", RATIONAL: "I", SRATIONAL: "i"}[kind]
            packed = struct.pack(f"{order}{len(values)}{letters}", *values)
            count = len(packed) // SIZES[kind]
            if len(packed) > 4:
                place = len(content)
                content += packed + bytes(len(packed) % 2)
                packed = struct.pack(f"{order}I", place)
            rows.append(struct.pack(f"{order}HHI", tag, kind, count) + packed.ljust(4, b"\0"))
        follows = places[-1] if places and not sub else 0
        places.append(len(content))
        content += struct.pack(f"{order}H", len(rows)) + b"".join(rows) + struct.pack(f"{order}I", follows)
    struct.pack_into(f"{order}I", content, 4, places[-1])
    return bytes(content)


def grey_tiff(values: NDArray[Any], white_is_zero: bool = False, order: str = "<", no_data: str = "") -> bytes:
    """A TIFF of grey values of any number type (H, W)."""
    height, width = values.shape
    form = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    tags: list[Tag] = [
        *((256, LONG, [width]), (257, LONG, [height]), (258, SHORT, [values.dtype.itemsize * 8]), (259, SHORT, [1])),
        *((262, SHORT, [0 if white_is_zero else 1]), (277, SHORT, [1]), (278, LONG, [height]), (339, SHORT, [form])),
    ]
    if no_data:
        tags.append((42113, ASCII, [*no_data.encode(), 0]))
    return tiff([(tags, values.astype(values.dtype.newbyteorder(order)).tobytes())], order)


def raw_photo(preview: Image.Image | None, width: int = 512, height: int = 384, flip: int = 1) -> bytes:
    """A camera's raw file (DNG): greys behind a filter of colours, and the JPEG preview of what it shows."""
    filtered = np.random.default_rng(0).integers(0, 4096, (height, width), dtype=np.uint16)
    raw: list[Tag] = [
        *((254, LONG, [0]), (256, LONG, [width]), (257, LONG, [height]), (258, SHORT, [16]), (259, SHORT, [1])),
        *((262, SHORT, [32803]), (277, SHORT, [1]), (278, LONG, [height]), (284, SHORT, [1])),
        *((33421, SHORT, [2, 2]), (33422, BYTE, [0, 1, 1, 2]), (50717, SHORT, [4095])),
    ]
    camera = [*b"Test Camera\0"]
    main: list[Tag] = [
        *((271, ASCII, [*b"Test\0"]), (272, ASCII, camera), (274, SHORT, [flip]), (50706, BYTE, [1, 4, 0, 0])),
        *((50708, ASCII, camera), (50721, SRATIONAL, [1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1])),
        *((50728, RATIONAL, [1, 1, 1, 1, 1, 1]), (50778, SHORT, [21])),
    ]
    if preview is None:
        return tiff([([*raw, *main], filtered.tobytes())])
    jpeg = encoded(preview, "JPEG", quality=95)
    shown: list[Tag] = [
        *((254, LONG, [1]), (256, LONG, [preview.width]), (257, LONG, [preview.height]), (258, SHORT, [8, 8, 8])),
        *((259, SHORT, [7]), (262, SHORT, [6]), (277, SHORT, [3]), (278, LONG, [preview.height]), (284, SHORT, [1])),
    ]
    return tiff([([*shown, *main], jpeg), (raw, filtered.tobytes())], sub=1)


def video(first: Image.Image, frames: int = 5, form: str = "mp4") -> bytes:
    """A short video whose first frame is a picture; the others are black."""
    import av

    file = io.BytesIO()
    with av.open(file, mode="w", format=form) as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = first.width, first.height, "yuv420p"
        stream.bit_rate = 4_000_000
        for number in range(frames):
            image = first if number == 0 else Image.new("RGB", first.size)
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode())
    return file.getvalue()
