"""Work on many objects, several at a time, that ends at once when it must.

The threads are daemons: one that waits for a server which says nothing never holds up the end of the program.
"""

import threading
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from typing import TypeVar

from tklb.errors import Interrupted

T = TypeVar("T")
_A_MOMENT = 0.2  # seconds between two looks for Ctrl-C
_GRACE = 3.0  # seconds that threads get to end by themselves


class Stop:
    """Whether work shall end. Handed to what goes on for long, which asks it now and then."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def check(self) -> None:
        """Raise Interrupted where somebody said stop."""
        if self._event.is_set():
            raise Interrupted


def run_side_by_side(work: Callable[[T, Stop], None], items: Iterable[T], count: int) -> None:
    """Call `work` for all items, `count` at a time. The first failure stops the rest and is raised."""
    waiting: SimpleQueue[T] = SimpleQueue()
    for item in items:
        waiting.put(item)
    stop, failures = Stop(), SimpleQueue[BaseException]()
    threads = [
        threading.Thread(target=_go_on, args=(work, waiting, stop, failures), daemon=True)
        for _ in range(min(count, waiting.qsize()))
    ]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            while thread.is_alive() and failures.empty():
                thread.join(_A_MOMENT)
    finally:
        stop.set()
        for thread in threads:
            thread.join(_GRACE / len(threads))
    if not failures.empty():
        raise failures.get()


def _go_on(
    work: Callable[[T, Stop], None], waiting: SimpleQueue[T], stop: Stop, failures: SimpleQueue[BaseException]
) -> None:
    try:
        while (item := _next(waiting)) is not None:
            stop.check()
            work(item[0], stop)
    except BaseException as exc:  # noqa: BLE001 - told to the caller, whatever it was
        failures.put(exc)
        stop.set()


def _next(waiting: SimpleQueue[T]) -> tuple[T] | None:
    """The next item. What the work itself raises, an Empty of its own for one, must never pass for the end."""
    try:
        return (waiting.get_nowait(),)
    except Empty:
        return None
