"""A target used no faster than its owner allows.

Takes a target, what the rate is just now, a clock and a sleep; gives a Target. All threads share one allowance, up and
down alike. Touches nothing else.
"""

import threading
from collections.abc import Callable
from pathlib import Path

from tklb.storage.backend import Backend, ListedObject, Moved, StoredObject, ignore_moved

_BURST = 1.0  # seconds of the rate that may be saved up while nothing moves
_SHORTEST = 0.001  # seconds that are worth a sleep; what is not slept now stays owed
_SLICE = 0.2  # seconds of sleep at once: a rate that changes, or an end, is noticed soon


class Allowance:
    """A token bucket. `rate` is in bytes a second, None for no limit; `monotonic` and `sleep` are in seconds."""

    def __init__(
        self, rate: Callable[[], float | None], monotonic: Callable[[], float], sleep: Callable[[float], object]
    ) -> None:
        self._rate, self._monotonic, self._sleep = rate, monotonic, sleep
        self._lock = threading.Lock()
        self._asked = 0.0  # bytes since the beginning, those who wait included
        self._granted = 0.0
        self._seen = monotonic()

    def take(self, count: int) -> None:
        """Return when `count` bytes, and all that was asked for before, are allowed to have moved."""
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
        """Grant what came together since the last look; give the rate."""
        rate, now = self._rate(), self._monotonic()
        elapsed, self._seen = max(now - self._seen, 0.0), now
        self._granted = min(self._granted + rate * elapsed, self._asked + rate * _BURST) if rate else self._asked
        return rate


class RateLimited:
    """See tklb.storage.backend.Backend. It sleeps where the driver tells that bytes have moved."""

    def __init__(
        self,
        target: Backend,
        rate: Callable[[], float | None],
        monotonic: Callable[[], float],
        sleep: Callable[[float], object],
    ) -> None:
        self._target = target
        self._allowance = Allowance(rate, monotonic, sleep)

    @property
    def address(self) -> str:
        return self._target.address

    @property
    def spool(self) -> Path | None:
        return self._target.spool

    def put(self, name: str, source: Path, sha256: str, moved: Moved = ignore_moved) -> StoredObject:
        return self._target.put(name, source, sha256, self._slowly(moved))

    def get(self, name: str, destination: Path, moved: Moved = ignore_moved) -> None:
        self._target.get(name, destination, self._slowly(moved))

    def read(self, name: str, limit: int) -> bytes:
        content = self._target.read(name, limit)
        self._allowance.take(len(content))
        return content

    def list(self, prefix: str) -> tuple[ListedObject, ...]:
        return self._target.list(prefix)

    def stat(self, name: str) -> StoredObject | None:
        return self._target.stat(name)

    def delete(self, name: str) -> None:
        self._target.delete(name)

    def tidy(self) -> None:
        self._target.tidy()

    def close(self) -> None:
        self._target.close()

    def _slowly(self, moved: Moved) -> Moved:
        def told(count: int) -> None:
            moved(count)
            if count > 0:
                self._allowance.take(count)

        return told
