"""Read large files in other threads before their turn, so that more than one core has work. The order stays.

Takes functions that read and gives their results. Touches nothing itself.
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
_LARGE = 1 << 18  # bytes; below this, a call to another thread costs more than it saves
_MOST_THREADS = 2  # more threads would make a disk with heads seek
_MOST_STARTED, _MOST_HELD = 64, 4096


class BackgroundReader:
    """Threads that read. A long read must call `check` now and then. Close it when done."""

    def __init__(self) -> None:
        self._stop = Event()
        self._threads = ThreadPoolExecutor(min(len(os.sched_getaffinity(0)), _MOST_THREADS), "reader")

    def start(self, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call `read` soon in another thread. Safe to call from any thread."""
        return self._threads.submit(read, *args, **kwargs)

    def check(self) -> None:
        """Raise Interrupted if close() was called: nobody wants the result any more."""
        if self._stop.is_set():
            raise Interrupted

    def close(self) -> None:
        """End all reads, started or waiting."""
        self._stop.set()
        self._threads.shutdown(cancel_futures=True)


def is_large(entry: FileEntry) -> bool:
    """Whether reading the file in another thread is worth it."""
    return entry.kind == "file" and (entry.size or 0) >= _LARGE


def read_in_turn(items: Iterable[T], is_started: Callable[[T], bool]) -> Iterator[T]:
    """Give `items` in their order.

    Once an item `is_started`, which means that a thread reads it, this asks for the next items before it gives that
    one. Asking starts the large ones among them. The number of items that wait is bounded.
    """
    held, started = deque[T](), 0
    for item in items:
        if not held and not is_started(item):
            yield item
            continue
        held.append(item)
        started += is_started(item)
        while started > _MOST_STARTED or len(held) > _MOST_HELD:
            first = held.popleft()
            started -= is_started(first)
            yield first
    yield from held
