"""Loaded rows against the dump: equal whatever the pieces and, where rows have no order, whatever their order."""

import random
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tklb.databases import read_back
from tklb.databases.read_back import ReadBack, RowComparison, RowDifference, explain_difference
from tklb.errors import DatabaseFailed

LINES = st.lists(st.binary(max_size=6).map(lambda line: line.replace(b"\n", b"")), max_size=12)


def cut(data: bytes, seed: int) -> list[bytes]:
    chance = random.Random(seed)
    places = sorted(chance.randrange(len(data) + 1) for _ in range(chance.randrange(6)))
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


def compare(expected: list[bytes], found: list[bytes], seed: int = 0) -> RowDifference | None:
    one, other = (b"".join(line + b"\n" for line in lines) for lines in (expected, found))
    comparison = RowComparison([piece for piece in cut(one, seed) if piece])
    for piece in cut(other, seed + 1):
        comparison.write(piece)
    return comparison.finish()


@given(LINES, st.integers(0, 1000))
def test_same_lines_are_equal_in_any_pieces_and_any_order(lines: list[bytes], seed: int) -> None:
    assert compare(lines, lines, seed) is None
    assert compare(lines, random.Random(seed).sample(lines, len(lines)), seed) is None


@given(LINES, LINES, st.integers(0, 1000))
def test_other_lines_differ_in_any_pieces(expected: list[bytes], found: list[bytes], seed: int) -> None:
    assert (compare(expected, found, seed) is None) == (sorted(expected) == sorted(found))


def test_rows_of_the_dump_are_counted_in_any_order() -> None:
    for found in (b"a\nb\nc\n", b"c\na\nb\n", b"a\nb\n"):
        comparison = RowComparison([b"a\nb", b"\nc\n"])
        comparison.write(found)
        comparison.finish()
        assert comparison.rows == 3


@pytest.mark.parametrize(
    ("found", "difference"),
    [
        ([b"1,a", b"2,x", b"3,c"], RowDifference(2, b"2,b", b"2,x")),
        ([b"3,c", b"1,a", b"2,x"], RowDifference(2, b"2,b", b"2,x")),  # no order
        ([b"1,a", b"3,c"], RowDifference(2, b"2,b", None)),
        ([b"1,a", b"2,b", b"2,b", b"3,c"], RowDifference(3, None, b"2,b")),
        ([b"1,a", b"3,c", b"8,b"], RowDifference(2, b"2,b", b"8,b")),
        ([], RowDifference(1, b"1,a", None)),
    ],
)
def test_first_row_that_differs_is_found(found: list[bytes], difference: RowDifference) -> None:
    assert compare([b"1,a", b"2,b", b"3,c"], found) == difference


def test_line_without_an_end_is_another_one() -> None:
    comparison = RowComparison([b"a\nb\n"])
    comparison.write(b"a\nb")
    assert comparison.finish() is not None


def test_large_disorder_is_compared_by_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_back, "_MOST_OPEN", 1000)
    lines = [b"%d" % number for number in range(1000)]
    assert compare(lines, lines[::-1]) is None
    difference = compare(lines, [*lines[:0:-1], b"x"])
    assert difference
    assert difference.number == 1


def split(line: bytes) -> list[bytes]:
    return line.split(b",")


@pytest.mark.parametrize(
    ("difference", "text"),
    [
        (
            RowDifference(2, b"7,private,b", b"7,secret,b"),
            "row 2 (id = 7) was not read back as it is in the dump: it differs in name",
        ),
        (RowDifference(2, b"7,private,b", None), "row 2 (id = 7) of the dump is not among those that were read back"),
        (RowDifference(3, None, b"8,private,b"), "row 3 (id = 8) that was read back is not in the dump"),
        (RowDifference(1, None, None), "row 1 that was read back is not in the dump"),
    ],
)
def test_message_has_the_key_and_no_other_value(difference: RowDifference, text: str) -> None:
    assert explain_difference(difference, ["id", "name", "kind"], ["id"], split) == text


def test_tables_are_read_in_their_order_while_others_load() -> None:
    batches: list[list[int]] = []
    with ReadBack[int](lambda batch: batches.append(list(batch)), lambda: None, batch=3) as reading:
        for number in range(10):
            reading.add(number)
        reading.finish()
    assert [number for batch in batches for number in batch] == list(range(10))
    assert max(map(len, batches)) <= 3


def test_first_failure_is_raised_by_the_next_table_and_at_the_end() -> None:
    def fail(_: object) -> None:
        raise DatabaseFailed(item="t", reason="it differs")

    with ReadBack[int](fail, lambda: None) as reading:
        reading.add(1)
        with pytest.raises(DatabaseFailed):
            reading.finish()
        with pytest.raises(DatabaseFailed):
            reading.add(2)


def test_block_that_is_left_early_cancels_what_is_read() -> None:
    begun, cancelled, ended = threading.Event(), threading.Event(), threading.Event()

    def check(_: object) -> None:
        begun.set()
        assert cancelled.wait(10)
        ended.set()

    def leave() -> None:
        with ReadBack[int](check, cancelled.set) as reading:
            reading.add(1)
            assert begun.wait(10)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leave()
    assert ended.is_set()
