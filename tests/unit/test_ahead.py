"""What is read before its turn: the order stays, the number of those that wait is bounded, and an end is an end."""

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tklb.errors import Interrupted
from tklb.host.files import readahead
from tklb.host.files.readahead import BackgroundReader, read_in_turn


@given(st.lists(st.booleans(), max_size=300), st.integers(1, 5), st.integers(1, 20))
def test_items_keep_their_order_and_no_more_wait_than_may(begun: list[bool], most: int, held: int) -> None:
    asked = given_out = 0

    def items() -> Iterator[tuple[int, bool]]:
        nonlocal asked
        for number, is_begun in enumerate(begun):
            asked += 1
            waiting = begun[given_out:asked]
            assert sum(waiting) <= most + 1
            assert len(waiting) <= held + 1
            yield number, is_begun

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readahead, "_MOST_STARTED", most)
        patch.setattr(readahead, "_MOST_HELD", held)
        for number, (item, _) in enumerate(read_in_turn(items(), lambda pair: pair[1])):
            assert item == number
            given_out += 1
    assert given_out == len(begun)


def test_nothing_is_held_up_where_nothing_is_being_read() -> None:
    asked: list[int] = []

    def items() -> Iterator[int]:
        for number in range(5):
            asked.append(number)
            yield number

    first = next(read_in_turn(items(), lambda _: False))
    assert (first, asked) == (0, [0])


def test_closed_reader_ends_what_reads_and_begins_nothing_that_waits() -> None:
    reader = BackgroundReader()
    started = threading.Event()
    begun: list[int] = []

    def read() -> None:
        started.set()
        while True:
            reader.check()

    running = reader.start(read)
    waiting = [reader.start(begun.append, number) for number in range(20)]
    started.wait()
    reader.close()
    assert isinstance(running.exception(), Interrupted)
    assert {number for number, future in enumerate(waiting) if not future.cancelled()} == set(begun)
