"""Open connections to a target: one for each thread that is busy there. An idle one is kept for the next thread.

Takes a way to open one; gives them out. Touches nothing itself.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar


class BackendSession(Protocol):
    """A connection that can be kept open."""

    @property
    def is_alive(self) -> bool: ...
    def close(self) -> None:
        """End it, even while a thread uses it. A second call is fine."""


OpenSession = TypeVar("OpenSession", bound=BackendSession)


class SessionPool(Generic[OpenSession]):
    """All open sessions, in use or idle. Several threads may use the pool at once."""

    def __init__(self, open_session: Callable[[], OpenSession]) -> None:
        self._open_session = open_session
        self._lock = threading.Lock()
        self._idle: list[OpenSession] = []
        self._all: set[OpenSession] = set()

    @contextlib.contextmanager
    def one(self) -> Iterator[OpenSession]:
        """Give a session for this thread alone. After any failure it is closed: its requests may still be under way."""
        session = self._reuse() or self._open()
        try:
            yield session
        except BaseException:
            self._end(session)
            raise
        with self._lock:
            if session in self._all:
                self._idle.append(session)

    def close(self) -> None:
        """Close all sessions, those in use too."""
        with self._lock:
            ended = list(self._all)
            self._all.clear()
            self._idle.clear()
        for session in ended:
            session.close()

    def _reuse(self) -> OpenSession | None:
        while True:
            with self._lock:
                session = self._idle.pop() if self._idle else None
            if session is None or session.is_alive:
                return session
            self._end(session)

    def _open(self) -> OpenSession:
        session = self._open_session()
        with self._lock:
            self._all.add(session)
        return session

    def _end(self, session: OpenSession) -> None:
        with self._lock:
            self._all.discard(session)
        session.close()
