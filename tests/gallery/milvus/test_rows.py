"""Rows for a Milvus server, tested without a server."""

from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pytest

from crossatnet.gallery.backend import EVERYTHING, LARGEST_ID, CodedRegions, Facts, FileState, Filter
from crossatnet.gallery.milvus.rows import (
    FACTS,
    boxes_of,
    embedding_letters,
    embeddings_of,
    expression,
    id_ranges,
    item_of,
    region_ids,
    regions_of,
    row_of,
    whole_of,
)


def test_a_row_becomes_the_item_it_was_made_of() -> None:
    code = np.arange(8, dtype=np.uint8)
    for class_name in ("owl", None):
        facts = Facts("/p/owl 1.jpg", class_name, FileState(10, 20, "ab12"), 30, 40)
        row = row_of(facts, code, np.zeros(3), 86_400)
        assert row["code"] == bytes(range(8))
        item = item_of({name: row[name] for name in ("id", *FACTS)})
        assert (item.id, item.facts, item.added) == (row["id"], facts, "1970-01-02T00:00:00+00:00")


@pytest.mark.parametrize("dimension", [1, 2, 3, 512])
def test_embeddings_come_back_as_halves(dimension: int) -> None:
    rows = np.random.default_rng(0).standard_normal((4, dimension)).astype(np.float32)
    facts = Facts("/p/a", None, FileState(1, 2, "ab"), 3, 4)
    texts = [row_of(facts, np.zeros(1, np.uint8), row, 0)["embedding"] for row in rows]
    assert {len(text) for text in texts} == {embedding_letters(dimension)}
    assert embeddings_of(texts, dimension).tolist() == rows.astype(np.float16).tolist()
    assert embeddings_of([], dimension).shape == (0, dimension)


def test_regions_are_rows_with_the_facts_of_their_picture() -> None:
    facts = Facts("/p/owl.jpg", "owl", FileState(10, 20, "ab12"), 30, 40)
    picture = whole_of(row_of(facts, np.zeros(2, np.uint8), np.zeros(3), 86_400))
    boxes = np.array([[0, 1 / 3, 0.5, 1], [0.1, 0.2, 0.8, 0.9]], np.float32)
    codes, embeddings = np.arange(4, dtype=np.uint8).reshape(2, 2), np.eye(2, 3, dtype=np.float32)
    rows = regions_of(picture, CodedRegions(boxes, codes, embeddings))
    assert [row["id"] for row in rows] == region_ids(picture["id"])[:2]
    assert len({picture["id"], *region_ids(picture["id"])}) == 9
    assert {row["whole"] for row in [picture, *rows]} == {picture["id"]}
    assert {name: rows[1][name] for name in FACTS} == {name: picture[name] for name in FACTS}
    assert [row["code"] for row in rows] == [b"\0\1", b"\2\3"]
    assert embeddings_of([row["embedding"] for row in rows], 3).tolist() == embeddings.tolist()
    np.testing.assert_allclose(boxes_of(rows), boxes, atol=1 / 480)
    assert boxes_of([]).shape == (0, 4)


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 1000])
def test_every_id_is_in_one_range(parts: int) -> None:
    bounds = [condition.replace("id >= ", "").split(" and id <= ") for condition in id_ranges(parts)]
    ranges = [(int(first), int(last)) for first, last in bounds]
    assert len(ranges) == parts
    assert ranges[0][0] == 0
    assert ranges[-1][1] == LARGEST_ID
    assert all(first == last + 1 for (_, last), (first, _) in pairwise(ranges))


def test_conditions_as_milvus_reads_them() -> None:
    assert expression(EVERYTHING) == ""
    assert expression(Filter(class_names=('a "b"', "é"))) == 'class_name in ["a \\"b\\"", "é"]'
    half_past = datetime(1970, 1, 1, 0, 1, 0, 500_000, UTC)
    filter = Filter(path_prefix="/50%", added_since=half_past, added_before=half_past)
    assert expression(filter) == 'path >= "/50%" and path < "/50%\U0010ffff" and added >= 61 and added < 61'
