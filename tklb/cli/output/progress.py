"""A line of progress on a terminal, and nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

from tklb.errors import printable

if TYPE_CHECKING:
    from tklb.model.callbacks import Progress

_EVERY = 0.1  # seconds between two drawings
_RATED_AFTER = 2.0  # seconds


@contextmanager
def progress_line(wanted: bool, clock: Callable[[], float] = monotonic) -> Iterator[Progress]:
    """Give a function that shows the progress of a run. The line is wiped when the block ends."""
    if not wanted or not sys.stderr.isatty():
        yield lambda _activity, _done, _total: None
        return
    drawn = begin = 0.0
    current = ""

    def show(activity: str, done: int, total: int) -> None:
        nonlocal drawn, begin, current
        if activity != current:
            begin, current = clock(), activity
        if clock() - drawn < _EVERY:
            return
        drawn = clock()
        amount = f"{done / total:4.0%}" if total else _format_count(done, drawn - begin)
        sys.stderr.write(f"\r\x1b[K{printable(activity)} {amount}")
        sys.stderr.flush()

    try:
        yield show
    finally:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


def _format_count(done: int, seconds: float) -> str:
    """Give a count, and after some seconds how many that is in a second: `120,000 (40,000/s)`."""
    rate = f" ({done / seconds:,.0f}/s)" if seconds >= _RATED_AFTER and done else ""
    return f"{done:,}{rate}"
