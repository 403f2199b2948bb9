"""A target whose operations are given up when nothing moves any more.

Takes a target and the seconds to be patient for; gives a Target. Every operation runs in a thread of its own. One that
stalls is left behind: its connections are closed, what it still says is not heard, and a file it still writes has no
name. Touches a private folder beside the destination of a `get`, for as long as that takes.
"""

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar, cast

from tklb.base.fs import report_full_disk
from tklb.errors import TargetUnreachable
from tklb.model.volume_names import INCOMING
from tklb.storage.backend import Backend, ListedObject, Moved, StoredObject, ignore_moved

_LOOK = 0.5  # seconds between two looks at an operation
_CLOSING = 3.0  # seconds that letting go of connections may take: they may be what has stalled
_Result = TypeVar("_Result")


class StallTimeout:
    """See Backend. `moved` is called with 0 twice a second, whatever moves: it may raise to end the operation."""

    def __init__(self, target: Backend, patience: float) -> None:
        self._target, self._patience = target, patience

    @property
    def address(self) -> str:
        return self._target.address

    @property
    def spool(self) -> Path | None:
        return self._target.spool

    def put(self, name: str, source: Path, sha256: str, moved: Moved = ignore_moved) -> StoredObject:
        return self._watch(lambda told: self._target.put(name, source, sha256, told), moved)

    def get(self, name: str, destination: Path, moved: Moved = ignore_moved) -> None:
        beside = tempfile.TemporaryDirectory(prefix=INCOMING, dir=destination.parent, ignore_cleanup_errors=True)
        with report_full_disk(destination), beside as folder:
            coming = Path(folder) / destination.name
            self._watch(lambda told: self._target.get(name, coming, told), moved)
            os.link(coming, destination)  # a rename would replace a file that is there

    def read(self, name: str, limit: int) -> bytes:
        return self._watch(lambda _: self._target.read(name, limit))

    def list(self, prefix: str) -> tuple[ListedObject, ...]:
        return self._watch(lambda _: self._target.list(prefix))

    def stat(self, name: str) -> StoredObject | None:
        return self._watch(lambda _: self._target.stat(name))

    def delete(self, name: str) -> None:
        self._watch(lambda _: self._target.delete(name))

    def tidy(self) -> None:
        self._watch(lambda _: self._target.tidy())

    def close(self) -> None:
        closing = threading.Thread(target=_closed, args=(self._target,), daemon=True)
        closing.start()
        closing.join(_CLOSING)

    def _watch(self, act: Callable[[Moved], _Result], moved: Moved = ignore_moved) -> _Result:
        attempt = _Attempt(act, moved)
        threading.Thread(target=attempt.run, daemon=True).start()
        try:
            while not attempt.ended.wait(min(_LOOK, self._patience / 4)):
                if attempt.stalled(self._patience):
                    self._give_up()
                moved(0)
        except BaseException:
            attempt.leave()
            raise
        return attempt.result()

    def _give_up(self) -> None:
        self.close()
        reason = f"the connection stalled: nothing moved for {self._patience:g} seconds"
        raise TargetUnreachable(address=self.address, reason=reason, may_pass=True)


def _closed(target: Backend) -> None:
    with contextlib.suppress(Exception):  # what cannot even be closed is left behind
        target.close()


class _Left(Exception):
    """Ends the thread of an operation that nobody waits for any more."""


class _Attempt(Generic[_Result]):
    """One operation in a thread of its own. `act` tells what moved; once it was left, `moved` hears no more of it."""

    def __init__(self, act: Callable[[Moved], _Result], moved: Moved) -> None:
        self._act, self._moved = act, moved
        self._lock = threading.Lock()
        self._telling = 0  # threads inside `moved`: a rate limit that sleeps there is no stall
        self._left = False
        self._last = time.monotonic()
        self._result: _Result | None = None
        self._failure: BaseException | None = None
        self.ended = threading.Event()

    def run(self) -> None:
        try:
            self._result = self._act(self._tell)
        except BaseException as exc:  # noqa: BLE001 - it is raised where the operation was called
            self._failure = exc
        self.ended.set()

    def result(self) -> _Result:
        """What the operation gave, or raised."""
        if self._failure:
            raise self._failure
        return cast("_Result", self._result)

    def stalled(self, patience: float) -> bool:
        """Whether nothing moved for so many seconds; it is left then."""
        with self._lock:
            self._left |= not self._telling and time.monotonic() - self._last > patience
            return self._left

    def leave(self) -> None:
        with self._lock:
            self._left = True

    def _tell(self, count: int) -> None:
        with self._lock:
            if self._left:
                raise _Left
            self._telling += 1
        try:
            self._moved(count)
        finally:
            with self._lock:
                self._telling -= 1
                self._last = time.monotonic()
