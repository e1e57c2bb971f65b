"""Similarities of some queries to a whole gallery, by cosine or by Euclidean distance.

Shapes: `Q` queries, `N` gallery items, `D` embedding, `b` the queries of a block.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossatnet.system.errors import UserError
from crossatnet.system.threads import on_cores

THREADS = 4  # at most; each may use its share of the memory, a quarter of it to rank a strip
ROWS = 2048  # embeddings that are normalised at once

Floats = NDArray[np.float32] | NDArray[np.float64]
Similarity = Callable[[slice], Floats]
"""The similarities (b, N) of some queries, in an array that may be overwritten."""


def slices(rows: slice, size: int) -> Iterator[slice]:
    """A range of rows in parts of at most `size`."""
    return (slice(start, min(start + size, rows.stop)) for start in range(rows.start, rows.stop, size))


def checked_embeddings(rows: ArrayLike, name: str) -> Floats:
    """Embeddings in float32 if their type has no more bits, else in float64.

    Raises `UserError` for packed codes, another shape, and values that are not finite; `name` is for its message.
    """
    rows = np.asarray(rows)
    if rows.dtype == np.uint8:  # scored as numbers, codes would give meaningless scores
        raise UserError(f"{name} is uint8: score packed codes with evaluate_codes, or give embeddings as floats")
    rows = rows.astype(np.float32 if rows.dtype in (np.float16, np.float32) else np.float64, copy=False)
    if rows.ndim != 2 or not len(rows):
        raise UserError(f"{name} must be embeddings of shape (rows, dimensions), not {rows.shape}")
    bad = ~np.isfinite(rows).all(1)
    if bad.any():
        raise UserError(f"{name} row {int(bad.argmax())} has values that are not finite")
    return rows


def cosine(query: Floats, gallery: Floats) -> Similarity:
    """The cosine similarities of queries (Q, D) with a gallery (N, D). Raises `UserError` for a row of zeros."""
    precision = np.result_type(query, gallery)
    query_length, gallery_length = (np.sqrt(_squares(rows)) for rows in (query, gallery))
    for name, length in (("query", query_length), ("gallery", gallery_length)):
        if not length.all():
            raise UserError(f"{name} row {int(length.argmin())} is all zeros, which has no direction; leave it out")
    unit: Floats = np.empty(gallery.shape, precision)

    def divide(rows: slice) -> None:
        np.divide(gallery[rows], gallery_length[rows, None], out=unit[rows], dtype=precision)

    on_cores(divide, slices(slice(0, len(gallery)), ROWS), THREADS)
    product = _product(unit)
    return lambda rows: product(np.divide(query[rows], query_length[rows, None], dtype=precision))


def nearness(query: Floats, gallery: Floats) -> Similarity:
    r"""The negative Euclidean distances of queries (Q, D) from a gallery (N, D), $-\sqrt{|q|^2 - 2 q \cdot g + |g|^2}$.

    Measured from the gallery's mean and in units of the longest embedding, so that embeddings far from zero, or very
    long or short ones, lose no decimals.
    """
    mean = gallery.mean(0, dtype=np.float64)
    query, gallery = query - mean, gallery - mean
    squares = [_squares(rows) for rows in (query, gallery)]
    unit = max(np.sqrt(square.max()) for square in squares) or 1.0
    product = _product(gallery)

    def distance(rows: slice) -> Floats:
        result = product(query[rows])
        result *= -2
        result += squares[0][rows, None]
        result += squares[1]
        np.sqrt(np.maximum(result, 0, out=result), out=result)
        result /= -unit
        return result

    return distance


def _product(gallery: Floats) -> Callable[[Floats], Floats]:
    """Dot products of some queries (b, D) with the gallery, (b, N); equal gallery rows get equal products.

    BLAS alone does not ensure that: it may sum the last columns of a matrix in another order than the first.
    """
    first = _first_copies(gallery)
    (copies,) = np.nonzero(first != np.arange(len(first)))

    def product(query: Floats) -> Floats:
        result: Floats = query @ gallery.T
        result[:, copies] = result[:, first[copies]]
        return result

    return product


def _first_copies(rows: Floats) -> NDArray[np.int64]:
    """For every row, the number of the first row that equals it."""
    words = np.ascontiguousarray(rows).view(np.uint32)
    weights = np.random.default_rng(0).integers(2**32, size=words.shape[1], dtype=np.uint32)
    marks = np.einsum("nw,w->n", words, weights)  # equal for equal rows
    _, number, counts = np.unique(marks, return_inverse=True, return_counts=True)
    first, seen = np.arange(len(rows)), dict[bytes, int]()
    for row in np.flatnonzero(counts[number] > 1).tolist():
        first[row] = seen.setdefault(rows[row].tobytes(), row)
    return first


def _squares(rows: Floats) -> NDArray[np.float64]:
    """Squared lengths (rows,), computed without a second matrix of the same size."""

    def square(part: slice) -> NDArray[np.float64]:
        return np.einsum("nd,nd->n", rows[part], rows[part], dtype=np.float64)  # type: ignore[no-any-return]

    return np.concatenate(on_cores(square, slices(slice(0, len(rows)), ROWS), THREADS))
