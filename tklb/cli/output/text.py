"""Times, tables and lists as text for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from tklb.base.measure import format_count
from tklb.errors import printable

if TYPE_CHECKING:
    from tklb.model.report import UnknownItems

_SHOWN = 20  # unknown items on a terminal
_WORDS = {
    "file": ("file", "files"),
    "folder": ("folder", "folders"),
    "edited": ("edited file of a package", "edited files of packages"),
    "missing": ("missing file of a package", "missing files of packages"),
    "package": ("package", "packages"),
    "user": ("user", "users"),
    "group": ("group", "groups"),
}


def format_time(time: datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC")


def format_age(span: timedelta) -> str:
    """Give a span in its largest whole unit."""
    seconds = int(span.total_seconds())
    for length, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= length:
            count = seconds // length
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return f"{seconds} seconds"


def describe_age(span: timedelta) -> str:
    """Say how old something is; where it lies in the future, one of two clocks is wrong."""
    if span > -timedelta(minutes=1):
        return f"{format_age(max(span, timedelta(0)))} old"
    return f"dated {format_age(-span)} ahead: the clock was ahead then, or this machine's is behind"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset()) -> Iterator[str]:
    """Give the lines of a table. The columns whose numbers are in `right` are aligned right."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        cells = (
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()


def unknown_lines(unknown: UnknownItems) -> Iterator[str]:
    """Give the first items, and a line with the number of all."""
    for found in unknown.listed[:_SHOWN]:
        yield f"{'unknown':16} {printable(found.item)}  ({_WORDS[found.kind][0]})"
    if unknown.total > _SHOWN:
        yield f"... and {format_count(unknown.total - _SHOWN, 'unknown item')} more (see --json)"
    if unknown.total:
        yield f"{count_unknown(unknown)} here that the snapshot does not know: kept"


def count_unknown(unknown: UnknownItems) -> str:
    """Give the numbers in words, such as `12 files, 1 package`."""
    known = ((kind, unknown.counts.get(kind, 0)) for kind in _WORDS)
    return ", ".join(format_count(number, *_WORDS[kind]) for kind, number in known if number)
