"""Similarities of some queries to a whole gallery, by cosine or by Euclidean distance: numbers in the right order.

A ranking needs no more than order, so what shifts or scales all similarities of a query is left out: its length, and
for distances its own square. What is left is computed so that equal similarities are equal numbers wherever the
arithmetic allows it.

Shapes: `Q` queries, `N` gallery items, `D` embedding, `b` the queries of a block.
"""

import hashlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossatnet.system.errors import UserError
from crossatnet.system.threads import on_cores

THREADS = 4  # at most; each may use its share of the memory, a quarter of it to rank a strip
ROWS = 2048  # embeddings that are converted at once
SAMPLE = 1001  # gallery items whose middle is taken for that of all; odd, so that their median is one of their numbers
NARROW = 0.9  # squared length of the mean direction from which on cosines differ too little for float32

Floats = NDArray[np.float32] | NDArray[np.float64]
Matrix = Any  # Floats, or the same as a torch tensor on another device
Similarity = Callable[[slice], Matrix]
"""The similarities (b, N) of some queries, in an array or tensor that may be overwritten."""


def slices(rows: slice, size: int) -> Iterator[slice]:
    """A range of rows in parts of at most `size`.

    Example:
        >>> from crossatnet.evaluation.similarity import slices
        >>> list(slices(slice(2, 7), 3))
        [slice(2, 5, None), slice(5, 7, None)]
    """
    return (slice(start, min(start + size, rows.stop)) for start in range(rows.start, rows.stop, size))


def checked_embeddings(rows: ArrayLike, name: str) -> Floats:
    """Embeddings in float32 if their type has no more bits, else in float64.

    Raises `UserError` for packed codes, another shape, and values that are not finite; `name` is for its message.

    Example:
        >>> from crossatnet.evaluation.similarity import checked_embeddings
        >>> checked_embeddings([[1, 2]], "query")
        array([[1., 2.]])
    """
    rows = np.asarray(rows)
    if rows.dtype == np.uint8:  # scored as numbers, codes would give meaningless scores
        raise UserError(f"{name} is uint8: score packed codes with evaluate_codes, or give embeddings as floats")
    if rows.dtype.kind not in "fiub":
        raise UserError(f"{name} must be numbers, not {rows.dtype}")
    if rows.ndim != 2 or not rows.size:
        raise UserError(f"{name} must be embeddings of shape (rows, dimensions), not {rows.shape}")
    rows = rows.astype(np.float32 if rows.dtype in (np.float16, np.float32) else np.float64, copy=False)
    finite = on_cores(lambda part: np.isfinite(rows[part]).all(1), slices(slice(0, len(rows)), ROWS), THREADS)
    is_finite = np.concatenate(finite)
    if not is_finite.all():
        raise UserError(f"{name} row {int(is_finite.argmin())} has values that are not finite")
    return rows


def gpu() -> str | None:
    """The GPU of torch, if torch is loaded, has one, and multiplies float32 there without a loss.

    Torch is not loaded for it, which takes seconds: whoever has computed embeddings on a GPU has loaded it.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or torch.get_float32_matmul_precision() != "highest":
        return None
    return "cuda"


def cosine(query: Floats, gallery: Floats, device: str | None = None) -> Similarity:
    r"""The cosine similarities of queries (Q, D) with a gallery (N, D), times what is the same for all of a query's.

    $q \cdot g / |g|$, or $q \cdot g$ where all of the gallery has one length, computed from the embeddings as they
    are: products of whole numbers are exact, and embeddings of two values, $+c$ and $-c$, are taken as +1 and -1,
    so that they tie exactly as the hash codes of their signs. In float32 if both arrays are, else in float64. Where
    all of the gallery lies in one direction, such as embeddings with a large offset, cosines differ in their last
    digits only; then what has the same order is computed in float64, `nearness` of the directions $q / |q|$ and $g
    / |g|$. With a `device` torch computes the products there, and leaves them there as tensors; those of directions
    NumPy computes always. Raises `UserError` for a row of zeros.

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.similarity import cosine
        >>> cosine(np.array([[2.0, 0.0]]), np.array([[3.0, 4.0], [0.0, 2.0]]))(slice(0, 1)).round(4).tolist()
        [[1.2, 0.0]]
    """
    precision = np.result_type(query, gallery)
    query, gallery = (
        _of_ordinary_size(_signs(rows.astype(precision, copy=False)), name)
        for name, rows in (("query", query), ("gallery", gallery))
    )
    lengths = _lengths(gallery)
    mean = _middle_rows(gallery, lengths).mean(0)  # (D,)
    if mean @ mean > NARROW and not (_is_whole(query) and _is_whole(gallery)):
        return _nearness_of_directions(query, gallery, lengths, mean)
    first = _first_copies(gallery, lengths)
    (copies,) = np.nonzero(first != np.arange(len(first)))
    # Of equal lengths none needs to be divided by, and products of whole numbers stay whole.
    scale = None if (lengths == lengths[0]).all() else (1 / lengths).astype(precision)
    asked, searched, factor, to, of = (_on(device, part) for part in (query, gallery, scale, copies, first[copies]))

    def similarity(rows: slice) -> Matrix:
        result = asked[rows] @ searched.T
        if factor is not None:
            result *= factor
        # BLAS may sum the last columns of a matrix in another order than the first.
        result[:, to] = result[:, of]
        return result

    return similarity


def nearness(query: Floats, gallery: Floats) -> Similarity:
    r"""What orders a gallery (N, D) by its Euclidean distance from queries (Q, D): $q \cdot g - |g|^2 / 2$, in float64.

    It is $(|q|^2 - |q - g|^2) / 2$, and $|q|^2$ is the same for all of a query's gallery. Measured from the median of
    the gallery, so that neither an offset of all nor a few far rows cost decimals, and in units of its spread. Raises
    `UserError` for a row that is too far from the others for its square to be a number.

    Example:
        >>> import numpy as np
        >>> from crossatnet.evaluation.similarity import nearness
        >>> near, far = nearness(np.array([[2.0]]), np.array([[3.0], [5.0]]))(slice(0, 1))[0]
        >>> bool(near > far)
        True
    """
    some = gallery[_spread(len(gallery))].astype(np.float64)
    middle = np.median(some, axis=0)  # (D,)
    with np.errstate(over="ignore"):
        extent = np.abs(some - middle).max(1)
        unit = np.ldexp(1.0, -int(np.frexp(np.median(extent) or extent.max() or 1.0)[1]))

        def centred(rows: Floats) -> NDArray[np.float64]:
            return (rows.astype(np.float64) - middle) * unit  # type: ignore[no-any-return]

        parts = slices(slice(0, len(gallery)), ROWS)
        half = np.concatenate(on_cores(lambda part: _squares(centred(gallery[part])) / 2, parts, THREADS))
        own = np.concatenate([_squares(centred(query[part])) for part in slices(slice(0, len(query)), ROWS)])
    for name, squares in (("query", own), ("gallery", half)):
        if not np.isfinite(squares).all():
            row = int(np.isfinite(squares).argmin())
            raise UserError(f"{name} row {row} is so far from the others that its square overflows; leave it out")
    return _in_parts(lambda rows: centred(query[rows]), gallery, lambda part: centred(gallery[part]), half)


def _nearness_of_directions(
    query: Floats, gallery: Floats, lengths: NDArray[np.float64], mean: NDArray[np.float64]
) -> Similarity:
    """`nearness` of the directions of queries and gallery, which has the `lengths` (N,), measured from their mean."""
    own = _lengths(query)

    def direction(part: slice) -> NDArray[np.float64]:
        return gallery[part] / lengths[part, None] - mean

    parts = slices(slice(0, len(gallery)), ROWS)
    half = np.concatenate(on_cores(lambda part: _squares(direction(part)) / 2, parts, THREADS))
    return _in_parts(lambda rows: query[rows] / own[rows, None] - mean, gallery, direction, half)


def _in_parts(
    asked: Callable[[slice], NDArray[np.float64]],
    gallery: Floats,
    converted: Callable[[slice], NDArray[np.float64]],
    less: NDArray[np.float64],
) -> Similarity:
    """Products in float64 of queries with gallery rows that are converted a few at a time, less numbers (N,)."""
    first = _first_copies(gallery, _lengths(gallery))
    (copies,) = np.nonzero(first != np.arange(len(first)))

    def similarity(rows: slice) -> Floats:
        asking = asked(rows)
        result = np.empty((len(asking), len(gallery)))
        for part in slices(slice(0, len(gallery)), ROWS):
            result[:, part] = asking @ converted(part).T - less[part]
        result[:, copies] = result[:, first[copies]]
        return result

    return similarity


def _on(device: str | None, array: NDArray[Any] | None) -> Any:
    """The array as a tensor on torch's device, if one is given."""
    if device is None or array is None:
        return array
    import torch

    return torch.as_tensor(array, device=device)


def _signs(rows: Floats) -> Floats:
    """Embeddings of two values, +c and -c, as +1 and -1; others as they are."""
    value = abs(rows[0, 0])
    return np.sign(rows) if value and (np.abs(rows[0]) == value).all() and (np.abs(rows) == value).all() else rows


def _of_ordinary_size(rows: Floats, name: str) -> Floats:
    """Embeddings whose squares and products are numbers: if need be, each divided by a power of two, which is exact.

    Raises `UserError` for a row of zeros, which `name` is for.
    """
    bound = 2.0 ** (40 if rows.dtype == np.float32 else 400)
    with np.errstate(over="ignore"):
        lengths = _lengths(rows)
    if lengths.min() > 1 / bound and lengths.max() < bound:
        return rows
    largest = np.abs(rows).max(1)
    if not largest.all():
        raise UserError(f"{name} row {int(largest.argmin())} is all zeros, which has no direction; leave it out")
    return np.ldexp(rows, -np.frexp(largest)[1][:, None])  # type: ignore[no-any-return]


def _is_whole(rows: Floats) -> bool:
    """Whether all values are whole numbers, so small that their products are exact."""
    most = 2.0**24 if rows.dtype == np.float32 else 2.0**53
    return bool((rows == np.rint(rows)).all() and float(np.abs(rows).max()) ** 2 * rows.shape[1] < most)


def _middle_rows(gallery: Floats, lengths: NDArray[np.float64]) -> NDArray[np.float64]:
    """Some of the gallery's directions, (rows, D)."""
    some = _spread(len(gallery))
    return gallery[some] / lengths[some, None]


def _spread(items: int) -> NDArray[np.int64]:
    """An odd number of rows, `SAMPLE` at most, spread evenly over a gallery of so many."""
    number = min(SAMPLE, items - 1 + items % 2)
    return np.linspace(0, items - 1, number).astype(np.int64)


def _first_copies(rows: Floats, lengths: NDArray[np.float64]) -> NDArray[np.int64]:
    """For every row (N, D), of these lengths (N,), the number of the first row that equals it."""
    first, seen = np.arange(len(rows)), dict[bytes, int]()
    _, number, counts = np.unique(lengths, return_inverse=True, return_counts=True)
    for row in np.flatnonzero(counts[number] > 1).tolist():  # rows of different lengths differ
        digest = hashlib.blake2b((rows[row] + 0.0).tobytes(), digest_size=16).digest()  # + 0: no zero is negative
        first[row] = seen.setdefault(digest, row)
    return first


def _lengths(rows: Floats) -> NDArray[np.float64]:
    """Lengths (rows,) in float64."""

    def length(part: slice) -> NDArray[np.float64]:
        return np.sqrt(_squares(rows[part].astype(np.float64)))

    return np.concatenate(on_cores(length, slices(slice(0, len(rows)), ROWS), THREADS))


def _squares(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared lengths (rows,)."""
    return np.einsum("nd,nd->n", rows, rows)  # type: ignore[no-any-return]
