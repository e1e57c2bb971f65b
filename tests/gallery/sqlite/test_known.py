"""Conditions and words against loops over the pictures; words typed by anybody are never commands."""

import re
import sqlite3
import unicodedata
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crossatnet.data.metadata import Metadata
from crossatnet.gallery.backend import Description, Facts, FileState, Filter, MadeWith
from crossatnet.gallery.sqlite.store import Store

MADE_WITH = MadeWith("f" * 64, "", "test", 16, 64)
PICTURES = [
    ("/photos/2019/Holiday in Rome/one.jpg", "Holiday in Rome", Metadata("2019-07-14T10:00:00", tags=("Sea", "red"))),
    ("/photos/2019/Holiday in Rome/two.jpg", "Holiday in Rome", Metadata("2019-12-31T23:59:59", tags=("red car",))),
    ("/photos/2020/garden/three.jpg", "garden", Metadata("2020-01-01T00:00:00", caption="A red rose, in Zürich")),
    ("/photos/2020/garden/four_red.jpg", "garden", Metadata(tags=("sea",))),
    ("/photos/2019x/100%/five.jpg", None, Metadata(tags=("★",))),
    ("/photos/2019x/100a/six.jpg", None, Metadata("1999-05-05T00:00:00", rating=5, has_place=True)),
]


def facts(path: str, class_name: str | None, known: Metadata, look: int = 2**64 - 1) -> Facts:
    return Facts(path, class_name, FileState(100, 1, "a" * 64, 5), 30, 20, Description(known, look))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    vectors = np.eye(16, dtype=np.float32)[: len(PICTURES)]
    with closing(Store.create(tmp_path / "my.gallery", MADE_WITH)) as store:
        store.put([facts(*picture) for picture in PICTURES], np.zeros((len(PICTURES), 8), np.uint8), vectors)
        yield store


def names(store: Store, filter: Filter) -> list[str]:
    """Names of the files that a filter admits, by searches of both kinds, which agree."""
    queries, packed = np.ones((1, 16), np.float32) / 4, np.zeros((1, 8), np.uint8)
    near = [key for key in store.nearest(queries, packed, 10, filter).ids[0].tolist() if key >= 0]
    alone, _ = store.by_words(filter, 10)
    assert sorted(near) == sorted(alone)
    found = store.pictures(alone)
    return [Path(found[key].facts.path).stem for key in alone]


def test_what_is_known_comes_back_as_it_was_put(store: Store) -> None:
    found = store.pictures(range(1, 7))
    assert [found[key].facts for key in range(1, 7)] == [facts(*picture) for picture in PICTURES]
    assert store.file_states([PICTURES[0][0]])[PICTURES[0][0]].is_described


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        (Filter(taken_since=datetime(2019, 1, 1), taken_before=datetime(2020, 1, 1)), ["two", "one"]),
        (Filter(taken_since=datetime(2020, 1, 1)), ["three"]),
        (Filter(taken_before=datetime(2000, 1, 1)), ["six"]),
        (Filter(folder="2019"), ["two", "one"]),
        (Filter(folder="holiday in rome"), ["two", "one"]),
        (Filter(folder="2020/garden/"), ["three", "four_red"]),
        (Filter(folder="100%"), ["five"]),
        (Filter(folder="one.jpg"), []),
        (Filter(tags=("SEA",)), ["one", "four_red"]),
        (Filter(tags=("red",)), ["one"]),
        (Filter(tags=("red", "sea")), ["one"]),
        (Filter(tags=("★",)), ["five"]),
        (Filter(folder="2019", tags=("red car",)), ["two"]),
    ],
)
def test_conditions(store: Store, filter: Filter, expected: list[str]) -> None:
    assert names(store, filter) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("red", {"one", "two", "three", "four_red"}),
        ("red holiday", {"one", "two"}),
        ("holi", {"one", "two"}),
        ("ZURICH", {"three"}),
        ("zürich", {"three"}),
        ("red rose", {"three"}),
        ("four_red", {"four_red"}),
        ("red nothing", set()),
        ('"red', {"one", "two", "three", "four_red"}),
        ("NOT red", set()),
        ("tags:sea", set()),
        ("—", set()),
    ],
)
def test_words(store: Store, words: str, expected: set[str]) -> None:
    assert set(names(store, Filter(words=words))) == expected


def test_words_that_somebody_chose_count_more_than_those_of_a_path(store: Store) -> None:
    keys, scores = store.by_words(Filter(words="red"), 10)
    found = store.pictures(keys)
    order = [Path(found[key].facts.path).stem for key in keys]
    assert order[-1] == "four_red"  # in its name only
    assert scores == sorted(scores, reverse=True)
    assert min(scores) > 0
    assert store.by_words(Filter(words="red"), 2, offset=1)[0] == keys[1:3]


def test_without_words_the_latest_come_first_and_those_of_unknown_date_last(store: Store) -> None:
    assert names(store, Filter()) == ["three", "two", "one", "six", "five", "four_red"]


def test_words_follow_every_change(store: Store) -> None:
    path = PICTURES[0][0]
    store.describe([(path, Description(Metadata(tags=("blue",)), 7))])
    assert names(store, Filter(words="blue")) == ["one"]
    assert names(store, Filter(tags=("sea",))) == ["four_red"]
    moved = replace(store.pictures([1])[1].facts, path="/elsewhere/seven.jpg", class_name="boats")
    store.move([(path, moved)])
    assert store.ids(["/elsewhere/seven.jpg"]) == {"/elsewhere/seven.jpg": 1}
    assert names(store, Filter(words="boats blue")) == ["seven"]
    assert names(store, Filter(words="rome")) == ["two"]
    store.remove([PICTURES[1][0]])
    assert names(store, Filter(words="rome")) == []
    store.compact()
    with closing(sqlite3.connect(store.path)) as connection:
        connection.execute("INSERT INTO words (words, rank) VALUES ('integrity-check', 1)")  # raises if out of step


def test_a_move_to_a_path_that_is_taken_changes_nothing(store: Store) -> None:
    before = store.pictures(range(1, 7))
    store.move([(PICTURES[0][0], before[2].facts), ("/none.jpg", before[3].facts)])
    assert store.pictures(range(1, 7)) == before


def test_folders_are_counted(store: Store) -> None:
    assert store.folders() == {
        "/photos/2019/Holiday in Rome": 2,
        "/photos/2019x/100%": 1,
        "/photos/2019x/100a": 1,
        "/photos/2020/garden": 2,
    }


def tokens(text: str) -> list[str]:
    """The words of a text without case and accents; every other sign parts them."""
    plain = "".join(letter for letter in unicodedata.normalize("NFD", text) if not unicodedata.combining(letter))
    return re.findall(r"[^\W_]+", plain.lower())


def has_words(column: str, asked: list[str]) -> bool:
    """Whether a text has these words one after another, the last one perhaps only as a word's beginning."""
    found = tokens(column)
    return any(
        found[start : start + len(asked) - 1] == asked[:-1] and found[start + len(asked) - 1].startswith(asked[-1])
        for start in range(len(found) - len(asked) + 1)
    )


OFTEN = settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
PIECES = ("red", "Holi", "sea", "rome", "zur", "Zürich", "car", "in", "four_red", "2019", "jpg", "a", "x", "100", "é")
SIGNS = (
    "NOT",
    "OR",
    "AND",
    "NEAR(",
    "tags:",
    '"',
    "'",
    "*",
    "^",
    "(",
    ")",
    "-",
    "+",
    "{",
    "}",
    "%",
    "\\",
    ";",
    " ",
    " ",
)


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.sampled_from(PIECES + SIGNS) | st.text("aeorsz .-é", max_size=3), max_size=6).map("".join))
def test_whatever_people_type_is_words_only(store: Store, typed: str) -> None:
    asked = [found for word in typed.split() if (found := tokens(word))]
    expected = {
        Path(path).stem
        for path, class_name, known in PICTURES
        if asked
        and all(
            any(has_words(column, word) for column in (path, class_name or "", "\n".join(known.tags), known.caption))
            for word in asked
        )
    }
    if typed:
        keys, _ = store.by_words(Filter(words=typed), 10)
        assert {Path(store.pictures([key])[key].facts.path).stem for key in keys} == expected


@settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(("sea", "SEA", "red", "red car", "★", "2019", "Holiday in Rome", "100%")) | st.text(max_size=10))
def test_whatever_people_take_for_a_tag_or_a_folder_is_only_that(store: Store, text: str) -> None:
    clean = text.encode("utf-8", "ignore").decode().replace("\0", "")
    if not clean.strip("/"):
        return
    tagged = {path for path, _, known in PICTURES if clean.casefold() in [tag.casefold() for tag in known.tags]}
    below = {path for path, *_ in PICTURES if f"/{clean.strip('/')}/".lower() in path.lower()}
    for filter, expected in ((Filter(tags=(clean,)), tagged), (Filter(folder=clean), below)):
        keys, _ = store.by_words(filter, 10)
        assert {store.pictures([key])[key].facts.path for key in keys} == expected
