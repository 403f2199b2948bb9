"""A target that is asked again where that may help.

Takes a target, a sleep and chance; gives a Target. Only failures that say `may_pass` are met with another try, a
bounded number of times over about a minute; each is in the log. Between tries the connections are let go.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tklb.errors import TklbError
from tklb.storage.backend import Backend, ListedObject, Moved, StoredObject, ignore_moved

PAUSES = (1.0, 3.0, 9.0, 20.0, 30.0)  # seconds between the tries, each varied by a quarter at most
_SLICE = 1.0  # seconds of sleep at once: `moved` may raise an end
_Result = TypeVar("_Result")
log = logging.getLogger(__name__)


class Retrying:
    """See tklb.storage.backend.Backend. `random` gives numbers from 0 to 1, `sleep` takes seconds.

    What moved in a try that failed is taken back from the count: `moved` is told it as a negative number.
    """

    def __init__(self, target: Backend, sleep: Callable[[float], object], random: Callable[[], float]) -> None:
        self._target, self._sleep, self._random = target, sleep, random

    @property
    def address(self) -> str:
        return self._target.address

    @property
    def spool(self) -> Path | None:
        return self._target.spool

    def put(self, name: str, source: Path, sha256: str, moved: Moved = ignore_moved) -> StoredObject:
        return self._persist(f"put {name}", lambda told: self._target.put(name, source, sha256, told), moved)

    def get(self, name: str, destination: Path, moved: Moved = ignore_moved) -> None:
        self._persist(f"get {name}", lambda told: self._target.get(name, destination, told), moved)

    def read(self, name: str, limit: int) -> bytes:
        return self._persist(f"read {name}", lambda _: self._target.read(name, limit))

    def list(self, prefix: str) -> tuple[ListedObject, ...]:
        return self._persist(f"list {prefix}", lambda _: self._target.list(prefix))

    def stat(self, name: str) -> StoredObject | None:
        return self._persist(f"stat {name}", lambda _: self._target.stat(name))

    def delete(self, name: str) -> None:
        self._persist(f"delete {name}", lambda _: self._target.delete(name))

    def tidy(self) -> None:
        self._persist("tidy", lambda _: self._target.tidy())

    def close(self) -> None:
        self._target.close()

    def _persist(self, what: str, act: Callable[[Moved], _Result], moved: Moved = ignore_moved) -> _Result:
        for pause in PAUSES:
            count = _Count(moved)
            try:
                return act(count.told)
            except TklbError as exc:
                if not exc.may_pass:
                    raise
                seconds = pause * (0.75 + self._random() / 2)
                log.info("%s: %s; it is tried again in %.1f seconds", what, exc, seconds)
            count.take_back()
            self._target.close()
            self._wait(seconds, moved)
        return act(moved)

    def _wait(self, pause: float, moved: Moved) -> None:
        while pause > 0:
            moved(0)
            self._sleep(min(pause, _SLICE))
            pause -= _SLICE


class _Count:
    """What one try told of."""

    def __init__(self, moved: Moved) -> None:
        self._moved, self._bytes = moved, 0

    def told(self, count: int) -> None:
        self._bytes += count
        self._moved(count)

    def take_back(self) -> None:
        if self._bytes:
            self._moved(-self._bytes)
