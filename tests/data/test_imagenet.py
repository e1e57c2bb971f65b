"""Which classes ImageNet-1k has: known cases, and the packaged table against the lists of the splits."""

import json

import pytest

from crossatnet.data.imagenet import TABLE, counterparts, sorted_by_standing, standing
from crossatnet.data.splits import load_split, split_names

RELATIONS = ["same", "narrower", "wider", "word"]


@pytest.mark.parametrize(
    ("name", "expected", "other"),
    [
        ("zebra", "in", "zebra"),  # one of the 1,000
        ("standing_bird", "in", "robin"),  # TU-Berlin's: birds are many of them
        ("blimp", "in", "airship"),  # one of them is more general
        ("helicopter", "not in", None),  # as the authors of sketchy-yelamarthi21 have it
        ("hedgehog", "in", "porcupine"),  # theirs too: WordNet has the word for both animals
        ("brain", "not in", None),
        ("computer_mouse", "in", "mouse"),
        ("my_thing", "unknown", None),
    ],
)
def test_known_cases(name: str, expected: str, other: str | None) -> None:
    assert standing(name) == expected
    assert other is None or other in counterparts(name)


def test_a_word_in_another_sense_is_unclear() -> None:
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    sketchy = {*load_split("sketchy-yelamarthi21").seen, *load_split("sketchy-yelamarthi21").unseen}
    doubtful = [name for name, relations in table.items() if list(relations) == ["word"] and name not in sketchy]
    assert doubtful
    assert {standing(name) for name in doubtful} == {"unclear"}


def test_the_table_has_every_class_of_every_split() -> None:
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    assert set(table) == {name for split in map(load_split, split_names()) for name in (*split.seen, *split.unseen)}
    for relations in table.values():
        assert list(relations) == [relation for relation in RELATIONS if relation in relations]
        assert all(others == sorted(others) and others for others in relations.values())


def test_the_tree_agrees_with_the_authors_of_the_published_split() -> None:
    """Two exceptions among the classes that they found outside: ImageNet has a kind of dolphin and a kind of door."""
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    outside = load_split("sketchy-yelamarthi21").unseen
    assert [name for name in outside if set(table[name]) - {"word"}] == ["dolphin", "door"]


def test_classes_are_sorted_in_their_order() -> None:
    found = sorted_by_standing(["zebra", "my_thing", "brain", "ant"])
    assert found == {"in": ["zebra", "ant"], "not in": ["brain"], "unclear": [], "unknown": ["my_thing"]}
