"""Large files read in other threads before their turn, so that more than one core has work; what comes keeps its order.

Takes functions that read; gives what they give. Touches nothing itself.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import ParamSpec, TypeVar

from tklb.errors import Interrupted
from tklb.model.files import FileEntry

P = ParamSpec("P")
T = TypeVar("T")
_LARGE = 1 << 18  # bytes; for less, a word to another thread costs more than it saves
_MOST_THREADS = 2  # more would have a disk that turns seek
_MOST_BEGUN, _MOST_HELD = 64, 4096


class Reader:
    """The threads. Whoever reads for long calls `check` now and then; close it when done."""

    def __init__(self) -> None:
        self._stop = Event()
        self._threads = ThreadPoolExecutor(min(len(os.sched_getaffinity(0)), _MOST_THREADS), "reader")

    def begin(self, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call `read` soon, in another thread."""
        return self._threads.submit(read, *args, **kwargs)

    def check(self) -> None:
        """Raise Interrupted where nobody wants what is read any more."""
        if self._stop.is_set():
            raise Interrupted

    def close(self) -> None:
        """End all that was begun."""
        self._stop.set()
        self._threads.shutdown(cancel_futures=True)


def is_large(entry: FileEntry) -> bool:
    """Whether it is worth another thread to read a file."""
    return entry.kind == "file" and (entry.size or 0) >= _LARGE


def read_in_turn(items: Iterable[T], is_begun: Callable[[T], bool]) -> Iterator[T]:
    """Give `items` as they come; once one `is_begun`, which means being read, the next ones are asked for before it
    is given, up to a bounded number: those among them that are large are begun by that.
    """
    held, begun = deque[T](), 0
    for item in items:
        if not held and not is_begun(item):
            yield item
            continue
        held.append(item)
        begun += is_begun(item)
        while begun > _MOST_BEGUN or len(held) > _MOST_HELD:
            first = held.popleft()
            begun -= is_begun(first)
            yield first
    yield from held
