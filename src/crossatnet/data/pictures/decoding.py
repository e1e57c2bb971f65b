"""Decoding an opened picture: its pixels, upright."""

from PIL import ExifTags, Image

UPRIGHT = {  # EXIF orientation -> what undoes it
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decoded(image: Image.Image, enough: int = 0) -> Image.Image:
    """The pixels of an opened picture, upright; of an animation the first frame.

    With `enough` a large JPEG may come at a fraction of its size, both sides still at least so many pixels.
    """
    if enough:
        image.draft(None, (enough, enough))
    image.load()
    turn = UPRIGHT.get(orientation(image))
    # ImageOps.exif_transpose also writes the tags again, and fails on those it cannot write
    return image if turn is None else image.transpose(turn)


def orientation(image: Image.Image) -> int:
    """The EXIF orientation of a picture, 1 if it has none."""
    return int(image.getexif().get(ExifTags.Base.Orientation, 1))
