"""Split what the dump program writes into the rows of each table.

Its output is a row a line: `INSERT INTO `T` (`A`, ...) VALUES (...),` and so on, `);` at the end of a statement. A
newline in a value is escaped. Names may hold anything, so statements are known by their quoted names as a whole. Takes
blocks of output; calls a writer. Pure.
"""

import re
from collections.abc import Callable

__all__ = ["Splitter"]

Writer = Callable[[bytes], None]
FindWriter = Callable[[str, str, tuple[str, ...]], Writer | None]
FOOTER = b"-- Dump completed"
_NAME = rb"`(?:[^`]|``)+`"
_USE = re.compile(rb"USE (%b);\n" % _NAME)
_INSERT = re.compile(rb"INSERT INTO (%b) \((%b(?:, ?%b)*)?\) VALUES[ \n]" % (_NAME, _NAME, _NAME))
_NAMES = re.compile(_NAME)
_LONGEST_HEADER = 8 << 20


class Splitter:
    """Splits the program's output into the rows of each table, without brackets, as they come. Pure.

    `find_writer` gives the writer for the rows of a table with these columns. `is_finished`: the footer came last.
    `has_begun`: a database came.
    """

    def __init__(self, find_writer: FindWriter) -> None:
        self.is_finished = self.has_begun = False
        self._find_writer = find_writer
        self._database = ""
        self._writer: Writer | None = None
        self._is_inside = False
        self._pieces: list[bytes] = []

    def feed(self, block: bytes) -> None:
        """Split the next piece of output. Raises ValueError where it is not the output of such a program."""
        self._pieces.append(block)
        if b"\n" in block:
            data = b"".join(self._pieces)
            self._pieces.clear()  # a long row is in memory as few times as can be
            self._pieces.append(data[self._split(data) :])

    def _split(self, data: bytes) -> int:
        """Split the data; return how much of it was complete."""
        place, before = 0, -1
        while place > before:
            before = place
            place = self._split_rows(data, place) if self._is_inside else self._split_statement(data, place)
        return place

    def _split_rows(self, data: bytes, place: int) -> int:
        end = data.find(b");\n", place)
        stop = end if end >= 0 else data.rfind(b"),\n", place)
        if stop < 0:
            return place
        if self._writer:
            self._writer(b"".join((memoryview(data)[place + 1 : stop], b"\n")).replace(b"),\n(", b"\n"))
        self._is_inside = end < 0
        return stop + 3

    def _split_statement(self, data: bytes, place: int) -> int:
        if data.startswith((b"INSERT INTO `", b"USE `"), place):
            found = _INSERT.match(data, place) or _USE.match(data, place)
            if not found and len(data) - place > _LONGEST_HEADER:
                raise ValueError("a statement of the dump program has no end")
            return self._begin(found) if found else place
        end = data.find(b"\n", place)
        if end < 0:
            return place
        line = data[place:end]
        self.is_finished = line == FOOTER or (self.is_finished and not line)
        return end + 1

    def _begin(self, found: re.Match[bytes]) -> int:
        self.is_finished = False
        name = _unquote(found[1])
        if found.re is _USE:
            self._database, self.has_begun = name, True
        else:
            columns = tuple(_unquote(column) for column in _NAMES.findall(found[2] or b""))
            self._writer = self._find_writer(self._database, name, columns)
            self._is_inside = True
        return found.end()


def _unquote(name: bytes) -> str:
    return name[1:-1].replace(b"``", b"`").decode("utf-8", "surrogateescape")
