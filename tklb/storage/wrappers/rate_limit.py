"""A wrapper that moves bytes no faster than the administrator allows.

Takes a backend, the present rate, a clock and a sleep; gives a backend. All threads share one allowance, for uploads
and downloads alike. Touches nothing else.
"""

import threading
from collections.abc import Callable

from tklb.storage.backend import Backend, Moved, ignore_moved
from tklb.storage.wrappers.wrapper import Result, Wrapper

_BURST = 1.0  # seconds: an idle connection saves up this much of the rate
_SHORTEST = 0.001  # seconds; a shorter sleep is put off to the next call
_SLICE = 0.2  # seconds of sleep at once: so a new rate, or the end of the run, takes effect soon


class Allowance:
    """A token bucket. `rate` is in bytes a second, None for no limit; `monotonic` and `sleep` are in seconds."""

    def __init__(
        self, rate: Callable[[], float | None], monotonic: Callable[[], float], sleep: Callable[[float], object]
    ) -> None:
        self._rate, self._monotonic, self._sleep = rate, monotonic, sleep
        self._lock = threading.Lock()
        self._asked = 0.0  # bytes since the beginning, with those of threads that wait
        self._granted = 0.0
        self._seen = monotonic()

    def take(self, count: int) -> None:
        """Wait until the rate allows `count` more bytes, after all bytes that other calls asked for before."""
        with self._lock:
            self._settle()
            self._asked += count
            mine = self._asked
        while (pause := self._pause(mine)) > _SHORTEST:
            self._sleep(min(pause, _SLICE))

    def _pause(self, mine: float) -> float:
        with self._lock:
            rate = self._settle()
            return (mine - self._granted) / rate if rate else 0.0

    def _settle(self) -> float | None:
        """Grant the bytes of the time since the last call; give the rate."""
        rate, now = self._rate(), self._monotonic()
        elapsed, self._seen = max(now - self._seen, 0.0), now
        self._granted = min(self._granted + rate * elapsed, self._asked + rate * _BURST) if rate else self._asked
        return rate


class RateLimit(Wrapper):
    """See Backend. It sleeps where the wrapped backend reports that bytes have moved."""

    def __init__(
        self,
        backend: Backend,
        rate: Callable[[], float | None],
        monotonic: Callable[[], float],
        sleep: Callable[[float], object],
    ) -> None:
        super().__init__(backend)
        self._allowance = Allowance(rate, monotonic, sleep)

    def run(self, operation: str, act: Callable[[Moved], Result], moved: Moved = ignore_moved) -> Result:
        def count(amount: int) -> None:
            moved(amount)
            if amount > 0:
                self._allowance.take(amount)

        return super().run(operation, act, count)

    def read(self, name: str, limit: int) -> bytes:
        content = super().read(name, limit)
        self._allowance.take(len(content))
        return content
