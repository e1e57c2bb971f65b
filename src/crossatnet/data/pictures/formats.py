"""The picture formats that are read: their names and the suffixes of their files."""

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")  # nothing else is decoded: fewer parsers face untrusted bytes
