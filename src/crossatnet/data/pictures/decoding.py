"""Decoding an opened picture: its pixels as sRGB, upright, small where that is enough."""

from PIL import Image, JpegImagePlugin

from crossatnet.data.pictures.colours import Depth, to_rgb
from crossatnet.data.pictures.opening import NO_ORIENTATION, SHRINKING, Opened, check_size

UPRIGHT = {  # EXIF orientation -> what undoes it
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
PHONES_OWN = 2  # so many times smaller than `enough` may the smaller version be that a HEIF has of itself
FRACTIONS = (2, 4, 8)  # of its sides, at which a JPEG can be decoded
WHITE_IS_ZERO, PHOTOMETRIC, NO_DATA = 0, 262, 42113  # a value and tags of TIFF
LARGEST_SAMPLE = {"L;2": 3, "L;4": 15}  # how a PNG's greys lie in the file -> the sample of white


def decoded(opened: Opened, name: str, max_pixels: int, enough: int = 0, is_sketch: bool = False) -> Image.Image:
    """The pixels of an opened picture as sRGB on paper, upright; of an animation the first frame.

    With `enough` it may come at a fraction of its size, both sides still at least so many pixels, where its format can;
    a HEIF photo may come as the smaller version that it has of itself, both sides at least half so many.
    One of more than `max_pixels` comes at the fraction that fits, or raises `TooManyPixelsError`.
    """
    image = opened.image
    if image.width * image.height > max_pixels:
        _shrink(image, name, max_pixels)
    if enough:  # a phone made the smaller version in its photo by averaging, so nothing needs to be left to average
        least = -(-enough // PHONES_OWN) if opened.form == "HEIF" else enough
        image.draft(None, (least, least))
    depth = _depth(image)
    _scale_transparency(image)
    image.load()
    turned = NO_ORIENTATION if opened.form == "TIFF" else opened.orientation()  # Pillow decodes a TIFF upright
    return upright(to_rgb(image, is_sketch, depth), turned)


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """A picture turned as its EXIF orientation asks; not by ImageOps, which fails on tags that it cannot write."""
    turn = UPRIGHT.get(orientation)
    return image if turn is None else image.transpose(turn)


def _shrink(image: Image.Image, name: str, max_pixels: int) -> None:
    """Have a large JPEG decoded at the largest fraction that fits; raises `TooManyPixelsError` where none does.

    A progressive one is kept whole in memory while it is decoded, and so is refused.
    """
    width, height = image.size
    is_progressive = "progressive" in image.info
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or is_progressive:
        check_size(image, name, max_pixels)
    if width * height > SHRINKING * max_pixels:
        check_size(image, name, SHRINKING * max_pixels)
    for fraction in FRACTIONS:
        if -(-width // fraction) * -(-height // fraction) <= max_pixels:
            image.draft(None, (-(-width // fraction), -(-height // fraction)))
            break
    check_size(image, name, max_pixels)


def _depth(image: Image.Image) -> Depth | None:
    """What a TIFF says of its deep values."""
    if image.format != "TIFF" or not image.mode.startswith(("I", "F")):
        return None
    tags = getattr(image, "tag_v2", {})
    try:
        no_data = float(str(tags.get(NO_DATA)).strip(" \0"))
    except ValueError:
        no_data = None
    return Depth(is_stretched=True, is_inverted=tags.get(PHOTOMETRIC) == WHITE_IS_ZERO, no_data=no_data)


def _scale_transparency(image: Image.Image) -> None:
    """Bring the transparent colour of a PNG, which counts in the file's own bits, to those of the decoded pixels."""
    transparent = image.info.get("transparency")
    tile = getattr(image, "tile", None)
    raw = tile[0][3] if image.format == "PNG" and tile else None
    if isinstance(transparent, int) and raw in LARGEST_SAMPLE and image.mode == "L":
        image.info["transparency"] = transparent * 255 // LARGEST_SAMPLE[str(raw)]
    if isinstance(transparent, tuple) and raw == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in transparent)
