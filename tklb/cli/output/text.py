"""Times and tables as text for people."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta


def format_time(time: datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC")


def format_age(span: timedelta) -> str:
    """Give a span in its largest whole unit; with a minus if it lies a minute or more in the future."""
    sign, seconds = "-" if span < timedelta(0) else "", int(abs(span).total_seconds())
    for length, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= length:
            count = seconds // length
            return f"{sign}{count} {unit}{'' if count == 1 else 's'}"
    return f"{0 if sign else seconds} seconds"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset()) -> Iterator[str]:
    """Give the lines of a table. The columns whose numbers are in `right` are aligned right."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        cells = (
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()
