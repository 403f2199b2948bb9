"""A wrapper that ends an operation when no byte has moved for some time.

Takes a backend and that time in seconds; gives a backend. Every operation runs in a thread of its own. One that stalls
is left behind: its connections are closed, its reports are ignored, and a file that it still writes has no name.
Touches a private folder beside the destination of a download, for as long as that takes.
"""

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, cast

from tklb.base.fs import report_full_disk
from tklb.errors import TargetUnreachable
from tklb.model.volume_names import INCOMING
from tklb.storage.backend import Backend, Moved, ignore_moved
from tklb.storage.wrappers.wrapper import Result, Wrapper

_LOOK = 0.5  # seconds between two checks of an operation
_CLOSING = 3.0  # seconds that close() may take: a stalled connection may not let it end


class StallTimeout(Wrapper):
    """See Backend. It calls `moved` with 0 twice a second, whatever moves: `moved` may raise to end the operation."""

    def __init__(self, backend: Backend, patience: float) -> None:
        super().__init__(backend)
        self._patience = patience

    def download(self, name: str, destination: Path, moved: Moved = ignore_moved) -> None:
        beside = tempfile.TemporaryDirectory(prefix=INCOMING, dir=destination.parent, ignore_cleanup_errors=True)
        with report_full_disk(destination), beside as folder:
            incoming = Path(folder) / destination.name
            super().download(name, incoming, moved)
            os.link(incoming, destination)  # a rename would replace a file that is there

    def close(self) -> None:
        closing = threading.Thread(target=_close_quietly, args=(self.backend,), daemon=True)
        closing.start()
        closing.join(_CLOSING)

    def run(self, operation: str, act: Callable[[Moved], Result], moved: Moved = ignore_moved) -> Result:
        attempt = _Attempt(act, moved)
        threading.Thread(target=attempt.run, daemon=True).start()
        try:
            while not attempt.ended.wait(min(_LOOK, self._patience / 4)):
                self._check(attempt)
                moved(0)
        except BaseException:
            attempt.leave()
            raise
        return attempt.result()

    def _check(self, attempt: "_Attempt[Result]") -> None:
        """Raise TargetUnreachable where nothing moves any more."""
        if attempt.leave_if_stalled(self._patience):
            self.close()
            reason = f"the connection stalled: nothing moved for {self._patience:g} seconds"
            raise TargetUnreachable(address=self.address, reason=reason, is_transient=True)


def _close_quietly(backend: Backend) -> None:
    with contextlib.suppress(Exception):  # a connection that cannot be closed is left behind
        backend.close()


class _Left(Exception):
    """Ends the thread of an operation that nobody waits for any more."""


class _Attempt(Generic[Result]):
    """One operation in a thread of its own. After leave(), nothing that `act` reports reaches `moved`."""

    def __init__(self, act: Callable[[Moved], Result], moved: Moved) -> None:
        self._act, self._moved = act, moved
        self._lock = threading.Lock()
        self._reporting = 0  # threads inside `moved`: a rate limit that sleeps there is no stall
        self._left = False
        self._last = time.monotonic()
        self._result: Result | None = None
        self._failure: BaseException | None = None
        self.ended = threading.Event()

    def run(self) -> None:
        try:
            self._result = self._act(self._report)
        except BaseException as exc:  # noqa: BLE001 - it is raised where the operation was called
            self._failure = exc
        self.ended.set()

    def result(self) -> Result:
        """Give what the operation gave, or raise what it raised."""
        if self._failure:
            raise self._failure
        return cast("Result", self._result)

    def leave_if_stalled(self, patience: float) -> bool:
        """Leave the operation if nothing moved for `patience` seconds. Gives whether it was left."""
        with self._lock:
            self._left |= not self._reporting and time.monotonic() - self._last > patience
            return self._left

    def leave(self) -> None:
        with self._lock:
            self._left = True

    def _report(self, count: int) -> None:
        with self._lock:
            if self._left:
                raise _Left
            self._reporting += 1
        try:
            self._moved(count)
        finally:
            with self._lock:
                self._reporting -= 1
                self._last = time.monotonic()
