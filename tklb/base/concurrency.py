"""Work on many things, several at a time, that ends at once when it must.

The threads are daemons: a thread that waits for a silent server never holds up the end of the program.
"""

import threading
from collections.abc import Callable, Iterable
from functools import partial
from queue import Empty, SimpleQueue
from typing import TypeVar

from tklb.errors import Interrupted

T = TypeVar("T")
R = TypeVar("R")
_A_MOMENT = 0.2  # seconds between two looks for Ctrl-C
_GRACE = 3.0  # seconds that threads get to end by themselves


class Stop:
    """Whether work is to end. Long work gets it and calls check() now and then. Several threads may use it."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Ask all work that has this Stop to end."""
        self._event.set()

    def check(self) -> None:
        """Raise Interrupted where set() was called."""
        if self._event.is_set():
            raise Interrupted


class Background:
    """A call in a daemon thread that others can wait for.

    Ctrl-C within Thread.join() makes Python 3.11 and 3.12 take a running thread for one that has ended
    (https://github.com/python/cpython/issues/90882), so an event of our own says that the call has returned.
    """

    def __init__(self, call: Callable[[], object]) -> None:
        self._call, self._end = call, threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    @property
    def has_ended(self) -> bool:
        return self._end.is_set()

    def wait(self, seconds: float) -> None:
        """Wait for the end of the call, but no longer than `seconds`."""
        self._end.wait(seconds)

    def _run(self) -> None:
        try:
            self._call()
        finally:
            self._end.set()


def call_within(seconds: float, call: Callable[[], R]) -> R:
    """Give what a call gives, or raise what it raises. Raises TimeoutError after `seconds`.

    The call runs in a thread of its own. One that is not over by then is left behind.
    """
    results, failures = SimpleQueue[R](), SimpleQueue[BaseException]()

    def keep() -> None:
        try:
            results.put(call())
        except BaseException as exc:  # noqa: BLE001 - it is raised where call_within() was called
            failures.put(exc)

    thread = Background(keep)
    thread.wait(seconds)
    if not thread.has_ended:
        raise TimeoutError
    if not failures.empty():
        raise failures.get()
    return results.get()


def run_side_by_side(work: Callable[[T, Stop], object], items: Iterable[T], count: int, grace: float = _GRACE) -> None:
    """Call `work` for every item, in threads, `count` at a time, and return when all calls have ended.

    The first failure, Ctrl-C among them, stops the others and is raised. Then the threads get `grace` seconds to notice
    by Stop.check(); one that does not is left behind. Items begin in their order.
    """
    waiting: SimpleQueue[T] = SimpleQueue()
    for item in items:
        waiting.put(item)
    stop, failures = Stop(), SimpleQueue[BaseException]()
    count = min(count, waiting.qsize())
    threads = [Background(partial(_work_off, work, waiting, stop, failures)) for _ in range(count)]
    try:
        for thread in threads:
            _wait(thread, failures)
    finally:
        stop.set()
        for thread in threads:
            thread.wait(grace / count)
    if not failures.empty():
        raise failures.get()


def run_until_ended(calls: Iterable[Callable[[], object]], cancel: Callable[[], object]) -> None:
    """Run calls, each in a thread of its own, and return when all have ended: none is ever left behind.

    The first failure, Ctrl-C among them, is raised at the end. From then on `cancel` is called again and again, which
    ends what the calls wait for.
    """
    failures = SimpleQueue[BaseException]()
    threads = [Background(partial(_keep_failure, call, failures)) for call in calls]
    try:
        for thread in threads:
            _wait(thread, failures)
    finally:
        for thread in threads:
            _end(thread, cancel)
    if not failures.empty():
        raise failures.get()


def _end(thread: Background, cancel: Callable[[], object]) -> None:
    while not thread.has_ended:
        cancel()
        thread.wait(_A_MOMENT)


def _keep_failure(call: Callable[[], object], failures: SimpleQueue[BaseException]) -> None:
    try:
        call()
    except BaseException as exc:  # noqa: BLE001 - raised where run_until_ended() was called
        failures.put(exc)


def map_side_by_side(
    work: Callable[[T, Stop], R], items: Iterable[T], count: int, grace: float = _GRACE
) -> tuple[R, ...]:
    """Do as run_side_by_side() does, and give the results in the order of the items."""
    results: dict[int, R] = {}

    def keep(numbered: tuple[int, T], stop: Stop) -> None:
        results[numbered[0]] = work(numbered[1], stop)

    run_side_by_side(keep, enumerate(items), count, grace)
    return tuple(results[number] for number in sorted(results))


def _wait(thread: Background, failures: SimpleQueue[BaseException]) -> None:
    """Wait for the end of a thread, or for a failure in any."""
    while not thread.has_ended and failures.empty():
        thread.wait(_A_MOMENT)


def _work_off(
    work: Callable[[T, Stop], object], waiting: SimpleQueue[T], stop: Stop, failures: SimpleQueue[BaseException]
) -> None:
    try:
        while (item := _next(waiting)) is not None:
            stop.check()
            work(item[0], stop)
    except BaseException as exc:  # noqa: BLE001 - raised where run_side_by_side() was called
        failures.put(exc)
        stop.set()


def _next(waiting: SimpleQueue[T]) -> tuple[T] | None:
    """The next item. An Empty that `work` itself raises must never pass for the end of the queue."""
    try:
        return (waiting.get_nowait(),)
    except Empty:
        return None
