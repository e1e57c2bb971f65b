"""Lists of classes as their owner has them: numbers, text, or bytes of text."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crossatnet.system.errors import UserError


def as_text(classes: Sequence[object] | NDArray[np.generic], name: str) -> NDArray[np.generic]:
    """A list of classes as an array; bytes, which is how HDF5 and older files keep text, become text.

    Raises `UserError` for bytes that are not UTF-8; `name` is for its message.

    Example:
        >>> from crossatnet.evaluation.classes import as_text
        >>> as_text([b"cat", b"dog"], "query_class").tolist(), as_text([1, 2], "query_class").tolist()
        (['cat', 'dog'], [1, 2])
    """
    array = np.asarray(classes)
    if array.dtype.kind not in "SO" or not any(isinstance(value, bytes) for value in array.ravel().tolist()):
        return array
    decoded = []
    for row, value in enumerate(array.ravel().tolist()):
        try:
            decoded.append(value.decode() if isinstance(value, bytes) else value)
        except UnicodeDecodeError as error:
            raise UserError(f"{name} row {row} is {value!r}, bytes that are not UTF-8; save classes as text") from error
    return np.array(decoded, dtype=object if array.dtype.kind == "O" else None).reshape(array.shape)
