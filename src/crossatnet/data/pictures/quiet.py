"""What libraries write to a user's screen about pictures, from C too: our own one line says it better."""

import ctypes
import logging
import warnings
from contextlib import suppress
from pathlib import Path

import PIL

BUNDLED = ("../pillow.libs/libtiff-*.so*", ".dylibs/libtiff*.dylib")  # beside Pillow, in its wheels
LOGGERS = ("PIL", "tifffile", "libav")


def silence_libraries() -> None:
    """Have the libraries that read pictures write nothing to the screen, for the rest of the process.

    For programs: who imports this package as a library decides that for themselves.

    Example:
        >>> from crossatnet.data.pictures.quiet import silence_libraries
        >>> silence_libraries()
    """
    for module in ("PIL", "tifffile", "pillow_heif", "rawpy", "av"):
        warnings.filterwarnings("ignore", module=rf"{module}\b")
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    for pattern in BUNDLED:
        for library in Path(PIL.__file__).parent.glob(pattern):
            with suppress(OSError, AttributeError):  # another libtiff than expected is only louder
                loaded = ctypes.CDLL(str(library))
                loaded.TIFFSetErrorHandler(None)
                loaded.TIFFSetWarningHandler(None)
