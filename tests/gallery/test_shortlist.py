"""The Hamming step and the re-rank as functions, against loops over every item."""

import numpy as np
import pytest
from numpy.typing import NDArray

from crossatnet.gallery import shortlist as shortlist_module
from crossatnet.gallery.shortlist import best_hits, cosines, hamming_nearest, shortlist_length, widened
from oracles.search import hamming


def codes(count: int, seed: int, width: int = 2) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, width), dtype=np.uint8)


@pytest.mark.parametrize("width", [1, 3, 8, 64])
@pytest.mark.parametrize("admitted", [None, 0.9, 0.6, 0.1, 0.02], ids=str)
def test_the_shortlist_has_the_nearest_codes(width: int, admitted: float | None) -> None:
    stored, queries = codes(300, 0, width), codes(7, 1, width)
    mask = None if admitted is None else np.random.default_rng(2).random(300) < admitted
    allowed = range(300) if mask is None else np.flatnonzero(mask).tolist()
    for length in {1, min(6, len(allowed)), len(allowed)}:
        distances, rows = hamming_nearest(stored, mask, queries, length)
        assert distances.shape == rows.shape == (7, length)
        for query, found, row in zip(queries, distances.tolist(), rows.tolist(), strict=True):
            assert found == sorted(hamming(stored[number], query) for number in allowed)[:length]
            assert found == [hamming(stored[number], query) for number in row]
            assert len(set(row)) == length
            assert set(row) <= set(allowed)


def test_the_nearest_are_found_where_everything_near_is_not_admitted() -> None:
    stored = np.concatenate([np.zeros((900, 2), np.uint8), np.full((1100, 2), 255, np.uint8)])
    mask = np.arange(2000) >= 890  # the ten that are left are the last of many equal ones
    _, rows = hamming_nearest(stored, mask, np.zeros((1, 2), np.uint8), 10)
    assert sorted(rows[0]) == list(range(890, 900))


def test_queries_in_parts_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    stored, queries = codes(50, 0), codes(9, 1)
    whole = hamming_nearest(stored, None, queries, 5)
    monkeypatch.setattr(shortlist_module, "COUNTER_BYTES", 8 * 17 * 5 * 2)  # two queries
    for ours, theirs in zip(hamming_nearest(stored, None, queries, 5), whole, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 9])
def test_the_best_hits_are_ordered_by_score_then_id(k: int) -> None:
    found, scores = best_hits(np.array([40, 7, 13, 2, 5]), np.array([0.5, 0.1, 0.9, 0.5, 0.5], np.float32), k)
    assert found.tolist() == [13, 2, 5, 40, 7][:k]
    assert scores.tolist() == np.array([0.9, 0.5, 0.5, 0.5, 0.1], np.float32)[:k].tolist()


def test_cosines_are_those_of_a_loop_and_equal_for_equal_rows() -> None:
    random = np.random.default_rng(0)
    embeddings = random.standard_normal((300, 37)).astype(np.float16)[np.arange(600) % 300]
    query = random.standard_normal(37).astype(np.float32)
    query /= np.linalg.norm(query)
    found = cosines(query, embeddings)
    rows = embeddings.astype(np.float64)
    assert found == pytest.approx([float(row @ query) / float(np.linalg.norm(row)) for row in rows], abs=1e-6)
    np.testing.assert_array_equal(found[:300], found[300:])
    assert cosines(query, np.zeros((1, 37), np.float16)).tolist() == [0.0]


def test_every_finite_half_is_widened_exactly() -> None:
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)]
    np.testing.assert_array_equal(widened(halves).view(np.uint32), halves.astype(np.float32).view(np.uint32))


@pytest.mark.parametrize(
    ("k", "code_bits", "items", "length"),
    [
        (10, 512, 1_000_000, 2200),
        (1, 512, 1_000_000, 2200),
        (100, 512, 1_000_000, 22_000),
        (10, 1024, 100_000, 1000),
        (10, 256, 1_000_000, 3500),
        (10, 320, 1_000_000, 3500),
        (10, 128, 1_000_000, 8000),
        (10, 64, 1_000_000, 60_000),
        (40, 8, 1_000_000, 120_000),
        (200, 512, 10_000, 2000),
        (10, 512, 400, 1000),
        (1000, 512, 5000, 10_000),
        (10, 512, 0, 1000),
    ],
)
def test_shortlist_rule(k: int, code_bits: int, items: int, length: int) -> None:
    assert shortlist_length(k, code_bits, items) == length


@pytest.mark.parametrize("bits", [128, 256, 512])
def test_the_rule_finds_what_it_promises_in_clusters(bits: int) -> None:
    random = np.random.default_rng(0)
    centres = random.standard_normal((100, 64)) / 8
    items = centres[random.integers(0, 100, 20_000)] + 0.75 * random.standard_normal((20_000, 64)) / 8
    queries = centres[:50] + 0.75 * random.standard_normal((50, 64)) / 8
    items, queries = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (items, queries))
    planes = random.standard_normal((64, bits))
    packed, asked = (np.packbits(rows @ planes > 0, axis=1) for rows in (items, queries))
    _, shortlist = hamming_nearest(packed, None, asked, shortlist_length(10, bits, 20_000))
    true = np.argsort(-queries @ items.T, axis=1)[:, :10]
    found = [len(set(row) & set(best)) for row, best in zip(shortlist.tolist(), true.tolist(), strict=True)]
    assert np.mean(found) / 10 > 0.99
