"""Arrays from NumPy archives (.npz) of anyone, of which nothing is believed before it is compared."""

import math
import zipfile
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from crossatnet.system.memory import usable_memory

MOST_MEMORY = 0.5  # of what this process may use, for one array


def stored_array(archive: "np.lib.npyio.NpzFile", name: str) -> NDArray[Any]:
    """One array of an open archive. Raises `ValueError` if it claims more than the archive holds, or than fits memory.

    NumPy makes room for the shape that a file claims before it reads it.

    Example:
        >>> import numpy as np
        >>> from crossatnet.data.arrays import stored_array
        >>> np.savez(tmp_path / "a.npz", a=np.arange(3))
        >>> with np.load(tmp_path / "a.npz") as archive:
        ...     stored_array(archive, "a").tolist()
        [0, 1, 2]
    """
    if name not in archive.files:
        raise KeyError(f"{name} is not a file in the archive")
    inside: zipfile.ZipFile = archive.zip  # type: ignore[assignment]
    member = f"{name}.npy"
    with inside.open(member) as file:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, kind = read(file)
    claimed = math.prod(shape) * kind.itemsize
    if claimed > inside.getinfo(member).file_size:
        raise ValueError(f"it claims {claimed:,} bytes, more than are there")
    if claimed > MOST_MEMORY * usable_memory():
        raise ValueError(f"its {claimed:,} bytes do not fit into memory here")
    array: NDArray[Any] = archive[name]
    return array
