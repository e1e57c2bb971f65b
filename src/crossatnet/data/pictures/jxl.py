"""JPEG XL files for Pillow: their size from the first bits, their pixels by the library imagecodecs."""

import struct
from typing import Any

import numpy as np
from PIL import Image, ImageFile

CODESTREAM, CONTAINER = b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"
RATIOS = (None, (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
SIDE_BITS = (9, 13, 18, 30)
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}  # channels -> mode
ON_ITS_SIDE = 4  # an orientation above this one changes width and height


class JxlImageFile(ImageFile.ImageFile):
    """A JPEG XL picture, upright; of an animation the first frame."""

    format = "JXL"
    format_description = "JPEG XL"

    def _open(self) -> None:
        assert self.fp is not None
        self._content = self.fp.read()
        self._size = jxl_size(self._content)
        self._mode = "RGB"
        self.tile = []

    def load(self) -> Any:
        """Decode the picture, once."""
        if self._im is None:
            import imagecodecs

            values = np.asarray(imagecodecs.jpegxl_decode(self._content, index=0, numthreads=1))
            values = values[..., None] if values.ndim == 2 else values
            if values.dtype != np.uint8:
                most = 1.0 if values.dtype.kind == "f" else float(np.iinfo(values.dtype).max)
                values = np.clip(values.astype(np.float32) * (255.0 / most), 0, 255).round().astype(np.uint8)
            picture = Image.fromarray(values[..., 0] if values.shape[2] == 1 else values, MODES[values.shape[2]])
            self._mode, self._size = picture.mode, picture.size
            self.im = picture.im
        return super().load()


def jxl_size(content: bytes) -> tuple[int, int]:
    """Width and height in pixels of a JPEG XL picture once it is upright, from its first bits.

    Raises `SyntaxError`, as Pillow's readers do, for what is none.

    Example:
        >>> from crossatnet.data.pictures.jxl import jxl_size
        >>> jxl_size(bytes([0xFF, 0x0A, 0b0111_1111, 0b0000_0000]))
        (256, 256)
    """
    bits = _Bits(_codestream(content))
    is_small = bits.take(1)
    height = _side(bits, is_small)
    ratio = RATIOS[bits.take(3)]
    width = height * ratio[0] // ratio[1] if ratio else _side(bits, is_small)
    has_orientation = not bits.take(1) and bits.take(1)
    return (height, width) if has_orientation and bits.take(3) + 1 > ON_ITS_SIDE else (width, height)


class _Bits:
    """Bits from the lowest of the first byte on."""

    def __init__(self, content: bytes) -> None:
        self._left = int.from_bytes(content[:32], "little")

    def take(self, number: int) -> int:
        value = self._left & ((1 << number) - 1)
        self._left >>= number
        return value


def _side(bits: _Bits, is_small: int) -> int:
    return (bits.take(5) + 1) * 8 if is_small else bits.take(SIDE_BITS[bits.take(2)]) + 1


def _codestream(content: bytes) -> bytes:
    """The first bytes of the picture itself, without its signature, out of the boxes around it."""
    at = 0
    if content.startswith(CONTAINER):
        at = len(CONTAINER)
        while at + 8 <= len(content):
            length, name = struct.unpack_from(">I4s", content, at)
            if name in (b"jxlc", b"jxlp"):
                at += 8 + 4 * (name == b"jxlp")  # a part begins with its number
                break
            at += max(length, 8)
    if content[at : at + 2] != CODESTREAM:
        raise SyntaxError("not a JPEG XL picture")
    return content[at + 2 : at + 34]
