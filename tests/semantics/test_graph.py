import json
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from crossatnet.data.splits import load_split
from crossatnet.semantics import class_distance, class_graph, class_vectors
from crossatnet.semantics.graph import TAXONOMY, Graph, hierarchy, knn, normalised, spanning_tree
from crossatnet.system.errors import UserError

ANIMALS = ["swan", "duck", "cat", "tiger", "lion", "horse", "cow", "ant", "bee", "shark"]
NAMES = [*ANIMALS, "airplane", "helicopter", "church", "apple", "pear"]

Vectors = NDArray[np.float64]


def random_vectors(count: int, seed: int = 0) -> Vectors:
    vectors = np.random.default_rng(seed).normal(size=(count, 6))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def with_twins(seed: int) -> Vectors:
    """Six classes of which two and two more have the very same vector."""
    return random_vectors(4, seed)[[0, 1, 1, 2, 3, 3]]


def naive_distance(vectors: Vectors) -> list[list[float]]:
    return [[round(max(0.0, 1 - sum(a * b for a, b in zip(x, y, strict=True))), 9) for y in vectors] for x in vectors]


def as_graph(edges: set[tuple[int, int]], count: int) -> Graph:
    graph = np.zeros((count, count), dtype=np.float32)
    for a, b in edges:
        graph[a, b] = graph[b, a] = 1
    return graph


def naive_knn(vectors: Vectors, neighbours: int) -> Graph:
    """Every class joined to all that are as near as its last neighbour."""
    distance, edges = naive_distance(vectors), set()
    for a in range(len(vectors)):
        others = [b for b in range(len(vectors)) if b != a]
        last = sorted(distance[a][b] for b in others)[neighbours - 1]
        edges |= {(a, b) for b in others if distance[a][b] <= last}
    return as_graph(edges, len(vectors))


def naive_spanning_trees(vectors: Vectors) -> tuple[Graph, float]:
    """The edges of every spanning tree of least weight, by trying all sets of K - 1 edges; and that weight."""
    distance, count = naive_distance(vectors), len(vectors)
    trees: dict[float, set[tuple[int, int]]] = {}
    for edges in combinations(combinations(range(count), 2), count - 1):
        group = list(range(count))
        for a, b in edges:
            group = [group[a] if other == group[b] else other for other in group]
        if len(set(group)) == 1:
            trees.setdefault(round(sum(distance[a][b] for a, b in edges), 6), set()).update(edges)
    least = min(trees)
    return as_graph(trees[least], count), least


def naive_normalised(adjacency: Graph) -> Graph:
    count = len(adjacency)
    looped = [[adjacency[i][j] + (i == j) for j in range(count)] for i in range(count)]
    degree = [sum(row) for row in looped]
    return np.array(
        [[looped[i][j] / (degree[i] ** 0.5 * degree[j] ** 0.5) for j in range(count)] for i in range(count)]
    )


def is_adjacency(graph: Graph, count: int) -> bool:
    return (
        graph.shape == (count, count)
        and graph.dtype == np.float32
        and bool(np.isin(graph, (0, 1)).all())
        and not graph.diagonal().any()
        and bool((graph == graph.T).all())
    )


def connected(graph: Graph) -> bool:
    return bool(np.linalg.matrix_power(np.eye(len(graph)) + graph, len(graph)).all())


# Distances.


def test_class_distance_against_loops() -> None:
    vectors = random_vectors(7)
    distance = class_distance(vectors)
    assert distance.dtype == np.float32
    np.testing.assert_allclose(distance, naive_distance(vectors), atol=1e-6)


def test_class_distance_is_never_negative_and_zero_for_the_same() -> None:
    vectors = class_vectors(["swan", "horse", "cat", "cat2"]).astype(np.float32)
    distance = class_distance(vectors)
    assert (distance >= 0).all()
    assert (distance.diagonal() == 0).all()
    assert distance[2, 3] == 0  # two drawings of a cat, one sentence
    np.testing.assert_allclose(class_distance(np.array([[1.0, 0], [-1, 0]])), [[0, 2], [2, 0]])


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.ones(3), r"not \(3,\)"),
        (np.empty((0, 3)), r"not \(0, 3\)"),
        (np.ones((2, 3)), "the length 1"),
        (np.full((2, 3), np.nan), "the length 1"),
        (np.zeros((2, 3)), "the length 1"),
    ],
)
def test_what_are_no_class_vectors_is_refused(vectors: Vectors, message: str) -> None:
    for make in (class_distance, spanning_tree):
        with pytest.raises(UserError, match=message):
            make(vectors)


# Nearest neighbours.


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("neighbours", [1, 2, 5])
def test_knn_against_loops(seed: int, neighbours: int) -> None:
    for vectors in (random_vectors(9, seed), with_twins(seed)):
        graph = knn(vectors, neighbours)
        assert is_adjacency(graph, len(vectors))
        np.testing.assert_array_equal(graph, naive_knn(vectors, neighbours))
        assert (graph.sum(axis=1) >= neighbours).all()


def test_knn_with_all_others_is_the_complete_graph() -> None:
    np.testing.assert_array_equal(knn(random_vectors(5), 4), 1 - np.eye(5))


@pytest.mark.parametrize("neighbours", [-1, 0, 5, 6])
def test_an_impossible_number_of_neighbours_is_refused(neighbours: int) -> None:
    with pytest.raises(UserError, match=rf"no {neighbours} nearest neighbours for each of 5 classes; choose 1 to 4"):
        knn(random_vectors(5), neighbours)


# Spanning trees.


@pytest.mark.parametrize("seed", range(5))
def test_spanning_tree_against_all_trees(seed: int) -> None:
    vectors = random_vectors(6, seed)
    graph = spanning_tree(vectors)
    expected, least = naive_spanning_trees(vectors)
    assert is_adjacency(graph, 6)
    np.testing.assert_array_equal(graph, expected)
    assert graph.sum() == 2 * 5
    assert (graph * naive_distance(vectors)).sum() / 2 == pytest.approx(least, abs=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_identical_vectors_are_joined_and_share_their_edges(seed: int) -> None:
    vectors = with_twins(seed)
    graph = spanning_tree(vectors)
    np.testing.assert_array_equal(graph, naive_spanning_trees(vectors)[0])
    assert graph[1, 2] == graph[4, 5] == 1
    np.testing.assert_array_equal(np.delete(graph[1], [1, 2]), np.delete(graph[2], [1, 2]))
    assert connected(graph)


def test_a_spanning_tree_of_many_classes_is_a_tree() -> None:
    graph = spanning_tree(random_vectors(200))
    assert graph.sum() == 2 * 199
    assert connected(graph)


def test_one_class_has_no_edges() -> None:
    np.testing.assert_array_equal(spanning_tree(random_vectors(1)), [[0]])
    np.testing.assert_array_equal(hierarchy(["swan"]), [[0]])
    np.testing.assert_array_equal(class_graph(["swan"], random_vectors(1), "tree", 0), [[1]])


# The taxonomy.


def joined(graph: Graph, names: list[str], name: str) -> set[str]:
    return {names[index] for index in np.flatnonzero(graph[names.index(name)])}


def test_hierarchy_joins_the_next_of_kin() -> None:
    names = [name for name in NAMES if name != "shark"]
    graph = hierarchy(names)
    assert joined(graph, names, "tiger") == {"lion", "cat"}  # a lion is its next of kin; it and a lion are the cat's
    assert joined(graph, names, "swan") == {"duck"}
    assert joined(graph, names, "bee") == {"ant"}
    assert joined(graph, names, "apple") == {"pear"}
    assert joined(graph, names, "church") == {"airplane", "helicopter"}  # all artifacts


def test_a_class_with_no_near_kin_is_joined_to_all_that_are_as_far() -> None:
    vertebrates = {"swan", "duck", "cat", "tiger", "lion", "horse", "cow"}
    assert joined(hierarchy(NAMES), NAMES, "shark") == vertebrates


def test_hierarchy_against_loops() -> None:
    table, names = json.loads(TAXONOMY.read_text(encoding="utf-8")), list(load_split("sketchy-sake25").seen)

    def common(a: str, b: str) -> int:
        depth = 0
        while table[a][: depth + 1] == table[b][: depth + 1] and depth < min(len(table[a]), len(table[b])):
            depth += 1
        return depth

    edges = set()
    for a in range(len(names)):
        depths = {b: common(names[a], names[b]) for b in range(len(names)) if b != a}
        edges |= {(a, b) for b, depth in depths.items() if depth == max(depths.values())}
    np.testing.assert_array_equal(hierarchy(names), as_graph(edges, len(names)))


def test_a_class_is_next_of_kin_to_all_that_are_kinds_of_it() -> None:
    names = ["flying_bird", "standing_bird", "swan", "duck", "cat"]  # the first two are any bird in the taxonomy
    assert joined(hierarchy(names[:-1]), names[:-1], "flying_bird") == {"standing_bird", "swan", "duck"}
    assert joined(hierarchy(names), names, "cat") == {"flying_bird", "standing_bird", "swan", "duck"}
    assert joined(hierarchy(names[2:]), names[2:], "swan") == {"duck", "cat"}


def test_hierarchy_knows_classes_in_any_spelling() -> None:
    np.testing.assert_array_equal(
        hierarchy(["Teddy-Bear", "car", "SUV"]), hierarchy(["teddy_bear", "car_sedan", "suv"])
    )


def test_all_classes_without_a_place_are_named() -> None:
    with pytest.raises(UserError, match=r"class hierarchy for grommet, widget; .*knn or tree"):
        hierarchy(["widget", "swan", "grommet"])


def test_a_class_that_is_not_given_leaves_no_trace() -> None:
    vectors = class_vectors(NAMES)
    keep = [index for index, name in enumerate(NAMES) if name not in ("lion", "church")]
    names = [NAMES[index] for index in keep]
    np.testing.assert_array_equal(class_vectors(names), vectors[keep])
    assert joined(hierarchy(names), names, "tiger") == {"cat", "shark"}


# Normalisation, and all together.


@pytest.mark.parametrize("seed", range(3))
def test_normalised_against_loops(seed: int) -> None:
    adjacency = knn(random_vectors(8, seed), 2)
    graph = normalised(adjacency)
    assert graph.dtype == np.float32
    np.testing.assert_allclose(graph, naive_normalised(adjacency), atol=1e-6)


def test_normalised_of_a_pair_and_of_a_lonely_class() -> None:
    graph = normalised(np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=np.float32))
    np.testing.assert_allclose(graph, [[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]], atol=1e-7)


def test_the_largest_eigenvalue_is_one() -> None:
    graph = normalised(knn(random_vectors(30), 3))
    assert np.linalg.eigvalsh(graph).max() == pytest.approx(1, abs=1e-5)


def test_class_graph_is_the_kind_asked_for_and_normalised() -> None:
    vectors = class_vectors(NAMES)
    for kind, adjacency in (
        ("knn", knn(vectors, 3)),
        ("tree", spanning_tree(vectors)),
        ("hierarchy", hierarchy(NAMES)),
    ):
        np.testing.assert_array_equal(class_graph(NAMES, vectors, kind, 3), normalised(adjacency))


@pytest.mark.parametrize("kind", ["knn", "tree", "hierarchy"])
@pytest.mark.parametrize("seed", range(3))
def test_permuting_the_classes_permutes_the_graph(kind: str, seed: int) -> None:
    names = [*NAMES, "cat2", "mouse", "mouse2", "flying_bird", "standing_bird"]  # with identical vectors and synsets
    vectors = class_vectors(names)
    order = np.random.default_rng(seed).permutation(len(names))
    permuted = class_graph([names[index] for index in order], vectors[order], kind, 2)
    np.testing.assert_array_equal(permuted, class_graph(names, vectors, kind, 2)[np.ix_(order, order)])
    np.testing.assert_array_equal(class_distance(vectors[order]), class_distance(vectors)[np.ix_(order, order)])


def test_names_and_vectors_of_different_number_are_refused() -> None:
    with pytest.raises(UserError, match="3 class names but 4 class vectors"):
        class_graph(["swan", "cat", "horse"], random_vectors(4), "tree", 1)


def test_an_unknown_kind_of_graph_is_refused() -> None:
    with pytest.raises(UserError, match="unknown kind of class graph 'ring'; known: knn, tree, hierarchy"):
        class_graph(["swan", "cat"], random_vectors(2), "ring", 1)  # type: ignore[arg-type]
