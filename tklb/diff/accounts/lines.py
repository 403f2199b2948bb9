"""The lines of passwd, group, shadow and gshadow: accounts, repeated lines of a name, and all other lines.

Takes lines as bytes; gives tables that keep every line and its place. Pure. Strict where shadow-utils is strict
(passwd(5), group(5), shadow(5), gshadow(5)). read_loosely() reads a malformed line as the C library does, because the
machine acts on that.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tklb.lazy_dataclass import dataclass

MAX_ID = 2**32 - 2  # 2**32 - 1 means "no id" to chown(2)
_NUMBER = re.compile(rb"0*([0-9]{1,10})")
_LOOSE_NUMBER = re.compile(rb"\s*\+?0*([0-9]{1,10})")


class Form(NamedTuple):
    """The form of the lines of a file: the valid numbers of fields, and which fields are ids."""

    file: str
    counts: frozenset[int]
    numbers: tuple[int, ...] = ()


PASSWD = Form("passwd", frozenset({7}), (2, 3))
GROUP = Form("group", frozenset({4}), (2,))
SHADOW = Form("shadow", frozenset({5, 8, 9}))  # those that getspent(3) reads
GSHADOW = Form("gshadow", frozenset({4}))


@dataclass(frozen=True, slots=True)
class AccountLine:
    """A well-formed line. `row` counts from 0."""

    name: bytes
    fields: tuple[bytes, ...]
    row: int

    @property
    def id(self) -> int:
        """uid or gid; only passwd and group have one."""
        return int(self.fields[2])


@dataclass(frozen=True, slots=True)
class AccountTable:
    """A file. The first line of a name is its entry, as for getpwnam(3). `odd` are malformed and special rows."""

    form: Form
    lines: tuple[bytes, ...]
    entries: Mapping[bytes, AccountLine]
    later: tuple[AccountLine, ...]
    odd: tuple[int, ...]

    @property
    def ids(self) -> dict[bytes, int]:
        return {name: entry.id for name, entry in self.entries.items()}

    @property
    def owners(self) -> dict[int, bytes]:
        """The name of each id: the first line that has it, as for getpwuid(3)."""
        found: dict[int, bytes] = {}
        for name, entry in self.entries.items():
            found.setdefault(entry.id, name)
        return found

    @property
    def claimed_ids(self) -> frozenset[int]:
        """Every id that the machine may take for that of a name, also in repeated and malformed lines."""
        loose = (read_loosely(self.form, self.lines[row]) for row in self.odd)
        strict = (entry.id for entry in (*self.entries.values(), *self.later))
        return frozenset(strict) | {reading[1] for reading in loose if reading}


def split_lines(text: bytes) -> tuple[bytes, ...]:
    """Give the lines of a file without their newlines."""
    lines = text.split(b"\n")
    return tuple(lines[:-1] if lines[-1] == b"" else lines)


def parse(form: Form, lines: Iterable[bytes]) -> AccountTable:
    """Sort the lines of a file into a table. No line is refused and none is lost."""
    entries: dict[bytes, AccountLine] = {}
    later: list[AccountLine] = []
    odd: list[int] = []
    rows = tuple(lines)
    for row, line in enumerate(rows):
        entry = _parse_line(form, line, row)
        if entry is None and line.strip():
            odd.append(row)
        elif entry and entry.name in entries:
            later.append(entry)
        elif entry:
            entries[entry.name] = entry
    return AccountTable(form, rows, entries, tuple(later), tuple(odd))


def _parse_line(form: Form, line: bytes, row: int) -> AccountLine | None:
    fields = tuple(line.split(b":"))
    name = fields[0]
    if len(fields) not in form.counts or not name or name != name.strip() or b"\0" in line or is_special(line):
        return None
    if any(parse_id(fields[index]) is None for index in form.numbers):
        return None
    return AccountLine(name, fields, row)


def parse_id(field: bytes) -> int | None:
    """Read an id in plain decimal digits; None if it is none."""
    found = _NUMBER.fullmatch(field)
    return int(found[1]) if found and int(found[1]) <= MAX_ID else None


def is_special(line: bytes) -> bool:
    """Whether it is a comment or a line of the NIS compat mode (nsswitch.conf(5))."""
    return line.startswith((b"+", b"-", b"#"))


def read_loosely(form: Form, line: bytes) -> tuple[bytes, int] | None:
    """Read the name and id that the C library finds in any line of passwd or group; None if it finds none."""
    fields = line.split(b"\0", 1)[0].lstrip().split(b":")
    last = max(form.numbers, default=0)
    if is_special(line) or not last or len(fields) <= last:
        return None
    found = [_LOOSE_NUMBER.fullmatch(fields[index]) for index in form.numbers]
    ids = [int(match[1]) for match in found if match]
    return (fields[0], ids[0]) if len(ids) == len(found) and max(ids) <= MAX_ID + 1 else None


def replace_id(field: bytes, wanted: int) -> bytes:
    """Give the text of an id field. It stays as it is, with leading zeros, if it already says `wanted`."""
    return field if parse_id(field) == wanted else b"%d" % wanted


def split_members(field: bytes) -> tuple[bytes, ...]:
    """Give the names of a comma-separated list, each once, in order."""
    return tuple(dict.fromkeys(name for name in field.split(b",") if name))
