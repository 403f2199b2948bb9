"""The lines that tell the owner what a backup did not take."""

from collections.abc import Iterable

from tklb.base.measure import format_count, format_size
from tklb.errors import printable
from tklb.model.report import OutsideItem


def describe_outside(items: Iterable[OutsideItem]) -> tuple[str, ...]:
    """Give a line for each item: `/data (3 files, 2.0 MB, belongs to olga): no rule takes it`."""
    return tuple(_format_item(item) for item in items)


def _format_item(item: OutsideItem) -> str:
    least = "" if item.is_whole else "more than "
    size = f"{least}{format_count(item.files, 'file')}, {format_size(item.bytes)}"
    return f"{printable(item.path)} ({size}, belongs to {printable(item.owner)}): {item.reason}"
