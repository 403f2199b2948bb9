"""A wrapper that tries an operation again where another try may succeed.

Takes a backend, a sleep and chance; gives a backend. It retries only failures that are `is_transient`: at most six
tries in about a minute, each in the log. Between two tries it closes the connections. Where no byte has moved for
some minutes, the target hangs, and it tries no more.
"""

import logging
import time
from collections.abc import Callable

from tklb.errors import TklbError
from tklb.storage.backend import Backend, Moved, ignore_moved
from tklb.storage.wrappers.wrapper import Result, Wrapper

PAUSES = (1.0, 3.0, 9.0, 20.0, 30.0)  # seconds between the tries, each varied by a quarter at most
PATIENCE = 150.0  # seconds without a byte after which no other try begins
_SLICE = 1.0  # seconds of sleep at once: `moved` may raise to end the operation
log = logging.getLogger(__name__)


class Retry(Wrapper):
    """See Backend. `random` gives numbers from 0 to 1, `sleep` takes seconds, `clock` gives them.

    Bytes that a failed try moved are taken back: `moved` gets their number once more, negative.
    """

    def __init__(
        self,
        backend: Backend,
        sleep: Callable[[float], object],
        random: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(backend)
        self._sleep, self._random, self._clock = sleep, random, clock

    def run(self, operation: str, act: Callable[[Moved], Result], moved: Moved = ignore_moved) -> Result:
        still = self._clock()
        for pause in PAUSES:
            counter, seconds = _ByteCounter(moved, still, self._clock), pause * (0.75 + self._random() / 2)
            try:
                return act(counter.add)
            except TklbError as exc:
                still = counter.still
                _raise_lasting(exc, self._clock() - still)
                log.info("%s: %s; next try in %.1f seconds", operation, exc, seconds)
            counter.take_back()
            self.backend.close()
            self._wait(seconds, moved)
        return act(moved)

    def _wait(self, pause: float, moved: Moved) -> None:
        while pause > 0:
            moved(0)
            self._sleep(min(pause, _SLICE))
            pause -= _SLICE


def _raise_lasting(failure: TklbError, seconds: float) -> None:
    """Raise a failure that no other try would change; no byte has moved for some `seconds`."""
    if not failure.is_transient or seconds > PATIENCE:
        raise failure


class _ByteCounter:
    """The bytes that one try moved. `still`: since when no byte has moved."""

    def __init__(self, moved: Moved, still: float, clock: Callable[[], float]) -> None:
        self._moved, self._bytes, self._clock = moved, 0, clock
        self.still = still

    def add(self, count: int) -> None:
        self._bytes += count
        self.still = self._clock() if count else self.still
        self._moved(count)

    def take_back(self) -> None:
        if self._bytes:
            self._moved(-self._bytes)
