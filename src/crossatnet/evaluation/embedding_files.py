"""Files of anyone's embeddings: an .npz archive, a folder of .npy files, or a Parquet table. Nothing is unpickled.

Shapes: `Q` queries, `N` gallery items, `D` embedding, `B` bytes of a packed code.
"""

import hashlib
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from crossatnet.evaluation.classes import as_text
from crossatnet.evaluation.protocol import Task
from crossatnet.system.errors import UserError
from crossatnet.system.memory import usable_memory

ARRAYS = ("query", "query_class", "gallery", "gallery_class")
FURTHER = ("query_instance", "gallery_instance", "query_picture", "gallery_picture")  # names, where a file has them
COLUMNS = ("part", "class", "embedding")  # of a Parquet table
SUFFIX = ".npy"
CHUNK = 2**24  # bytes hashed at once


@dataclass(frozen=True)
class EmbeddingFile:
    """What a file of embeddings holds: embeddings (Q, D), (N, D), or codes (Q, B), (N, B), with their classes.

    `further` has `query_instance` (Q,), `gallery_picture` (N,) and the like, where the file has them: the very thing
    that an item shows or was drawn of, and the picture's file.
    """

    path: Path
    query: NDArray[Any]
    gallery: NDArray[Any]
    task: Task
    further: Mapping[str, NDArray[Any]]

    @property
    def instance_lists(self) -> list[NDArray[Any]]:
        """Classes and instances of queries and of the gallery; `UserError` if the file names no instances."""
        if missing := [name for name in ("query_instance", "gallery_instance") if name not in self.further]:
            raise UserError(f"{self.path}: no array {', '.join(missing)}, which level instance needs")
        query_class, gallery_class = (np.asarray(part) for part in (self.task.query_class, self.task.gallery_class))
        return [query_class, self.further["query_instance"], gallery_class, self.further["gallery_instance"]]

    @property
    def task_hash(self) -> str:
        """Hash of the classes of queries and gallery in their order: equal for two models with the same task."""
        things = [self.further[name] for name in ("query_instance", "gallery_instance") if name in self.further]
        lists = [
            np.asarray(each).astype(str).tolist() for each in (self.task.query_class, self.task.gallery_class, *things)
        ]
        return hashlib.sha256(repr(lists).encode()).hexdigest()


def read_embeddings(path: Path) -> EmbeddingFile:
    """Read `query`, `query_class`, `gallery` and `gallery_class`.

    `path` is an .npz archive; a folder with a file for each array, such as query.npy, which are mapped into memory and
    may be larger than it; or a .parquet table with the columns part (query or gallery), class and embedding.
    Raises `UserError` for another file, a missing array, one that claims more than the file holds, an array of objects,
    and types or shapes that do not fit.

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.embedding_files import read_embeddings
        >>> file = tmp_path / "mine.npz"
        >>> np.savez(file, query=np.eye(2), query_class=["cat", "dog"], gallery=np.eye(2), gallery_class=["cat", "dog"])
        >>> read_embeddings(file).query.shape
        (2, 2)
    """
    if not path.exists():
        raise UserError(f"{path}: no such file; write one with numpy.savez({', '.join(ARRAYS)})")
    read: Callable[[Path], dict[str, NDArray[Any]]] = _read_npz
    if path.is_dir():
        read = _read_folder
    elif path.suffix.lower() == ".parquet":
        read = _read_parquet
    arrays = {name: _checked(path, name, array) for name, array in read(path).items()}
    query, gallery = arrays["query"], arrays["gallery"]
    if (query.dtype == np.uint8) != (gallery.dtype == np.uint8):
        raise UserError(f"{path}: query is {query.dtype}, gallery {gallery.dtype}; give codes for both or for none")
    further = {name: arrays[name] for name in FURTHER if name in arrays}
    for name, array in further.items():
        rows = len(query if name.startswith("query") else gallery)
        if array.shape != (rows,):
            raise UserError(f"{path}: {name} must name {rows} rows, not {array.shape}")
    return EmbeddingFile(path, query, gallery, Task(arrays["query_class"], arrays["gallery_class"]), further)


def file_hash(path: Path) -> str:
    """SHA-256 of a file of embeddings, of a folder that of its arrays' files one after another.

    Example:
        >>> from crossatnet.evaluation.embedding_files import file_hash
        >>> (tmp_path / "mine.npz").write_bytes(b"")
        0
        >>> file_hash(tmp_path / "mine.npz")[:8]
        'e3b0c442'
    """
    digest = hashlib.sha256()
    for part in sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path]:
        with part.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def _read_npz(path: Path) -> dict[str, NDArray[Any]]:
    damaged = UserError(f"{path}: not an .npz file, or damaged; write one with numpy.savez")
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {entry.filename.removesuffix(SUFFIX): entry.file_size for entry in archive.infolist()}
            names = _needed(path, sizes)
            room = usable_memory()
            if sum(sizes[name] for name in names) > room:
                raise UserError(
                    f"{path}: its arrays take {sum(sizes[name] for name in names):,} bytes, this machine's memory has"
                    f" {room:,}; save each array by numpy.save into one folder, which is mapped, and give that"
                )
            arrays = {}
            for name in names:
                with archive.open(f"{name}{SUFFIX}") as file:
                    _check_claim(path, name, file, sizes[name])
                with archive.open(f"{name}{SUFFIX}") as file:
                    arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
            return arrays
    except UserError:
        raise
    except (
        ValueError,
        AttributeError,
        TypeError,
        KeyError,
        OSError,
        EOFError,
        zipfile.BadZipFile,
        RuntimeError,
    ) as error:
        raise damaged from error


def _read_folder(path: Path) -> dict[str, NDArray[Any]]:
    sizes = {file.stem: file.stat().st_size for file in path.glob(f"*{SUFFIX}")}
    arrays: dict[str, NDArray[Any]] = {}
    for name in _needed(path, sizes):
        part = path / f"{name}{SUFFIX}"
        try:
            with part.open("rb") as file:
                _check_claim(part, name, file, sizes[name])
            arrays[name] = np.load(part, mmap_mode="r" if name in ("query", "gallery") else None, allow_pickle=False)
        except UserError:
            raise
        except (ValueError, EOFError) as error:
            raise UserError(f"{part}: not an .npy file, or damaged; write one with numpy.save") from error
    return arrays


def _read_parquet(path: Path) -> dict[str, NDArray[Any]]:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a Parquet file, or damaged ({error})") from error
    if missing := [name for name in COLUMNS if name not in table.column_names]:
        raise UserError(f"{path}: no column {', '.join(missing)}; it needs {', '.join(COLUMNS)}")
    part = np.array(table["part"].to_pylist(), dtype=object)
    if unknown := sorted({str(name) for name in part} - {"query", "gallery"}):
        raise UserError(f"{path}: part must be query or gallery, not {unknown[0]!r}")
    vectors = table["embedding"].combine_chunks()
    if not hasattr(vectors, "flatten") or vectors.null_count:
        raise UserError(f"{path}: embedding must be a list of numbers in every row")
    lengths = {len(vector) for vector in vectors}
    if len(lengths) != 1:
        raise UserError(f"{path}: embedding must have one length in all rows, not {sorted(lengths)[:3]}")
    rows = vectors.flatten().to_numpy(zero_copy_only=False).reshape(len(part), -1)
    arrays: dict[str, NDArray[Any]] = {}
    for side in ("query", "gallery"):
        own = part == side
        arrays[side] = rows[own]
        for column in ("class", "instance", "picture"):
            if column in table.column_names:
                values = [value for value, kept in zip(table[column].to_pylist(), own, strict=True) if kept]
                arrays[f"{side}_{column}"] = np.array(values)
    return arrays


def _needed(path: Path, found: Mapping[str, object]) -> list[str]:
    """The arrays to read; `UserError` if some are missing."""
    if missing := [name for name in ARRAYS if name not in found]:
        raise UserError(f"{path}: no array {', '.join(missing)}; it needs {', '.join(ARRAYS)}")
    return [*ARRAYS, *(name for name in FURTHER if name in found)]


def _check_claim(path: Path, name: str, file: IO[bytes], size: int) -> None:
    """Raise `UserError` if an array's header claims more than its file, of so many bytes, holds."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, kind = read(file)
    if kind.hasobject:
        raise UserError(f"{path}: {name} cannot be read (it holds objects); save numbers or strings, not objects")
    claimed = kind.itemsize
    for side in shape:  # whole numbers of any length, where NumPy's product would overflow
        claimed *= int(side)
    if claimed > size - file.tell():
        raise UserError(
            f"{path}: {name} claims {claimed:,} bytes of {kind}{shape}, but the file holds {size - file.tell():,};"
            " write it again"
        )


def _checked(path: Path, name: str, array: NDArray[Any]) -> NDArray[Any]:
    """An array of a type and number of axes that can be scored, with text in place of bytes."""
    if name in ("query", "gallery"):
        if array.ndim != 2 or not array.size or not (array.dtype.kind == "f" or array.dtype == np.uint8):
            raise UserError(
                f"{path}: {name} must be floats of shape (rows, dimensions), or packed codes, uint8 of shape (rows,"
                f" bytes), not {array.dtype}{array.shape}"
            )
        return array
    if array.ndim != 1 or array.dtype.kind not in "iuUS":
        raise UserError(f"{path}: {name} must be integers or strings of shape (rows,), not {array.dtype}{array.shape}")
    try:
        return as_text(array, name)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
