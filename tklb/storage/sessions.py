"""Sessions with a target, one for each thread that is busy there; one that is not used is kept for the next.

Takes a way to begin one; gives them out. Touches nothing itself.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar


class BackendSession(Protocol):
    """What can be kept open."""

    @property
    def is_alive(self) -> bool: ...
    def close(self) -> None:
        """End it, whoever is using it; may be called twice."""


Kept = TypeVar("Kept", bound=BackendSession)


class SessionPool(Generic[Kept]):
    """Those that are open, in use or not."""

    def __init__(self, begin: Callable[[], Kept]) -> None:
        self._begin = begin
        self._lock = threading.Lock()
        self._free: list[Kept] = []
        self._all: set[Kept] = set()

    @contextlib.contextmanager
    def one(self) -> Iterator[Kept]:
        """A session for this thread alone. One that anything failed on is ended: what is still under way is lost."""
        session = self._taken() or self._begun()
        try:
            yield session
        except BaseException:
            self._end(session)
            raise
        with self._lock:
            if session in self._all:
                self._free.append(session)

    def close(self) -> None:
        """End all of them, those in use too."""
        with self._lock:
            ended = list(self._all)
            self._all.clear()
            self._free.clear()
        for session in ended:
            session.close()

    def _taken(self) -> Kept | None:
        while True:
            with self._lock:
                session = self._free.pop() if self._free else None
            if session is None or session.is_alive:
                return session
            self._end(session)

    def _begun(self) -> Kept:
        session = self._begin()
        with self._lock:
            self._all.add(session)
        return session

    def _end(self, session: Kept) -> None:
        with self._lock:
            self._all.discard(session)
        session.close()
