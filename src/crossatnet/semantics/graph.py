"""Class graphs: which classes are neighbours, over the classes given and no others.

Shapes: `K` classes, `V` the width of the class vectors, whose rows are L2-normalised (`UserError` otherwise).
Adjacencies are symmetric, of zeros and ones, with a zero diagonal. Ties are all kept, so the order of the classes
never matters: permuting them permutes the graph.
"""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from crossatnet.data.names import canonical
from crossatnet.system.errors import UserError

TAXONOMY = Path(__file__).parent / "hierarchy.json"  # made by tools/make_class_vectors.py
TIE_DECIMALS = 9  # far above the rounding of sums in another order, far below any difference that means something

Graph = NDArray[np.float32]  # (K, K)


def class_graph(
    names: Sequence[str],
    vectors: NDArray[np.floating],
    kind: Literal["knn", "tree", "hierarchy"],
    neighbours: int,
) -> Graph:
    """The normalised graph of some classes, (K, K), for a graph convolution; see `knn`, `spanning_tree`, `hierarchy`.

    Args: names (K,), vectors (K, V) in the same order, neighbours for the kind "knn" only.
    Raises `UserError` as the three kinds do, for another kind, and if names and vectors differ in number.

    Example:
        >>> from crossatnet.semantics import class_graph, class_vectors
        >>> names = ["zebra", "horse", "teapot"]
        >>> graph = class_graph(names, class_vectors(names), "knn", neighbours=1)
        >>> graph.shape, bool(graph[0, 1] > 0)
        ((3, 3), True)
    """
    if len(names) != len(vectors):
        raise UserError(f"{len(names)} class names but {len(vectors)} class vectors; each class needs one")
    match kind:
        case "knn":
            return normalised(knn(vectors, neighbours))
        case "tree":
            return normalised(spanning_tree(vectors))
        case "hierarchy":
            return normalised(hierarchy(names))
        case _:
            raise UserError(f"unknown kind of class graph '{kind}'; known: knn, tree, hierarchy")


def class_distance(vectors: NDArray[np.floating]) -> Graph:
    """Cosine distance between classes, $1 - v_i \\cdot v_j$, from 0 (the same) to 2 (opposite): (K, V) to (K, K).

    Example:
        >>> import numpy as np
        >>> from crossatnet.semantics import class_distance
        >>> class_distance(np.eye(2)).tolist()
        [[0.0, 1.0], [1.0, 0.0]]
    """
    return _distance(vectors).astype(np.float32)


def knn(vectors: NDArray[np.floating], neighbours: int) -> Graph:
    """Each class joined to its nearest `neighbours` by cosine distance, in either direction: (K, V) to (K, K).

    A class may have more neighbours than that: those that count it among theirs, and those as near as the last one.
    Raises `UserError` unless 1 <= neighbours < K.

    Example:
        >>> import numpy as np
        >>> from crossatnet.semantics.graph import knn
        >>> knn(np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]), neighbours=1).tolist()
        [[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    """
    if not 1 <= neighbours < len(vectors):
        raise UserError(
            f"no {neighbours} nearest neighbours for each of {len(vectors)} classes; choose 1 to {len(vectors) - 1},"
            " or another class graph: tree or hierarchy"
        )
    distance = _distance(vectors)  # (K, K)
    np.fill_diagonal(distance, np.inf)
    last = np.partition(distance, neighbours - 1, axis=1)[:, [neighbours - 1]]  # (K, 1)
    near = distance <= last  # (K, K), not symmetric yet
    return (near | near.T).astype(np.float32)


def spanning_tree(vectors: NDArray[np.floating]) -> Graph:
    """The minimum spanning tree over cosine distances: (K, V) to (K, K).

    Where equal distances allow several such trees, as identical vectors do, every edge of any of them is kept. An
    edge is in one of them exactly if no path of shorter edges joins its two ends.

    Example:
        >>> import numpy as np
        >>> from crossatnet.semantics.graph import spanning_tree
        >>> spanning_tree(np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])).tolist()
        [[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    """
    distance = _distance(vectors)  # (K, K)
    longest = np.zeros_like(distance)  # (K, K), the longest edge on the tree's path between two classes
    nearest, parent = distance[0].copy(), np.zeros(len(distance), dtype=int)  # of each class, in the tree so far
    outside = np.ones(len(distance), dtype=bool)
    outside[0] = False
    for _ in range(len(distance) - 1):  # Prim's algorithm
        new = int(np.argmin(np.where(outside, nearest, np.inf)))
        inside = ~outside
        longest[new, inside] = longest[inside, new] = np.maximum(longest[parent[new], inside], nearest[new])
        outside[new] = False
        closer = distance[new] < nearest  # (K,)
        nearest[closer], parent[closer] = distance[new, closer], new
    edges = distance <= longest  # (K, K)
    np.fill_diagonal(edges, False)
    return edges.astype(np.float32)


def hierarchy(names: Sequence[str]) -> Graph:
    """Each class joined to its next of kin in the WordNet taxonomy: (K, K).

    These are the classes whose lowest common ancestor with it is deepest; all of them where several are as deep.
    Raises `UserError` naming the classes that the packaged taxonomy lacks.

    Example:
        >>> from crossatnet.semantics.graph import hierarchy
        >>> hierarchy(["zebra", "horse", "teapot", "cup"])[0].tolist()
        [0.0, 1.0, 0.0, 0.0]
    """
    table, classes = _taxonomy(), [canonical(name) for name in names]
    if missing := sorted(set(classes) - set(table)):
        raise UserError(
            f"no place in the class hierarchy for {', '.join(missing)}; rename these classes,"
            " or choose another class graph: knn or tree"
        )
    depth = _common_depth([table[name] for name in classes])  # (K, K)
    np.fill_diagonal(depth, -1)
    kin = (depth == depth.max(axis=1, keepdims=True, initial=0)) & (depth > 0)  # (K, K), not symmetric yet
    graph: Graph = (kin | kin.T).astype(np.float32)
    return graph


def normalised(adjacency: Graph) -> Graph:
    r"""A graph with self-loops, scaled so that a convolution keeps the size of what it averages: (K, K) to (K, K).

    $\tilde D^{-1/2} \tilde A \tilde D^{-1/2}$ with $\tilde A = A + I$ and $\tilde D_{ii} = \sum_j \tilde A_{ij}$: the
    renormalisation trick of Kipf and Welling (2017), equation 2.

    Example:
        >>> import numpy as np
        >>> from crossatnet.semantics.graph import normalised
        >>> normalised(np.array([[0, 1], [1, 0]], dtype=np.float32)).tolist()
        [[0.5, 0.5], [0.5, 0.5]]
    """
    looped = adjacency + np.eye(len(adjacency))  # (K, K)
    scale = looped.sum(axis=1) ** -0.5  # (K,)
    graph: Graph = (scale[:, None] * looped * scale[None, :]).astype(np.float32)
    return graph


def _distance(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    """Cosine distances rounded to `TIE_DECIMALS`, so that equal ones are equal in every order of the classes."""
    exact = np.asarray(vectors, dtype=np.float64)
    if exact.ndim != 2 or not len(exact):
        raise UserError(f"class vectors need the shape (K, V) with one row a class, not {exact.shape}")
    length = np.linalg.norm(exact, axis=1, keepdims=True)  # (K, 1)
    if not np.allclose(length, 1, atol=1e-3):
        raise UserError("class vectors need the length 1; `class_vectors` gives such ones")
    exact = exact / length  # 1 to the last digit, so that identical vectors are at distance 0
    rounded = np.round(1 - exact @ exact.T, TIE_DECIMALS).clip(min=0)  # (K, K)
    distance: NDArray[np.float64] = np.maximum(rounded, rounded.T)  # exactly symmetric
    np.fill_diagonal(distance, 0)
    return distance


def _common_depth(paths: Sequence[tuple[str, ...]]) -> NDArray[np.int64]:
    """The number of nodes that two paths from the root have in common, for every pair: (K, K)."""
    depth: NDArray[np.int64] = np.zeros((len(paths), len(paths)), dtype=np.int64)
    for length in range(1, max(map(len, paths), default=0) + 1):
        numbers: dict[tuple[str, ...], int] = {}
        node = np.array([numbers.setdefault(path[:length], len(numbers)) for path in paths])  # (K,)
        reaches = np.array([len(path) >= length for path in paths])  # (K,), whether the path is as long
        depth += (node[:, None] == node[None, :]) & reaches[:, None]
    return depth


@cache
def _taxonomy() -> dict[str, tuple[str, ...]]:
    """Path from the root to every class of the packaged taxonomy."""
    table = json.loads(TAXONOMY.read_text(encoding="utf-8"))
    return {name: tuple(path) for name, path in table.items()}
