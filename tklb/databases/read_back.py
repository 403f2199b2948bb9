"""Read loaded rows back and compare them with the dump: the proof that a load has changed no row.

An engine reads a table that it loaded in the very form that its dump has, and compares the lines as they come:

    def check(batch):                                   # in the thread of the ReadBack, with a connection of its own
        for table in batch:
            comparison = RowComparison(dump.blocks(table.files))
            for block in read_rows(table):              # the statement of the dump
                comparison.write(block)
            if difference := comparison.finish():
                raise DatabaseFailed(item=..., reason=explain_difference(difference, columns, keys, split_line))
            ...                                         # comparison.rows must be as many as the dump says

    with ReadBack(check, cancel) as read_back:          # `cancel` ends what the connection of `check` is at
        for table in tables:
            ...                                         # load and commit it
            read_back.add(table)
        read_back.finish()

Tables are read while the next ones load. Equal bytes are compared block by block; from the first difference on, lines
are compared without their order, because a table without a key has none. Messages have the key of a row and the names
of columns, never other values. Takes blocks of lines; touches nothing.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from queue import Empty, SimpleQueue
from typing import Generic, Self, TypeVar

from tklb.base.concurrency import Background
from tklb.errors import printable
from tklb.lazy_dataclass import dataclass

__all__ = ["ReadBack", "RowComparison", "RowDifference", "explain_difference"]

T = TypeVar("T")
_A_MOMENT = 0.2  # seconds between two looks for Ctrl-C
_MOST_OPEN = 32 << 20  # bytes of lines whose counterpart has not come yet
_PER_LINE = 200  # bytes that such a line takes beyond itself
_LONGEST_KEY = 60  # characters of a key's value in a message


@dataclass(frozen=True, slots=True)
class RowDifference:
    """The first row that differs. `number` counts from 1; a side that has no such row is None."""

    number: int
    expected: bytes | None  # the line of the dump
    found: bytes | None  # the line that was read back


class RowComparison:
    """Compares the lines of a dump with those that are written to it. For one thread.

    `expected` are the blocks of the dump. The longest row has to fit into memory.
    """

    def __init__(self, expected: Iterable[bytes]) -> None:
        self._expected = iter(expected)
        self._block, self._place = b"", 0  # of the dump: how much of this block has been compared
        self._rows = 0  # that were equal
        self._line: list[bytes] = []  # what has been compared of the line after them
        self._disorder: _Disorder | None = None

    def write(self, block: bytes) -> None:
        """Compare the next piece that was read back; it may end anywhere."""
        place = 0
        while place < len(block) and not self._disorder:
            if self._place == len(self._block):
                self._block, self._place = next(self._expected, b""), 0
            length = min(len(block) - place, len(self._block) - self._place)
            piece = block[place : place + length]
            if not piece or piece != self._block[self._place : self._place + length]:
                break
            self._advance(piece)
            place += length
        if place < len(block):
            self._open_disorder().add_found(block[place:])

    @property
    def rows(self) -> int:
        """How many lines of the dump have been compared."""
        return self._disorder.rows if self._disorder else self._rows

    def finish(self) -> RowDifference | None:
        """Say what differs, after the last piece."""
        if not self._disorder and self._place == len(self._block):
            self._block, self._place = next(self._expected, b""), 0
        if not self._disorder and not self._line and not self._block:
            return None
        return self._open_disorder().finish()

    def _advance(self, piece: bytes) -> None:
        self._place += len(piece)
        cut = piece.rfind(b"\n")
        if cut < 0:
            self._line.append(piece)
            return
        self._rows += piece.count(b"\n")
        self._line = [piece[cut + 1 :]] if cut + 1 < len(piece) else []

    def _open_disorder(self) -> "_Disorder":
        if not self._disorder:
            head = b"".join(self._line)
            self._disorder = _Disorder(self._rows, self._follow_expected(head))
            self._disorder.add_found(head)
        return self._disorder

    def _follow_expected(self, head: bytes) -> Iterator[bytes]:
        yield head + self._block[self._place :]
        yield from self._expected


class _Disorder:
    """Compares lines without their order: both sides must have the same lines, each as often.

    As long as few lines wait for their counterpart, it is known which they are. Beyond that, sums of digests decide.
    """

    def __init__(self, rows: int, expected: Iterator[bytes]) -> None:
        self._expected = expected
        self._sides = (_Lines(rows), _Lines(rows))  # the dump's, and those that were read back
        self._open: dict[bytes, _OpenLine] | None = {}  # by digest
        self._size = self._sum = 0
        self._first: list[bytes | None] = [None, None]  # the first line of each side
        self._start = rows

    @property
    def rows(self) -> int:
        return self._sides[0].rows

    def add_found(self, block: bytes) -> None:
        self._add(1, block)
        ours, theirs = self._sides
        while ours.size < theirs.size and (more := next(self._expected, None)) is not None:
            self._add(0, more)

    def finish(self) -> RowDifference | None:
        for block in self._expected:
            self._add(0, block)
        for side, lines in enumerate(self._sides):
            if rest := lines.end():
                self._count(side, rest + b"\n", lines.rows)  # which no line is: this one has no end
        return self._find_first() if self._sum or self._open else None

    def _add(self, side: int, block: bytes) -> None:
        lines = self._sides[side]
        for line in lines.split(block):
            self._count(side, line, lines.rows)
            lines.rows += 1

    def _count(self, side: int, line: bytes, number: int) -> None:
        if self._first[side] is None:
            self._first[side] = line
        digest = blake2b(line, digest_size=16).digest()
        step = -1 if side else 1
        self._sum += step * int.from_bytes(digest)
        if self._open is None:
            return
        other = self._open.get(digest)
        count = (other.count if other else 0) + step
        if count:
            self._open[digest] = _OpenLine(count, other.number if other else number, line)
        else:
            del self._open[digest]
        if (other is None) or not count:
            self._size += (len(line) + _PER_LINE) * (1 if count else -1)
        if self._size > _MOST_OPEN:
            self._open = None

    def _find_first(self) -> RowDifference:
        if not self._open:
            return RowDifference(self._start + 1, *self._first)
        lines = sorted(self._open.values(), key=lambda each: each.number)
        missing, surplus = ([each for each in lines if (each.count > 0) is is_missing] for is_missing in (True, False))
        one, other = (side[0] if side else None for side in (missing, surplus))
        is_pair = one and other and (one.number == other.number or len(lines) == 2)
        number = (one or lines[0]).number + 1
        if is_pair or not one or not other:
            return RowDifference(number, one.line if one else None, other.line if other else None)
        return RowDifference(number, one.line, None)


@dataclass(frozen=True, slots=True)
class _OpenLine:
    """A line that one side has more often than the other. `count` is negative where the dump has fewer."""

    count: int
    number: int  # of the first such row, from 0
    line: bytes


class _Lines:
    """Cuts one side into lines. `rows` counts them, `size` is in bytes."""

    def __init__(self, rows: int) -> None:
        self.rows, self.size = rows, 0
        self._rest: list[bytes] = []

    def split(self, block: bytes) -> Iterator[bytes]:
        self.size += len(block)
        first, *more = block.split(b"\n")
        self._rest.append(first)
        if more:
            yield b"".join(self._rest)
            yield from more[:-1]
            self._rest = [more[-1]]

    def end(self) -> bytes:
        return b"".join(self._rest)


def explain_difference(
    difference: RowDifference,
    columns: Sequence[str],
    keys: Sequence[str],
    split_line: Callable[[bytes], Sequence[bytes]],
) -> str:
    """Name the first row that differs, by its number and its key, and the columns that differ; no other value.

    `columns` are those of a line, in order; `keys` are those of the primary key. `split_line` cuts a line into values.
    """
    expected, found = difference.expected, difference.found
    line = expected if expected is not None else found
    values = dict(zip(columns, split_line(line), strict=False)) if line is not None else {}
    words = [f"{printable(key)} = {_shorten(values[key])}" for key in keys if key in values]
    row = f"row {difference.number}" + (f" ({', '.join(words)})" if words else "")
    if expected is None:
        return f"{row} that was read back is not in the dump"
    if found is None:
        return f"{row} of the dump is not among those that were read back"
    other = dict(zip(columns, split_line(found), strict=False))
    names = [printable(name) for name in columns if values.get(name) != other.get(name)]
    return f"{row} was not read back as it is in the dump: it differs in {', '.join(names) or 'its form'}"


def _shorten(value: bytes) -> str:
    text = printable(value.decode("utf-8", "replace"))
    return text if len(text) <= _LONGEST_KEY else f"{text[:_LONGEST_KEY]}..."


class ReadBack(Generic[T]):
    """Reads tables back in a thread of its own, while others load.

    `check` gets all tables that wait, at most `batch` of them. It raises where one is not as in the dump. `cancel` ends
    what `check` is at; it is called from another thread. The thread is gone when the block ends.
    """

    def __init__(self, check: Callable[[Sequence[T]], None], cancel: Callable[[], None], batch: int = 100) -> None:
        self._check, self._cancel, self._batch = check, cancel, batch
        self._waiting: SimpleQueue[T | None] = SimpleQueue()  # None: no more come
        self._failure: BaseException | None = None
        self._is_over = threading.Event()  # the block was left before all was compared
        self._thread: Background | None = None

    def __enter__(self) -> Self:
        self._thread = Background(self._work)
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._waiting.put(None)
        while self._thread and not self._thread.has_ended:
            self._cancel()
            self._thread.wait(_A_MOMENT)

    def add(self, table: T) -> None:
        """Hand in a table whose rows are committed; any thread may. Raises the failure of an earlier one."""
        if self._failure:
            raise self._failure
        self._waiting.put(table)

    def finish(self) -> None:
        """Wait until all tables are compared. Raises the first failure."""
        self._waiting.put(None)
        while self._thread and not self._thread.has_ended:
            self._thread.wait(_A_MOMENT)
        if self._failure:
            raise self._failure

    def _work(self) -> None:
        try:
            while batch := self._take():
                self._check(batch)
        except BaseException as exc:  # noqa: BLE001 - it is raised where it is waited for
            self._failure = exc

    def _take(self) -> list[T]:
        """The tables that wait, as soon as one does; nothing after the last."""
        batch: list[T] = []
        table = self._waiting.get()
        while table is not None and not self._is_over.is_set():
            batch.append(table)
            if len(batch) == self._batch:
                return batch
            try:
                table = self._waiting.get_nowait()
            except Empty:
                return batch
        if table is None and batch:
            self._waiting.put(None)
        return [] if self._is_over.is_set() else batch
