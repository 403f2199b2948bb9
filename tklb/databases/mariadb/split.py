"""The output of the server's dump program, split into the rows of each table as they come.

It writes a row a line: `INSERT INTO `T` (`A`, ...) VALUES (...),` and so on, `);` at the end of a statement. A newline
in a value is escaped. Names may hold anything, so statements are known by their quoted names as a whole. Takes
blocks of bytes; gives each table's rows, without brackets, to whoever wants them. Pure.
"""

import re
from collections.abc import Callable

Writer = Callable[[bytes], None]
Wanted = Callable[[str, str, tuple[str, ...]], Writer | None]
FOOTER = b"-- Dump completed"
_NAME = rb"`(?:[^`]|``)+`"
_USE = re.compile(rb"USE (%b);\n" % _NAME)
_INSERT = re.compile(rb"INSERT INTO (%b) \((%b(?:, ?%b)*)?\) VALUES[ \n]" % (_NAME, _NAME, _NAME))
_NAMES = re.compile(_NAME)
_LONGEST_HEADER = 8 << 20


class Splitter:
    """`wanted` says who takes the rows of a table with these columns. `is_finished`: the footer was the last thing."""

    def __init__(self, wanted: Wanted) -> None:
        self.is_finished = False
        self._wanted = wanted
        self._database = ""
        self._writer: Writer | None = None
        self._is_inside = False
        self._pieces: list[bytes] = []

    def feed(self, block: bytes) -> None:
        """Take the next piece of output. Raises ValueError where it is not what such a program writes."""
        self._pieces.append(block)
        if b"\n" in block:
            data = b"".join(self._pieces)
            self._pieces = [data[self._use_up(data) :]]

    def _use_up(self, data: bytes) -> int:
        """How much of the data could be understood so far."""
        place, before = 0, -1
        while place > before:
            before = place
            place = self._rows(data, place) if self._is_inside else self._statement(data, place)
        return place

    def _rows(self, data: bytes, place: int) -> int:
        end = data.find(b");\n", place)
        stop = end if end >= 0 else data.rfind(b"),\n", place)
        if stop < 0:
            return place
        if self._writer:
            self._writer(data[place + 1 : stop].replace(b"),\n(", b"\n") + b"\n")
        self._is_inside = end < 0
        return stop + 3

    def _statement(self, data: bytes, place: int) -> int:
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
        name = _plain(found[1])
        if found.re is _USE:
            self._database = name
        else:
            columns = tuple(_plain(column) for column in _NAMES.findall(found[2] or b""))
            self._writer = self._wanted(self._database, name, columns)
            self._is_inside = True
        return found.end()


def _plain(quoted: bytes) -> str:
    return quoted[1:-1].replace(b"``", b"`").decode("utf-8", "surrogateescape")
