"""Reading ahead changes when parts are read, never what comes out."""

import threading
from collections.abc import Iterator

import pytest

from crossatnet.data.prefetch import read_ahead


def test_every_part_is_read_once_and_in_order() -> None:
    assert list(read_ahead(lambda part: part * 10, [3, 1, 2])) == [30, 10, 20]
    assert list(read_ahead(lambda part: part * 10, [])) == []


def test_the_next_part_is_read_while_the_caller_works() -> None:
    second_was_read = threading.Event()

    def read(part: int) -> int:
        if part == 2:
            second_was_read.set()
        return part

    parts = read_ahead(read, [1, 2, 3])
    assert next(parts) == 1
    assert second_was_read.wait(timeout=30)
    assert list(parts) == [2, 3]


def test_no_more_than_one_part_waits() -> None:
    taken: list[int] = []

    def parts() -> Iterator[int]:
        for part in range(10):
            taken.append(part)
            yield part

    stream = read_ahead(lambda part: part, parts())
    next(stream)
    assert taken == [0, 1]


def test_a_failed_read_is_raised_at_its_turn() -> None:
    def read(part: int) -> int:
        if part == 2:
            raise ValueError("part 2")
        return part

    stream = read_ahead(read, [1, 2, 3])
    assert next(stream) == 1
    with pytest.raises(ValueError, match="part 2"):
        next(stream)
